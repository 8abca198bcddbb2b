/* traceparent: version "-" trace-id "-" parent-id "-" flags, all hexadecimal. */
#include "observe/trace.h"

#include <string.h>

enum { SAMPLED = 1, AT_TRACE = 3, AT_SPAN = 36, AT_FLAGS = 53 };

static int trace_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; /* upper case is not allowed */
}

/* True if it is `n` bytes in hexadecimal that are not all zero. */
static bool trace_read(const char *text, size_t n, unsigned char *out)
{
    unsigned char any = 0;

    for (size_t i = 0; i < n; i++) {
        int high = trace_digit(text[2 * i]), low = trace_digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        out[i] = (unsigned char)(high << 4 | low);
        any |= out[i];
    }
    return any != 0;
}

bool trace_parse(struct str s, struct trace_context *out)
{
    unsigned char flags = 0;
    bool newer;

    if (s.n < TRACE_PARENT_LEN || trace_digit(s.p[0]) < 0 || trace_digit(s.p[1]) < 0 ||
        str_eq(str_make(s.p, 2), STR("ff")))
        return false;
    newer = !str_eq(str_make(s.p, 2), STR("00"));
    if (s.n > TRACE_PARENT_LEN && !(newer && s.p[TRACE_PARENT_LEN] == '-'))
        return false;
    if (s.p[AT_TRACE - 1] != '-' || s.p[AT_SPAN - 1] != '-' || s.p[AT_FLAGS - 1] != '-' ||
        trace_digit(s.p[AT_FLAGS]) < 0 || trace_digit(s.p[AT_FLAGS + 1]) < 0)
        return false;
    trace_read(s.p + AT_FLAGS, 1, &flags);
    out->sampled = flags & SAMPLED;
    return trace_read(s.p + AT_TRACE, TRACE_ID_BYTES, out->trace) &&
           trace_read(s.p + AT_SPAN, TRACE_SPAN_BYTES, out->span);
}

void trace_hex(const unsigned char *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = '\0';
}

void trace_write(const struct trace_context *t, char out[TRACE_PARENT_LEN + 1])
{
    memcpy(out, "00-", 3);
    trace_hex(t->trace, TRACE_ID_BYTES, out + AT_TRACE);
    out[AT_SPAN - 1] = '-';
    trace_hex(t->span, TRACE_SPAN_BYTES, out + AT_SPAN);
    out[AT_FLAGS - 1] = '-';
    out[AT_FLAGS] = '0';
    out[AT_FLAGS + 1] = t->sampled ? '1' : '0';
    out[TRACE_PARENT_LEN] = '\0';
}
