/* What clients send, and requests that workers enclose. */
#include "h1laws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str in = { (const char *)data, n };

    if (n > 8192)
        return 0;
    h1laws_check(H1_REQUEST, STR("GET"), in);
    h1laws_check(H1_ENCLOSED_REQUEST, STR("GET"), in);
    return 0;
}
