/* What is passed on: the client's fields to the workers, responses' fields to the client, and
 * Tarry's own fields beside them. */
#ifndef TARRY_EXCHANGE_FORWARD_H
#define TARRY_EXCHANGE_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "conf/snapshot.h"
#include "http/head.h"
#include "http/stream.h"

/* The client's request as the workers see it at every hop, in `a`: method, target and authority;
 * end-to-end fields without what only Tarry may say (Tarry-*, in every spelling that a CGI
 * environment folds) and without framing; forwarding fields. `request_id` is used where the client
 * sent no good X-Request-Id. 0, or -1 if there is no memory. */
int forward_save_request(struct arena *a, const struct conf *conf, const struct head *in,
    struct stream *client, const char *request_id, struct head *out);

/* The client's own address: the peer's, or behind trusted proxies the last one in the saved
 * request's X-Forwarded-For that is not one of theirs. family 0: they do not say. */
struct addr forward_client(
    const struct conf *conf, const struct head *kept, const struct addr *peer);

/* Whether a field of the saved request describes the old body or its conditions, and does not come
 * along with a resume. */
bool forward_describes_body(struct str name);

/* What a hop's request says about itself. */
struct forward_hop {
    const char *exchange; /* NULL: it is none's, and nothing is said of a hop */
    unsigned hop;
    struct str kind;
    uint64_t started_wall_ms;
    struct str state;     /* p NULL: none */
    struct str outcome;   /* p NULL: none */
    struct str truncated; /* why the outcome is that; p NULL: not said */
    unsigned attempt;     /* 1: not told */
};

/* Tarry-Features: what can be asked for; and what more where the server has one slot, so that the
 * next visit can be sent to the same process. */
struct str forward_features(bool single_slot);

/* Adds the Tarry-* fields of a request to a worker. 0, or -1. */
int forward_add_tarry(struct head *h, struct arena *a, const struct conf *conf,
    const struct pool_conf *pool, const struct forward_hop *hop);

/* A worker's response for the client: end-to-end fields without Tarry-*. 0, or -1. */
int forward_worker_response(struct arena *a, const struct head *in, struct head *out);

/* The head of a relayed response: what describes the body from the upstream, the rest from the
 * handoff. 0, or -1. */
int forward_relay_response(struct arena *a, const struct head *upstream, const struct head *handoff,
    const struct upstream_conf *conf, struct head *out);

/* A gateway's request and response: all end-to-end fields. 0, or -1. */
int forward_gateway_request(struct arena *a, const struct head *saved, struct head *out);
int forward_gateway_response(struct arena *a, const struct head *in, struct head *out);

/* Cookies that handoff responses set, in *kept (NULL: none yet; made in `a`): those of `response`
 * are added and replace their namesakes. 0, or -1. */
int forward_keep_cookies(struct arena *a, struct head **kept, const struct head *response);

/* Adds the kept cookies (NULL: none) to the final response, but for those that it sets itself. 0,
 * or -1. */
int forward_add_cookies(struct arena *a, const struct head *kept, struct head *response);

#endif
