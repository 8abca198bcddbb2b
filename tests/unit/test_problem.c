/* Problems: the statuses and words that the protocol fixes, and the response that is made of them.
 */
#include "exchange/problem.h"

#include <stdio.h>
#include <stdlib.h>

#include "http/h1parse.h"
#include "observe/counter.h"
#include "http/date.h"
#include "unit.h"

static const struct {
    enum problem p;
    unsigned status;
    const char *error;
} fixed[] = {
    { PROBLEM_BAD_REQUEST, 400, "http_request_error" },
    { PROBLEM_BODY_TOO_LARGE, 413, "http_request_error" },
    { PROBLEM_NOT_FOUND, 404, "destination_not_found" },
    { PROBLEM_QUEUE_FULL, 503, "connection_limit_reached" },
    { PROBLEM_QUEUE_TIMEOUT, 503, "connection_limit_reached" },
    { PROBLEM_WORKER_UNREACHABLE, 502, "connection_refused" },
    { PROBLEM_WORKER_PROTOCOL, 502, "http_protocol_error" },
    { PROBLEM_WORKER_INCOMPLETE, 502, "http_response_incomplete" },
    { PROBLEM_WORKER_TIMEOUT, 504, "http_response_timeout" },
    { PROBLEM_HANDOFF_MALFORMED, 502, "handoff_malformed" },
    { PROBLEM_HANDOFF_FORBIDDEN, 502, "handoff_forbidden" },
    { PROBLEM_HANDOFF_LIMIT, 502, "handoff_limit" },
    { PROBLEM_LOOP, 508, "loop_detected" },
    { PROBLEM_MISDIRECTED, 421, "http_request_error" },
    { PROBLEM_NO_WEBSOCKET, 501, "http_request_error" },
    { PROBLEM_REQUEST_TIMEOUT, 408, "http_request_error" },
    { PROBLEM_WORKER_DIED, 502, "http_response_incomplete" },
    { PROBLEM_EXCHANGE_TIMEOUT, 504, "http_response_timeout" },
    { PROBLEM_CANCELLED, 503, "connection_terminated" },
    { PROBLEM_CALL_DNS, 502, "dns_error" },
    { PROBLEM_CALL_CODING, 502, "http_response_content_coding" },
    { PROBLEM_STORAGE, 503, "proxy_internal_error" },
    { PROBLEM_INTERNAL, 503, "proxy_internal_error" },
    { PROBLEM_CALL_UNREACHABLE, 502, "connection_refused" },
    { PROBLEM_CALL_CERTIFICATE, 502, "tls_certificate_error" },
    { PROBLEM_CALL_TLS, 502, "tls_protocol_error" },
    { PROBLEM_CALL_ALERT, 502, "tls_alert_received" },
    { PROBLEM_CALL_PROXY, 502, "proxy_configuration_error" },
    { PROBLEM_CALL_NO_WAY, 502, "destination_unavailable" },
    { PROBLEM_CALL_WEBSOCKETS_FULL, 503, "connection_limit_reached" },
    { PROBLEM_FOREIGN_ORIGIN, 403, "http_request_denied" },
    { PROBLEM_CALL_TERMINATED, 502, "connection_terminated" },
    { PROBLEM_CALL_INCOMPLETE, 502, "http_response_incomplete" },
    { PROBLEM_CALL_PROTOCOL, 502, "http_protocol_error" },
    { PROBLEM_CALL_CONNECT_TIMEOUT, 504, "connection_timeout" },
    { PROBLEM_CALL_TIMEOUT, 504, "http_response_timeout" },
    { PROBLEM_CALL_TOO_LARGE, 502, "http_response_body_size_exceeded" },
    { PROBLEM_CALL_LIMIT, 429, "rate_limit_reached" },
};

START_TEST(has_the_protocols_status_and_error)
{
    ck_assert_uint_eq(problem_status(fixed[_i].p), fixed[_i].status);
    ck_assert_str_eq(problem_error(fixed[_i].p), fixed[_i].error);
}
END_TEST

