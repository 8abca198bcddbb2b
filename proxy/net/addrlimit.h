/* Limits by address: how many connections come from one address, and how many of them have not sent
 * a request yet. An IPv6 client has a whole /64 to itself: that counts as one address. Memory grows
 * with the addresses that have a connection now, and shrinks with them.
 *
 * A connection's slot is embedded in its conn and given back when that ends. Where connections come
 * in owns the struct addrlimit. */
#ifndef TARRY_NET_ADDRLIMIT_H
#define TARRY_NET_ADDRLIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "net/addr.h"

struct addrlimit_entry;

/* May be changed in place; they hold for connections that are added from then on. 0: no bound. */
struct addrlimit_bounds {
    size_t connections_max; /* of one address */
    size_t pending_max;     /* of one address: those that owe their first request, TLS handshakes
                                 included */
};

struct addrlimit {
    struct addrlimit_bounds limits;
    struct list *buckets; /* of entries, by a keyed hash of the address; NULL: none yet */
    size_t nbuckets;      /* a power of two */
    size_t nentries;
    size_t pending; /* of all addresses: connections that owe their first request */
    uint64_t key;
};

/* Zeroed: it counts nothing. */
struct addrlimit_slot {
    struct addrlimit_entry *entry;
    bool pending; /* it owes its first request */
};

enum addrlimit_error {
    ADDRLIMIT_E_CONNECTIONS = -1, /* its address has as many as it may */
    ADDRLIMIT_E_PENDING = -2,     /* and of those without a request */
    ADDRLIMIT_E_MEMORY = -3,
};

void addrlimit_init(struct addrlimit *c);

/* After all slots have been given back. */
void addrlimit_release(struct addrlimit *c);

/* Counts a new connection, as one that owes its first request. 0, or an enum addrlimit_error: then
 * it is refused, and `p` stays as it was. `bounded`: the limits hold for it (a proxy's connections
 * are not one client's). What `p` has counted before is given back. */
int addrlimit_add(
    struct addrlimit *c, struct addrlimit_slot *p, const struct addr *a, bool bounded);

/* Its first request is there. Does nothing the second time, or for an empty slot. */
void addrlimit_settle(struct addrlimit_slot *p);

/* It has ended. Idempotent. */
void addrlimit_remove(struct addrlimit_slot *p);

/* For logs: "too many connections of its address". */
const char *addrlimit_strerror(int error);

#endif
