/* One client request and all that happens until its response is complete: at most one visit to a
 * worker at a time, and the calls of one handoff. It owns all three; nothing else knows the whole
 * story.
 *
 * Four machines: the exchange (below), its reply (reply.h), a call and its attempts (call.h,
 * attempt.h). What an exchange does now is a step: a table of functions, one file a step. In the
 * order in which to read them:
 *   exchange.c  begins, ends, moves from step to step, and passes on what its client does
 *   reading.c   the client's request comes in
 *   hop.c       puts the request to a worker together; visiting.c  waits for the worker and reads
 *               its response, which is the client's or a handoff
 *   calls.c     the calls of a resume or replay are in flight, side by side
 *   pieces.c    a view stands still between visits (run.h, parted.h, batch.h)
 *   relay.c     one call, whose response streams to the client; gateway.c  what a gateway route
 *               changes in it
 *   finish.c    the client takes the rest of a response that is complete
 *   tunnel.c    a WebSocket between the client and a worker or an upstream
 *   notify.c    tells a worker of a relayed response afterwards
 *   steps.c     the table of them all
 * account.c says in logs, metrics and pages what became of it.
 * A step knows exchange.h and what it works with, but no other step: it names the next by its
 * number. */
#ifndef TARRY_EXCHANGE_EXCHANGE_H
#define TARRY_EXCHANGE_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/entropy.h"
#include "base/list.h"
#include "base/machine.h"
#include "conf/snapshot.h"
#include "exchange/answer.h"
#include "exchange/call.h"
#include "exchange/handoff.h"
#include "exchange/problem.h"
#include "exchange/reply.h"
#include "exchange/trail.h"
#include "exchange/unpack.h"
#include "exchange/visit.h"
#include "http/body.h"
#include "http/stream.h"
#include "net/deadline.h"
#include "net/loop.h"
#include "observe/log.h"
#include "workers/pool.h"

/*                            +----> TUNNELLING -----+       from PARKED too: a gateway's
 *                            |                      v
 *   READING -> QUEUED -> VISITING -> ANSWERING -> DONE
 *      |          ^          v         ^   v  \     ^
 *      |          +------- PARKED -----+   |   > NOTIFYING
 *      |          +------------------------+
 *      +--(gateway)----------^
 *   From anywhere to DONE: the client has gone, a deadline passed, the process ends.
 *
 *   READING    owns the body that is coming in.
 *   QUEUED     owns a visit without a slot, or waits until a worker can be reached again.
 *   VISITING   owns a visit with a slot.
 *   PARKED     owns its calls, the handoff that named them and, if a replay may come, the
 *              client's body; no slot.
 *   ANSWERING  owns the visit or the call that the client's response comes from, until that is
 *              complete; then the rest of it. Back to QUEUED as long as nothing has gone out.
 *   TUNNELLING owns a visit with a slot, or a gateway's call, that has become the other half of the
 *              client's WebSocket.
 *   NOTIFYING  has no client any more: owns the record of a call until a worker has taken it. */
enum ex_state {
    EX_READING,
    EX_QUEUED,
    EX_VISITING,
    EX_PARKED,
    EX_ANSWERING,
    EX_TUNNELLING,
    EX_NOTIFYING,
    EX_DONE,
};
#define EX_NSTATES (EX_DONE + 1)

/*   READ --> VISIT --> CALLS --> VISIT        VISIT --> RELAY --> VISIT (Tarry-On-Error)
 *     \        \ \---> TUNNEL                             \-----> FINISH, NOTIFY
 *      \        \ \--> PIECES --> PIECES, CALLS, VISIT
 *      \        \----> FINISH
 *       \----> RELAY (gateway) --> TUNNEL
 *   From anywhere to FINISH, NOTIFY (if one is owed) and END. */
enum step_id {
    STEP_READ,
    STEP_VISIT,
    STEP_CALLS,
    STEP_RELAY,
    STEP_TUNNEL,
    STEP_PIECES,
    STEP_FINISH,
    STEP_NOTIFY,
    STEP_END,
};
#define STEP_COUNT (STEP_END + 1)

enum hop_kind { HOP_REQUEST, HOP_RESUME, HOP_REPLAY, HOP_NOTIFY };

struct exchange;
struct gateway_body;
struct run;
struct tunnel;

/* What an exchange does now. `on_message` is of the client's stream: DATA and END of its request;
 * visits and calls have handlers of the step's own. NULL: nothing is to be done. Leaving a step
 * ends its visit (unless the next one takes it over), its calls and its timer, after `leave`. */
