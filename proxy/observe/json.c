/* All octets outside printable ASCII are escaped in the same way. */
#include "observe/json.h"

void json_string(struct buf *b, struct str s)
{
    buf_append(b, "\"", 1);
    for (size_t i = 0, from = 0; i <= s.n; i++) {
        unsigned char c = i < s.n ? (unsigned char)s.p[i] : 0;

        if (i < s.n && c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
            continue;
        buf_append(b, s.p + from, i - from);
        from = i + 1;
        if (i < s.n)
            buf_printf(b, "\\u%04x", c);
    }
    buf_append(b, "\"", 1);
}
