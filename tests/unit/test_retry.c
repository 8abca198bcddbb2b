/* Whether and when a call is tried again. */
#include "upstream/retry.h"

#include <check.h>

#include "base/num.h"
#include "unit.h"

/* 2026-11-23 12:00:00 UTC */
#define NOON_MS UINT64_C(1795435200000)

static uint16_t retry_on[] = { 409, 429, 500, 502, 503, 529 };
static struct upstream_conf conf = { .retry_first_pause_ms = 500,
    .retry_max_pause_ms = 8000,
    .retry_after_max_ms = 60000,
    .rest_max_ms = 3600000,
    .retry_unstarted_within_ms = 250,
    .retry_on = retry_on,
    .nretry_on = 6 };

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

static bool again(const struct retry_situation *s, const struct head *h, uint64_t *pause)
{
    struct retry_answer a = { .status = h->status, .head = h, .kind = LLM_ERROR_OTHER };
    struct retry_plan plan;
    enum retry_decision d = retry_after_answer(s, &a, &plan);

    *pause = plan.pause_ms;
    return d == RETRY_AGAIN;
}

static bool decide(unsigned status, const char *name, const char *value, uint64_t *pause)
{
    struct retry_situation s = situation(0, 2);
    struct field f = { str_of(name), str_of(value) };
    struct head h = response(status, &f, name ? 1 : 0);

    return again(&s, &h, pause);
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
    { 408, false }, /* from an edge, after the work was done */
    { 409, true },
    { 413, false },
    { 422, false },
    { 429, true },
    { 500, true },
    { 501, false },
    { 502, true },
    { 503, true },
    { 504, false },
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

    ck_assert(!again(&s, &h, &pause));
    s = situation(0, 0);
    ck_assert(!again(&s, &h, &pause));
    s = situation(1, 2);
    ck_assert(again(&s, &h, &pause));
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
        ck_assert(again(&s, &h, &pause));
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
    { "retry-after", "0", 375, 500 }, /* at least our own pause */
    { "retry-after", "0.1", 375, 500 },
    { "retry-after-ms", "1500", 1500, 1600 },
    { "retry-after-ms", "1500.25", 1501, 1601 },
    { "retry-after", "Mon, 23 Nov 2026 12:00:03 GMT", 3000, 3100 },
    { "retry-after", "Mon, 23 Nov 2026 11:59:03 GMT", 375, 500 }, /* over already */
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
        { STR("retry-after-ms"), STR("2250") } };
    struct head h = response(429, fields, 2);
    uint64_t pause;

    ck_assert(again(&s, &h, &pause));
    ck_assert_uint_ge(pause, 2250);
    ck_assert_uint_le(pause, 2350);
}
END_TEST

START_TEST(begins_no_pause_past_the_deadline)
{
    struct retry_situation s = situation(0, 2);
    struct field f = { STR("Retry-After"), STR("10") };
    struct head h = response(429, &f, 1);
    uint64_t pause;

    s.left_ms = 9000;
    ck_assert(!again(&s, &h, &pause));
    s.left_ms = 300;
    h.nfields = 0;
    ck_assert(!again(&s, &h, &pause));
}
END_TEST

/* A hint that is too long is obeyed by leaving the endpoint alone. */
START_TEST(waits_for_no_hint_that_is_too_long)
{
    struct retry_situation s = situation(0, 2);
    struct field f = { STR("Retry-After"), STR("61") };
    struct head h = response(429, &f, 1);
    struct retry_answer a = { .status = 429, .head = &h, .kind = LLM_ERROR_RATE };
    struct retry_plan plan;

    s.left_ms = 600000;
    ck_assert_int_eq(retry_after_answer(&s, &a, &plan), RETRY_ELSEWHERE);
    ck_assert_uint_eq(plan.rest_ms, 61000);
    f.value = STR("60");
    ck_assert_int_eq(retry_after_answer(&s, &a, &plan), RETRY_AGAIN);
}
END_TEST

