/* Names to addresses, by c-ares on the loop: never blocks. Looks into /etc/hosts first, asks for A
 * and AAAA at once, and keeps the answer for its TTL (1 s to 1 h). If one of the two is not
 * answered, the other waits for it 50 ms (RFC 8305 3).
 *
 * After its TTL an answer is asked for again, and a lookup waits for that up to a second. Then the
 * old answer serves (RFC 8767), until it is older than a bound: a name server that is down stops
 * nobody who has been resolved before, and no address is used for ever. */
#ifndef TARRY_NET_RESOLVER_H
#define TARRY_NET_RESOLVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/str.h"
#include "net/addr.h"

struct resolver;

struct resolver_answer {
    const struct addr
        *addrs; /* in the resolver's order (RFC 6724), port 0; good until the callback returns */
    size_t n;   /* 0: there is none, and `why` says so in words */
    const char *why;
    uint64_t until_ms; /* by loop_now_ms(): the answer's time is over then, and it can be asked for
                          again */
};

/* One question. Embedded in the asker's struct; zeroed at first. Answered exactly once, never from
 * within resolver_ask(), unless it is cancelled. */
struct resolver_lookup {
    struct list_node
        node; /* of those that wait for the same name; on no list: no question is open */
    void (*on_answer)(void *owner, const struct resolver_answer *a);
    void *owner;
};

/* `servers`: "192.0.2.1,[2001:db8::1]:5353"; NULL: the system's. NULL if there is no memory or that
 * is malformed. */
struct resolver *resolver_open(const char *servers);

/* As if it were opened anew, for name servers that may have changed: open lookups are asked of the
 * new ones, and what is known serves until they have answered. 0, or -1 as above, and nothing has
 * changed. Not from within an answer. */
int resolver_renew(struct resolver *r, const char *servers);

/* For how long an answer serves beyond its TTL if no other can be had. One hour, unless this is
 * called. */
void resolver_set_stale_max(struct resolver *r, uint64_t ms);

/* Asks for a name again whose time to live is over, so that the next lookup does not wait. */
void resolver_refresh(struct resolver *r, struct str name);

/* Lookups that are open are forgotten. The memory goes when the turn ends. */
void resolver_close(struct resolver *r);

/* Address literals are answered too. 0, or -1 if there is no memory: then no answer comes. */
int resolver_ask(struct resolver *r, struct resolver_lookup *l, struct str name,
    void (*on_answer)(void *owner, const struct resolver_answer *a), void *owner);
void resolver_cancel(struct resolver_lookup *l);

#endif
