/* Whether and when a call is tried again. */
#include "upstream/retry.h"

#include <check.h>

#include "base/num.h"
#include "unit.h"

/* 2026-11-23 12:00:00 UTC */
#define NOON_MS UINT64_C(1795435200000)

static const struct upstream_conf conf = { .retry_first_pause_ms = 500,
    .retry_max_pause_ms = 8000 };

static struct retry_situation situation(unsigned done, unsigned max)
{
    return (struct retry_situation){ .retries_done = done,
        .retries_max = max,
        .left_ms = 60000,
        .wall_ms = NOON_MS,
        .conf = &conf };
}

static struct head response(unsigned status, struct field *fields, size_t n)
{
    return (struct head){ .status = status, .minor = 1, .fields = fields, .nfields = n };
}

static bool decide(unsigned status, const char *name, const char *value, uint64_t *pause)
{
    struct retry_situation s = situation(0, 2);
    struct field f = { str_of(name), str_of(value) };
    struct head h = response(status, &f, name ? 1 : 0);

    return retry_after_response(&s, &h, pause);
}

static const struct {
    unsigned status;
    bool again;
} statuses[] = {
    { 200, false },
    { 204, false },
    { 301, false },
    { 400, false },
    { 401, false },
    { 402, false },
    { 403, false },
    { 404, false },
    { 408, true },
    { 409, true },
    { 413, false },
    { 422, false },
    { 429, true },
    { 500, true },
    { 501, false },
    { 502, true },
    { 503, true },
    { 504, true },
    { 505, false },
    { 529, true },
};

START_TEST(retries_what_may_pass)
{
    uint64_t pause;

    ck_assert_int_eq(decide(statuses[_i].status, NULL, NULL, &pause), statuses[_i].again);
}
END_TEST

START_TEST(the_service_overrules_either_way)
{
    uint64_t pause;

    ck_assert(decide(400, "x-should-retry", "true", &pause));
    ck_assert(decide(400, "X-Should-Retry", "TRUE", &pause));
    ck_assert(!decide(500, "x-should-retry", "false", &pause));
    ck_assert(!decide(429, "x-should-retry", "false", &pause));
    ck_assert(decide(429, "x-should-retry", "maybe", &pause));
    ck_assert(!decide(400, "x-should-retry", "maybe", &pause));
    ck_assert(!decide(200, "x-should-retry", "true", &pause)); /* an answer is an answer */
}
END_TEST

START_TEST(stops_at_the_most)
{
    struct retry_situation s = situation(2, 2);
    struct head h = response(503, NULL, 0);
    uint64_t pause;

    ck_assert(!retry_after_response(&s, &h, &pause));
    s = situation(0, 0);
    ck_assert(!retry_after_response(&s, &h, &pause));
    s = situation(1, 2);
    ck_assert(retry_after_response(&s, &h, &pause));
}
END_TEST

/* Doubling from the first pause to the longest, less up to a quarter. */
static const struct {
    unsigned done;
    uint64_t full;
} backoffs[] = { { 0, 500 }, { 1, 1000 }, { 2, 2000 }, { 3, 4000 }, { 4, 8000 }, { 5, 8000 },
    { 60, 8000 } };

START_TEST(backs_off_with_jitter)
{
    struct retry_situation s = situation(backoffs[_i].done, 100);
    struct head h = response(503, NULL, 0);
    uint64_t pause, least = UINT64_MAX, most = 0;

    for (int i = 0; i < 200; i++) {
        ck_assert(retry_after_response(&s, &h, &pause));
        least = pause < least ? pause : least;
        most = pause > most ? pause : most;
    }
    ck_assert_uint_le(most, backoffs[_i].full);
    ck_assert_uint_ge(least, backoffs[_i].full * 3 / 4);
    ck_assert_uint_lt(least, most); /* they do not all come back at once */
}
END_TEST

static const struct {
    const char *name, *value;
    uint64_t least, most;
} hints[] = {
    { "retry-after", "2", 2000, 2100 },
    { "Retry-After", "2", 2000, 2100 },
    { "retry-after", "0.5", 500, 600 },
    { "retry-after", "0", 0, 0 },
    { "retry-after-ms", "1500", 1500, 1600 },
    { "retry-after-ms", "1500.25", 1501, 1601 },
    { "retry-after", "Mon, 23 Nov 2026 12:00:03 GMT", 3000, 3100 },
    { "retry-after", "Mon, 23 Nov 2026 11:59:03 GMT", 0, 0 }, /* over already */
    { "retry-after", "30", 30000, 30100 }, /* longer than any pause of ours: obeyed */
    { "retry-after", "soon", 375, 500 },   /* nonsense: our own pause */
    { "retry-after-ms", "-5", 375, 500 },
};

START_TEST(obeys_the_hint)
{
    uint64_t pause = 99;

    ck_assert(decide(429, hints[_i].name, hints[_i].value, &pause));
    ck_assert_uint_ge(pause, hints[_i].least);
    ck_assert_uint_le(pause, hints[_i].most);
}
END_TEST

START_TEST(milliseconds_win_over_seconds)
{
    struct retry_situation s = situation(0, 2);
    struct field fields[] = { { STR("Retry-After"), STR("7") },
        { STR("retry-after-ms"), STR("250") } };
    struct head h = response(429, fields, 2);
    uint64_t pause;

    ck_assert(retry_after_response(&s, &h, &pause));
    ck_assert_uint_ge(pause, 250);
    ck_assert_uint_le(pause, 350);
}
END_TEST

