/* An upstream as it lives: its addresses, its connections (HTTP/2 sessions that many calls share,
 * HTTP/1.1 connections one call at a time), and the requests that wait for one. Origins belong to a
 * registry, `struct origins`, and outlive reloads as long as what identifies them (name,
 * origin, CA file, http2) stays the same; a new snapshot changes their limits in place. Two
 * upstreams of one origin, with a key each, share nothing.
 *
 * upstream/ is how Tarry talks to the AI services. It knows nothing of workers or exchanges: it
 * gives out streams. */
#ifndef TARRY_UPSTREAM_ORIGIN_H
#define TARRY_UPSTREAM_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "conf/snapshot.h"
#include "http/h1parse.h"
#include "http/stream.h"
#include "net/resolver.h"
#include "net/tls.h"

struct origin;
struct origins;

/* A waiter for a stream. Embedded in the call that has it; zeroed at first. The waiter is answered
 * exactly once, never from within origin_ask(), unless it is cancelled. */
struct origin_waiter {
    struct list_node node; /* on the origin's list of those that wait */
    struct origin *origin; /* NULL: no waiter is open */
    /* `s`: begin to send on it at once (set its owner first). NULL: `error` says why there is none,
     * one of the STREAM_E_… that say that nothing was sent; `why` says it in words for the log,
     * good until the callback returns. */
    void (*on_answer)(void *owner, struct stream *s, enum stream_error error, const char *why);
    void *owner;
};

/* `conf` is the first snapshot; origins are made for its upstreams. NULL if there is no memory. */
struct origins *origins_open(struct conf *conf);

/* After a reload: prepares what the new snapshot needs (TLS contexts). 0, or -1 with nothing
 * changed and one line in `why`. */
int origins_prepare(struct origins *os, struct conf *next, char *why, size_t whylen);

/* Takes the prepared snapshot into use: origins that are no longer in it are closed once their last
 * stream is done; waiters that wait for them are still served. Cannot fail. */
void origins_commit(struct origins *os);
void origins_abandon(struct origins *os); /* forgets what was prepared */

/* Closes all; open streams get MESSAGE_FAILED. */
void origins_close(struct origins *os);

/* The live origin for an upstream of a snapshot that is still referenced somewhere; NULL if it has
 * gone and cannot be made again. Good until the turn ends, and while a waiter or a stream of it is
 * open: it is looked up anew for each waiter. */
struct origin *origins_find(struct origins *os, const struct upstream_conf *u);

void origin_ask(struct origin *o, struct origin_waiter *w);
void origin_cancel(struct origin_waiter *w);

/* How many connections and streams are open, and waiters wait: for the status page and tests. */
struct origin_counts {
    size_t connections, streams, waiting;
};
struct origin_counts origin_counts(const struct origin *o);

/* For the registry. */

/* What an origin takes from a snapshot. It is copied: no origin points into one. */
struct origin_terms {
    const struct upstream_conf *u;
    struct h1_limits limits;
    struct tls_peer *tls; /* NULL for plain http; a reference is taken */
};

/* On `list` until it is closed. NULL if there is no memory. */
struct origin *origin_open(struct list *list, struct resolver *r, const struct origin_terms *t);

/* Whether it is the one that `u` means: the same name, scheme, host, port, CA file and protocols.
 */
bool origin_is_for(const struct origin *o, const struct upstream_conf *u);

/* New terms for what it does from now on; connections stay. */
void origin_update(struct origin *o, const struct origin_terms *t);

/* Moves it to `list`: it is in use. */
void origin_enlist(struct origin *o, struct list *list);

/* Moves it to `list`; it closes itself once nobody uses it. */
void origin_retire(struct origin *o, struct list *list);

/* Wishes are answered with STREAM_E_CONNECT, streams get MESSAGE_FAILED. */
void origin_close(struct origin *o);

/* The origin by its place on the registry's list. */
struct origin *origin_on(struct list_node *n);

#endif
