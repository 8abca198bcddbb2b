/* The decisions, and the clock arithmetic of Retry-After. */
#include "upstream/retry.h"

#include "base/entropy.h"
#include "base/num.h"

/* Calls that were refused together get the same hint, so their retries are spread over this time.
 */
enum { HINT_JITTER_MS = 100 };

static bool retry_is_listed(const struct upstream_conf *u, unsigned status)
{
    for (size_t i = 0; i < u->nretry_on; i++)
        if (u->retry_on[i] == status)
            return true;
    return false;
}

/* The first pause, doubled with each retry up to the maximum, minus a random part of up to a
 * quarter, so that calls that failed together do not return together. */
static uint64_t retry_backoff(const struct retry_situation *s)
{
    uint64_t pause = s->conf->retry_first_pause_ms;

    for (unsigned i = 0; i < s->retries_done && pause < s->conf->retry_max_pause_ms; i++)
        pause *= 2;
    if (pause > s->conf->retry_max_pause_ms)
        pause = s->conf->retry_max_pause_ms;
    return pause - entropy_below(pause / 4 + 1);
}

/* "1500" or "1500.25" (the SDKs read a float): milliseconds, rounded up. */
static bool retry_parse_after_ms(struct str value, uint64_t *ms)
{
    struct str whole, fraction;
    uint64_t digits;

    value = str_trim(value);
    if (!str_cut(value, '.', &whole, &fraction))
        return num_parse_u64(value, ms);
    if (!num_parse_u64(whole, ms) || !num_parse_u64(fraction, &digits))
        return false;
    *ms += digits > 0;
    return true;
}

/* The pause that the service asks for. */
static bool retry_find_hint(const struct retry_answer *a, uint64_t wall_ms, uint64_t *ms)
{
    const struct field *f = head_find(a->head, STR("retry-after-ms"));

    if (f && retry_parse_after_ms(f->value, ms))
        return true;
    f = head_find(a->head, STR("retry-after"));
    if (f && retry_parse_after(f->value, wall_ms, ms))
        return true;
    *ms = a->wait_ms;
    return a->asks_to_wait;
}

static bool retry_is_wanted(const struct upstream_conf *u, const struct retry_answer *a)
{
    const struct field *should = head_find(a->head, STR("x-should-retry"));

    if (should && a->status >= 400) {
        if (str_eq_nocase(str_trim(should->value), STR("true")))
            return true;
        if (str_eq_nocase(str_trim(should->value), STR("false")))
            return false;
    }
    return retry_is_listed(u, a->status);
}

static bool retry_falls_back(const struct upstream_conf *u, enum llm_error kind)
{
    return (kind == LLM_ERROR_CONTEXT && (u->fallback_on & FALLBACK_CONTEXT_LENGTH)) ||
           (kind == LLM_ERROR_FILTER && (u->fallback_on & FALLBACK_CONTENT_FILTER));
}

enum retry_decision retry_after_answer(
    const struct retry_situation *s, const struct retry_answer *a, struct retry_plan *plan)
{
    uint64_t hint = 0;
    bool hinted = retry_find_hint(a, s->wall_ms, &hint);

    plan->rest_ms = hinted ? hint : 0;
    if (plan->rest_ms > s->conf->rest_max_ms)
        plan->rest_ms = s->conf->rest_max_ms;
    plan->pause_ms = retry_backoff(s);
    if (a->status < 400)
        return RETRY_NO;
    if (retry_falls_back(s->conf, a->kind))
        return RETRY_NEXT_TIER;
    if (a->kind == LLM_ERROR_QUOTA || a->kind == LLM_ERROR_AUTH)
        return RETRY_ELSEWHERE;
    if (a->kind == LLM_ERROR_CONTEXT || a->kind == LLM_ERROR_FILTER ||
        !retry_is_wanted(s->conf, a) || s->retries_done >= s->retries_max)
        return RETRY_NO;
    if (hinted && hint > s->conf->retry_after_max_ms)
        return RETRY_ELSEWHERE;
    if (hint > plan->pause_ms)
        plan->pause_ms = hint + entropy_below(HINT_JITTER_MS + 1);
    return plan->pause_ms < s->left_ms ? RETRY_AGAIN : RETRY_ELSEWHERE;
}

/* Whether the service cannot have started the call. */
static bool retry_is_unstarted(const struct upstream_conf *u, const struct retry_failure *f)
{
    bool broke_off = f->error == STREAM_E_TERMINATED || f->error == STREAM_E_ENDED;

    if (f->error == STREAM_E_REFUSED || f->error == STREAM_E_STALE)
        return true;
    if (!broke_off || f->answered)
        return false;
    if (!f->sent)
        return true;
    /* An overloaded listener resets new connections; an idle connection may be closed just as the
     * request is written. */
    return !f->alone && f->took_ms < u->retry_unstarted_within_ms &&
           (f->reused || f->error == STREAM_E_TERMINATED);
}

