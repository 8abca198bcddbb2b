/* Strict numbers. The bound of 18 decimal (15 hexadecimal) digits keeps every value far from
 * overflow. */
#include "base/num.h"

#include <inttypes.h>
#include <stdio.h>

bool num_parse_u64(struct str s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.n == 0 || s.n > 18)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(s.p[i] - '0');
    }
    *out = v;
    return true;
}

static int num_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = str_lower_char(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool num_parse_hex(struct str s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.n == 0 || s.n > 15)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        int d = num_hex_digit(s.p[i]);

        if (d < 0)
            return false;
        v = v << 4 | (uint64_t)d;
    }
    *out = v;
    return true;
}

bool num_parse_size(struct str s, uint64_t *bytes)
{
    unsigned shift = 0;
    uint64_t v;

    if (s.n > 0) {
        switch (s.p[s.n - 1]) {
        case 'k':
        case 'K':
            shift = 10;
            break;
        case 'm':
        case 'M':
            shift = 20;
            break;
        case 'g':
        case 'G':
            shift = 30;
            break;
        default:
            break;
        }
    }
    if (shift)
        s.n--;
    if (!num_parse_u64(s, &v) || v > (UINT64_C(1) << 60) >> shift)
        return false;
    *bytes = v << shift;
    return true;
}

/* `digits[.digits]` times `unit_ms`, rounded up. */
static bool num_scaled(struct str s, uint64_t unit_ms, uint64_t *ms)
{
    struct str whole, frac;
    bool dot = str_cut(s, '.', &whole, &frac);
    uint64_t v, f = 0, scale = 1;

    if (!num_parse_u64(whole, &v) || v >= UINT64_MAX / 2 / unit_ms)
        return false;
    if (dot) {
        uint64_t ignored;

        if (frac.n > 18 || !num_parse_u64(frac, &ignored))
            return false;
        for (size_t i = 0; i < frac.n && i < 9; i++) {
            f = f * 10 + (uint64_t)(frac.p[i] - '0');
            scale *= 10;
        }
        for (size_t i = 9; i < frac.n; i++)
            if (frac.p[i] != '0') {
                f++; /* digits beyond a billionth round up, too */
                break;
            }
    }
    *ms = v * unit_ms + (f * unit_ms + scale - 1) / scale;
    return true;
}

static bool num_is_digits(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

bool num_parse_seconds(struct str s, uint64_t *ms)
{
    if (num_scaled(s, 1000, ms))
        return true;
    if (!num_is_digits(s))
        return false;
    *ms = NUM_SECONDS_MAX_MS;
    return true;
}

static const struct {
    struct str suffix;
    uint64_t ms;
} units[] = {
    { STR_INIT("ms"), 1 }, /* before "s", because it ends with "s" */
    { STR_INIT("s"), 1000 },
    { STR_INIT("m"), 60 * 1000 },
    { STR_INIT("h"), 60 * 60 * 1000 },
    { STR_INIT("d"), 24 * 60 * 60 * 1000 },
};

bool num_parse_duration(struct str s, uint64_t *ms)
{
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
        struct str u = units[i].suffix;

        if (s.n > u.n && memcmp(s.p + s.n - u.n, u.p, u.n) == 0)
            return num_scaled(str_make(s.p, s.n - u.n), units[i].ms, ms);
    }
    return false;
}
