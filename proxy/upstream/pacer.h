/* Whose turn it is among the calls of an upstream. A call begins when each of its limits has room
 * (meter.h) and an endpoint can take it; until then it waits in a queue that is fair to tenants:
 * each has its turn, whatever the others ask for. Belongs to the registry of endpoints.
 *
 *     queue of an upstream -> tenants, in turn -> flows (calls with the same keys), in turn ->
 * calls
 *
 * A call that has to wait for one of its keys holds nothing of the others, and does not hold up
 * calls of the same tenant that count under other keys. */
#ifndef TARRY_UPSTREAM_PACER_H
#define TARRY_UPSTREAM_PACER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "conf/snapshot.h"
#include "upstream/meter.h"

struct pacer;
struct pacer_flow;

struct pacer_key {
    uint64_t limit; /* pacer_limit_id() */
    uint64_t id;    /* of the limit and the value that calls are counted by */
    struct meter_hold hold;
};

/* One attempt's turn. Allocated with room for `nkeys` keys; zeroed at first. */
struct pacer_turn {
    struct list_node node;   /* among the calls of its flow */
    struct pacer_flow *flow; /* NULL: it does not wait */
    /* It begins now, and holds its keys. From the loop. */
    void (*on_turn)(void *owner);
    /* In how many milliseconds an endpoint has room for it. NULL: at once. */
    uint64_t (*ready_in)(void *owner);
    void *owner;
    uint64_t since_ms;      /* it waits since then */
    uint64_t open_ms;       /* a guess when there is room, in milliseconds; 0: none */
    uint32_t input, output; /* tokens that it is expected to use */
    bool holds;             /* it has begun */
    bool again;             /* it is a retry */
    unsigned char nkeys;
    struct pacer_key keys[];
};

struct pacer *pacer_open(void);
void pacer_close(struct pacer *p);

/* The limits of the snapshot in force are those that hold, for calls that wait too. */
void pacer_update(struct pacer *p, const struct conf *conf);

/* The id of an upstream's limit: the same after a reload and in all processes. */
uint64_t pacer_limit_id(const struct upstream_conf *u, size_t i);

struct pacer_ask {
    const struct upstream_conf *upstream;
    uint64_t tenant; /* 0: unknown, and so no share of the queue bounds it */
    unsigned weight; /* the tenant's: so many turns in each round */
    bool again;      /* it is a retry: ahead of the other calls of its tenant */
};

enum pacer_result {
    PACER_GO,    /* it may begin, and holds its keys */
    PACER_WAITS, /* on_turn() follows, unless it leaves before */
    PACER_FULL,  /* queue_max calls wait */
    PACER_SHARE, /* tenant_queue_max calls of its tenant wait */
    PACER_NO_MEMORY,
};
enum pacer_result pacer_ask(struct pacer *p, struct pacer_turn *t, const struct pacer_ask *ask);

/* It waits no longer, or is over. `begun` false: it did not begin after all, and does not count.
 * Idempotent. */
void pacer_leave(struct pacer *p, struct pacer_turn *t, bool begun);

/* It has used so many tokens. */
void pacer_settle(struct pacer_turn *t, uint64_t tokens);

/* An endpoint of the upstream may be ready now. */
void pacer_stir(struct pacer *p, const struct upstream_conf *u);

struct pacer_counts {
    size_t waiting, tenants;
};
struct pacer_counts pacer_counts(const struct pacer *p, struct str upstream);

#endif
