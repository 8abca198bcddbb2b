/* One table: what went wrong, what the client is told, and how loudly the operator is. */
#include "exchange/problem.h"

#include <stdio.h>
#include <time.h>

#include "observe/counter.h"
#include "http/date.h"

#define NO_COUNTER COUNTER_COUNT

/* One row a failure. `counter`: where problem_count() counts it. */
static const struct {
    unsigned status;
    const char *error, *title;
    enum counter counter;
    enum log_level level;
} table[PROBLEM_COUNT] = {
#define ROW(id, status, error, counter, level, title)                                              \
    [PROBLEM_##id] = { status, error, title, counter, LEVEL_##level }
    ROW(NONE, 500, "proxy_internal_error", NO_COUNTER, WARN, "No problem"),
    ROW(BAD_REQUEST, 400, "http_request_error", COUNTER_REQUESTS_REFUSED, INFO,
        "The request is malformed"),
    ROW(REQUEST_TIMEOUT, 408, "http_request_error", COUNTER_REQUESTS_REFUSED, INFO,
        "The request did not come in time"),
    ROW(BODY_TOO_LARGE, 413, "http_request_error", COUNTER_REQUESTS_REFUSED, INFO,
        "The request's body is too large"),
    ROW(NOT_FOUND, 404, "destination_not_found", COUNTER_REQUESTS_REFUSED, INFO,
        "There is nothing at this address"),
    ROW(MISDIRECTED, 421, "http_request_error", COUNTER_REQUESTS_REFUSED, INFO,
        "The connection was made for another host"),
    ROW(FOREIGN_ORIGIN, 403, "http_request_denied", COUNTER_REQUESTS_REFUSED, INFO,
        "Pages of this origin may not open a WebSocket here"),
    ROW(NO_WEBSOCKET, 501, "http_request_error", COUNTER_REQUESTS_REFUSED, INFO,
        "There is no WebSocket at this address"),
    ROW(QUEUE_FULL, 503, "connection_limit_reached", COUNTER_QUEUE_REFUSED, WARN,
        "The service is busy"),
    ROW(QUEUE_TIMEOUT, 503, "connection_limit_reached", COUNTER_QUEUE_REFUSED, WARN,
        "The service is busy"),
    ROW(WORKER_UNREACHABLE, 502, "connection_refused", COUNTER_VISITS_FAILED, WARN,
        "The application cannot be reached"),
    ROW(WORKER_DIED, 502, "http_response_incomplete", COUNTER_VISITS_FAILED, WARN,
        "The application ended before its response was complete"),
    ROW(WORKER_INCOMPLETE, 502, "http_response_incomplete", COUNTER_VISITS_FAILED, WARN,
        "The application ended before its response was complete"),
    ROW(WORKER_PROTOCOL, 502, "http_protocol_error", COUNTER_VISITS_FAILED, WARN,
        "The application's response is malformed"),
    ROW(WORKER_TIMEOUT, 504, "http_response_timeout", COUNTER_VISITS_FAILED, WARN,
        "The application took too long"),
    ROW(HANDOFF_MALFORMED, 502, "handoff_malformed", COUNTER_HANDOFFS_REFUSED, WARN,
        "The application's handoff is malformed"),
    ROW(HANDOFF_FORBIDDEN, 502, "handoff_forbidden", COUNTER_HANDOFFS_REFUSED, WARN,
        "The application's handoff names an origin that is not declared"),
    ROW(HANDOFF_LIMIT, 502, "handoff_limit", COUNTER_HANDOFFS_REFUSED, WARN,
        "The application's handoff is over a limit"),
    ROW(LOOP, 508, "loop_detected", COUNTER_HANDOFFS_REFUSED, WARN,
        "The application handed off too many times"),
    ROW(EXCHANGE_TIMEOUT, 504, "http_response_timeout", COUNTER_EXCHANGES_TIMED_OUT, WARN,
        "The request took too long"),
    ROW(CANCELLED, 503, "connection_terminated", COUNTER_EXCHANGES_CANCELLED, INFO,
        "An operator has ended the request"),
    ROW(CALL_DNS, 502, "dns_error", COUNTER_CALLS_FAILED, WARN,
        "The upstream service's name has no address"),
    ROW(CALL_UNREACHABLE, 502, "connection_refused", COUNTER_CALLS_FAILED, WARN,
        "The upstream service cannot be reached"),
    ROW(CALL_CERTIFICATE, 502, "tls_certificate_error", COUNTER_CALLS_FAILED, WARN,
        "The upstream service's certificate was not accepted"),
    ROW(CALL_TLS, 502, "tls_protocol_error", COUNTER_CALLS_FAILED, WARN,
        "TLS with the upstream service failed"),
    ROW(CALL_ALERT, 502, "tls_alert_received", COUNTER_CALLS_FAILED, WARN,
        "The upstream service wants another client certificate"),
    ROW(CALL_PROXY, 502, "proxy_configuration_error", COUNTER_CALLS_FAILED, WARN,
        "The proxy on the way to the upstream service refuses"),
    ROW(CALL_NO_WAY, 502, "destination_unavailable", COUNTER_CALLS_FAILED, WARN,
        "The proxy on the way does not reach the upstream service"),
    ROW(CALL_TERMINATED, 502, "connection_terminated", COUNTER_CALLS_FAILED, WARN,
        "The upstream service cut the connection"),
    ROW(CALL_INCOMPLETE, 502, "http_response_incomplete", COUNTER_CALLS_FAILED, WARN,
        "The upstream service ended before its response was complete"),
    ROW(CALL_PROTOCOL, 502, "http_protocol_error", COUNTER_CALLS_FAILED, WARN,
        "The upstream service's response is malformed"),
    ROW(CALL_CONNECT_TIMEOUT, 504, "connection_timeout", COUNTER_CALLS_FAILED, WARN,
        "Connecting to the upstream service took too long"),
    ROW(CALL_TIMEOUT, 504, "http_response_timeout", COUNTER_CALLS_FAILED, WARN,
        "The upstream service took too long"),
    ROW(CALL_UNAVAILABLE, 503, "destination_unavailable", COUNTER_CALLS_FAILED, WARN,
        "The upstream service takes no calls now"),
    ROW(CALL_TOO_LARGE, 502, "http_response_body_size_exceeded", COUNTER_CALLS_FAILED, WARN,
        "The upstream service's response is too large"),
    ROW(CALL_LIMIT, 429, "rate_limit_reached", COUNTER_CALLS_FAILED, INFO,
        "Too many calls wait for the upstream service"),
    ROW(CALL_CODING, 502, "http_response_content_coding", COUNTER_CALLS_FAILED, WARN,
        "The upstream service's response cannot be decoded"),
    ROW(CALL_WEBSOCKETS_FULL, 503, "connection_limit_reached", COUNTER_CALLS_FAILED, WARN,
        "The upstream service has as many WebSockets as it may have"),
    ROW(CALL_CANCELLED, 502, "connection_terminated", NO_COUNTER, DEBUG, "The client has gone"),
    ROW(STORAGE, 503, "proxy_internal_error", COUNTER_RESOURCES_SHORT, ERROR,
        "The proxy is out of resources"),
    ROW(INTERNAL, 503, "proxy_internal_error", COUNTER_RESOURCES_SHORT, WARN,
        "The proxy is out of resources"),
#undef ROW
};

unsigned problem_status(enum problem p)
{
    return table[p].status;
}

const char *problem_error(enum problem p)
{
    return table[p].error;
}

const char *problem_title(enum problem p)
{
    return table[p].title;
}

enum log_level problem_level(enum problem p)
{
    return table[p].level;
}

void problem_count(enum problem p)
{
    if (table[p].counter != NO_COUNTER)
        counter_add(table[p].counter, 1);
}

bool problem_is_call(enum problem p)
{
    return p >= PROBLEM_CALL_DNS && p <= PROBLEM_CALL_CANCELLED;
}

char problem_by(enum problem p)
{
    if (problem_is_call(p))
        return 'U';
    if (p >= PROBLEM_BAD_REQUEST && p <= PROBLEM_NO_WEBSOCKET)
        return 'C';
    return p >= PROBLEM_WORKER_UNREACHABLE && p <= PROBLEM_LOOP ? 'W' : 'T';
}

struct str problem_json(struct arena *a, enum problem p, unsigned status, const char *exchange)
{
    return arena_printf(a, "{\"title\":\"%s\",\"status\":%u,\"error\":\"%s\",\"exchange\":\"%s\"}",
        table[p].title, status ? status : table[p].status, table[p].error, exchange);
}

static bool problem_is_of_call(enum problem p)
{
    return p >= PROBLEM_CALL_DNS && p <= PROBLEM_CALL_CANCELLED;
}

int problem_head(struct arena *a, enum problem p, unsigned status, uint64_t wall_ms,
    struct str body, struct head *out)
{
    char date[DATE_TEXT_MAX];
    int rc = 0;

    *out = (struct head){ .status = status ? status : table[p].status, .minor = 1 };
    date_write(wall_ms, date);
    rc |= head_add(out, a, STR("Date"), arena_copy(a, str_of(date)));
    rc |= head_add(out, a, STR("Content-Type"), STR("application/problem+json"));
    rc |= head_add(out, a, STR("Content-Length"), arena_printf(a, "%zu", body.n));
    rc |= head_add(out, a, STR("Proxy-Status"), arena_printf(a, "tarry; error=%s", table[p].error));
    rc |= head_add(out, a, STR("Cache-Control"), STR("no-store"));
    /* Tarry has retried what may be retried: an SDK must not repeat it. A call that waited in vain
     * was not made. */
    if (problem_is_of_call(p) && p != PROBLEM_CALL_LIMIT)
        rc |= head_add(out, a, STR("x-should-retry"), STR("false"));
    if (p == PROBLEM_QUEUE_FULL || p == PROBLEM_QUEUE_TIMEOUT || p == PROBLEM_CALL_LIMIT)
        rc |= head_add(out, a, STR("Retry-After"), STR("5"));
    return rc;
}

int problem_retry_after(struct arena *a, unsigned seconds, struct head *head)
{
    return head_set(head, a, STR("Retry-After"), arena_printf(a, "%u", seconds));
}

enum problem problem_of_call(enum stream_error e)
{
    switch (e) {
    case STREAM_E_RESOLVE:
        return PROBLEM_CALL_DNS;
    case STREAM_E_CONNECT:
        return PROBLEM_CALL_UNREACHABLE;
    case STREAM_E_CONNECT_TIMEOUT:
        return PROBLEM_CALL_CONNECT_TIMEOUT;
    case STREAM_E_CERTIFICATE:
        return PROBLEM_CALL_CERTIFICATE;
    case STREAM_E_TLS:
        return PROBLEM_CALL_TLS;
    case STREAM_E_ALERT:
        return PROBLEM_CALL_ALERT;
    case STREAM_E_PROXY:
        return PROBLEM_CALL_PROXY;
    case STREAM_E_NO_WAY:
        return PROBLEM_CALL_NO_WAY;
    case STREAM_E_REFUSED:
    case STREAM_E_STALE:
    case STREAM_E_TERMINATED:
        return PROBLEM_CALL_TERMINATED;
    case STREAM_E_ENDED:
    case STREAM_E_INCOMPLETE:
        return PROBLEM_CALL_INCOMPLETE;
    case STREAM_E_PROTOCOL:
    case STREAM_E_HEAD_TOO_LARGE:
        return PROBLEM_CALL_PROTOCOL;
    case STREAM_E_TIMEOUT:
        return PROBLEM_CALL_TIMEOUT;
    case STREAM_FULL:
    case STREAM_E_BAD_REQUEST:
    case STREAM_E_GONE:
    case STREAM_E_MEMORY:
        break;
    }
    return PROBLEM_INTERNAL;
}

enum problem problem_of_visit(enum stream_error e)
{
    switch (e) {
    case STREAM_E_TERMINATED:
    case STREAM_E_ENDED:
        return PROBLEM_WORKER_DIED;
    case STREAM_E_PROTOCOL:
    case STREAM_E_HEAD_TOO_LARGE:
        return PROBLEM_WORKER_PROTOCOL;
    case STREAM_E_RESOLVE:
    case STREAM_E_CONNECT:
    case STREAM_E_CONNECT_TIMEOUT:
    case STREAM_E_CERTIFICATE:
    case STREAM_E_TLS:
    case STREAM_E_ALERT:
    case STREAM_E_PROXY:
    case STREAM_E_NO_WAY:
    case STREAM_E_REFUSED:
    case STREAM_E_STALE:
        return PROBLEM_WORKER_UNREACHABLE;
    case STREAM_E_TIMEOUT:
        return PROBLEM_WORKER_TIMEOUT;
    case STREAM_E_INCOMPLETE:
    case STREAM_E_GONE:
        return PROBLEM_WORKER_INCOMPLETE;
    case STREAM_FULL:
    case STREAM_E_BAD_REQUEST:
    case STREAM_E_MEMORY:
        break;
    }
    return PROBLEM_INTERNAL;
}
