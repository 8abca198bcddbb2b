/* Where clients come in, and all that is shared between exchanges: the snapshot in force,
 * listeners, pools, endpoints. One a process. */
#ifndef TARRY_EXCHANGE_FRONT_H
#define TARRY_EXCHANGE_FRONT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "conf/snapshot.h"
#include "exchange/exchange.h"
#include "http/acceptor.h"
#include "net/addrlimit.h"
#include "net/listener.h"
#include "net/sni.h"
#include "net/tickets.h"
#include "upstream/endpoints.h"

/* How many there were. */
struct tide {
    size_t exchanges, connections;
};

struct front {
    struct conf *conf;
    struct pools *pools;
    struct endpoints *endpoints;
    struct tickets *tickets; /* keys of TLS sessions, shared by all processes */
    struct acceptor acceptor;
    struct addrlimit crowd; /* the clients' connections, by address */
    struct list exchanges[EX_NSTATES];
    struct list doors;      /* listeners with what belongs to them */
    struct list next_doors; /* prepared by a reload */
    struct list awaited;    /* connections whose proxy has not said yet who the client is */
    struct deferred access_flush;
    struct deadline drain_timer;
    struct deadline trim_timer;
    struct tide peak;             /* at most since memory was given back last */
    struct tide seen;             /* when that was looked at last */
    void (*on_idle)(void *owner); /* while draining: nothing is in flight any more */
    void *owner;
    size_t connections_max; /* max_connections, or fewer where the descriptors do not suffice */
    uint64_t complained_ms; /* of refused connections, in the log; 0: never */
    bool reuse_port, started, draining;
};

/* Binds every listener of `conf` and makes pools and endpoints; accepts nothing yet. A reference to
 * `conf` is taken; `tickets` outlives the front (NULL where no
 * listener speaks TLS). `reuse_port`: other processes serve the same addresses. 0, or -1 with one
 * line in `why`. */
int front_open(struct front *f, struct conf *conf, struct tickets *tickets, bool reuse_port,
    char *why, size_t whylen);

/* Each listener with a certificate. */
typedef void front_sites_fn(void *owner, struct str listener, const struct sni *sites);

void front_each_sni(const struct front *f, front_sites_fn *fn, void *owner);

/* Begins to accept. */
void front_start(struct front *f);

/* Takes a new snapshot into use: everything is prepared first, then all is swapped. 0, or -1 with
 * one line in `why` and nothing changed. */
int front_reload(struct front *f, struct conf *next, char *why, size_t whylen);

/* Stops accepting, ends idle connections, lets what is in flight finish; then on_idle, from the
 * loop. */
void front_drain(struct front *f, void (*on_idle)(void *owner), void *owner);

/* Cuts everything. Returns how many exchanges were still in flight. */
size_t front_close(struct front *f);

/* Whether `a` is one client's address, for which the limits of an address hold; others stand for
 * many: trusted proxies, unix sockets and, unless the conf says otherwise, loopback. */
bool front_bounds(const struct front *f, const struct addr *a);

/* Whether a connection from `a` may come in: counts it among those of its address, in `p`, and logs
 * it if it may not. On the accept; and again if it turns out that it comes from elsewhere. */
bool front_admits(struct front *f, struct addrlimit_slot *p, const struct addr *a);

/* Exchanges in flight. */
size_t front_in_flight(const struct front *f);

/* For exchange.c: access lines wait to be written; an exchange has ended. */
void front_flush_access(struct front *f);
void front_exchange_ended(struct front *f);

#endif
