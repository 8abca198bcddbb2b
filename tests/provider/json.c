/* Looking into JSON without building a tree. */
#include "json.h"

#include <stdint.h>
#include <string.h>

#define DEPTH_MAX 64

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Each skip returns the byte after what it skipped, or NULL. */
static const char *skip_string(const char *p, const char *end)
{
    if (p == end || *p != '"')
        return NULL;
    for (p++; p < end && *p != '"'; p++) {
        if ((unsigned char)*p < 0x20)
            return NULL;
        if (*p != '\\')
            continue;
        if (++p == end)
            return NULL;
        if (*p == 'u') {
            if (end - p < 5)
                return NULL;
            for (int i = 1; i <= 4; i++)
                if (hex_value(p[i]) < 0)
                    return NULL;
            p += 4;
        } else if (!strchr("\"\\/bfnrt", *p) || !*p) {
            return NULL;
        }
    }
    return p < end ? p + 1 : NULL;
}

static const char *skip_digits(const char *p, const char *end)
{
    const char *start = p;

    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p > start ? p : NULL;
}

static const char *skip_number(const char *p, const char *end)
{
    if (p < end && *p == '-')
        p++;
    if (p < end && *p == '0')
        p++;
    else if (!(p = skip_digits(p, end)))
        return NULL;
    if (p < end && *p == '.' && !(p = skip_digits(p + 1, end)))
        return NULL;
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        p = skip_digits(p, end);
    }
    return p;
}

static const char *skip_word(const char *p, const char *end, const char *word)
{
    size_t n = strlen(word);

    return (size_t)(end - p) >= n && memcmp(p, word, n) == 0 ? p + n : NULL;
}

static const char *skip_value(const char *p, const char *end, int depth);

/* An object or an array. */
static const char *skip_group(const char *p, const char *end, int depth)
{
    bool object = *p == '{';
    char close = object ? '}' : ']';

    p = skip_space(p + 1, end);
    if (p < end && *p == close)
        return p + 1;
    for (;;) {
        if (object) {
            if (!(p = skip_string(p, end)))
                return NULL;
            p = skip_space(p, end);
            if (p == end || *p++ != ':')
                return NULL;
            p = skip_space(p, end);
        }
        if (!(p = skip_value(p, end, depth)))
            return NULL;
        p = skip_space(p, end);
        if (p == end)
            return NULL;
        if (*p == close)
            return p + 1;
        if (*p++ != ',')
            return NULL;
        p = skip_space(p, end);
    }
}

static const char *skip_value(const char *p, const char *end, int depth)
{
    if (p == end || depth > DEPTH_MAX)
        return NULL;
    switch (*p) {
    case '{':
    case '[':
        return skip_group(p, end, depth + 1);
    case '"':
        return skip_string(p, end);
    case 't':
        return skip_word(p, end, "true");
    case 'f':
        return skip_word(p, end, "false");
    case 'n':
        return skip_word(p, end, "null");
    default:
        return skip_number(p, end);
    }
}

bool json_check(const char *p, size_t n, struct json *value)
{
    const char *end = p + n, *start, *after;

    if (!n)
        return false;
    start = skip_space(p, end);
    after = skip_value(start, end, 0);
    if (!after || skip_space(after, end) != end)
        return false;
    *value = (struct json){ start, (size_t)(after - start) };
    return true;
}

bool json_member(struct json object, const char *name, struct json *value)
{
    const char *end = object.p + object.n, *p;
    size_t n = strlen(name);
    struct json found;

    if (!object.n || *object.p != '{')
        return false;
    p = skip_space(object.p + 1, end);
    while (p < end && *p == '"') {
        const char *key = p, *after = skip_string(p, end);

        if (!after)
            return false;
        p = skip_space(skip_space(after, end) + 1, end); /* past the colon */
        found.p = p;
        if (!(p = skip_value(p, end, 0)))
            return false;
        found.n = (size_t)(p - found.p);
        if ((size_t)(after - key) == n + 2 && memcmp(key + 1, name, n) == 0) {
            *value = found;
            return true;
        }
        p = skip_space(p, end);
        if (p == end || *p != ',')
            return false;
        p = skip_space(p + 1, end);
    }
    return false;
}

