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
    int only;            /* the place of the one that counts; -1: all */
    bool has_key;        /* calls of one key stay together */
    uint64_t key;
    uint64_t left_ms; /* until the call's deadline */
    /* In how many milliseconds the account of an endpoint has room for the call. NULL: at once. */
    uint64_t (*account_wait)(void *owner, const struct endpoint_conf *e);
    void *owner;
};

struct group_choice {
    const struct endpoint_conf *conf;
    struct endpoint *endpoint;
    unsigned index;           /* its place in the conf */
    enum verdict_state state; /* why it is to be waited for; VERDICT_READY: it is not */
    uint64_t wait_ms;         /* until it takes calls, or until it is time to look again */
    bool again;               /* it has had its try: a pause is due */
    bool limited; /* it is waited for because of its account's limits, not of its health */
    bool insist;  /* it is asked even if its breaker is open */
};

/* Chooses from the lowest tier that has a ready, untried endpoint: by key, or by least load for the
 * weight. If there is none, chooses a tried one; if none is ready, the one that will be ready
 * first. If all keys are out, the call goes to one of them, and the service itself says so.
 *
 * An endpoint that is the only one, or that alone is asked for, is always ready: the service's own
 * answer says more than a wait for nobody else. Except for a pause that the service has asked for,
 * up to retry_after_max and the call's deadline, and an operator's. False: there is none at all. */
bool group_pick(struct endpoints *es, const struct group_ask *ask, struct group_choice *out);

/* Whether another endpoint than those tried is ready now. */
bool group_has_other(struct endpoints *es, const struct group_ask *ask);

/* In how many milliseconds the first of those that rest is back, the one at place `but` left out;
 * UINT64_MAX: none rests. */
uint64_t group_next_back(struct endpoints *es, const struct group_ask *ask, unsigned but);

#endif
