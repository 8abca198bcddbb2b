/* What can go wrong, and what the client gets when Tarry answers itself: application/problem+json
 * (RFC 9457) with a Proxy-Status (RFC 9209). The details go to the log; a client learns what kind
 * of thing went wrong and the exchange's id, never a secret.
 *
 * exchange/ is the product: one client request, its visits to workers and its calls to upstreams,
 * until its response is complete. Read exchange.h first, then reply.h, handoff.h, visit.h and
 * call.h. */
#ifndef TARRY_EXCHANGE_PROBLEM_H
#define TARRY_EXCHANGE_PROBLEM_H

#include "base/arena.h"
#include "http/head.h"
#include "http/stream.h"
#include "observe/log.h"

/* Every failure inside of Tarry is one of these. */
enum problem {
    PROBLEM_NONE,
    PROBLEM_BAD_REQUEST, /* 400, or the status that the codec says */
    PROBLEM_REQUEST_TIMEOUT,
    PROBLEM_BODY_TOO_LARGE,
    PROBLEM_NOT_FOUND,
    PROBLEM_MISDIRECTED,    /* the host is not what TLS was set up for (RFC 9110 15.5.20) */
    PROBLEM_FOREIGN_ORIGIN, /* of a page that may not open a WebSocket to an upstream */
    PROBLEM_NO_WEBSOCKET,   /* one was asked for, where the route has none */
    PROBLEM_QUEUE_FULL,
    PROBLEM_QUEUE_TIMEOUT,
    PROBLEM_WORKER_UNREACHABLE,
    PROBLEM_WORKER_DIED, /* before a byte of its response: the request may have been processed */
    PROBLEM_WORKER_INCOMPLETE, /* within its response */
    PROBLEM_WORKER_PROTOCOL,
    PROBLEM_WORKER_TIMEOUT,
    PROBLEM_HANDOFF_MALFORMED,
    PROBLEM_HANDOFF_FORBIDDEN,
    PROBLEM_HANDOFF_LIMIT,
    PROBLEM_LOOP,
    PROBLEM_EXCHANGE_TIMEOUT,
    PROBLEM_CANCELLED, /* by an operator */
    PROBLEM_CALL_DNS,
    PROBLEM_CALL_UNREACHABLE,
    PROBLEM_CALL_CERTIFICATE,
    PROBLEM_CALL_TLS,
    PROBLEM_CALL_ALERT,  /* it wants a certificate of ours, or another one */
    PROBLEM_CALL_PROXY,  /* an outgoing proxy refuses, */
    PROBLEM_CALL_NO_WAY, /* or does not get there */
    PROBLEM_CALL_TERMINATED,
    PROBLEM_CALL_INCOMPLETE,
    PROBLEM_CALL_PROTOCOL,
    PROBLEM_CALL_CONNECT_TIMEOUT,
    PROBLEM_CALL_TIMEOUT,
    PROBLEM_CALL_UNAVAILABLE, /* every endpoint rests, or is paused, for longer than it may take */
    PROBLEM_CALL_TOO_LARGE,
    PROBLEM_CALL_LIMIT,  /* it waited too long for a limit of the upstream, or too many did */
    PROBLEM_CALL_CODING, /* keep-alive bytes have announced no coding, and this one cannot be
                            undone */
    PROBLEM_CALL_WEBSOCKETS_FULL,
    PROBLEM_CALL_CANCELLED, /* only ever recorded: the client has gone */
    PROBLEM_STORAGE,        /* no disk */
    PROBLEM_INTERNAL,       /* no memory */
};
#define PROBLEM_COUNT (PROBLEM_INTERNAL + 1)

unsigned problem_status(enum problem p);
const char *problem_error(enum problem p); /* the `error` of Proxy-Status */
const char *problem_title(enum problem p);
enum log_level problem_level(enum problem p); /* of the line that tells of it */

/* Counts it: in the counter of its kind, if there is one. The code that
 * decides about a failure calls this once. */
void problem_count(enum problem p);

/* Whose failure it is: the client's C, a worker's W, an upstream's U, or Tarry's own T. */
char problem_by(enum problem p);

/* Whether it is a call's, which the call has counted. */
bool problem_is_call(enum problem p);

/* The JSON object, in `a`. `status` 0: the problem's own. */
struct str problem_json(struct arena *a, enum problem p, unsigned status, const char *exchange);

/* The whole response: fields in `a`, spans valid as long. 0, or -1 if there is no memory. */
int problem_head(struct arena *a, enum problem p, unsigned status, uint64_t wall_ms,
    struct str body, struct head *out);

/* Replaces the Retry-After. 0, or -1 if there is no memory. */
int problem_retry_after(struct arena *a, unsigned seconds, struct head *head);

/* The problem that a failed call or visit is, by what its stream failed with. */
enum problem problem_of_call(enum stream_error e);
enum problem problem_of_visit(enum stream_error e);

#endif
