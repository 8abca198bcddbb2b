/* Growing bytes. */
#include "text.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void out_of_memory(void)
{
    fputs("provider: out of memory\n", stderr);
    abort();
}

void *text_alloc(size_t n)
{
    void *p = calloc(1, n);

    if (!p)
        out_of_memory();
    return p;
}

char *text_copy(const char *p, size_t n)
{
    char *copy = text_alloc(n + 1);

    if (n)
        memcpy(copy, p, n);
    return copy;
}

void text_free(struct text *t)
{
    free(t->p);
    *t = (struct text){ 0 };
}

char *text_reserve(struct text *t, size_t n)
{
    if (t->room - t->n <= n) {
        size_t room = t->room * 2 > t->n + n + 1 ? t->room * 2 : t->n + n + 1;
        char *p = realloc(t->p, room);

        if (!p)
            out_of_memory();
        t->p = p;
        t->room = room;
        t->p[t->n] = 0;
    }
    return t->p + t->n;
}

void text_add(struct text *t, const void *p, size_t n)
{
    char *to = text_reserve(t, n);

    if (n)
        memcpy(to, p, n);
    t->n += n;
    t->p[t->n] = 0;
}

void text_puts(struct text *t, const char *s)
{
    text_add(t, s, strlen(s));
}

void text_printf(struct text *t, const char *format, ...)
{
    va_list args;
    char *to = text_reserve(t, 256);
    int n;

    va_start(args, format);
    n = vsnprintf(to, t->room - t->n, format, args);
    va_end(args);
    if (n < 0)
        return;
    if ((size_t)n >= t->room - t->n) {
        to = text_reserve(t, (size_t)n);
        va_start(args, format);
        n = vsnprintf(to, t->room - t->n, format, args);
        va_end(args);
    }
    t->n += (size_t)n;
}

/* Length of the well-formed UTF-8 character at `p`, or 0 (RFC 3629 4: no overlong forms, no
 * surrogates). */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    size_t length;
    uint32_t c;

    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    length = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (n < length)
        return 0;
    c = p[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if ((length == 3 && c < 0x800) || (length == 4 && (c < 0x10000 || c > 0x10ffff)) ||
        (c >= 0xd800 && c < 0xe000))
        return 0;
    return length;
}

static void json_ascii(struct text *t, unsigned char c)
{
    switch (c) {
    case '"':
        text_puts(t, "\\\"");
        break;
    case '\\':
        text_puts(t, "\\\\");
        break;
    case '\n':
        text_puts(t, "\\n");
        break;
    case '\r':
        text_puts(t, "\\r");
        break;
    case '\t':
        text_puts(t, "\\t");
        break;
    default:
        text_printf(t, "\\u%04x", c);
    }
}

static bool json_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void text_json(struct text *t, const char *p, size_t n, enum text_charset charset)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t i = 0;

    text_add(t, "\"", 1);
    while (i < n) {
        size_t start = i, length;

        while (i < n && json_plain(s[i]))
            i++;
        text_add(t, p + start, i - start);
        if (i == n)
            break;
        if (s[i] < 0x80) {
            json_ascii(t, s[i++]);
        } else if (charset == TEXT_LATIN1) {
            char two[2] = { (char)(0xc0 | s[i] >> 6), (char)(0x80 | (s[i] & 0x3f)) };

            text_add(t, two, 2);
            i++;
        } else if ((length = utf8_length(s + i, n - i)) > 0) {
            text_add(t, s + i, length);
            i += length;
        } else {
            text_puts(t, "\xef\xbf\xbd");
            i++;
        }
    }
    text_add(t, "\"", 1);
}

void text_json_str(struct text *t, const char *s)
{
    text_json(t, s, strlen(s), TEXT_UTF8);
}

void text_hex(struct text *t, const unsigned char *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    char *to = text_reserve(t, 2 * n);

    for (size_t i = 0; i < n; i++) {
        *to++ = digits[p[i] >> 4];
        *to++ = digits[p[i] & 15];
    }
    *to = 0;
    t->n += 2 * n;
}

void text_base64(struct text *t, const unsigned char *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < n; i += 3) {
        uint32_t three = (uint32_t)p[i] << 16;
        char four[4];

        if (i + 1 < n)
            three |= (uint32_t)p[i + 1] << 8;
        if (i + 2 < n)
            three |= p[i + 2];
        four[0] = digits[three >> 18];
        four[1] = digits[three >> 12 & 63];
        four[2] = i + 1 < n ? digits[three >> 6 & 63] : '=';
        four[3] = i + 2 < n ? digits[three & 63] : '=';
        text_add(t, four, 4);
    }
}

size_t text_utf8_cut(const char *p, size_t n, size_t most)
{
    if (n <= most)
        return n;
    for (size_t cut = most; cut > 0 && most - cut < 4; cut--)
        if (((unsigned char)p[cut] & 0xc0) != 0x80)
            return cut;
    return most; /* not UTF-8 at all */
}
