/* One try of a call on one endpoint: waits in the endpoint's turn, opens a stream, sends the
 * request, and holds the answer back until enough of it is known to decide about it. Belongs to its
 * call, which ends it with attempt_close(): its stream is reset in the same turn. */
#ifndef TARRY_EXCHANGE_ATTEMPT_H
#define TARRY_EXCHANGE_ATTEMPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/machine.h"
#include "conf/snapshot.h"
#include "exchange/problem.h"
#include "http/body.h"
#include "llm/reader.h"
#include "net/deadline.h"
#include "observe/log.h"
#include "upstream/endpoint.h"

struct attempt;

/* How far it had got. */
enum attempt_reach {
    ATTEMPT_UNSENT,   /* nothing has gone out */
    ATTEMPT_PARTLY,   /* the request had not gone out whole: no service begins with such a one */
    ATTEMPT_SENT,     /* it may have been processed */
    ATTEMPT_ANSWERED, /* the head of an answer came */
};

/* What went wrong, and when. */
struct attempt_failure {
    enum stream_error error; /* STREAM_E_TIMEOUT: one of Tarry's timers */
    enum problem problem;
    const char *why; /* good until the callback returns */
    enum attempt_reach reach;
    uint64_t took_ms; /* since the request began to go out */
    bool reused;      /* over a connection that had carried others */
    bool alone;       /* of retry_failure */
    bool no_terminal; /* the event stream ended in order, without its terminal event */
};

/* An answer that can be decided about: all of an error's body or its first 64 KiB, or the first
 * content of another answer, or as much as could be waited for. Borrowed until the callback
 * returns. */
struct attempt_answer {
    const struct head *head;
    unsigned status;     /* the head's; of an error inside a 200, the one that it should have had */
    enum llm_error kind; /* LLM_ERROR_NONE: it is no error */
    struct str word;     /* the service's own for it; may be empty */
    bool asks_to_wait;   /* the error's body does */
    uint64_t wait_ms;
};

/* What the call does with it. */
enum attempt_decision {
    ATTEMPT_PASS, /* it is passed on, from its head on */
    ATTEMPT_KEEP, /* it is kept as it is, for attempt_pass_kept() */
    ATTEMPT_GONE, /* nothing of it is wanted: the attempt has been closed */
};

/* How an answer that was passed on ended. */
enum attempt_end { ATTEMPT_COMPLETE, ATTEMPT_ERROR_EVENT, ATTEMPT_MALFORMED };

struct attempt_events {
    /* Makes the request's head, in `a`, without what the endpoint sets. 0, or negative. */
    int (*make_head)(void *owner, struct arena *a, struct head *out);
    enum attempt_decision (*on_answer)(void *owner, const struct attempt_answer *answer);
    /* Of the answer that is passed on. */
    void (*on_head)(void *owner, const struct head *head);
    void (*on_data)(void *owner, struct str data);
    void (*on_end)(void *owner, enum attempt_end end);
    /* Of a WebSocket: after STREAM_FULL from attempt_send(), room again. */
    void (*on_drained)(void *owner);
    /* Before or after on_head; nothing else follows. */
    void (*on_failed)(void *owner, const struct attempt_failure *f);
};

struct attempt_request {
    struct endpoint *endpoint;
    const struct upstream_conf *policy; /* of a snapshot that outlives the attempt */
    const struct endpoint_conf *conf;
    const struct piece *body; /* outlives it */
    size_t npieces;           /* of it */
    struct deadline *timer;   /* the attempt's to use until it is closed; outlives it */
    uint64_t
        until_ms;   /* of loop_now_ms(): until then the answer is committed, or the attempt fails */
    bool fresh;     /* on a connection that carried no request before, over HTTP/1.1 */
    bool until_end; /* ... and complete, even if it is an event stream */
    bool websocket; /* the request asks for one: it gets a connection of its own */
    const struct attempt_events *events; /* each may close the attempt from within */
    void *owner;
};

/* Events follow from the loop. NULL if there is no memory. */
struct attempt *attempt_open(const struct attempt_request *r);

/* Passes the answer on that was kept: on_head, on_data and on_end follow within. */
void attempt_pass_kept(struct attempt *at);

/* What the service said that the call used, so far. */
struct llm_usage attempt_usage(const struct attempt *at);

/* The id by which the service keeps the answer; empty: none is known. Good as long as the attempt.
 */
struct str attempt_response_id(const struct attempt *at);

/* When it happened, in milliseconds of loop_now_ms(); 0: not. */
struct attempt_times {
    uint64_t began, head, content;
};
struct attempt_times attempt_times(const struct attempt *at);

/* Holds the answer back that is passed on (backpressure). */
void attempt_pause(struct attempt *at, bool paused);

/* Of a WebSocket, once its 101 has been passed on: on_data brings what the service sends, and no
 * timer of the attempt's holds. 0, STREAM_FULL, or another negative stream_error. */
int attempt_send(struct attempt *at, struct str data);
void attempt_send_end(struct attempt *at);

/* NULL is allowed. */
void attempt_close(struct attempt *at);

/* One line for logs and pages: "attempt at \"openai-a\": holding, 350 bytes held". */
void attempt_describe(const struct attempt *at, char *buf, size_t n);

extern const struct machine attempt_machine;

#endif
