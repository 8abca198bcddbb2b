/* The inside of a pool, for the files of workers/ alone: pool.c has the queue, pools.c the registry
 * and reloads, server.c the connections. */
#ifndef TARRY_WORKERS_POOLSTATE_H
#define TARRY_WORKERS_POOLSTATE_H

#include "http/h1parse.h"
#include "net/resolver.h"
#include "workers/pool.h"

/* Shared by all pools of a registry, and counted: a pool may outlive the registry. */
struct pools_shared {
    unsigned refs;
    struct h1_limits limits;   /* of responses' heads */
    struct resolver *resolver; /* NULL until a server has a host name */
    char *name_servers;        /* NULL: the system's */
};

struct pool {
    struct list_node node; /* on the registry's list */
    unsigned refs;
    bool held; /* by an operator: no slot is given out */
    struct conf *snapshot;
    const struct pool_conf *conf;
    struct pools_shared *shared;
    struct list servers;
    struct list queue[2];     /* waiters: [1] resumes, replays, notifies; [0] new requests */
    struct list set_aside[2]; /* those of them that found every server unreachable */
    struct addrlimit shares;  /* of new requests, by address */
    struct deferred dispatch;
    struct deadline again;     /* a server that was full or refused may serve again */
    struct deadline unreached; /* until those that are set aside try again */
    uint64_t unreached_pause_ms;
    struct deferred_free deferred_free;
    char why[256]; /* no server could be reached */
};

/* Serves the queue before the loop sleeps. */
void pool_want_dispatch(struct pool *p);

void pool_init_queue(struct pool *p);
void pool_release_queue(struct pool *p);

/* The waiters for `s` have to make do with another: it goes. */
void pool_send_elsewhere(struct pool *p, struct server *s);

/* The resolver, opened when it is first needed; NULL if there is no memory. */
struct resolver *pools_resolver(struct pools_shared *sh);
void pools_unref_shared(struct pools_shared *sh);

#endif