/* A year would leave the endpoint alone for longer than anybody remembers why. */
START_TEST(an_endpoint_rests_no_longer_than_rest_max)
{
    struct field f = { STR("Retry-After"), STR("31536000") };
    struct head h = response(429, &f, 1);
    struct retry_situation s = situation(0, 2);
    struct retry_answer a = { .status = 429, .head = &h, .kind = LLM_ERROR_RATE };
    struct retry_plan plan;

    ck_assert_int_eq(retry_after_answer(&s, &a, &plan), RETRY_ELSEWHERE);
    ck_assert_uint_eq(plan.rest_ms, 3600000);
}
END_TEST

START_TEST(reads_the_hint_of_the_body)
{
    struct retry_situation s = situation(0, 2);
    struct head h = response(429, NULL, 0);
    struct retry_answer a = { .status = 429, .head = &h, .asks_to_wait = true, .wait_ms = 17000 };
    struct retry_plan plan;

    ck_assert_int_eq(retry_after_answer(&s, &a, &plan), RETRY_AGAIN);
    ck_assert_uint_ge(plan.pause_ms, 17000);
}
END_TEST

static const struct {
    unsigned status;
    enum llm_error kind;
    unsigned fallback_on;
    enum retry_decision d;
} kinds[] = {
    { 429, LLM_ERROR_QUOTA, 0, RETRY_ELSEWHERE },
    { 402, LLM_ERROR_QUOTA, 0, RETRY_ELSEWHERE },
    { 401, LLM_ERROR_AUTH, 0, RETRY_ELSEWHERE },
    { 400, LLM_ERROR_CONTEXT, 0, RETRY_NO },
    { 400, LLM_ERROR_CONTEXT, FALLBACK_CONTEXT_LENGTH, RETRY_NEXT_TIER },
    { 400, LLM_ERROR_FILTER, FALLBACK_CONTEXT_LENGTH, RETRY_NO },
    { 400, LLM_ERROR_FILTER, FALLBACK_CONTENT_FILTER, RETRY_NEXT_TIER },
    { 400, LLM_ERROR_INVALID, 3, RETRY_NO },
    { 200, LLM_ERROR_NONE, 3, RETRY_NO },
};

START_TEST(goes_by_the_kind_of_error)
{
    struct retry_situation s = situation(0, 2);
    struct head h = response(kinds[_i].status, NULL, 0);
    struct retry_answer a = { .status = h.status, .head = &h, .kind = kinds[_i].kind };
    struct retry_plan plan;

    conf.fallback_on = kinds[_i].fallback_on;
    ck_assert_int_eq(retry_after_answer(&s, &a, &plan), kinds[_i].d);
}
END_TEST

