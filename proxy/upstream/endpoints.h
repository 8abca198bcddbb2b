/* The registry of endpoints: one a process, belongs to the front. */
#ifndef TARRY_UPSTREAM_ENDPOINTS_H
#define TARRY_UPSTREAM_ENDPOINTS_H

#include "conf/snapshot.h"
#include "upstream/endpoint.h"
#include "upstream/pacer.h"

struct endpoints;

/* `conf` is the first snapshot; endpoints are made for its upstreams. NULL if there is no memory.
 */
struct endpoints *endpoints_open(struct conf *conf);

/* After a reload: prepares what the new snapshot needs (TLS contexts). 0, or -1 with nothing
 * changed and one line in `why`. */
int endpoints_prepare(struct endpoints *es, struct conf *next, char *why, size_t whylen);

/* Takes the prepared snapshot into use: endpoints that are no longer in it are closed once their
 * last stream is done; calls that wait for them are still served. Cannot fail. */
void endpoints_commit(struct endpoints *es);
void endpoints_abandon(struct endpoints *es); /* forgets what was prepared */

/* Closes all; open streams get MESSAGE_FAILED. */
void endpoints_close(struct endpoints *es);

/* The live endpoint for one of a snapshot that is still referenced somewhere; NULL if it has gone
 * and cannot be made again. Good until the turn ends, and while a call has a turn at it: it is
 * looked up anew for each attempt. */
struct endpoint *endpoints_find(
    struct endpoints *es, const struct upstream_conf *u, const struct endpoint_conf *e);

/* The pace of the calls to all of them. */
struct pacer *endpoints_pacer(struct endpoints *es);

#endif
