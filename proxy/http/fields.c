/* Field names and the octets of names and values. */
#include "http/fields.h"

#include <stdint.h>

/* RFC 9110 5.6.2: tchar. */
/* clang-format off */
static const bool tchar[256] = {
    ['!'] = true, ['#'] = true, ['$'] = true, ['%'] = true, ['&'] = true, ['\''] = true, ['*'] = true,
    ['+'] = true, ['-'] = true, ['.'] = true, ['^'] = true, ['_'] = true, ['`'] = true, ['|'] = true,
    ['~'] = true,
    ['0'] = true, ['1'] = true, ['2'] = true, ['3'] = true, ['4'] = true, ['5'] = true, ['6'] = true,
    ['7'] = true, ['8'] = true, ['9'] = true,
    ['A'] = true, ['B'] = true, ['C'] = true, ['D'] = true, ['E'] = true, ['F'] = true, ['G'] = true,
    ['H'] = true, ['I'] = true, ['J'] = true, ['K'] = true, ['L'] = true, ['M'] = true, ['N'] = true,
    ['O'] = true, ['P'] = true, ['Q'] = true, ['R'] = true, ['S'] = true, ['T'] = true, ['U'] = true,
    ['V'] = true, ['W'] = true, ['X'] = true, ['Y'] = true, ['Z'] = true,
    ['a'] = true, ['b'] = true, ['c'] = true, ['d'] = true, ['e'] = true, ['f'] = true, ['g'] = true,
    ['h'] = true, ['i'] = true, ['j'] = true, ['k'] = true, ['l'] = true, ['m'] = true, ['n'] = true,
    ['o'] = true, ['p'] = true, ['q'] = true, ['r'] = true, ['s'] = true, ['t'] = true, ['u'] = true,
    ['v'] = true, ['w'] = true, ['x'] = true, ['y'] = true, ['z'] = true,
};
/* clang-format on */

size_t field_token_len(struct str s)
{
    size_t i = 0;

    while (i < s.n && tchar[(unsigned char)s.p[i]])
        i++;
    return i;
}

/* Whether one of eight octets is a control octet (TAB too). A borrow can only come from an octet
 * that is one, so nothing is missed and nothing is found where there is none. */
static bool fields_has_control(const char *p)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones * 0x80;
    uint64_t v, del;

    memcpy(&v, p, sizeof(v));
    del = v ^ ones * 0x7f;
    return (((v - ones * 0x20) & ~v) | ((del - ones) & ~del)) & highs;
}

static bool fields_is_text(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

size_t field_text_len(struct str s)
{
    size_t i = 0;

    for (;;) {
        size_t stop;

        while (s.n - i >= 8 && !fields_has_control(s.p + i))
            i += 8;
        stop = s.n - i >= 8 ? i + 8 : s.n;
        while (i < stop && fields_is_text((unsigned char)s.p[i]))
            i++;
        if (i < stop || i == s.n)
            return i;
    }
}

bool field_is_token(struct str s)
{
    return s.n > 0 && field_token_len(s) == s.n;
}

bool field_is_method(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 'a' && s.p[i] <= 'z')
            return false;
    return field_is_token(s);
}

bool field_is_value(struct str s)
{
    return field_text_len(s) == s.n && str_trim(s).n == s.n;
}

bool field_is_hop_by_hop(struct str name)
{
    switch (name.n) {
    case 2:
        return str_eq_nocase(name, STR("te"));
    case 7:
        return str_eq_nocase(name, STR("trailer")) || str_eq_nocase(name, STR("upgrade"));
    case 10:
        return str_eq_nocase(name, STR("connection")) || str_eq_nocase(name, STR("keep-alive"));
    case 14:
        return str_eq_nocase(name, STR("http2-settings"));
    case 16:
        return str_eq_nocase(name, STR("proxy-connection"));
    case 17:
        return str_eq_nocase(name, STR("transfer-encoding"));
    case 18:
        return str_eq_nocase(name, STR("proxy-authenticate"));
    case 19:
        return str_eq_nocase(name, STR("proxy-authorization"));
    case 25:
        return str_eq_nocase(name, STR("proxy-authentication-info"));
    default:
        return false;
    }
}

bool field_ends_here(const struct head *h, struct str name)
{
    return field_is_hop_by_hop(name) || head_has_token(h, STR("connection"), name);
}

/* Some fold "_" alone, lighttpd every octet that is no letter and no digit. */
static char fields_fold(char c)
{
    c = str_lower_char(c);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : '-';
}

bool field_begins_folded(struct str name, struct str prefix)
{
    if (name.n < prefix.n)
        return false;
    for (size_t i = 0; i < prefix.n; i++)
        if (fields_fold(name.p[i]) != fields_fold(prefix.p[i]))
            return false;
    return true;
}

bool field_is_tarry(struct str name)
{
    return field_begins_folded(name, STR("tarry-"));
}

bool field_folds_to(struct str name, struct str other)
{
    return name.n == other.n && field_begins_folded(name, other);
}
