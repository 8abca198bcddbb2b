/* One client request and all that happens until its response is complete: at most one visit to a
 * worker at a time, and the calls of one handoff. It owns all three; nothing else knows the whole
 * story.
 *
 * The files of this room, in the order in which to read them:
 *   exchange.c  begins, ends, answers the client, and what the client does meanwhile
 *   hop.c       a visit: the request to the worker, and what its response is
 *   park.c      the calls are in flight: side by side, keep-alive bytes, and a client that leaves
 *   answer.c    a call's response as it is kept for a worker
 *   relay.c     a call's response as it streams to the client
 *   encode.c    the client's response, compressed
 *   tunnel.c    a WebSocket between the client and a worker
 *   notify.c    telling a worker of a relayed response afterwards
 * handoff.[ch], visit.[ch] and call.[ch] are what they work with; front.[ch] is where clients come
 * in. */
#ifndef TARRY_EXCHANGE_EXCHANGE_H
#define TARRY_EXCHANGE_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/entropy.h"
#include "base/list.h"
#include "conf/snapshot.h"
#include "exchange/call.h"
#include "exchange/handoff.h"
#include "exchange/problem.h"
#include "exchange/visit.h"
#include "http/body.h"
#include "http/stream.h"
#include "net/deadline.h"
#include "net/loop.h"
#include "observe/log.h"
#include "workers/pool.h"

struct encoder;
struct front;

/*                            +----> TUNNELLING -----+
 *                            |                      v
 *   READING -> QUEUED -> VISITING -> ANSWERING -> DONE
 *      |          ^          v         ^     \      ^
 *      |          +------- PARKED -----+      > NOTIFYING
 *      +--(gateway)----------^
 *   From anywhere to DONE: the client has gone, a deadline passed, the process ends.
 *
 *   READING    owns the body that is coming in.
 *   QUEUED     owns a visit without a slot, or waits until a worker can be reached again.
 *   VISITING   owns a visit with a slot.
 *   PARKED     owns its calls, the handoff that named them and, if a replay may come, the
 *              client's body; no slot.
 *   ANSWERING  owns the visit or the call that the client's response comes from, until that is
 *              complete; then the rest of it.
 *   TUNNELLING owns a visit with a slot that has become the other half of the client's WebSocket.
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

enum hop_kind { HOP_REQUEST, HOP_RESUME, HOP_REPLAY, HOP_NOTIFY };

/* What is kept of one call's response for a worker. In the exchange's arena. */
struct answer {
    struct exchange *ex;
    struct call *call; /* NULL once it is complete */
    const struct enclosed *enclosed;
    struct head *head; /* as it came, filtered; NULL before */
    struct str text;   /* the enclosed response's head, when the call is complete */
    struct body body;
    bool cut; /* the record is shorter than the response */
};

struct exchange {
    struct list_node node; /* on the front's list of its state */
    struct front *front;
    struct conf *conf;
    struct pool *pool; /* NULL: a gateway route, or none yet */
    const struct pool_conf *pool_conf;
    const struct upstream_conf *gateway; /* NULL: a worker's route */
    struct arena arena;
    struct deferred_free deferred_free;
    struct log_context log;
    char id[ENTROPY_ID_LEN + 1];

    struct addr peer;
    struct str protocol;   /* as the access log names it */
    struct stream *client; /* NULL: gone, or answered */
    struct head request;   /* as workers see it at every hop */
    struct body body;      /* the client's */
    struct body *spool; /* of a response that the client takes more slowly than the worker gives it;
                           NULL: never did */
    uint64_t spool_off;

    struct visit *visit;
    struct arena visit_arena;
    struct head *visit_head; /* in visit_arena */
    struct head *held_head;  /* likewise: of the worker's response, until its body begins */
    struct piece *pieces;
    size_t npieces;
    struct str hop_path;  /* of a resume */
    struct str hop_state; /* the Tarry-State that it carries; p NULL: none */

    struct handoff *handoff;  /* the last one */
    struct head handoff_head; /* its fields, for the client's response */
    struct head *cookies;     /* NULL: none; that handoff responses have set so far */
    struct answer **answers;  /* of all hops, in order */
    size_t nanswers, answers_room;
    size_t first_answer; /* of the last handoff */
    size_t calls_left;   /* of the last handoff */
    struct call *relay;  /* the call whose response streams to the client */
    struct head
        *relay_head; /* for the client; held until the turn ends or a byte of the body comes */
    struct deferred relay_flush;
    struct encoder *encoder; /* of the client's response; NULL: it goes as it is */
    struct deferred encode_flush;
    struct str outcome; /* of the relayed call, for the notify; p NULL: it has not ended */

    struct deadline timer; /* PARKED: keep-alive; QUEUED: try again; NOTIFYING: deliver again;
                              TUNNELLING: silent for too long */
    uint64_t pause_ms;     /* the timer's last, where it grows */
    uint64_t unreachable_since_ms; /* 0: a worker could be reached */

