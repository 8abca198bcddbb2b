/* Who crowds the door: how many connections come from one address, and how many of them have not
 * sent a request yet. An IPv6 client has a whole /64 to itself: that counts as one address. Memory
 * grows with the addresses that have a connection now, and shrinks with them.
 *
 * A connection's place is embedded in its conn and left when that ends; the crowd belongs to the
 * front. */
#ifndef TARRY_NET_ADDRLIMIT_H
#define TARRY_NET_ADDRLIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "net/addr.h"

struct addrlimit_entry;

/* May be changed in place; they hold for who joins from then on. 0: no bound. */
struct addrlimit_bounds {
    size_t connections_max; /* of one address */
    size_t pending_max;     /* of one address: those that owe their first request, TLS handshakes
                                 included */
};

struct addrlimit {
    struct addrlimit_bounds limits;
    struct list *buckets; /* of groups, by a keyed hash of the address; NULL: none yet */
    size_t nbuckets;      /* a power of two */
    size_t ngroups;
    size_t newcomers; /* of all addresses */
    uint64_t key;
};

/* Zeroed: outside. */
struct addrlimit_slot {
    struct addrlimit_entry *group;
    bool newcomer;
};

enum addrlimit_error {
    ADDRLIMIT_E_CONNECTIONS = -1, /* its address has as many as it may */
    ADDRLIMIT_E_PENDING = -2,     /* and of those without a request */
    ADDRLIMIT_E_MEMORY = -3,
};

void addrlimit_init(struct addrlimit *c);

/* After all places have been left. */
void addrlimit_release(struct addrlimit *c);

/* A connection has come: it is counted, as a newcomer, unless it is refused by an enum
 * addrlimit_error. `bounded`: the limits hold for it (a proxy's connections are not one client's).
 * It leaves a place that it has had before. */
int addrlimit_add(
    struct addrlimit *c, struct addrlimit_slot *p, const struct addr *a, bool bounded);

/* Its first request is there. Does nothing the second time, or outside. */
void addrlimit_settle(struct addrlimit_slot *p);

/* It has ended. Idempotent. */
void addrlimit_remove(struct addrlimit_slot *p);

/* For logs: "too many connections of its address". */
const char *addrlimit_strerror(int error);

#endif
