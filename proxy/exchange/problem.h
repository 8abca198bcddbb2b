/* What clients get when Tarry answers itself: application/problem+json (RFC 9457) with a
 * Proxy-Status (RFC 9209). The details go to the log; a client learns what kind of thing went wrong
 * and the exchange's id, never a secret.
 *
 * exchange/ is the product: one client request, its visits to workers and its calls to upstreams,
 * until its response is complete. Read exchange.h first, then handoff.h, visit.h and call.h. */
#ifndef TARRY_EXCHANGE_PROBLEM_H
#define TARRY_EXCHANGE_PROBLEM_H

#include "base/arena.h"
#include "http/head.h"
#include "http/stream.h"

enum problem {
    PROBLEM_NONE,
    PROBLEM_BAD_REQUEST, /* 400, or the status that the codec says */
    PROBLEM_REQUEST_TIMEOUT,
    PROBLEM_BODY_TOO_LARGE,
    PROBLEM_NOT_FOUND,
    PROBLEM_MISDIRECTED, /* the host is not what TLS was set up for (RFC 9110 15.5.20) */
    PROBLEM_QUEUE_FULL,
    PROBLEM_QUEUE_TIMEOUT,
    PROBLEM_WORKER_UNREACHABLE,
    PROBLEM_WORKER_PROTOCOL,
    PROBLEM_WORKER_INCOMPLETE,
    PROBLEM_WORKER_TIMEOUT,
    PROBLEM_HANDOFF_MALFORMED,
    PROBLEM_HANDOFF_FORBIDDEN,
    PROBLEM_HANDOFF_LIMIT,
    PROBLEM_LOOP,
    PROBLEM_CALL_UNREACHABLE,
    PROBLEM_CALL_CERTIFICATE,
    PROBLEM_CALL_TLS,
    PROBLEM_CALL_TERMINATED,
    PROBLEM_CALL_INCOMPLETE,
    PROBLEM_CALL_PROTOCOL,
    PROBLEM_CALL_CONNECT_TIMEOUT,
    PROBLEM_CALL_TIMEOUT,
    PROBLEM_CALL_TOO_LARGE,
    PROBLEM_CALL_CANCELLED, /* only ever recorded: the client has gone */
    PROBLEM_INTERNAL,       /* out of memory or disk */
};
#define PROBLEM_COUNT (PROBLEM_INTERNAL + 1)

enum { PROBLEM_DATE_MAX = 64 };

unsigned problem_status(enum problem p);
const char *problem_error(enum problem p); /* the `error` of Proxy-Status */
const char *problem_title(enum problem p);

/* The JSON object, in `a`. `status` 0: the problem's own. */
struct str problem_json(struct arena *a, enum problem p, unsigned status, const char *exchange);

/* The whole response: fields in `a`, spans valid as long. 0, or -1 if there is no memory. */
int problem_head(struct arena *a, enum problem p, unsigned status, uint64_t wall_ms,
    struct str body, struct head *out);

/* The problem that a failed call is, by what its stream failed with. */
enum problem problem_of_call(enum stream_error e);

/* HTTP-date (RFC 9110 5.6.7); `out` has room for PROBLEM_DATE_MAX bytes. */
void problem_http_date(uint64_t wall_ms, char out[PROBLEM_DATE_MAX]);

#endif
