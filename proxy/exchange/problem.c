/* One table: what went wrong, and what the client is told. */
#include "exchange/problem.h"

#include <stdio.h>
#include <time.h>

static const struct {
    unsigned status;
    const char *error, *title;
} table[PROBLEM_COUNT] = {
    [PROBLEM_NONE] = { 500, "proxy_internal_error", "No problem" },
    [PROBLEM_BAD_REQUEST] = { 400, "http_request_error", "The request is malformed" },
    [PROBLEM_REQUEST_TIMEOUT] = { 408, "http_request_error", "The request did not come in time" },
    [PROBLEM_BODY_TOO_LARGE] = { 413, "http_request_error", "The request's body is too large" },
    [PROBLEM_NOT_FOUND] = { 404, "destination_not_found", "There is nothing at this address" },
    [PROBLEM_MISDIRECTED] = { 421, "http_request_error",
        "The connection was made for another host" },
    [PROBLEM_QUEUE_FULL] = { 503, "connection_limit_reached", "The service is busy" },
    [PROBLEM_QUEUE_TIMEOUT] = { 503, "connection_limit_reached", "The service is busy" },
    [PROBLEM_WORKER_UNREACHABLE] = { 502, "connection_refused",
        "The application cannot be reached" },
    [PROBLEM_WORKER_PROTOCOL] = { 502, "http_protocol_error",
        "The application's response is malformed" },
    [PROBLEM_WORKER_INCOMPLETE] = { 502, "http_response_incomplete",
        "The application ended before its response was complete" },
    [PROBLEM_WORKER_TIMEOUT] = { 504, "http_response_timeout", "The application took too long" },
    [PROBLEM_HANDOFF_MALFORMED] = { 502, "handoff_malformed",
        "The application's handoff is malformed" },
    [PROBLEM_HANDOFF_FORBIDDEN] = { 502, "handoff_forbidden",
        "The application's handoff names an origin that is not declared" },
    [PROBLEM_HANDOFF_LIMIT] = { 502, "handoff_limit", "The application's handoff is over a limit" },
    [PROBLEM_LOOP] = { 508, "loop_detected", "The application handed off too many times" },
    [PROBLEM_CALL_UNREACHABLE] = { 502, "connection_refused",
        "The upstream service cannot be reached" },
    [PROBLEM_CALL_CERTIFICATE] = { 502, "tls_certificate_error",
        "The upstream service's certificate was not accepted" },
    [PROBLEM_CALL_TLS] = { 502, "tls_protocol_error", "TLS with the upstream service failed" },
    [PROBLEM_CALL_TERMINATED] = { 502, "connection_terminated",
        "The upstream service cut the connection" },
    [PROBLEM_CALL_INCOMPLETE] = { 502, "http_response_incomplete",
        "The upstream service ended before its response was complete" },
    [PROBLEM_CALL_PROTOCOL] = { 502, "http_protocol_error",
        "The upstream service's response is malformed" },
    [PROBLEM_CALL_CONNECT_TIMEOUT] = { 504, "connection_timeout",
        "Connecting to the upstream service took too long" },
    [PROBLEM_CALL_TIMEOUT] = { 504, "http_response_timeout", "The upstream service took too long" },
    [PROBLEM_CALL_TOO_LARGE] = { 502, "http_response_body_size_exceeded",
        "The upstream service's response is too large" },
    [PROBLEM_CALL_CANCELLED] = { 502, "connection_terminated", "The client has gone" },
    [PROBLEM_INTERNAL] = { 503, "proxy_internal_error", "The proxy is out of resources" },
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

struct str problem_json(struct arena *a, enum problem p, unsigned status, const char *exchange)
{
    return arena_printf(a, "{\"title\":\"%s\",\"status\":%u,\"error\":\"%s\",\"exchange\":\"%s\"}",
        table[p].title, status ? status : table[p].status, table[p].error, exchange);
}

void problem_http_date(uint64_t wall_ms, char out[PROBLEM_DATE_MAX])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;

    gmtime_r(&seconds, &tm);
    snprintf(out, PROBLEM_DATE_MAX, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
        days + 3 * (tm.tm_wday % 7), tm.tm_mday % 100, months + 3 * (tm.tm_mon % 12),
        (tm.tm_year + 1900) % 10000, tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100);
}

int problem_head(struct arena *a, enum problem p, unsigned status, uint64_t wall_ms,
    struct str body, struct head *out)
{
    char date[PROBLEM_DATE_MAX];
    int rc = 0;

    *out = (struct head){ .status = status ? status : table[p].status, .minor = 1 };
    problem_http_date(wall_ms, date);
    rc |= head_add(out, a, STR("Date"), arena_copy(a, str_of(date)));
    rc |= head_add(out, a, STR("Content-Type"), STR("application/problem+json"));
    rc |= head_add(out, a, STR("Content-Length"), arena_printf(a, "%zu", body.n));
    rc |= head_add(out, a, STR("Proxy-Status"), arena_printf(a, "tarry; error=%s", table[p].error));
    rc |= head_add(out, a, STR("Cache-Control"), STR("no-store"));
    if (p == PROBLEM_QUEUE_FULL || p == PROBLEM_QUEUE_TIMEOUT)
        rc |= head_add(out, a, STR("Retry-After"), STR("5"));
    return rc;
}

enum problem problem_of_call(enum stream_error e)
{
    switch (e) {
    case STREAM_E_RESOLVE:
    case STREAM_E_CONNECT:
        return PROBLEM_CALL_UNREACHABLE;
    case STREAM_E_CONNECT_TIMEOUT:
        return PROBLEM_CALL_CONNECT_TIMEOUT;
    case STREAM_E_CERTIFICATE:
        return PROBLEM_CALL_CERTIFICATE;
    case STREAM_E_TLS:
        return PROBLEM_CALL_TLS;
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
