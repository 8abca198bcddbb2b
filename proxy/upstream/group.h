/* Selects the endpoint of an upstream for a try. */
#ifndef TARRY_UPSTREAM_GROUP_H
#define TARRY_UPSTREAM_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/snapshot.h"
#include "upstream/endpoints.h"

/* Endpoints of an upstream, as bits by their place in the conf. */
enum { GROUP_ENDPOINTS_MAX = 64 };

struct group_ask {
    const struct upstream_conf *upstream;
    uint64_t tried;      /* those that have had their try */
    unsigned least_tier; /* lower ones are out of the question */
    bool has_key;        /* calls of one key stay together */
    uint64_t key;
};

struct group_choice {
    const struct endpoint_conf *conf;
    struct endpoint *endpoint;
    unsigned index;   /* its place in the conf */
    uint64_t wait_ms; /* until it takes calls */
    bool again;       /* it has had its try: a pause is due */
};

/* Chooses from the lowest tier that has a ready, untried endpoint: by key, or by least load for the
 * weight. If there is none, chooses a tried one; if none is ready, the one that will be ready
 * first. False: there is none at all. */
bool group_pick(struct endpoints *es, const struct group_ask *ask, struct group_choice *out);

/* Whether another endpoint than those tried is ready now. */
bool group_has_other(struct endpoints *es, const struct group_ask *ask);

#endif
