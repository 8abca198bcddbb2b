/* The connections to one endpoint: HTTP/2 sessions shared by many calls, HTTP/1.1 connections for
 * one call at a time, and connections in progress. It gives out streams; its owner keeps the queue
 * of waiting calls. An origin belongs to its endpoint, which ends it with origin_close().
 *
 * upstream/ is how Tarry talks to the AI services. It knows nothing of workers or exchanges: it
 * gives out streams. Read it in this order: dial.h, origin.h, endpoint.h, endpoints.h; beside them
 * rewrite.h (what an endpoint changes in a request) and retry.h (when a call is made again). */
#ifndef TARRY_UPSTREAM_ORIGIN_H
#define TARRY_UPSTREAM_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/snapshot.h"
#include "http/h1parse.h"
#include "http/stream.h"
#include "net/resolver.h"
#include "net/tls.h"
#include "upstream/single.h"

struct origin;

/* The part of a snapshot that an origin uses. It is copied: no origin points into a snapshot. */
struct origin_terms {
    const struct upstream_conf *policy;
    const struct endpoint_conf *endpoint;
    struct h1_limits limits;
    struct h2_read_ahead *read_ahead; /* shared by all origins */
    struct tls_peer *tls;             /* NULL for plain http; a reference is taken */
};

enum origin_event_kind {
    ORIGIN_CHANGED,    /* origin_take() may give a stream now, or a connection has gone */
    ORIGIN_DIAL_FAILED /* an attempt failed; `error` and `why` say why */
};

struct origin_event {
    enum origin_event_kind kind;
    enum stream_error error;
    const char *why; /* good until the callback returns */
    bool for_all;    /* no attempt is left. Otherwise it was made for one waiting call */
};

/* From the loop. May close the origin from within. */
typedef void origin_event_fn(void *owner, const struct origin_event *ev);

/* NULL if there is no memory. */
struct origin *origin_open(
    struct resolver *r, const struct origin_terms *t, origin_event_fn *on_event, void *owner);

/* Sets new terms. Existing connections stay, see origin_drain(). */
void origin_update(struct origin *o, const struct origin_terms *t);

/* A stream on an established connection: begin to send on it at once (set its owner first). NULL:
 * there is none now. `fresh`: over HTTP/1.1 on a connection that carried no request before; unused
 * ones that did are closed, for the peer has just ended another one with a request under way. */
struct stream *origin_take(struct origin *o, bool fresh);

/* `waiting` calls need a stream: dials as many connections as they need. 0, or -1 if there is no
 * memory and nothing to wait for. */
int origin_need(struct origin *o, size_t waiting);

/* A connection for one WebSocket alone, by the same terms. NULL if there is no memory. */
struct single *origin_open_single(struct origin *o, single_answer_fn *on_answer, void *owner);
size_t origin_singles(const struct origin *o);

/* All connections take no new call, finish those they have and close. */
void origin_drain(struct origin *o);

/* Closes unused connections. True if none is left. */
bool origin_let_idle_go(struct origin *o);

/* Closes all connections; streams get MESSAGE_FAILED. No event follows. */
void origin_close(struct origin *o);

/* The number of established connections, of open streams on them, and how many may share one now.
 */
struct origin_counts {
    size_t connections, streams, share;
};
struct origin_counts origin_counts(const struct origin *o);

#endif