    uint64_t started_wall_ms, started_us, mark_us;
    uint64_t queue_us, worker_us, parked_us, bytes_in, bytes_out;
    const char *end; /* how it ended, for the access log */
    unsigned hop, attempt, nhops, ncalls, status, notify_status;
    enum ex_state state;
    enum hop_kind kind;
    enum keep_alive keep_alive_sent; /* the head was fixed by it */
    bool has_body;                   /* the client's request has a Content-Length or came chunked */
    bool is_head;
    bool compress;       /* the route allows it */
    bool websocket_only; /* any 2xx that is no WebSocket would be taken for one */
    bool half_closed;    /* the client sent FIN */
    bool head_sent;
    bool body_begun; /* a byte of the real response was sent */
    bool client_full;
    bool source_ended; /* all of the response is in the spool */
    bool worker_paused;
    bool has_length;    /* the worker's response says how long it is */
    bool collecting;    /* the worker's response is a handoff */
    bool relay_pending; /* relay_head is to be sent */
    bool on_error;      /* a worker answers instead of the failed relay */
    bool body_dropped;  /* it was larger than replay_body_max: no replay can be made */
    bool encode_failed; /* the encoded body cannot be completed */
    bool logged;
};

const char *ex_state_name(enum ex_state s);

/* exchange.c */

/* A client's request has come: makes an exchange for it, which ends by itself. */
void exchange_begin(struct front *f, struct stream *client, const struct stream_request *r);

void exchange_set_state(struct exchange *ex, enum ex_state to);

/* Something went wrong: logs it (`fmt` is for the operator), tells the client as well as it still
 * can be told, and ends. `status` 0: the problem's own. */
void exchange_fail(struct exchange *ex, enum problem p, unsigned status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The response's head, unless keep-alive bytes have fixed another. */
void exchange_send_head(struct exchange *ex, const struct head *head);

/* A piece of the response. True: the client wants no more for now; exchange.c calls the state's
 * resume when it does. */
bool exchange_send_data(struct exchange *ex, struct str data);

/* Bytes of the response's body as they go to the client. 0 (full or not), or -1 without memory. */
int exchange_pass_data(struct exchange *ex, struct str data);

/* The response is complete: the client is let go. The exchange ends, or notifies. */
void exchange_complete(struct exchange *ex);

/* The response cannot be completed, and must not look so. */
void exchange_cut(struct exchange *ex, const char *end);

/* Lets go of everything. Idempotent. */
void exchange_end(struct exchange *ex, const char *end);

/* The access log's line, once. */
void exchange_log(struct exchange *ex);

/* hop.c */
/* The next visit: HOP_RESUME goes to `path`. */
void hop_begin(struct exchange *ex, enum hop_kind kind, struct str path);
void hop_on_timer(struct exchange *ex);
void hop_on_client_drained(struct exchange *ex);
void hop_on_client_gone(struct exchange *ex); /* ANSWERING from a worker */
/* Builds ex->visit_head and ex->pieces for ex->kind, ex->hop and ex->attempt, and opens the visit.
 * `path` is of a resume or notify. 0, or -1 without memory. */
int hop_visit(struct exchange *ex, struct str path, visit_event_fn *on_event);

/* park.c */
void park_begin(struct exchange *ex);
void park_gateway(struct exchange *ex);
void park_on_timer(struct exchange *ex);
void park_client_gone(struct exchange *ex);
/* One of the calls of a resume or replay is complete. */
void park_answer_done(struct exchange *ex);
/* Whether the calls end with the client. */
bool park_cancels(const struct exchange *ex);
int park_make_head(void *owner, struct call *c, struct arena *a, struct head *out);
void park_close_calls(struct exchange *ex);

/* answer.c */
struct answer *answer_new(struct exchange *ex, const struct enclosed *e);
void answer_release(struct answer *an);
int answer_take_head(struct answer *an, const struct head *head);
/* 0; -1: over response_max (an->cut is set), or out of memory or disk */
int answer_take_data(struct answer *an, struct str data);
/* The call is complete, or has failed with `p`: makes the enclosed response's head. 0, or -1
 * without memory. */
int answer_finish(struct answer *an, enum problem p, const struct call *c);
void answer_on_call(void *owner, struct call *c, const struct call_event *ev);

/* relay.c */
void relay_on_call(void *owner, struct call *c, const struct call_event *ev);
void relay_on_client_drained(struct exchange *ex);
void relay_client_gone(struct exchange *ex);

/* encode.c */
/* The head to send for the response `in`: itself, or `out`, made in `a`. With ex->encoder set
 * afterwards, the body goes through encode_data(). */
const struct head *encode_begin(
    struct exchange *ex, struct arena *a, const struct head *in, struct head *out);
/* A piece of the body, and its end. 0, or -1: it cannot be completed. */
int encode_data(struct exchange *ex, struct str data);
int encode_end(struct exchange *ex);
void encode_release(struct exchange *ex);

/* tunnel.c */
/* The worker has answered with `in`, a 101. */
void tunnel_begin(struct exchange *ex, const struct head *in);
void tunnel_on_timer(struct exchange *ex);
void tunnel_on_visit(struct exchange *ex, const struct visit_event *ev);
void tunnel_on_client_data(struct exchange *ex, struct str data);
void tunnel_on_client_end(struct exchange *ex);
void tunnel_on_client_drained(struct exchange *ex);

/* notify.c */
/* Whether the handoff asks for it and the relayed call has ended (ex->outcome is set). */
bool notify_wanted(const struct exchange *ex);
void notify_begin(struct exchange *ex);
void notify_on_timer(struct exchange *ex);
/* Tarry stops now: a notify that is owed and was not delivered is lost, and that is told. */
void notify_on_shutdown(struct exchange *ex);

#endif
