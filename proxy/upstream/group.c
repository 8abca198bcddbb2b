/* The choice: tiers, then readiness, then keys or load. */
#include "upstream/group.h"

#include "base/entropy.h"

/* Whether it can be asked: less is better. */
enum group_class { CLASS_READY, CLASS_WAITS, CLASS_OUT, CLASS_PAUSED };

/* An endpoint that may be chosen, and how good it is: less is better, field by field. */
struct candidate {
    const struct endpoint_conf *conf;
    struct endpoint *endpoint;
    struct verdict_view view;
    unsigned index;
    enum group_class class;
    bool tried, limited;
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

/* -log2(x / 2^64) for x > 0, with 24 bits behind the point: by squaring, a bit at a time. */
static uint64_t group_log(uint64_t x)
{
    unsigned whole = 63 - (unsigned)__builtin_clzll(x);
    uint64_t y = x << (63 - whole) >> 32, bits = whole; /* y: from 1 to 2, with 31 bits */

    for (int i = 0; i < 24; i++) {
        y *= y;
        bits = bits << 1 | y >> 63;
        y = y >> 63 ? y >> 32 : y >> 31;
    }
    return (UINT64_C(64) << 24) - bits;
}

/* Rendezvous hashing: every key has its own order of the endpoints, which does not change when
 * others are added or removed. The least of exponentially distributed draws wins, and a weight is
 * the rate of its endpoint's: so each has its share exactly. */
static uint64_t group_order_by_key(const struct endpoint_conf *e, uint64_t key)
{
    uint64_t h = group_mix(key ^ group_mix(group_hash(e->name)));

    return (group_log(h > 0 ? h : 1) << 32) / e->weight;
}

/* Least in flight for the weight; ties are broken at random. */
static uint64_t group_order_by_load(const struct endpoint_conf *conf, const struct endpoint *e)
{
    return ((uint64_t)endpoint_load(e) << 24) / conf->weight * 1024 + entropy_below(1024);
}

/* Of the ready endpoints of a tier. */
struct group_share {
    size_t load, weight;
};

static struct group_share group_share(const struct candidate *all, size_t n, unsigned tier)
{
    struct group_share s = { 0, 0 };

    for (size_t i = 0; i < n; i++) {
        if (all[i].conf->tier != tier || all[i].class != CLASS_READY)
            continue;
        s.load += endpoint_load(all[i].endpoint);
        s.weight += all[i].conf->weight;
    }
    return s;
}

/* A key's preferred endpoint is skipped if it exceeds its share by half. */
static bool group_is_overloaded(const struct candidate *c, const struct group_share *s)
{
    size_t fair = s->weight > 0 ? (s->load * c->conf->weight + s->weight - 1) / s->weight : s->load;

    return endpoint_load(c->endpoint) > fair + fair / 2 + 1;
}

static bool group_is_better(const struct candidate *a, const struct candidate *b)
{
    if (a->class != b->class)
        return a->class < b->class;
    if (a->class == CLASS_WAITS && a->view.wait_ms != b->view.wait_ms)
        return a->view.wait_ms < b->view.wait_ms;
    if (a->tried != b->tried)
        return !a->tried;
    if (a->conf->tier != b->conf->tier)
        return a->conf->tier < b->conf->tier;
    return a->order < b->order;
}

static enum group_class group_class_of(enum verdict_state s)
{
    switch (s) {
    case VERDICT_READY:
        return CLASS_READY;
    case VERDICT_RESTING:
    case VERDICT_BROKEN:
    case VERDICT_PROBING:
        return CLASS_WAITS;
    case VERDICT_OUT:
        return CLASS_OUT;
    case VERDICT_PAUSED:
        return CLASS_PAUSED;
    }
    return CLASS_READY;
}

static bool group_has_one(const struct group_ask *ask)
{
    return ask->upstream->nendpoints == 1 || ask->only >= 0;
}

/* See group.h for the only one. */
static enum group_class group_class_of_only(
    const struct group_ask *ask, const struct verdict_view *v)
{
    if (v->state == VERDICT_PAUSED)
        return CLASS_PAUSED;
    if (v->state == VERDICT_RESTING && v->wait_ms <= ask->upstream->retry_after_max_ms &&
        v->wait_ms < ask->left_ms)
        return CLASS_WAITS;
    return CLASS_READY;
}

static bool group_is_asked_for(const struct group_ask *ask, unsigned i)
{
    return ask->upstream->endpoints[i].tier >= ask->least_tier &&
           (ask->only < 0 || (unsigned)ask->only == i);
}

/* A ready endpoint whose account has no room is waited for as one that rests. */
static void group_heed_account(const struct group_ask *ask, struct candidate *c)
{
    uint64_t wait_ms = 0;

    if (ask->account_wait && c->class == CLASS_READY)
        wait_ms = ask->account_wait(ask->owner, c->conf);
    if (wait_ms == 0)
        return;
    c->class = CLASS_WAITS;
    c->limited = true;
    c->view.wait_ms = wait_ms;
}

/* Those that come into question. */
static size_t group_gather(
    struct endpoints *es, const struct group_ask *ask, struct candidate all[GROUP_ENDPOINTS_MAX])
{
    const struct upstream_conf *u = ask->upstream;
    size_t n = 0;