/* What may have been processed is billed: it is no retry's business. */
static const struct {
    const char *name;
    struct retry_failure f;
    enum retry_decision d, unsure; /* the second with retry_unsure_within = 1s */
} failures[] = {
    { "no address", { .error = STREAM_E_RESOLVE }, RETRY_AGAIN, RETRY_AGAIN },
    { "not reached", { .error = STREAM_E_CONNECT }, RETRY_AGAIN, RETRY_AGAIN },
    { "connecting took too long", { .error = STREAM_E_CONNECT_TIMEOUT }, RETRY_AGAIN, RETRY_AGAIN },
    { "refused stream", { .error = STREAM_E_REFUSED, .sent = true }, RETRY_FREE, RETRY_FREE },
    { "stale connection", { .error = STREAM_E_STALE, .sent = true, .reused = true }, RETRY_FREE,
        RETRY_FREE },
    { "the next try finds the same certificate", { .error = STREAM_E_CERTIFICATE }, RETRY_NO,
        RETRY_NO },
    { "TLS", { .error = STREAM_E_TLS }, RETRY_NO, RETRY_NO },
    { "another certificate is wanted", { .error = STREAM_E_ALERT, .sent = true }, RETRY_NO,
        RETRY_NO },
    { "the proxy refuses", { .error = STREAM_E_PROXY }, RETRY_NO, RETRY_NO },
    { "the proxy does not get there", { .error = STREAM_E_NO_WAY }, RETRY_AGAIN, RETRY_AGAIN },
    { "half a request", { .error = STREAM_E_TERMINATED, .took_ms = 5000 }, RETRY_FREE, RETRY_FREE },
    { "a new connection reset at once",
        { .error = STREAM_E_TERMINATED, .sent = true, .took_ms = 249 }, RETRY_FREE, RETRY_FREE },
    { "a new stream reset at once", { .error = STREAM_E_TERMINATED, .sent = true, .alone = true },
        RETRY_NO, RETRY_AGAIN },
    { "a new connection closed at once", { .error = STREAM_E_ENDED, .sent = true, .took_ms = 249 },
        RETRY_NO, RETRY_AGAIN },
    { "a kept connection at its end",
        { .error = STREAM_E_ENDED, .sent = true, .reused = true, .took_ms = 20 }, RETRY_FREE,
        RETRY_FREE },
    { "reset later", { .error = STREAM_E_TERMINATED, .sent = true, .took_ms = 900 }, RETRY_NO,
        RETRY_AGAIN },
    { "reset much later", { .error = STREAM_E_TERMINATED, .sent = true, .took_ms = 1001 }, RETRY_NO,
        RETRY_NO },
    { "broke off in the answer",
        { .error = STREAM_E_INCOMPLETE, .sent = true, .answered = true, .took_ms = 10 }, RETRY_NO,
        RETRY_AGAIN },
    { "too slow", { .error = STREAM_E_TIMEOUT, .sent = true, .took_ms = 2000 }, RETRY_NO,
        RETRY_NO },
    { "malformed", { .error = STREAM_E_PROTOCOL, .sent = true, .answered = true, .took_ms = 10 },
        RETRY_NO, RETRY_AGAIN },
    { "head too large", { .error = STREAM_E_HEAD_TOO_LARGE, .sent = true }, RETRY_NO, RETRY_NO },
    { "memory", { .error = STREAM_E_MEMORY }, RETRY_NO, RETRY_NO },
};

START_TEST(retries_only_what_was_not_processed)
{
    struct retry_situation s = situation(0, 2);
    uint64_t pause = 0;

    conf.retry_unsure_within_ms = 0;
    ck_assert_msg(retry_after_failure(&s, &failures[_i].f, &pause) == failures[_i].d, "%s",
        failures[_i].name);
    conf.retry_unsure_within_ms = 1000;
    ck_assert_msg(retry_after_failure(&s, &failures[_i].f, &pause) == failures[_i].unsure, "%s",
        failures[_i].name);
    /* Whatever it was, there is an end to it. */
    s = situation(2, 2);
    s.free_done = RETRY_FREE_MAX;
    ck_assert_int_eq(retry_after_failure(&s, &failures[_i].f, &pause), RETRY_NO);
}
END_TEST

/* Of a call that must not be tried again, what the peer has never seen is still sent again. */
START_TEST(sends_unseen_calls_again_whatever_the_limit)
{
    struct retry_situation s = situation(0, 0);
    struct retry_failure f = { .error = STREAM_E_REFUSED, .sent = true };
    uint64_t pause = 99;

    for (; s.free_done < RETRY_FREE_MAX; s.free_done++) {
        ck_assert_int_eq(retry_after_failure(&s, &f, &pause), RETRY_FREE);
        ck_assert(s.free_done > 0 || pause == 0);
    }
    ck_assert_int_eq(retry_after_failure(&s, &f, &pause), RETRY_NO);
    s = situation(0, 0);
    s.left_ms = 0;
    ck_assert_int_eq(retry_after_failure(&s, &f, &pause), RETRY_NO);
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
    tcase_add_test(t, sends_unseen_calls_again_whatever_the_limit);
    tcase_add_test(t, waits_for_no_hint_that_is_too_long);
    tcase_add_test(t, an_endpoint_rests_no_longer_than_rest_max);
    tcase_add_test(t, reads_the_hint_of_the_body);
    tcase_add_loop_test(t, goes_by_the_kind_of_error, 0, COUNT_OF(kinds));
    tcase_add_loop_test(t, reads_every_form_of_retry_after, 0, COUNT_OF(dates));
    return t;
}

UNIT_MAIN("retry")
