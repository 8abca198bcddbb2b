/* The inside of a pool, for the files of workers/ alone: pool.c has the queue, pools.c the registry
 * and reloads, server.c the connections. */
#ifndef TARRY_WORKERS_POOLSTATE_H
#define TARRY_WORKERS_POOLSTATE_H

#include "workers/pool.h"
#include "workers/poolshared.h"
#include "workers/server.h"

struct pool {
    struct list_node node; /* on the registry's list */
    unsigned refs;
    bool held; /* by an operator: no slot is given out */
    struct conf *snapshot;
    const struct pool_conf *conf;
    struct poolshared *shared;
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

/* `s` is being removed: its waiters get another server. */
void pool_send_elsewhere(struct pool *p, struct server *s);

/* With one reference. NULL if there is no memory. */
struct pool *pool_new(const struct pool_conf *pc, struct conf *snapshot, struct poolshared *shared);

/* What its servers tell a pool. */
extern const struct server_events pool_server_events;

#endif
