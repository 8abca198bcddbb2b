/* The PROXY protocol's header. Whatever comes is read in the same way however it is cut, nothing
 * beyond the header counts, and who is named has an address. */
#include <string.h>

#include "laws.h"
#include "net/proxyproto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str in = { (const char *)data, n };
    struct proxyproto whole, part;
    ssize_t used, first = 0;

    if (n > 2 * PROXYPROTO_MAX)
        return 0;
    used = proxyproto_parse(in, &whole);
    HOLDS(used <= (ssize_t)n && used <= PROXYPROTO_MAX);
    HOLDS(used >= 0 || strcmp(proxyproto_strerror((int)used), "unknown error") != 0);
    for (size_t k = 0; k <= n && first == 0; k++) {
        char *copy = malloc(k + 1); /* its end is where the sanitizer looks */

        memcpy(copy, data, k);
        first = proxyproto_parse(str_make(copy, k), &part);
        HOLDS(first <= (ssize_t)k);
        free(copy);
    }
    HOLDS(first == used);
    if (used > 0) {
        HOLDS(part.kind == whole.kind &&
              memcmp(&part.client, &whole.client, sizeof(part.client)) == 0);
        HOLDS((whole.kind == PROXYPROTO_CLIENT) == (whole.client.family != 0));
    }
    return 0;
}
