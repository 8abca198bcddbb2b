/* What workers and upstreams send. */
#include "h1laws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str in = { (const char *)data, n };

    if (n > 8192)
        return 0;
    h1laws_check(H1_RESPONSE, STR("GET"), in);
    h1laws_check(H1_RESPONSE, STR("HEAD"), in);
    return 0;
}