START_TEST(makes_a_response_of_each)
{
    enum problem p = (enum problem)_i;
    bool busy = p == PROBLEM_QUEUE_FULL || p == PROBLEM_QUEUE_TIMEOUT || p == PROBLEM_CALL_LIMIT;
    struct arena a = { 0 };
    struct str json = problem_json(&a, p, 0, "the-id");
    struct head h;
    char text[300];

    snprintf(text, sizeof(text),
        "{\"title\":\"%s\",\"status\":%u,\"error\":\"%s\",\"exchange\":\"the-id\"}",
        problem_title(p), problem_status(p), problem_error(p));
    ck_assert_span_eq(json, text);
    ck_assert_ptr_null(strpbrk(problem_title(p), "\"\\"));
    ck_assert_int_eq(problem_head(&a, p, 0, 784111777000, json, &h), 0);
    ck_assert_uint_eq(h.status, problem_status(p));
    ck_assert_span_eq(head_value(&h, STR("content-type")), "application/problem+json");
    snprintf(text, sizeof(text), "tarry; error=%s", problem_error(p));
    ck_assert_span_eq(head_value(&h, STR("proxy-status")), text);
    snprintf(text, sizeof(text), "%zu", json.n);
    ck_assert_span_eq(head_value(&h, STR("content-length")), text);
    ck_assert_span_eq(head_value(&h, STR("date")), "Sun, 06 Nov 1994 08:49:37 GMT");
    ck_assert_int_eq(head_find(&h, STR("retry-after")) != NULL, busy);
    arena_release(&a);
}
END_TEST

/* Every failure has a row of its own in full: a status of an error, an `error` that RFC 9209 2.3
 * has or that the protocol adds, a title, a level at which an operator may see it, and a counter.
 */
START_TEST(has_a_whole_row_for_each_failure)
{
    static const char *const registered[] = { "dns_error", "destination_not_found",
        "connection_refused", "connection_terminated", "connection_timeout",
        "connection_limit_reached", "destination_unavailable", "tls_certificate_error",
        "tls_protocol_error", "http_request_error", "http_response_incomplete",
        "http_response_timeout", "http_response_body_size_exceeded", "http_response_content_coding",
        "http_protocol_error", "loop_detected", "proxy_internal_error", "handoff_malformed",
        "handoff_forbidden", "handoff_limit", "http_request_denied", "rate_limit_reached",
        "tls_alert_received", "proxy_configuration_error" };
    enum problem p = (enum problem)_i;
    uint64_t before = 0, after = 0;
    bool known = false;

    for (int i = 0; i < COUNT_OF(registered); i++)
        known |= strcmp(registered[i], problem_error(p)) == 0;
    ck_assert_msg(known, "problem %d: \"%s\"", _i, problem_error(p));
    ck_assert_uint_ge(problem_status(p), 400);
    ck_assert_uint_le(problem_status(p), 599);
    ck_assert_str_ne(problem_title(p), "");
    ck_assert(problem_status(p) >= 500 || problem_level(p) == LEVEL_INFO);
    ck_assert_int_eq(problem_is_call(p), p >= PROBLEM_CALL_DNS && p <= PROBLEM_CALL_CANCELLED);
    for (int i = 0; i < COUNTER_COUNT; i++)
        before += counter_values[i];
    problem_count(p);
    for (int i = 0; i < COUNTER_COUNT; i++)
        after += counter_values[i];
    ck_assert_uint_eq(after - before, p != PROBLEM_CALL_CANCELLED);
}
END_TEST

START_TEST(takes_another_status)
{
    struct arena a = { 0 };
    struct str json = problem_json(&a, PROBLEM_BAD_REQUEST, 431, "x");
    struct head h;

    ck_assert_ptr_nonnull(strstr(json.p, "\"status\":431,"));
    ck_assert_int_eq(problem_head(&a, PROBLEM_BAD_REQUEST, 431, 0, json, &h), 0);
    ck_assert_uint_eq(h.status, 431);
    arena_release(&a);
}
END_TEST

