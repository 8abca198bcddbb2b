/* The keys of TLS session tickets (RFC 5077, RFC 8446 4.6.1), which a client brings back to resume
 * its session: no memory is kept for it, and any process that has the keys can do it.
 *
 * New keys come into use every rotation; earlier ones open tickets until no session under them is
 * good any more, and are then overwritten. The keys of a rotation follow from a secret and from the
 * rotation's number, which is the clock divided by its length: so processes that were forked from
 * one, or machines that share a secret, have the same keys without communicating. A secret of our
 * own is replaced by its hash at each rotation, so that the memory of today does not open traffic
 * recorded yesterday. A secret from a file does not change.
 *
 * Made once, before the first fork; lives as long as the process. */
#ifndef TARRY_NET_TICKETS_H
#define TARRY_NET_TICKETS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct tickets;

enum { TICKETS_ROTATIONS_MAX = 32 };

/* `session_timeout_ms` is at most TICKETS_ROTATIONS_MAX rotations. `wall_ms`: milliseconds since
 * 1970. NULL if there is no memory or no randomness. */
struct tickets *tickets_new(
    uint64_t rotation_ms, uint64_t session_timeout_ms, struct str secret, uint64_t wall_ms);

/* Overwrites and frees all; NULL is allowed. */
void tickets_free(struct tickets *t);

/* The secret of the conf in force, empty: one of our own. Tickets under the keys of the one before
 * stay good for their time. */
void tickets_set_secret(struct tickets *t, struct str secret, uint64_t wall_ms);

/* Makes new keys and removes old ones as the clock demands. Called often, and before a fork. */
void tickets_rotate(struct tickets *t, uint64_t wall_ms);

/* How long a session can be resumed. */
uint64_t tickets_session_timeout_ms(const struct tickets *t);

/* Sessions of the context's connections are resumed by these tickets alone. `t` outlives it. */
bool tickets_serve(struct tickets *t, SSL_CTX *ctx);

enum { TICKETS_NAME_N = 16, TICKETS_KEY_N = 32 };

struct tickets_key {
    unsigned char name[TICKETS_NAME_N]; /* goes with the ticket, in the clear */
    unsigned char cipher[TICKETS_KEY_N], mac[TICKETS_KEY_N];
    uint64_t begins_ms, ends_ms; /* when it comes into use, and when no ticket under it is good */
};

/* The key for new tickets, and that of a ticket; NULL: none such, or its time is over. */
const struct tickets_key *tickets_current(struct tickets *t, uint64_t wall_ms);
const struct tickets_key *tickets_find(
    struct tickets *t, const unsigned char name[TICKETS_NAME_N], uint64_t wall_ms);

#endif
