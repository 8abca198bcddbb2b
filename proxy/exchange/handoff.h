/* A handoff: a worker's response that names calls instead of answering the client. Its fields are
 * read when its head comes, its body (application/http, one or more complete requests back to back)
 * when it is complete; all is checked before the first call is made.
 *
 * The enclosed requests are not copied out: each is known by where it lies in the handoff's body,
 * and its head is parsed again for each attempt. A parked exchange keeps the bytes that the worker
 * sent, and little else. */
#ifndef TARRY_EXCHANGE_HANDOFF_H
#define TARRY_EXCHANGE_HANDOFF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "conf/snapshot.h"
#include "http/body.h"
#include "http/head.h"

struct unpack;

enum then { THEN_RELAY, THEN_RESUME, THEN_REPLAY };
enum keep_alive { KEEP_ALIVE_OFF, KEEP_ALIVE_SSE, KEEP_ALIVE_SPACE };
enum on_disconnect { DISCONNECT_DEFAULT, DISCONNECT_CANCEL, DISCONNECT_FINISH };

/* One enclosed request. */
struct enclosed {
    const struct upstream_conf *upstream;
    uint64_t head_off, body_off, body_len;
    size_t head_len;
    struct str method;  /* for the framing of the answer */
    struct str call_id; /* p NULL: none */
    struct str
        limit_key;       /* whose turn it is where calls wait (Tarry-Limit-Key); p NULL: not said */
    uint64_t timeout_ms; /* 0: the upstream's */
    size_t retries;      /* SIZE_MAX: the upstream's */
    bool pieces;         /* its answer is wanted as it comes (Tarry-Deliver) */
};

struct handoff {
    enum then then;
    struct str path;             /* of THEN_RESUME */
    struct str state;            /* p NULL: none */
    struct str notify, on_error; /* p NULL: none */
    enum keep_alive keep_alive;
    enum on_disconnect on_disconnect;
    uint64_t sticky_ms;    /* Tarry-Sticky, cut to sticky_max */
    uint64_t wait_ms;      /* Tarry-Wait, cut to wait_max */
    struct str at;         /* Tarry-At: unix:PATH; p NULL: none */
    bool sticky, waits;    /* whether those two stand there: either may be 0 */
    struct unpack *unpack; /* of a body that is coded, while it comes; NULL otherwise */
    struct enclosed *calls;
    size_t ncalls;
    size_t max; /* handoff_max */
    struct body body;
    /* After HANDOFF_BUSY: what had come is decoded now (0), or cannot be (an error, with `why`). */
    void (*on_unpacked)(void *owner, int rc, const char *why);
    void *owner;
};

/* Whether one of its calls does. */
bool handoff_asks_for_pieces(const struct handoff *h);

enum handoff_error {
    HANDOFF_E_MALFORMED = -1,
    HANDOFF_E_FORBIDDEN = -2, /* an origin that the conf does not declare */
    HANDOFF_E_LIMIT = -3,
    HANDOFF_E_MEMORY = -4,
    HANDOFF_E_STORAGE = -5,
};
enum { HANDOFF_BUSY = 1 };

/* Whether a worker's response is a handoff (docs/handoff.md): 2xx with Tarry-Then. The caller has
 * seen that the request was no HEAD. */
bool handoff_is(const struct head *response);

/* What the head says; copies into `a`, initialises `h` (its body too). 0 or an error with one line
 * in `why`, which names the field and never a value that could be a secret. */
int handoff_read_head(struct handoff *h, struct arena *a, const struct conf *conf,
    const struct pool_conf *pool, const struct head *response, char *why, size_t whylen);

/* Fields that stay as they were where a trailer does not have them. */
struct handoff_kept {
    struct str state;
    enum on_disconnect on_disconnect;
};

/* The trailer section of a response in parts, which has the fields of a handoff with replay,
 * whatever its own Tarry-Then is. Where it says nothing of the state or of what a client that
 * leaves means, `kept` stands. */
int handoff_read_trailer(struct handoff *h, struct arena *a, const struct conf *conf,
    const struct pool_conf *pool, const struct handoff_kept *kept, const struct head *trailer,
    char *why, size_t whylen);

/* A piece of the body as it came, coded or not, and its end: what it is coded from goes to h->body,
 * a slice a turn. 0; HANDOFF_BUSY: h->on_unpacked() follows, and the source is to be held back
 * meanwhile; or an error. */
int handoff_take_data(struct handoff *h, struct str data, char *why, size_t whylen);
int handoff_end_data(struct handoff *h, char *why, size_t whylen);

/* No more of the body is wanted, or it has ended: on_unpacked() does not come any more. */
void handoff_stop_reading(struct handoff *h);

/* The body is complete in h->body: checks every enclosed request. */
int handoff_read_body(struct handoff *h, struct arena *a, const struct conf *conf,
    const struct pool_conf *pool, char *why, size_t whylen);

/* The enclosed request's head: the target from the absolute one, end-to-end fields, Content-Length;
 * without an authority and the conf's fields, which are the endpoint's to set. `identity`: the
 * answer must come as it is, and Accept-Encoding says so. In `a`. 0 or an error. */
int handoff_enclosed_head(const struct handoff *h, const struct enclosed *e,
    const struct conf *conf, bool identity, struct arena *a, struct head *out);

void handoff_release(struct handoff *h);

#endif
