/* One server of a pool: its slots, its connections, and how it has been doing. Belongs to its pool.
 */
#ifndef TARRY_WORKERS_SERVER_H
#define TARRY_WORKERS_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "conf/snapshot.h"
#include "http/h1client.h"
#include "net/conn.h"
#include "net/deadline.h"
#include "net/loop.h"

struct pool;
struct server;
struct slot_waiter;

/*   CONNECTING -> BUSY <-> IDLE        from anywhere to closed
 *                  v         ^
 *              ABANDONED ----+
 *   CONNECTING and BUSY hold a slot and serve `waiter`. ABANDONED holds one too, though nobody
 * waits for the response any more: a worker cannot be interrupted, and is free when it says so or
 *   abandoned_timeout has passed. IDLE is kept for the next. */
enum worker_conn_state {
    WORKER_CONN_CONNECTING,
    WORKER_CONN_BUSY,
    WORKER_CONN_IDLE,
    WORKER_CONN_ABANDONED
};
#define WORKER_CONN_NSTATES (WORKER_CONN_ABANDONED + 1)

/* One connection to a server. */
struct worker_conn {
    struct list_node node; /* on the server's list of its state */
    struct server *server;
    struct conn *conn;        /* while CONNECTING */
    struct h1_client *client; /* afterwards */
    struct slot_waiter
        *waiter; /* NULL: IDLE, or the slot is given back and the connection is about to settle */
    struct deadline deadline;
    uint64_t idle_since_ms;
    unsigned answered; /* responses that came over it and left it usable */
    struct deferred_free deferred_free;
    bool closed;
};

struct server {
    struct list_node node; /* on the pool's servers */
    struct pool *pool;
    struct str text; /* the address as written: the key over reloads; in the pool's snapshot */
    struct sockaddr_storage sa;
    socklen_t salen;
    unsigned slots;
    unsigned busy; /* slots taken */
    struct list conns[WORKER_CONN_NSTATES];
    uint64_t paused_until_ms; /* refuses connections: others first until then */
    uint64_t full_until_ms;   /* its backlog was full: nobody knocks until then */
    uint64_t pause_ms;        /* the last pause; doubles */
    bool keeps;               /* a kept connection was used again */
    bool drops;               /* closes connections without saying so: none is kept */
    bool removed;             /* no longer in the conf: finishes what it has */
};

/* An abandoned slot is free. */
void pool_on_slot_free(struct pool *p);

/* What happens to a waiter that was given to a server. */
void pool_on_connected(struct pool *p, struct slot_waiter *w, struct worker_conn *l);
void pool_on_connect_failed(
    struct pool *p, struct slot_waiter *w, struct server *s, const char *why);
void pool_on_backlog_full(struct pool *p, struct slot_waiter *w, struct server *s);

/* The bounds of responses' heads, for all servers of the process. */
void server_set_limits(const struct h1_limits *l);

void server_init(struct server *s, struct pool *p, const struct server_conf *conf);

/* Whether it can take one more now. */
bool server_has_room(const struct server *s);

/* Takes a slot for the waiter and gets it a connection, kept or new; one of the three above
 * follows, or (kept) at once pool_on_connected(). */
void server_serve(struct server *s, struct slot_waiter *w);

/* The waiter wants nothing more, but the worker is not done: the slot stays taken until it is. The
 * stream is not the waiter's any more. False: there is nothing to wait for. */
bool server_abandon(struct worker_conn *l);

/* The waiter is done with its connection: the slot is free. The connection is kept if it can be. */
void server_take_back(struct worker_conn *l);

/* Closes idle connections (all: every one). */
void server_close(struct server *s, bool all);

#endif
