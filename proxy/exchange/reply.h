/* The client's response. It alone owns its head, its coding, what is kept of it for a slow client,
 * and the client's stream; others ask it. Embedded in the exchange, which ends it with
 * reply_release().
 *
 *   NONE --> KEEP_ALIVE --> HELD --> STREAMING --> ENDED
 *     \------------------->  |          ^   \----> CUT
 *      \---------------------|----------+
 *   NONE       nothing was sent.
 *   KEEP_ALIVE the head was fixed, for keep-alive bytes; nothing of a real response was sent.
 *   HELD       owns the head of a response of which nothing was sent: its source may still break
 *              off, and then it goes back to where it was.
 *   STREAMING  a part of a response was sent, so that no other can take its place. Owns the coding
 *              and what the client has not taken yet.
 *   ENDED      all was sent.
 *   CUT        never will be; the client can see that.
 *   From anywhere to CUT. The stream is let go of in ENDED and CUT, and when the client goes. */
#ifndef TARRY_EXCHANGE_REPLY_H
#define TARRY_EXCHANGE_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/machine.h"
#include "conf/snapshot.h"
#include "exchange/encode.h"
#include "exchange/handoff.h"
#include "exchange/problem.h"
#include "http/body.h"
#include "http/stream.h"
#include "llm/api.h"

enum reply_state {
    REPLY_NONE,
    REPLY_KEEP_ALIVE,
    REPLY_HELD,
    REPLY_STREAMING,
    REPLY_ENDED,
    REPLY_CUT,
};
#define REPLY_NSTATES (REPLY_CUT + 1)

/* How long a head is held. */
enum reply_hold {
    REPLY_AT_ONCE,   /* not at all */
    REPLY_WITH_TURN, /* to the end of the turn: an upstream that breaks off at once is an error that
                        the client can still be told of */
    REPLY_WITH_BODY, /* until a byte of the body or its end comes: what is paid for is delivered
                        again if the worker dies before */
};

enum reply_result {
    REPLY_OK = 0,
    REPLY_FULL = 1, /* hold the source back until on_room() */
    REPLY_E_MEMORY = -1,
    REPLY_E_STORAGE = -2,
    REPLY_E_CODING = -3, /* keep-alive bytes have announced no coding, and this one is unknown, or
                            the body is damaged */
};

/* From the loop; each may release the reply. */
struct reply_handler {
    void (*on_room)(void *owner);               /* after REPLY_FULL */
    void (*on_ended)(void *owner);              /* after REPLY_FULL from reply_end() */
    void (*on_failed)(void *owner, int result); /* an error, found out later */
};

struct unpack;
struct reply_held;

struct reply {
    const struct reply_handler *handler;
    void *owner;
    struct stream *client; /* NULL: gone, or let go of */
    const struct conf *conf;
    const struct head *request; /* the client's */
    struct arena *arena;        /* the exchange's */
    struct reply_held *held;    /* of HELD; NULL: keep-alive bytes have fixed another */
    struct encode *encode;      /* in the arena; NULL: the body goes as it is */
    struct unpack *unpack;      /* NULL: the source's body is not coded, or may be */
    struct body *spool;         /* what the client takes more slowly than the worker gives it; NULL:
                                   never did */
    uint64_t spool_off;
    size_t spool_max; /* of the source; 0: it is held back instead */
    uint64_t bytes;   /* of the body, sent or dropped */
    unsigned status;
    enum reply_state state;
    enum keep_alive keep_alive; /* what has fixed the head */
    enum {
        REPLY_PLAIN,
        REPLY_ERROR_EVENT
    } shape;                                        /* ERROR_EVENT: the body of an error, as the
                                                       data of an event */
    enum { REPLY_OPEN, REPLY_SOURCE_ENDED } source; /* SOURCE_ENDED: what is kept is the rest */
    enum llm_family errors;                         /* whose shape Tarry's own errors have;
                                                       LLM_BY_PATH: application/problem+json */
    bool compress;                                  /* the route allows it */
    unsigned retry_after_s;                         /* of a problem; 0: the problem's own */
    bool full;                                      /* the client's stream wants no more for now */
    bool head_only;                                 /* the request was HEAD: no body goes out */
};

const char *reply_state_name(enum reply_state s);
extern const struct machine reply_machine;

/* `request`, `conf` and `arena` outlive it. The stream's events stay with the caller, who tells the
 * reply of reply_drained() and reply_client_gone(). */
void reply_init(struct reply *r, struct stream *client, const struct conf *conf,
    const struct head *request, struct arena *arena, const struct reply_handler *handler,
    void *owner);

/* Whether the client is there. */
static inline bool reply_is_open(const struct reply *r)
{
    return r->client != NULL;
}

/* Whether nothing of a response has gone out, so that a worker (or Tarry) may still answer. */
static inline bool reply_may_answer(const struct reply *r)
{
    return r->state == REPLY_NONE || r->state == REPLY_KEEP_ALIVE || r->state == REPLY_HELD;
}

/* 100 Continue: the request's body may come. */
static inline void reply_continue(struct reply *r)
{
    if (r->client)
        stream_send_continue(r->client);
}

/* Keep-alive bytes; the first ones fix the head, which is `head` with the right type. Only in NONE
 * and KEEP_ALIVE, and in HELD behind KEEP_ALIVE; otherwise nothing happens. 0, or -1 without
 * memory. */
int reply_keep_alive(struct reply *r, enum keep_alive kind, const struct head *head);

/* The head of a response, of a source of which up to `spool_max` bytes may be kept (0: it can be
 * held back). REPLY_OK or an error. */
int reply_head(struct reply *r, const struct head *head, enum reply_hold hold, size_t spool_max);

/* The response whose head is held will not come: another may. */
void reply_drop_held(struct reply *r);

/* Bytes that are kept for a client that takes them slowly. */
static inline uint64_t reply_kept(const struct reply *r)
{
    return r->spool ? body_size(r->spool) - r->spool_off : 0;
}

/* A comment line of an event stream, between two events. Nothing is sent where the client is
 * behind. */
void reply_comment(struct reply *r);

/* A piece of the body. */
int reply_data(struct reply *r, struct str data);

/* The response is complete. REPLY_OK: it has ENDED. REPLY_FULL: on_ended() follows. */
int reply_end(struct reply *r);

/* A whole response that Tarry makes, or its equivalent behind keep-alive bytes. `cookies` may be
 * NULL. Only while reply_may_answer(). Then reply_end(). */
int reply_problem(struct reply *r, enum problem p, unsigned status, const char *exchange,
    const struct head *cookies);

/* 101: what follows goes both ways as it is. 0, or -1 without memory. */
int reply_tunnel(struct reply *r, const struct head *head);

/* The response cannot be completed, and must not look so. */
void reply_cut(struct reply *r);

/* Holds back what the client sends. */
static inline void reply_pause_client(struct reply *r, bool paused)
{
    if (r->client)
        stream_pause(r->client, paused);
}

/* The client's stream has room again. May call on_room or on_ended. */
void reply_drained(struct reply *r);

/* The client is gone: what follows is dropped. */
void reply_client_gone(struct reply *r);

void reply_release(struct reply *r);

/* One line for logs and the panic. */
void reply_describe(const struct reply *r, char *buf, size_t n);

#endif
