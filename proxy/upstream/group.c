/* The choice: tiers, then readiness, then keys or load. */
#include "upstream/group.h"

#include "base/entropy.h"

/* How good a candidate is: less is better, field by field. */
struct rank {
    bool tried;
    uint64_t wait_ms;
    unsigned tier;
    uint64_t order; /* by key or by load */
};

static uint64_t group_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t group_hash(struct str s)
{
    uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */

    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * UINT64_C(1099511628211);
    return h;
}

/* Rendezvous hashing: every key has its own order of the endpoints, which does not change when
 * others are added or removed. With a weight of n, the best of n draws counts. */
static uint64_t group_order_by_key(const struct endpoint_conf *e, uint64_t key)
{
    uint64_t name = group_hash(e->name), best = UINT64_MAX;
    unsigned draws = e->weight < 64 ? e->weight : 64;

    for (unsigned i = 0; i < draws; i++) {
        uint64_t h = group_mix(key ^ group_mix(name + i));

        if (h < best)
            best = h;
    }
    return best;
}

/* Least in flight for the weight; ties are broken at random. */
static uint64_t group_order_by_load(const struct endpoint_conf *conf, const struct endpoint *e)
{
    return ((uint64_t)endpoint_load(e) << 24) / conf->weight * 1024 + entropy_below(1024);
}

/* A key's preferred endpoint is skipped if it exceeds its share by half. */
static bool group_is_overloaded(
    const struct endpoint_conf *conf, const struct endpoint *e, size_t load, size_t weight)
{
    size_t fair = weight > 0 ? (load * conf->weight + weight - 1) / weight : load;

    return endpoint_load(e) > fair + fair / 2 + 1;
}

static bool group_is_better(const struct rank *a, const struct rank *b)
{
    bool ready_a = a->wait_ms == 0, ready_b = b->wait_ms == 0;

    if (ready_a != ready_b)
        return ready_a;
    if (a->tried != b->tried)
        return !a->tried;
    if (!ready_a && a->wait_ms != b->wait_ms)
        return a->wait_ms < b->wait_ms;
    if (a->tier != b->tier)
        return a->tier < b->tier;
    return a->order < b->order;
}

static void group_weigh(
    struct endpoints *es, const struct group_ask *ask, size_t *load, size_t *weight)
{
    const struct upstream_conf *u = ask->upstream;

    *load = *weight = 0;
    for (unsigned i = 0; i < u->nendpoints && i < GROUP_ENDPOINTS_MAX; i++) {
        struct endpoint *e = endpoints_find(es, u, &u->endpoints[i]);

        if (!e || endpoint_ready_in(e) > 0)
            continue;
        *load += endpoint_load(e);
        *weight += u->endpoints[i].weight;
    }
}

static struct rank group_rank(
    const struct group_ask *ask, unsigned i, const struct endpoint *e, size_t load, size_t weight)
{
    const struct endpoint_conf *conf = &ask->upstream->endpoints[i];
    struct rank r = {
        .tried = ask->tried >> i & 1,
        .wait_ms = ask->upstream->nendpoints > 1 ? endpoint_ready_in(e) : 0,
        .tier = conf->tier,
    };

    if (!ask->has_key)
        r.order = group_order_by_load(conf, e);
    else
        r.order = group_order_by_key(conf, ask->key) / 2 +
                  (weight && group_is_overloaded(conf, e, load, weight) ? UINT64_MAX / 2 : 0);
    return r;
}

bool group_pick(struct endpoints *es, const struct group_ask *ask, struct group_choice *out)
{
    const struct upstream_conf *u = ask->upstream;
    struct rank best = { 0 };
    size_t load, weight;
    bool found = false;

    group_weigh(es, ask, &load, &weight);
    for (unsigned i = 0; i < u->nendpoints && i < GROUP_ENDPOINTS_MAX; i++) {
        struct endpoint *e = endpoints_find(es, u, &u->endpoints[i]);
        struct rank r;

        if (!e || u->endpoints[i].tier < ask->least_tier)
            continue;
        r = group_rank(ask, i, e, load, weight);
        if (found && !group_is_better(&r, &best))
            continue;
        found = true;
        best = r;
        *out = (struct group_choice){ &u->endpoints[i], e, i, r.wait_ms, r.tried };
    }
    /* If every key is out, the call goes to the service, which returns the error itself. */
    if (found && out->wait_ms == UINT64_MAX)
        out->wait_ms = 0;
    return found;
}

bool group_has_other(struct endpoints *es, const struct group_ask *ask)
{
    struct group_choice c;

    return group_pick(es, ask, &c) && !c.again && c.wait_ms == 0;
}
