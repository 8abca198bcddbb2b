/* A pool: the servers of one `workers` section with their slots, and the queue of exchanges that
 * wait for one. Resumes go ahead of new requests: finishing comes before starting. A waiter may ask
 * for the server that it has been at before; then it goes ahead of all others there.
 *
 * Pools belong to a registry, `struct pools`, and live on over reloads under their names. An
 * exchange holds a reference, so that it can finish where it began though a reload has taken the
 * pool out of the conf.
 *
 * workers/ is how Tarry talks to the sync backend: it gives out streams, one per slot. It knows
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
struct server;
struct worker_conn;

enum pool_error {
    POOL_E_QUEUE_FULL = -1,
    POOL_E_QUEUE_TIMEOUT = -2,
    POOL_E_UNREACHABLE = -3, /* no server took the connection: nothing was sent */
    POOL_E_QUEUE_SHARE = -4, /* its address has as much of the queue as it may */
    POOL_E_GONE = -5,        /* the server that alone would do is gone, refuses, or was not free */
};

/* The request of a waiter. Zeroed: a slot of any server for a new request. The spans and `client`
 * must stay valid until the answer has come. */
struct pool_want {
    bool ahead;                   /* a resume, replay, notify or pieces: before new requests */
    const struct addr *client;    /* the request's, only so many of which may wait
                                     (queue_address_share); NULL: any number */
    uint64_t timeout_ms;          /* in the queue; 0: the pool's queue_timeout */
    uint64_t unreachable_wait_ms; /* how long it waits while no server can be reached, on top of
                                     that; 0: the pool's unreachable_wait */

    /* Back to the server of an earlier visit, ahead of everything else.
     * After `server_wait_ms`, or at once if that server is gone, refuses or is paused, any other
     * does. */
    struct str server; /* pool_server() of that visit; empty: any */
    uint64_t server_wait_ms;
    struct str at; /* "unix:PATH": where that process itself listens; empty: at the server's
                      address */
    bool only;     /* no other will do: POOL_E_GONE instead */
    bool pieces;   /* a visit with pieces: after one, other waiters come first */
};

/* A waiter for a slot. Embedded in the visit that has it; zeroed at first. Answered exactly once,
 * never from within pool_ask(), unless it is taken back. With a stream it holds the slot until
 * pool_release(). */
struct slot_waiter {
    struct list_node node;
    struct pool *pool; /* NULL: no waiter is open and no slot is held */
    struct worker_conn *conn;
    struct server *server; /* the one that it comes back to, while it may */
    struct stream *stream; /* what on_answer was given */
    struct pool_want want;
    struct addrlimit_slot share; /* of the queue, as one of its address */
    struct deadline deadline, server_wait;
    struct deferred deferred;
    uint64_t unreachable_since_ms; /* 0: it has not found every server unreachable */
    uint64_t left_ms;              /* of its time in the queue, while it is set aside */
    unsigned tries;
    int error; /* enum pool_error, on its way */
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

/* Host names of servers are asked of these name servers ("192.0.2.1,[2001:db8::1]:5353"; NULL: the
 * system's) from now on. 0, or -1 if there is no memory or the list is malformed. */
int pools_set_name_servers(struct pools *ps, const char *name_servers);

/* The live pool of that name; NULL if there is none. */
struct pool *pools_find(struct pools *ps, struct str name);
struct pool *pool_ref(struct pool *p);
void pool_unref(struct pool *p);
const struct pool_conf *pool_conf(const struct pool *p);

/* Gets into the queue. Zero `want` means a new request. */
void pool_ask(struct pool *p, struct slot_waiter *w, const struct pool_want *want);

/* Takes the waiter back: the place in the queue, or the slot with its stream, which is closed. The
 * slot is free at once if the response is complete or the connection broken; otherwise the worker
 * is still at it, and the slot stays taken until it is done, at most for abandoned_timeout. Does
 * nothing if no waiter is open. */
void pool_release(struct slot_waiter *w);

/* Of a waiter that holds a slot: its server, as pool_want's `server` takes it. Good until the next
 * reload: copy it. */
struct str pool_server(const struct slot_waiter *w);

/* Whether that server is one process with one thing to do at a time (slots = 1, one address): then
 * a later visit can come back to it (the feature "sticky"). */
bool pool_server_is_one_process(const struct slot_waiter *w);

/* Whether `at` ("unix:PATH") lies in the folder of that server's address:
 * an app may not send Tarry anywhere else. */
bool pool_server_may_be_at(const struct slot_waiter *w, struct str at);

/* A held pool gives out no slots: requests wait up to their timeouts. */
void pool_hold(struct pool *p, bool held);
bool pool_is_held(const struct pool *p);

struct pool_counts {
    size_t slots, busy; /* taken, the abandoned included */
    size_t abandoned;   /* taken by workers whose response nobody waits for any more */
    size_t queued_ahead, queued_new, servers, servers_paused;
};
struct pool_counts pool_counts(const struct pool *p);

#endif