struct step {
    void (*enter)(struct exchange *ex);
    void (*on_message)(struct exchange *ex, const struct message *m);
    void (*on_client_drained)(struct exchange *ex); /* the reply has room again */
    void (*on_client_gone)(struct exchange *ex);    /* the reply is closed already */
    void (*on_timer)(struct exchange *ex);
    void (*on_open_answer)(struct exchange *ex); /* more of it has come, or its end */
    /* The process stops; `now`: in this turn. May end the exchange. */
    void (*on_going_away)(struct exchange *ex, bool now);
    void (*leave)(struct exchange *ex);
    /* Whether a client that has sent FIN is taken for gone: nobody can tell. NULL: it is not. */
    bool (*fin_is_gone)(const struct exchange *ex);
};

/* What exchanges share. The frontend's; filled before the first begins. */
struct exchanges {
    struct conf *conf; /* the snapshot in force */
    struct pools *pools;
    struct endpoints *endpoints;
    const struct step *const *steps; /* by step_id */
    struct list by_state[EX_NSTATES];
    struct list batches; /* of pieces */
    struct deferred access_flush;
    void (*on_ended)(void *owner); /* one less is in flight */
    void *owner;
    /* An exchange that is traced, or kept for the pages, has ended. NULL: nobody looks. */
    void (*on_trail)(void *viewer, const struct exchange *ex);
    void *viewer;
};

/* A request that has been admitted. */
struct admitted {
    struct head head;               /* as workers see it at every hop; in the exchange's arena */
    const struct route_conf *route; /* NULL: none was found */
    const struct upstream_conf *gateway; /* NULL: a worker's route */
    const struct pool_conf *pool;        /* likewise */
    bool has_body;                       /* it has a Content-Length or came chunked */
    bool body_follows;
    bool expects_continue;
    uint64_t length; /* of that body; 0: not said */
    bool websocket_only;
    bool compress;      /* the route allows it */
    struct addr client; /* for the limits of an address; family 0: they do not hold for it */
};

/* The client's request. */
struct ex_request {
    struct head head;
    struct body body;
    struct addr peer;
    struct addr client;   /* for the limits of an address; family 0: they do not hold for it */
    const char *protocol; /* as the access log names it */
    enum {
        CONTENT_NONE,
        CONTENT_KEPT,   /* it has a Content-Length or came chunked */
        CONTENT_DROPPED /* it was larger than replay_body_max: no replay can be made */
    } content;
    enum {
        WEBSOCKET_MAY,
        WEBSOCKET_ONLY
    } websocket; /* ONLY: any 2xx that is no WebSocket would be
                    taken for one (RFC 8441) */
};

/* The visit in hand, or the next. */
struct hop {
    struct visit *visit; /* NULL: none */
    struct arena arena;  /* of the visit */
    struct head *head;   /* likewise: what the worker is sent */
    struct piece *pieces;
    size_t npieces;
    struct str path;               /* of a resume or notify */
    struct str state;              /* the Tarry-State that it carries; p NULL: none */
    uint64_t pause_ms;             /* before the next try; it grows */
    uint64_t unreachable_since_ms; /* 0: a worker could be reached */
    unsigned number, attempt;
    unsigned waits;        /* those of the visits that came of a wait alone: max_hops does not count
                              them */
    struct str server, at; /* the process that has the run, as pool_want takes it; in the exchange's
                              arena, empty: none */
    enum hop_kind kind;
};

struct exchange {
    union {
        struct list_node node;              /* on the list of its state */
        struct deferred_free deferred_free; /* then it is on none */
    };
    struct exchanges *all;
    struct conf *conf;
    struct pool *pool; /* NULL: a gateway route, or none any more */
    const struct pool_conf *pool_conf;
    const struct route_conf *route;      /* NULL: none was found */
    const struct upstream_conf *gateway; /* NULL: a worker's route */
    struct arena arena;
    struct log_context log;
    char id[ENTROPY_ID_LEN + 1];

    struct ex_request request;
    struct reply reply;
    struct hop hop;

