/* Blocks that know their size. */
#include "http/codermem.h"

#include <stdlib.h>

/* As aligned as malloc's own blocks. */
union sized {
    size_t n;
    max_align_t align;
};

void *codermem_take(size_t *total, size_t n)
{
    union sized *s = malloc(sizeof(*s) + n);

    if (!s)
        return NULL;
    s->n = sizeof(*s) + n;
    *total += s->n;
    return s + 1;
}

void codermem_give(size_t *total, void *p)
{
    union sized *s = p;

    if (!s)
        return;
    s--;
    *total -= s->n;
    free(s);
}
