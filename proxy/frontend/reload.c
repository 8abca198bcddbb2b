/* All or nothing. */
#include "frontend/reload.h"

int reload_apply(const struct reload_part *parts, size_t n, void *owner, struct conf *next,
    char *why, size_t whylen)
{
    for (size_t i = 0; i < n; i++) {
        if (parts[i].prepare(owner, next, why, whylen) == 0)
            continue;
        while (i-- > 0)
            parts[i].abandon(owner);
        return -1;
    }
    for (size_t i = 0; i < n; i++)
        parts[i].commit(owner, next);
    return 0;
}