START_TEST(begins_no_pause_past_the_deadline)
{
    struct retry_situation s = situation(0, 2);
    struct field f = { STR("Retry-After"), STR("10") };
    struct head h = response(429, &f, 1);
    uint64_t pause;

    s.left_ms = 9000;
    ck_assert(!retry_after_response(&s, &h, &pause));
    s.left_ms = 300;
    h.nfields = 0;
    ck_assert(!retry_after_response(&s, &h, &pause));
    ck_assert(!retry_after_failure(&s, STREAM_E_CONNECT, &pause));
    s.left_ms = 0;
    ck_assert(!retry_after_failure(&s, STREAM_E_REFUSED, &pause));
}
END_TEST

static const struct {
    enum stream_error e;
    bool again, at_once;
} failures[] = {
    { STREAM_E_RESOLVE, true, false },
    { STREAM_E_CONNECT, true, false },
    { STREAM_E_CONNECT_TIMEOUT, true, false },
    { STREAM_E_REFUSED, true, true },
    { STREAM_E_STALE, true, true },
    { STREAM_E_CERTIFICATE, false, false }, /* the next try finds the same certificate */
    { STREAM_E_TLS, false, false },
    { STREAM_E_TERMINATED, false, false }, /* these may have been processed */
    { STREAM_E_ENDED, false, false },
    { STREAM_E_INCOMPLETE, false, false },
    { STREAM_E_PROTOCOL, false, false },
    { STREAM_E_HEAD_TOO_LARGE, false, false },
    { STREAM_E_MEMORY, false, false },
};

START_TEST(retries_only_what_was_not_processed)
{
    struct retry_situation s = situation(0, 2);
    uint64_t pause = 0;

    ck_assert_int_eq(retry_after_failure(&s, failures[_i].e, &pause), failures[_i].again);
    if (failures[_i].again)
        ck_assert_int_eq(pause == 0, failures[_i].at_once);
    /* The second time it waits too. */
    s = situation(1, 2);
    ck_assert_int_eq(retry_after_failure(&s, failures[_i].e, &pause), failures[_i].again);
    if (failures[_i].again)
        ck_assert_uint_ge(pause, 750);
    s = situation(2, 2);
    ck_assert(!retry_after_failure(&s, failures[_i].e, &pause));
}
END_TEST

/* Of a call that must not be tried again, what the peer has never seen is still sent once. */
START_TEST(sends_unseen_calls_once_more_whatever_the_limit)
{
    struct retry_situation s = situation(0, 0);
    uint64_t pause = 99;

    ck_assert(retry_after_failure(&s, STREAM_E_REFUSED, &pause));
    ck_assert_uint_eq(pause, 0);
    ck_assert(retry_after_failure(&s, STREAM_E_STALE, &pause));
    ck_assert(!retry_after_failure(&s, STREAM_E_CONNECT, &pause));
    s.retries_done = 1;
    ck_assert(!retry_after_failure(&s, STREAM_E_REFUSED, &pause));
}
END_TEST

static const struct {
    const char *text;
    bool good;
    uint64_t ms; /* from NOON_MS */
} dates[] = {
    { "120", true, 120000 },
    { " 5 ", true, 5000 },
    { "Mon, 23 Nov 2026 12:01:00 GMT", true, 60000 },
    { "Monday, 23-Nov-26 12:01:00 GMT", true, 60000 },
    { "Mon Nov 23 12:01:00 2026", true, 60000 },
    { "Thu Dec  3 12:00:00 2026", true, UINT64_C(864000000) },
    { "Tue, 01 Dec 2026 00:00:00 GMT", true, UINT64_C(648000000) },
    { "Tue, 29 Feb 2028 12:00:00 GMT", true, UINT64_C(40003200000) },
    { "Thu, 01 Jan 1970 00:00:00 GMT", true, 0 },
    { "Mon, 23 Nov 2026 12:01:00", false, 0 },
    { "Mon, 23 Nov 2026 12:01:00 CET", false, 0 },
    { "Mon, 23 Nov 2026 25:01:00 GMT", false, 0 },
    { "Mon, 23 Nov 2026 12:61:00 GMT", false, 0 },
    { "Mon, 00 Nov 2026 12:01:00 GMT", false, 0 },
    { "Mon, 23 nov 2026 12:01:00 GMT", false, 0 },
    { "Mon, 23 Nov 2026 12:01 GMT", false, 0 },
    { "", false, 0 },
    { "-1", false, 0 },
    { "1s", false, 0 },
    { "99999999999999999999999", true, NUM_SECONDS_MAX_MS },
    { "a b c d e f g h", false, 0 },
};

START_TEST(reads_every_form_of_retry_after)
{
    uint64_t ms = 12345;

    ck_assert_msg(retry_parse_after(str_of(dates[_i].text), NOON_MS, &ms) == dates[_i].good,
        "\"%s\"", dates[_i].text);
    if (dates[_i].good)
        ck_assert_uint_eq(ms, dates[_i].ms);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("retry");

    tcase_add_loop_test(t, retries_what_may_pass, 0, COUNT_OF(statuses));
    tcase_add_test(t, the_service_overrules_either_way);
    tcase_add_test(t, stops_at_the_most);
    tcase_add_loop_test(t, backs_off_with_jitter, 0, COUNT_OF(backoffs));
    tcase_add_loop_test(t, obeys_the_hint, 0, COUNT_OF(hints));
    tcase_add_test(t, milliseconds_win_over_seconds);
    tcase_add_test(t, begins_no_pause_past_the_deadline);
    tcase_add_loop_test(t, retries_only_what_was_not_processed, 0, COUNT_OF(failures));
    tcase_add_test(t, sends_unseen_calls_once_more_whatever_the_limit);
    tcase_add_loop_test(t, reads_every_form_of_retry_after, 0, COUNT_OF(dates));
    return t;
}

UNIT_MAIN("retry")
