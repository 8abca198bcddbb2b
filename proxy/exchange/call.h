/* One call to an upstream: a policy over attempts. It picks the endpoint for each, decides about
 * every answer and failure, pauses between attempts, and ends exactly once with an outcome. Nothing
 * is told of an answer that is tried again. Belongs to its exchange, which ends it with
 * call_close(). */
#ifndef TARRY_EXCHANGE_CALL_H
#define TARRY_EXCHANGE_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/machine.h"
#include "conf/snapshot.h"
#include "exchange/problem.h"
#include "exchange/trail.h"
#include "http/body.h"
#include "llm/reader.h"
#include "net/addr.h"
#include "observe/log.h"
#include "upstream/endpoints.h"

struct call;

/* How an answer that came to its end is to be judged. */
enum call_end {
    CALL_COMPLETE,
    CALL_ERROR_EVENT, /* an event of the stream says that it failed */
    CALL_MALFORMED,   /* it is not what its API says */
    CALL_NO_TERMINAL, /* of CALL_FAILED: a stream ended without its terminal event */
};

enum call_event_kind {
    CALL_HEAD,
    CALL_DATA,
    CALL_END,
    CALL_FAILED,  /* before or after CALL_HEAD; nothing else follows */
    CALL_DRAINED, /* of a WebSocket: after STREAM_FULL from call_send(), room again */
};

struct call_event {
    enum call_event_kind kind;
    const struct head *head;
    struct str data;
    enum call_end end; /* of CALL_END, and CALL_NO_TERMINAL of CALL_FAILED */
    enum problem problem;
    const char *why;
};

/* May close the call from within. */
typedef void call_event_fn(void *owner, struct call *c, const struct call_event *ev);

/* Makes the request's head for one attempt, in `a`, without what the endpoint sets: the authority
 * and the conf's fields. 0, or negative. */
typedef int call_make_head_fn(void *owner, struct call *c, struct arena *a, struct head *out);

/* What the calls of an exchange came to: each adds to it when it is closed. */
struct call_record {
    const struct endpoint_conf *endpoint; /* of the last one; NULL: there was none */
    struct llm_usage usage;               /* of all together */
    uint32_t first_content_ms;            /* of the last one */
    uint32_t queued_ms;                   /* of all together: they waited for limits */
    uint16_t attempts, status;            /* of all together; of the last one's answer, 0: none */
    bool retry_denied;                    /* one was not made again for want of budget */
};

struct call_request {
    const struct upstream_conf *upstream; /* of a snapshot that outlives the call */
    struct piece body;
    uint64_t within_ms;         /* until the answer begins to be passed on; 0: any time */
    uint64_t timeout_ms;        /* 0: the upstream's total_timeout; cut to it */
    size_t retries;             /* SIZE_MAX: the upstream's; cut to it */
    size_t index;               /* which of the handoff's calls it is */
    const struct str *tenant;   /* Tarry-Limit-Key; NULL: none. Outlives the call */
    const struct addr *client;  /* NULL: unknown. Outlives the call */
    struct call_record *record; /* outlives the call; NULL: none is wanted */
    struct trail *trail;        /* likewise */
    bool websocket;             /* its head asks for one. CALL_HEAD with status 101: it stands */
};

/* What a client's SDK says of itself (OpenAI's, Anthropic's, Google's): tries that it has made take
 * their place among Tarry's, and an answer that would come after it has given up is no use. */
void call_heed_client(struct call_request *r, const struct head *request);

/* Starts it; events follow from the loop. NULL if there is no memory. `log` outlives the call. */
struct call *call_open(struct endpoints *endpoints, const struct call_request *r,
    call_make_head_fn *make_head, call_event_fn *on_event, void *owner,
    const struct log_context *log);

/* Holds the upstream's response back (backpressure). */
void call_pause(struct call *c, bool paused);

/* Events go there from now on, with the same owner. */
void call_set_handler(struct call *c, call_event_fn *on_event);

/* To the service, once a WebSocket stands. 0, STREAM_FULL, or another negative stream_error. */
int call_send(struct call *c, struct str data);
void call_send_end(struct call *c);

/* Ends it: a stream that is open is reset at once. NULL is allowed. */
void call_close(struct call *c);

const struct call_request *call_request(const struct call *c);
unsigned call_attempts(const struct call *c);

/* Of a call that was refused because of a limit: a guess when it makes sense to come again. 0:
 * there is none. */
unsigned call_retry_after_s(const struct call *c);

/* Since call_open(), in milliseconds. */
uint64_t call_elapsed_ms(const struct call *c);

/* What the service said that the call used; not known before it has said so. */
struct llm_usage call_usage(const struct call *c);

/* When things happened, in milliseconds since call_open(); 0: not, or at once. */
struct call_times {
    uint64_t sent, head, content; /* of the last attempt */
};
struct call_times call_times(const struct call *c);

/* One line for logs and pages: "call 0 to \"openai\": trying, attempt 2, 1350 ms; attempt at ...".
 */
void call_describe(const struct call *c, char *buf, size_t n);

extern const struct machine call_machine;

#endif
