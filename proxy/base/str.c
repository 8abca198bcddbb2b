/* Borrowed spans: comparing, trimming and splitting. */
#include "base/str.h"

bool str_eq_nocase(struct str a, struct str b)
{
    return a.n == b.n && str_starts_with_nocase(a, b);
}

bool str_starts_with_nocase(struct str s, struct str prefix)
{
    if (s.n < prefix.n)
        return false;
    for (size_t i = 0; i < prefix.n; i++)
        if (str_lower_char(s.p[i]) != str_lower_char(prefix.p[i]))
            return false;
    return true;
}

static bool str_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct str str_trim(struct str s)
{
    while (s.n > 0 && str_is_blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && str_is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

ptrdiff_t str_find_char(struct str s, char c)
{
    const char *at = s.n > 0 ? memchr(s.p, c, s.n) : NULL;

    return at ? at - s.p : -1;
}

bool str_cut(struct str s, char sep, struct str *head, struct str *tail)
{
    ptrdiff_t at = str_find_char(s, sep);

    if (at < 0) {
        *head = s;
        *tail = (struct str){ s.p + s.n, 0 };
        return false;
    }
    *head = (struct str){ s.p, (size_t)at };
    *tail = (struct str){ s.p + at + 1, s.n - (size_t)at - 1 };
    return true;
}

bool str_next_element(struct str *rest, struct str *element)
{
    while (rest->n > 0) {
        str_cut(*rest, ',', element, rest);
        *element = str_trim(*element);
        if (element->n > 0)
            return true;
    }
    return false;
}