START_TEST(writes_dates)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } rows[] = {
        { 0, "Thu, 01 Jan 1970 00:00:00 GMT" },
        { 784111777999, "Sun, 06 Nov 1994 08:49:37 GMT" },
        { 951782400000, "Tue, 29 Feb 2000 00:00:00 GMT" },
        { 4102444799000, "Thu, 31 Dec 2099 23:59:59 GMT" },
    };
    char out[DATE_TEXT_MAX];

    for (int i = 0; i < COUNT_OF(rows); i++) {
        date_write(rows[i].ms, out);
        ck_assert_str_eq(out, rows[i].text);
    }
}
END_TEST

static const struct {
    enum stream_error error;
    enum problem p;
} calls[] = {
    { STREAM_E_RESOLVE, PROBLEM_CALL_DNS },
    { STREAM_E_CONNECT, PROBLEM_CALL_UNREACHABLE },
    { STREAM_E_CONNECT_TIMEOUT, PROBLEM_CALL_CONNECT_TIMEOUT },
    { STREAM_E_CERTIFICATE, PROBLEM_CALL_CERTIFICATE },
    { STREAM_E_TLS, PROBLEM_CALL_TLS },
    { STREAM_E_ALERT, PROBLEM_CALL_ALERT },
    { STREAM_E_PROXY, PROBLEM_CALL_PROXY },
    { STREAM_E_NO_WAY, PROBLEM_CALL_NO_WAY },
    { STREAM_E_REFUSED, PROBLEM_CALL_TERMINATED },
    { STREAM_E_STALE, PROBLEM_CALL_TERMINATED },
    { STREAM_E_TERMINATED, PROBLEM_CALL_TERMINATED },
    { STREAM_E_ENDED, PROBLEM_CALL_INCOMPLETE },
    { STREAM_E_INCOMPLETE, PROBLEM_CALL_INCOMPLETE },
    { STREAM_E_PROTOCOL, PROBLEM_CALL_PROTOCOL },
    { STREAM_E_HEAD_TOO_LARGE, PROBLEM_CALL_PROTOCOL },
    { STREAM_E_TIMEOUT, PROBLEM_CALL_TIMEOUT },
    { STREAM_E_MEMORY, PROBLEM_INTERNAL },
};

static const struct {
    enum stream_error error;
    enum problem p;
} visits[] = {
    { STREAM_E_CONNECT, PROBLEM_WORKER_UNREACHABLE },
    { STREAM_E_TERMINATED, PROBLEM_WORKER_DIED },
    { STREAM_E_ENDED, PROBLEM_WORKER_DIED },
    { STREAM_E_INCOMPLETE, PROBLEM_WORKER_INCOMPLETE },
    { STREAM_E_PROTOCOL, PROBLEM_WORKER_PROTOCOL },
    { STREAM_E_HEAD_TOO_LARGE, PROBLEM_WORKER_PROTOCOL },
    { STREAM_E_TIMEOUT, PROBLEM_WORKER_TIMEOUT },
    { STREAM_E_MEMORY, PROBLEM_INTERNAL },
};

START_TEST(says_what_a_failed_visit_is)
{
    ck_assert_int_eq(problem_of_visit(visits[_i].error), visits[_i].p);
}
END_TEST

START_TEST(says_what_a_failed_call_is)
{
    ck_assert_int_eq(problem_of_call(calls[_i].error), calls[_i].p);
    ck_assert_str_ne(stream_strerror(calls[_i].error), "unknown");
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("problem");

    tcase_add_loop_test(t, has_the_protocols_status_and_error, 0, COUNT_OF(fixed));
    tcase_add_loop_test(t, makes_a_response_of_each, PROBLEM_BAD_REQUEST, PROBLEM_COUNT);
    tcase_add_loop_test(t, has_a_whole_row_for_each_failure, PROBLEM_BAD_REQUEST, PROBLEM_COUNT);
    tcase_add_test(t, takes_another_status);
    tcase_add_test(t, writes_dates);
    tcase_add_loop_test(t, says_what_a_failed_visit_is, 0, COUNT_OF(visits));
    tcase_add_loop_test(t, says_what_a_failed_call_is, 0, COUNT_OF(calls));
    return t;
}

UNIT_MAIN("problem")