    for (unsigned i = 0; i < u->nendpoints && i < GROUP_ENDPOINTS_MAX; i++) {
        struct endpoint *e =
            group_is_asked_for(ask, i) ? endpoints_find(es, u, &u->endpoints[i]) : NULL;
        struct candidate *c = &all[n];

        if (!e)
            continue;
        *c = (struct candidate){ .conf = &u->endpoints[i],
            .endpoint = e,
            .view = endpoint_view(e, u),
            .index = i,
            .tried = ask->tried >> i & 1 };
        c->class =
            group_has_one(ask) ? group_class_of_only(ask, &c->view) : group_class_of(c->view.state);
        group_heed_account(ask, c);
        n++;
    }
    return n;
}

static uint64_t group_order(
    const struct group_ask *ask, const struct candidate *c, const struct candidate *all, size_t n)
{
    struct group_share share;

    if (!ask->has_key)
        return group_order_by_load(c->conf, c->endpoint);
    share = group_share(all, n, c->conf->tier);
    return group_order_by_key(c->conf, ask->key) / 2 +
           (share.weight && group_is_overloaded(c, &share) ? UINT64_MAX / 2 : 0);
}

bool group_pick(struct endpoints *es, const struct group_ask *ask, struct group_choice *out)
{
    struct candidate all[GROUP_ENDPOINTS_MAX];
    const struct candidate *best = NULL;
    size_t n = group_gather(es, ask, all);

    for (size_t i = 0; i < n; i++) {
        all[i].order = group_order(ask, &all[i], all, n);
        if (!best || group_is_better(&all[i], best))
            best = &all[i];
    }
    if (!best)
        return false;
    *out = (struct group_choice){ .conf = best->conf,
        .endpoint = best->endpoint,
        .index = best->index,
        .state = VERDICT_READY,
        .again = best->tried,
        .insist = group_has_one(ask) || best->class == CLASS_OUT };
    if (best->class == CLASS_WAITS || best->class == CLASS_PAUSED) {
        out->state = best->view.state;
        out->limited = best->limited;
        out->wait_ms = best->view.wait_ms;
    }
    return true;
}

bool group_has_other(struct endpoints *es, const struct group_ask *ask)
{
    struct candidate all[GROUP_ENDPOINTS_MAX];
    size_t n = group_gather(es, ask, all);

    for (size_t i = 0; i < n; i++)
        if (!all[i].tried && all[i].class == CLASS_READY)
            return true;
    return false;
}

uint64_t group_next_back(struct endpoints *es, const struct group_ask *ask, unsigned but)
{
    struct candidate all[GROUP_ENDPOINTS_MAX];
    size_t n = group_gather(es, ask, all);
    uint64_t first = UINT64_MAX;

    for (size_t i = 0; i < n; i++)
        if (all[i].index != but && all[i].class == CLASS_WAITS && all[i].view.wait_ms < first)
            first = all[i].view.wait_ms;
    return first;
}
