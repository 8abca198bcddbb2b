/* The changes to a request for an endpoint: destination, the conf's fields, and credentials. */
#ifndef TARRY_UPSTREAM_REWRITE_H
#define TARRY_UPSTREAM_REWRITE_H

#include <stdbool.h>

#include "base/arena.h"
#include "conf/snapshot.h"
#include "http/body.h"
#include "http/head.h"
#include "llm/api.h"

/* Sets the authority, puts the path prefix before the target, and adds the conf's fields, which win
 * over the request's. If the conf sets a credential, all others are removed: the fields that
 * services take keys from, the key in the query, and the one among a WebSocket's subprotocols. The
 * Origin of a WebSocket becomes the endpoint's own. New strings live in `a`. 0, or -1 if there is
 * no memory. */
int rewrite_head(struct arena *a, const struct endpoint_conf *e, struct head *h);

/* Whether the conf sets a key for the endpoint, regardless of the request. */
bool rewrite_has_key(const struct endpoint_conf *e);

enum { REWRITE_EDITS_MAX = 2 }; /* the model's name, and include_usage */

/* A request's body with other bytes in some places. */
struct rewritten_body {
    struct piece pieces[2 * REWRITE_EDITS_MAX + 1];
    size_t n;
    bool asks_usage; /* include_usage was added */
    char model[];
};

/* The body for an endpoint with a model of its own, and with include_usage if `ask_usage` and the
 * body leaves that open: a new block, which the caller frees and which borrows `body`. Nothing is
 * serialised anew. NULL with *rc 0: the body stays as it is. NULL with *rc -1: no memory, or the
 * body cannot be read. */
struct rewritten_body *rewrite_body(
    const struct endpoint_conf *e, bool ask_usage, const struct piece *body, int *rc);

/* Whether include_usage may be asked for in a request with this head: a chat completion whose body
 * is not coded, by the conf. */
bool rewrite_may_ask_usage(const struct upstream_conf *u, const struct head *h);

/* Whose API the upstream speaks, by the conf. */
enum llm_family rewrite_family(const struct upstream_conf *u);

/* Whether the request asks for an event stream: by Accept, "alt=sse" in the query, or "stream":
 * true in its JSON body. */
bool rewrite_asks_for_stream(const struct head *h, const struct piece *body);

/* A hash of the value at `path` ("a.b") of a JSON body. False: there is none. */
bool rewrite_field_hash(const struct piece *body, struct str path, uint64_t *hash);

/* host[:port] as the Host field of a request to the endpoint has it. */
struct str rewrite_authority(const struct endpoint_conf *e);

#endif
