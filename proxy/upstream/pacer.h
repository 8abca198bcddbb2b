/* The pace of calls by key: how many begin within a minute, and how many are in flight. A call over
 * a limit waits in the queue of its key, first come, first served; keys do not wait for each other.
 * Belongs to the registry of endpoints. */
#ifndef TARRY_UPSTREAM_PACER_H
#define TARRY_UPSTREAM_PACER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "conf/snapshot.h"

struct pacer;
struct pacer_key;

/* A call's place under one limit. Zeroed at first. */
struct pacer_turn {
    struct list_node node; /* among those that wait, or are in flight */
    struct pacer_key *key; /* NULL: it has none */
    void (*on_turn)(void *owner);
    void *owner;
};

struct pacer *pacer_open(void);
void pacer_close(struct pacer *p);

/* True: it may begin. False: on_turn follows from the loop, unless it leaves before; or there is no
 * memory (t->key is NULL then). `id` stands for the limit and the key. */
bool pacer_ask(struct pacer *p, struct pacer_turn *t, const struct limit_conf *l, uint64_t id);

/* The call stops waiting, or is no longer in flight. Idempotent. */
void pacer_leave(struct pacer_turn *t);

#endif