bool json_item(struct json array, size_t *at, struct json *value)
{
    const char *end = array.p + array.n, *p;

    if (!json_is_array(array))
        return false;
    p = skip_space(array.p + (*at ? *at : 1), end);
    if (p < end && *p == ',')
        p = skip_space(p + 1, end);
    if (p >= end || *p == ']')
        return false;
    value->p = p;
    if (!(p = skip_value(p, end, 0)))
        return false;
    value->n = (size_t)(p - value->p);
    *at = (size_t)(p - array.p);
    return true;
}

bool json_pair(struct json object, size_t *at, struct json *name, struct json *value)
{
    const char *end = object.p + object.n, *p;

    if (!object.n || *object.p != '{')
        return false;
    p = skip_space(object.p + (*at ? *at : 1), end);
    if (p < end && *p == ',')
        p = skip_space(p + 1, end);
    if (p >= end || *p == '}')
        return false;
    name->p = p;
    if (!(p = skip_string(p, end)))
        return false;
    name->n = (size_t)(p - name->p);
    value->p = skip_space(skip_space(p, end) + 1, end); /* past the colon */
    if (!(p = skip_value(value->p, end, 0)))
        return false;
    value->n = (size_t)(p - value->p);
    *at = (size_t)(p - object.p);
    return true;
}

bool json_is_string(struct json value)
{
    return value.n && *value.p == '"';
}

bool json_is_array(struct json value)
{
    return value.n && *value.p == '[';
}

bool json_is_true(struct json value)
{
    return value.n == 4 && memcmp(value.p, "true", 4) == 0;
}

static uint32_t four_hex(const char *p)
{
    uint32_t c = 0;

    for (int i = 0; i < 4; i++)
        c = c << 4 | (uint32_t)hex_value(p[i]);
    return c;
}

static void add_utf8(struct text *to, uint32_t c)
{
    char b[4];

    if (c < 0x80) {
        b[0] = (char)c;
        text_add(to, b, 1);
    } else if (c < 0x800) {
        b[0] = (char)(0xc0 | c >> 6);
        b[1] = (char)(0x80 | (c & 63));
        text_add(to, b, 2);
    } else if (c < 0x10000) {
        b[0] = (char)(0xe0 | c >> 12);
        b[1] = (char)(0x80 | (c >> 6 & 63));
        b[2] = (char)(0x80 | (c & 63));
        text_add(to, b, 3);
    } else {
        b[0] = (char)(0xf0 | c >> 18);
        b[1] = (char)(0x80 | (c >> 12 & 63));
        b[2] = (char)(0x80 | (c >> 6 & 63));
        b[3] = (char)(0x80 | (c & 63));
        text_add(to, b, 4);
    }
}

/* `p` stands on the backslash; returns the escape's last byte. */
static const char *add_escape(struct text *to, const char *p, const char *end)
{
    static const char from[] = "bfnrt", into[] = "\b\f\n\r\t";
    const char *plain;
    uint32_t c;

    p++;
    if (*p != 'u') {
        plain = strchr(from, *p);
        text_add(to, plain ? into + (plain - from) : p, 1);
        return p;
    }
    c = four_hex(p + 1);
    p += 4;
    if (c >= 0xd800 && c < 0xdc00 && end - p > 6 && p[1] == '\\' && p[2] == 'u') {
        uint32_t low = four_hex(p + 3);

        if (low >= 0xdc00 && low < 0xe000) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        }
    }
    add_utf8(to, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
    return p;
}

bool json_string(struct json value, struct text *to)
{
    const char *end = value.p + value.n - 1; /* the closing quote */

    if (!json_is_string(value))
        return false;
    for (const char *p = value.p + 1; p < end; p++) {
        const char *start = p;

        while (p < end && *p != '\\')
            p++;
        text_add(to, start, (size_t)(p - start));
        if (p == end)
            break;
        p = add_escape(to, p, end);
    }
    return true;
}

bool json_whole(struct json value, unsigned long most, unsigned long *to)
{
    unsigned long x = 0;

    if (!value.n)
        return false;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return false;
        x = x * 10 + (unsigned long)(value.p[i] - '0');
        if (x > most)
            return false;
    }
    *to = x;
    return true;
}

bool json_equals(struct json value, const char *s)
{
    size_t n = strlen(s);

    return value.n == n + 2 && *value.p == '"' && memcmp(value.p + 1, s, n) == 0;
}