    struct handoff *handoff;  /* the last one */
    struct head handoff_head; /* its fields, for the client's response */
    struct head *cookies;     /* NULL: none; that handoff responses have set so far */
    struct run *run;          /* of a view that stands still between visits; NULL: none */
    struct answers answers;   /* of all hops, in order */
    unsigned first_answer;    /* of the last handoff */
    unsigned calls_left;      /* of the last handoff */
    union {
        struct {
            uint64_t wait_until_ms, keep_alive_at_ms; /* while parked by a resume or replay */
        };
        struct tunnel *tunnel; /* while it tunnels; in the arena */
    };
    union {
        struct tap *taps; /* of a handoff's, on the relayed call's response; NULL: none */
        struct gateway_body *gateway_body; /* of a gateway's; NULL: it passes as it is */
    };
    struct call *relay;    /* the call whose response streams to the client */
    const char *outcome;   /* of that call, for the notify; NULL: it has not ended */
    const char *truncated; /* why the outcome is "truncated"; NULL: not said */

    struct deadline timer;           /* the earlier of these two */
    uint64_t step_at_ms, life_at_ms; /* the step's, and exchange_max; 0: none */

    uint64_t started_wall_ms, started_us, mark_us;
    uint64_t queue_us, worker_us, parked_us, bytes_in;
    const char *end;           /* how it ended, for the access log */
    struct trail *trail;       /* NULL: no memory */
    struct call_record record; /* of all calls, for the access log */
    unsigned nhops, ncalls;
    enum ex_state state;
    enum step_id step;
    char end_by;             /* account_end_code() */
    enum ex_state end_state; /* in which its end was decided */
    int phase;               /* of the step: an enum of its file; 0 when it is entered */
    enum { CLIENT_SENDS, CLIENT_SENT_FIN } client;
};

const char *ex_state_name(enum ex_state s);
const char *step_name(enum step_id s);

/* The tables of both: for the suite, which compares them with docs/internals.md. */
extern const struct machine exchange_machine, step_machine;

/* A client's request has come: makes an exchange for it, on which the stream's events go. NULL
 * without memory: the stream is the caller's still. Then exchange_begin() or exchange_refuse(). */
struct exchange *exchange_open(
    struct exchanges *all, struct stream *client, const struct stream_request *r);

/* The request is admitted: goes on by itself, and ends by itself. */
void exchange_begin(struct exchange *ex, const struct admitted *a);

/* The step's timer, from now on; ends with the step. */
void exchange_set_timer(struct exchange *ex, uint64_t ms);
void exchange_clear_timer(struct exchange *ex);

/* It is not: `a` is what is known of the request, in the exchange's arena. */
void exchange_refuse(struct exchange *ex, const struct admitted *a, enum problem p, unsigned status,
    const char *why);

/* How large the request's body may be. */
uint64_t exchange_body_max(const struct exchange *ex);

/* It is admitted, and answered at once by Tarry itself: a text. */
void exchange_answer(
    struct exchange *ex, const struct admitted *a, unsigned status, struct str text);

/* Leaves the step and enters that one. Last thing that a function does. */
void exchange_enter(struct exchange *ex, enum step_id to);

void exchange_set_state(struct exchange *ex, enum ex_state to);

/* Something went wrong: logs it (`fmt` is for the operator), counts it, tells the client as well as
 * it still can be told, and ends. `status` 0: the problem's own. */
void exchange_fail(struct exchange *ex, enum problem p, unsigned status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* A result of the reply: true if it goes on. An error ends the exchange. */
bool exchange_replied(struct exchange *ex, int result);

/* The response is complete as far as its source goes. The exchange finishes, notifies, or ends. */
void exchange_complete(struct exchange *ex);

/* The answer that ends now is not what its API says, and the upstream is to blame. */
void exchange_spoil(struct exchange *ex, const char *end);

/* The response cannot be completed, and must not look so. */
void exchange_cut(struct exchange *ex, const char *end);

/* The client has gone, and that ends the exchange: so does the run, and its process is told. */
void exchange_end_cancelled(struct exchange *ex);

/* More of the open answer has come, or its end: the step hears of it. */
void exchange_on_open_answer(struct exchange *ex);

/* Whether the calls end with the client. */
bool exchange_cancels(const struct exchange *ex);

/* The client's address: its own behind trusted proxies, if they say it. */
const struct addr *exchange_client(const struct exchange *ex);

/* Whether the client is gone, or may be. */
bool exchange_client_left(const struct exchange *ex);

/* Lets go of everything. Idempotent. */
void exchange_end(struct exchange *ex, const char *end);

/* Tarry stops now: what is owed and was not delivered is lost, and that is told. */
void exchange_shut_down(struct exchange *ex);

/* Tarry stops: a WebSocket is told so and ends (status 1001), at once or when a frame is complete.
 * Others are not concerned. */
void exchange_go_away(struct exchange *ex, bool now);

/* One line for logs and the panic. */
void exchange_describe(const void *exchange, char *buf, size_t n);

#endif
