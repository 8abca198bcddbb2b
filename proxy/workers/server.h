/* One server of a pool: its addresses, its slots, its connections, and whether it can be reached.
 * Belongs to its pool. */
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
#include "net/resolver.h"

struct pool;
struct server;
struct slot_waiter;

enum { SERVER_ADDRS_MAX = 32 };

/*   CONNECTING -> BUSY <-> IDLE        from anywhere to closed
 *                  v         ^
 *              ABANDONED ----+
 *   CONNECTING and BUSY hold a slot and serve `waiter`; CONNECTING without `conn` waits for the
 *   address of a host name. ABANDONED holds a slot too, though nobody waits for the response any
 *   more: a worker cannot be interrupted, and is free when it says so or abandoned_timeout has
 *   passed. IDLE is kept for the next request. */
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
    struct conn *conn;        /* while CONNECTING; NULL: the name is being looked up */
    struct h1_client *client; /* afterwards */
    struct slot_waiter
        *waiter; /* NULL: IDLE, or the slot is given back and the connection is about to settle */
    struct deadline deadline;
    struct addr addr; /* of a server with a host name: where it goes */
    uint64_t idle_since_ms;
    uint32_t tried;    /* of a server with a host name: bits of the addresses tried */
    unsigned answered; /* responses that came over it and left it usable */
    bool once;         /* not kept: it goes to the address that the process itself has named */
    struct deferred_free deferred_free;
    bool closed;
};

/* What a pool hears of its servers. */
struct server_events {
    void (*on_slot_free)(struct pool *p); /* an abandoned one */
    /* The outcomes for a waiter that was given to a server. */
    void (*on_connected)(struct pool *p, struct slot_waiter *w, struct worker_conn *l);
    void (*on_connect_failed)(
        struct pool *p, struct slot_waiter *w, struct server *s, const char *why);
    void (*on_backlog_full)(struct pool *p, struct slot_waiter *w, struct server *s);
};

struct server {
    struct list_node node; /* on the pool's servers */
    struct pool *pool;
    const struct server_events *events;
    struct str text; /* the address as written: the key over reloads; in the pool's snapshot */
    struct sockaddr_storage sa;
    socklen_t salen;
    struct str host; /* empty: `sa` is the address; otherwise its name, in the pool's snapshot */
    uint16_t port;
    struct addr addrs[SERVER_ADDRS_MAX]; /* that the name has */
    size_t naddrs, next_addr;
    uint16_t family;       /* of the last address that answered: tried before the others */
    uint64_t ask_again_ms; /* when the answer's time is over */
    struct resolver_lookup lookup;
    unsigned slots;
    unsigned busy; /* slots taken */
    struct list conns[WORKER_CONN_NSTATES];
    struct list returning;    /* waiters that want this server again */
    uint64_t paused_until_ms; /* refuses connections: others first until then */
    uint64_t full_until_ms;   /* its backlog was full: no connection is tried until then */
    uint64_t pause_ms;        /* the last pause; doubles */
    bool keeps;               /* a kept connection was used again */
    bool drops;               /* closes connections without announcing it: none is kept */
    bool served_pieces;       /* its last visit was one with pieces */
    bool stays;               /* in the conf that is being taken over */
    bool removed;             /* no longer in the conf: finishes what it has */
};

/* `s` is zeroed memory of the caller's, from malloc(); it belongs to the pool. */
void server_init(struct server *s, struct pool *p, const struct server_events *events,
    const struct server_conf *conf);

/* A reload: takes over changed settings. NULL: it is in the conf no longer. */
void server_set_conf(struct server *s, const struct server_conf *conf);

/* Removes it from its pool and frees it; it must have no connections and no waiters. */
void server_free(struct server *s);

/* Whether it can take another request now. */
bool server_has_room(const struct server *s);

/* Takes a slot for the waiter and gets it a connection, kept or new; one of the three
 * outcomes follows, or (kept) at once on_connected(). One new connection goes to the waiter's own
 * address (pool_want's `at`) where it has one. */
void server_serve(struct server *s, struct slot_waiter *w);

/* The waiter leaves, but the worker is still busy: the slot stays taken until the worker is done.
 * The stream no longer belongs to the waiter. False: there is nothing to wait for. */
bool server_abandon(struct worker_conn *l);

/* The waiter is done with its connection: the slot is free. The connection is kept if it can be. */
void server_take_back(struct worker_conn *l);

/* Closes idle connections (all: every one). */
void server_close(struct server *s, bool all);

#endif