static bool retry_is_unreached(enum stream_error e)
{
    return e == STREAM_E_RESOLVE || e == STREAM_E_CONNECT || e == STREAM_E_CONNECT_TIMEOUT ||
           e == STREAM_E_NO_WAY;
}

static bool retry_is_unsure(enum stream_error e)
{
    return e == STREAM_E_TERMINATED || e == STREAM_E_ENDED || e == STREAM_E_INCOMPLETE ||
           e == STREAM_E_TIMEOUT || e == STREAM_E_PROTOCOL;
}

enum retry_decision retry_after_failure(
    const struct retry_situation *s, const struct retry_failure *f, uint64_t *pause_ms)
{
    *pause_ms = retry_backoff(s);
    if (retry_is_unstarted(s->conf, f) && s->free_done < RETRY_FREE_MAX && s->left_ms > 0) {
        *pause_ms = s->free_done ? entropy_below(HINT_JITTER_MS) : 0;
        return RETRY_FREE;
    }
    if (f->error != STREAM_E_REFUSED && f->error != STREAM_E_STALE &&
        !retry_is_unreached(f->error) &&
        !(retry_is_unsure(f->error) && s->conf->retry_unsure_within_ms > 0 &&
            f->took_ms <= s->conf->retry_unsure_within_ms))
        return RETRY_NO;
    if (s->retries_done >= s->retries_max || s->left_ms == 0)
        return RETRY_NO;
    return *pause_ms < s->left_ms ? RETRY_AGAIN : RETRY_ELSEWHERE;
}

static const struct str months[12] = { STR_INIT("Jan"), STR_INIT("Feb"), STR_INIT("Mar"),
    STR_INIT("Apr"), STR_INIT("May"), STR_INIT("Jun"), STR_INIT("Jul"), STR_INIT("Aug"),
    STR_INIT("Sep"), STR_INIT("Oct"), STR_INIT("Nov"), STR_INIT("Dec") };

/* Days from 1970-01-01 to a day of the Gregorian calendar (month 1 to 12). Years begin in March for
 * the arithmetic. */
static int64_t retry_days_of(int64_t year, int64_t month, int64_t day)
{
    int64_t era, yoe, doy;

    year -= month <= 2;
    era = year / 400;
    yoe = year - era * 400;
    doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static bool retry_number(struct str s, uint64_t most, uint64_t *out)
{
    return num_parse_u64(s, out) && *out <= most;
}

/* The parts of a date, as text, to seconds since 1970. */
static bool retry_seconds_of(
    struct str day, struct str month, struct str year, struct str time, int64_t *out)
{
    uint64_t d, y, h, m, s;
    int64_t mon = 0;

    for (int i = 0; i < 12; i++) {
        if (str_eq(month, months[i]))
            mon = i + 1;
    }
    if (time.n != 8 || time.p[2] != ':' || time.p[5] != ':' || !mon || !retry_number(day, 31, &d) ||
        !d || !retry_number(year, 9999, &y) || !retry_number(str_make(time.p, 2), 23, &h) ||
        !retry_number(str_make(time.p + 3, 2), 59, &m) ||
        !retry_number(str_make(time.p + 6, 2), 60, &s))
        return false;
    if (year.n == 2)
        y += y < 70 ? 2000 : 1900;
    *out = retry_days_of((int64_t)y, mon, (int64_t)d) * 86400 + (int64_t)(h * 3600 + m * 60 + s);
    return true;
}

/* The three forms of RFC 9110 5.6.7: "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37
 * GMT", "Sun Nov  6 08:49:37 1994". */
static bool retry_parse_date(struct str v, int64_t *out)
{
    struct str word[6], date[3];
    size_t n = 0;

    while (v.n > 0 && n < 6) {
        str_cut(v, ' ', &word[n], &v);
        n += word[n].n > 0;
    }
    if (v.n > 0)
        return false;
    if (n == 6 && str_eq(word[5], STR("GMT")))
        return retry_seconds_of(word[1], word[2], word[3], word[4], out);
    if (n == 4 && str_eq(word[3], STR("GMT")) && str_cut(word[1], '-', &date[0], &v) &&
        str_cut(v, '-', &date[1], &date[2]))
        return retry_seconds_of(date[0], date[1], date[2], word[2], out);
    if (n == 5)
        return retry_seconds_of(word[2], word[1], word[4], word[3], out);
    return false;
}

bool retry_parse_after(struct str value, uint64_t wall_ms, uint64_t *ms)
{
    int64_t at_s;

    value = str_trim(value);
    if (num_parse_seconds(value, ms))
        return true;
    if (!retry_parse_date(value, &at_s))
        return false;
    *ms = at_s > 0 && (uint64_t)at_s * 1000 > wall_ms ? (uint64_t)at_s * 1000 - wall_ms : 0;
    return true;
}
