/* The changes to a request for an endpoint: destination, the conf's fields, and credentials. */
#ifndef TARRY_UPSTREAM_REWRITE_H
#define TARRY_UPSTREAM_REWRITE_H

#include <stdbool.h>

#include "base/arena.h"
#include "conf/snapshot.h"
#include "http/body.h"
#include "http/head.h"

/* Sets the authority, puts the path prefix before the target, and adds the conf's fields, which win
 * over the request's. If the conf sets a credential, all others are removed: the fields that
 * services take keys from, and the key in the query. New strings live in `a`. 0, or -1 if there is
 * no memory. */
int rewrite_head(struct arena *a, const struct endpoint_conf *e, struct head *h);

/* Whether the conf sets a key for the endpoint, regardless of the request. */
bool rewrite_has_key(const struct endpoint_conf *e);

/* A request's body with another model's name in it. */
struct rewritten_body {
    struct piece pieces[3]; /* up to the name, the name, the rest */
    char name[];
};

/* The body for an endpoint with a model of its own: a new block, which the caller frees and which
 * borrows `body`. NULL with *rc 0: the body stays as it is. NULL with *rc -1: no memory, or the
 * body cannot be read. */
struct rewritten_body *rewrite_body(
    const struct endpoint_conf *e, const struct piece *body, int *rc);

/* A hash of the value at `path` ("a.b") of a JSON body. False: there is none. */
bool rewrite_field_hash(const struct piece *body, struct str path, uint64_t *hash);

/* host[:port] as the Host field of a request to the endpoint has it. */
struct str rewrite_authority(const struct endpoint_conf *e);

#endif
