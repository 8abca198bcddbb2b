/* A pool: the servers of one `workers` section with their slots, and the queue of exchanges that
 * wait for one. Resumes go ahead of new requests: finishing comes before starting.
 *
 * Pools belong to a registry, `struct pools`, and live on over reloads under their names. An
 * exchange holds a reference, so that it can finish where it began though a reload has taken the
 * pool out of the conf.
 *
 * workers/ is how Tarry talks to the sync backend: it gives out streams, one a slot. It knows
 * nothing of upstreams or exchanges. */
#ifndef TARRY_WORKERS_POOL_H
#define TARRY_WORKERS_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "conf/snapshot.h"
#include "http/stream.h"
#include "net/addrlimit.h"
#include "net/deadline.h"
#include "net/loop.h"

struct pool;
struct pools;
struct worker_conn;

enum pool_error {
    POOL_E_QUEUE_FULL = -1,
    POOL_E_QUEUE_TIMEOUT = -2,
    POOL_E_UNREACHABLE = -3, /* no server took the connection: nothing was sent */
    POOL_E_QUEUE_SHARE = -4, /* its address has as much of the queue as it may */
};

/* A waiter for a slot. Embedded in the visit that has it; zeroed at first. Answered exactly once,
 * never from within pool_ask(), unless it is taken back. With a stream it holds the slot until
 * pool_release(). */
struct slot_waiter {
    struct list_node node;
    struct pool *pool; /* NULL: no waiter is open and no slot is held */
    struct worker_conn *link;
    struct stream *stream;       /* what on_answer was given */
    struct addrlimit_slot place; /* among those of its address that wait */
    struct deadline deadline;
    struct deferred deferred;
    unsigned tries;
    uint64_t refused_since_ms; /* when all servers had refused; 0: they have not */
    int error;                 /* enum pool_error, on its way */
    bool ahead;                /* a resume, replay or notify */
    /* `s`: begin to send on it at once (set its owner first). NULL: `error` says why there is none;
     * `why` in words for the log. */
    void (*on_answer)(void *owner, struct stream *s, enum pool_error error, const char *why);
    void *owner;
};

/* Makes the pools of `conf` (a reference is taken by each). NULL if there is no memory. */
struct pools *pools_open(struct conf *conf);

/* After a reload: pools and servers that are in both keep their state. In two steps, so that a
 * reload can be called off. */
int pools_prepare(struct pools *ps, struct conf *next);
void pools_commit(struct pools *ps);
void pools_abandon(struct pools *ps);
void pools_close(struct pools *ps);

/* The live pool of that name; NULL if there is none. */
struct pool *pools_find(struct pools *ps, struct str name);
struct pool *pool_ref(struct pool *p);
void pool_unref(struct pool *p);
const struct pool_conf *pool_conf(const struct pool *p);

/* Gets into the queue; `timeout_ms` 0: the pool's queue_timeout. `client`: where the request comes
 * from, of whose requests only so many may wait (queue_address_share); NULL: any number. */
void pool_ask(struct pool *p, struct slot_waiter *w, bool ahead, const struct addr *client,
    uint64_t timeout_ms);

/* Takes the waiter back: the place in the queue, or the slot with its stream, which is closed. The
 * slot is free at once if the response is complete or the connection broken; otherwise the worker
 * is still at it, and the slot stays taken until it is done, at most for abandoned_timeout. Does
 * nothing if no waiter is open. */
void pool_release(struct slot_waiter *w);

struct pool_counts {
    size_t slots, busy; /* taken, the abandoned included */
    size_t abandoned;   /* taken by workers whose response nobody waits for any more */
    size_t queued_ahead, queued_new, servers, servers_paused;
};
struct pool_counts pool_counts(const struct pool *p);

#endif
