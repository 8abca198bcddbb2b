/* What clients send, and requests that workers enclose. */
#include "h1laws.h"
#include "observe/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What a log is told of a head that was refused lies within it. */
static void check_glance(struct str in)
{
    struct head h = { 0 };
    struct trace_context t;

    h1_glance(in, &h);
    if (h.method.n > 0 && (h.method.p < in.p || h.target.p + h.target.n > in.p + in.n))
        __builtin_trap();
    if (trace_parse(in, &t) && in.n < TRACE_PARENT_LEN)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str in = { (const char *)data, n };

    if (n > 8192)
        return 0;
    check_glance(in);
    h1laws_check(H1_REQUEST, STR("GET"), in);
    h1laws_check(H1_ENCLOSED_REQUEST, STR("GET"), in);
    return 0;
}
