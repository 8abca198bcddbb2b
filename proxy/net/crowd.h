/* Who crowds the door: how many connections come from one address, and how many of them have not
 * sent a request yet. An IPv6 client has a whole /64 to itself: that counts as one address. Memory
 * grows with the addresses that have a connection now, and shrinks with them.
 *
 * A connection's place is embedded in its conn and left when that ends; the crowd belongs to the
 * front. */
#ifndef TARRY_NET_CROWD_H
#define TARRY_NET_CROWD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "net/addr.h"

struct crowd_group;

/* May be changed in place; they hold for who joins from then on. 0: no bound. */
struct crowd_limits {
    size_t connections_max; /* of one address */
    size_t newcomers_max;   /* of one address: those that owe their first request, TLS handshakes
                               included */
};

struct crowd {
    struct crowd_limits limits;
    struct list *buckets; /* of groups, by a keyed hash of the address; NULL: none yet */
    size_t nbuckets;      /* a power of two */
    size_t ngroups;
    size_t newcomers; /* of all addresses */
    uint64_t key;
};

/* Zeroed: outside. */
struct crowd_place {
    struct crowd_group *group;
    bool newcomer;
};

enum crowd_error {
    CROWD_E_CONNECTIONS = -1, /* its address has as many as it may */
    CROWD_E_NEWCOMERS = -2,   /* and of those without a request */
    CROWD_E_MEMORY = -3,
};

void crowd_init(struct crowd *c);

/* After all places have been left. */
void crowd_release(struct crowd *c);

/* A connection has come: it is counted, as a newcomer, unless it is refused by an enum crowd_error.
 * `bounded`: the limits hold for it (a proxy's connections are not one client's). It leaves a place
 * that it has had before. */
int crowd_join(struct crowd *c, struct crowd_place *p, const struct addr *a, bool bounded);

/* Its first request is there. Does nothing the second time, or outside. */
void crowd_settle(struct crowd_place *p);

/* It has ended. Idempotent. */
void crowd_leave(struct crowd_place *p);

/* For logs: "too many connections of its address". */
const char *crowd_strerror(int error);

#endif
