/* Fields and the two forms of a reset: a duration ("6m0s", "12ms") and a date (RFC 3339). */
#include "upstream/ratelimit.h"

#include <time.h>

#include "base/num.h"

enum { NAME_MAX_BYTES = 48, RESET_MAX_MS = 86400000 };

/* "350", "6.2": thousandths of the unit that follows; moves `s` behind it. */
static bool ratelimit_take_number(struct str *s, uint64_t *thousandths)
{
    uint64_t v = 0, scale = 0;
    size_t n = 0;

    for (; n < s->n && ((s->p[n] >= '0' && s->p[n] <= '9') || s->p[n] == '.'); n++) {
        if (s->p[n] == '.') {
            if (scale)
                return false;
            scale = 1000;
            continue;
        }
        if (v > RESET_MAX_MS)
            return false;
        if (scale != 1)
            v = v * 10 + (uint64_t)(s->p[n] - '0');
        if (scale > 1)
            scale /= 10; /* 1: further digits do not count */
    }
    *thousandths = v * (scale ? scale : 1000);
    s->p += n;
    s->n -= n;
    return n > 0;
}

static bool ratelimit_take_unit(struct str *s, uint64_t *ms)
{
    static const struct {
        struct str name;
        uint64_t ms;
    } units[] = { { STR_INIT("ms"), 1 }, { STR_INIT("h"), 3600000 }, { STR_INIT("m"), 60000 },
        { STR_INIT("s"), 1000 }, { STR_INIT("d"), 86400000 } };

    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
        if (str_starts_with(*s, units[i].name)) {
            *ms = units[i].ms;
            *s = str_make(s->p + units[i].name.n, s->n - units[i].name.n);
            return true;
        }
    *ms = 1000;
    return s->n == 0; /* a plain number is of seconds */
}

static bool ratelimit_parse_duration(struct str s, uint64_t *ms)
{
    *ms = 0;
    if (s.n == 0)
        return false;
    while (s.n > 0) {
        uint64_t thousandths, unit;

        if (!ratelimit_take_number(&s, &thousandths) || !ratelimit_take_unit(&s, &unit) ||
            thousandths / 1000 > RESET_MAX_MS / unit) /* before the product wraps */
            return false;
        *ms += thousandths * unit / 1000 + (thousandths * unit % 1000 > 0);
        if (*ms > RESET_MAX_MS)
            return false;
    }
    return true;
}

static bool ratelimit_digits(struct str s, size_t at, size_t n, int *out)
{
    uint64_t v;

    if (at + n > s.n || !num_parse_u64(str_make(s.p + at, n), &v))
        return false;
    *out = (int)v;
    return true;
}

/* "2026-11-30T01:02:03Z", with a fraction or not. */
static bool ratelimit_parse_date(struct str s, uint64_t wall_ms, uint64_t *ms)
{
    struct tm tm = { 0 };
    int64_t at;

    if (s.n < 20 || s.p[s.n - 1] != 'Z' || s.p[4] != '-' || s.p[7] != '-' || s.p[10] != 'T' ||
        s.p[13] != ':' || s.p[16] != ':' || !ratelimit_digits(s, 0, 4, &tm.tm_year) ||
        !ratelimit_digits(s, 5, 2, &tm.tm_mon) || !ratelimit_digits(s, 8, 2, &tm.tm_mday) ||
        !ratelimit_digits(s, 11, 2, &tm.tm_hour) || !ratelimit_digits(s, 14, 2, &tm.tm_min) ||
        !ratelimit_digits(s, 17, 2, &tm.tm_sec))
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    at = (int64_t)timegm(&tm) * 1000;
    *ms = at > (int64_t)wall_ms ? (uint64_t)(at - (int64_t)wall_ms) : 0;
    return *ms <= RESET_MAX_MS;
}

static bool ratelimit_parse_reset(struct str s, uint64_t wall_ms, uint64_t *ms)
{
    s = str_trim(s);
    return ratelimit_parse_duration(s, ms) || ratelimit_parse_date(s, wall_ms, ms);
}

/* Where the three fields of a level stand: the name's parts around "limit", "remaining", "reset".
 */
static const struct {
    const char *before, *after;
    enum meter_kind kind;
} ratelimit_names[] = {
    { "x-ratelimit-", "-requests", METER_REQUESTS },
    { "x-ratelimit-", "-tokens", METER_TOKENS },
    { "anthropic-ratelimit-requests-", "", METER_REQUESTS },
    { "anthropic-ratelimit-tokens-", "", METER_TOKENS },
    { "anthropic-ratelimit-input-tokens-", "", METER_INPUT },
    { "anthropic-ratelimit-output-tokens-", "", METER_OUTPUT },
};

static struct str ratelimit_value(
    const struct head *h, const char *before, const char *what, const char *after)
{
    struct str parts[] = { str_of(before), str_of(what), str_of(after) };
    char name[NAME_MAX_BYTES];
    size_t n = 0;

    for (size_t i = 0; i < 3; i++) {
        memcpy(name + n, parts[i].p, parts[i].n);
        n += parts[i].n;
    }
    return str_trim(head_value(h, str_make(name, n)));
}

/* Most answers say nothing: one look at the fields tells. */
static bool ratelimit_says_anything(const struct head *h)
{
    for (size_t i = 0; i < h->nfields; i++)
        if (str_starts_with_nocase(h->fields[i].name, STR("x-ratelimit-")) ||
            str_starts_with_nocase(h->fields[i].name, STR("anthropic-ratelimit-")))
            return true;
    return false;
}

bool ratelimit_read(
    const struct head *head, uint64_t wall_ms, struct meter_level levels[METER_NKINDS])
{
    bool any = false;

    memset(levels, 0, METER_NKINDS * sizeof(*levels));
    if (!ratelimit_says_anything(head))
        return false;
    for (size_t i = 0; i < sizeof(ratelimit_names) / sizeof(*ratelimit_names); i++) {
        const char *before = ratelimit_names[i].before, *after = ratelimit_names[i].after;
        struct meter_level l = { 0 };

        if (!num_parse_u64(ratelimit_value(head, before, "remaining", after), &l.remaining) ||
            !ratelimit_parse_reset(
                ratelimit_value(head, before, "reset", after), wall_ms, &l.reset_ms))
            continue;
        if (!num_parse_u64(ratelimit_value(head, before, "limit", after), &l.limit))
            l.limit = 0;
        l.known = any = true;
        levels[ratelimit_names[i].kind] = l;
    }
    return any;
}
