/* A hash table of addresses that have connections. Clients choose their addresses: the hash is
 * keyed, so that nobody can choose many that meet in one bucket. */
#include "net/crowd.h"

#include <stdlib.h>
#include <string.h>

#include "base/entropy.h"

enum { BUCKETS_LEAST = 64, GROUP_BYTES = 8 };

/* The connections of one address. Lives as long as it has one. */
struct crowd_group {
    struct list_node node; /* in its bucket */
    struct crowd *crowd;
    uint64_t hash;
    size_t connections, newcomers;
    uint16_t family;
    unsigned char bytes[GROUP_BYTES]; /* IPv4: 4; IPv6: the /64 */
};

/* The finaliser of a 64-bit mixer: each bit of `x` reaches each of the result. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t hash(const struct crowd *c, const struct crowd_group *g)
{
    uint64_t bytes;

    memcpy(&bytes, g->bytes, sizeof(bytes));
    return mix(mix(bytes ^ c->key) ^ g->family ^ (c->key << 1));
}

/* What of the address stands for its client; the rest is zero. */
static struct crowd_group group_of(const struct crowd *c, const struct addr *a)
{
    struct crowd_group g = { .family = a->family };

    if (a->family == AF_INET)
        memcpy(g.bytes, a->ip, 4);
    else if (a->family == AF_INET6)
        memcpy(g.bytes, a->ip, GROUP_BYTES);
    g.hash = hash(c, &g);
    return g;
}

static struct list *bucket(const struct crowd *c, uint64_t h)
{
    return &c->buckets[h & (c->nbuckets - 1)];
}

static struct list *make_buckets(size_t n)
{
    struct list *l = calloc(n, sizeof(*l));

    for (size_t i = 0; l && i < n; i++)
        list_init(&l[i]);
    return l;
}

/* Without memory it stays as it is: slower, but right. */
static void resize(struct crowd *c, size_t n)
{
    struct list *old = c->buckets, *fresh = make_buckets(n);
    size_t nold = c->nbuckets;

    if (!fresh)
        return;
    c->buckets = fresh;
    c->nbuckets = n;
    for (size_t i = 0; i < nold; i++) {
        struct list_node *node;

        while ((node = list_first(&old[i])))
            list_push(bucket(c, LIST_OWNER(node, struct crowd_group, node)->hash), node);
    }
    free(old);
}

static struct crowd_group *find(const struct crowd *c, const struct crowd_group *like)
{
    if (!c->buckets)
        return NULL;
    LIST_EACH(n, bucket(c, like->hash))
    {
        struct crowd_group *g = LIST_OWNER(n, struct crowd_group, node);

        if (g->hash == like->hash && g->family == like->family &&
            memcmp(g->bytes, like->bytes, GROUP_BYTES) == 0)
            return g;
    }
    return NULL;
}

static struct crowd_group *add(struct crowd *c, const struct crowd_group *like)
{
    struct crowd_group *g;

    if (c->ngroups >= c->nbuckets)
        resize(c, c->nbuckets ? 2 * c->nbuckets : BUCKETS_LEAST);
    g = c->buckets ? malloc(sizeof(*g)) : NULL;
    if (!g)
        return NULL;
    *g = *like;
    g->crowd = c;
    list_push(bucket(c, g->hash), &g->node);
    c->ngroups++;
    return g;
}

static void drop(struct crowd_group *g)
{
    struct crowd *c = g->crowd;

    list_remove(&g->node);
    free(g);
    c->ngroups--;
    if (c->nbuckets > BUCKETS_LEAST && c->ngroups < c->nbuckets / 8)
        resize(c, c->nbuckets / 2);
}

void crowd_init(struct crowd *c)
{
    *c = (struct crowd){ 0 };
    entropy_fill(&c->key, sizeof(c->key));
}

void crowd_release(struct crowd *c)
{
    free(c->buckets);
    c->buckets = NULL;
    c->nbuckets = 0;
}

static bool over(size_t count, size_t max)
{
    return max > 0 && count >= max;
}

int crowd_join(struct crowd *c, struct crowd_place *p, const struct addr *a, bool bounded)
{
    struct crowd_group like = group_of(c, a), *g = find(c, &like);

    if (bounded && g && over(g->connections, c->limits.connections_max))
        return CROWD_E_CONNECTIONS;
    if (bounded && g && over(g->newcomers, c->limits.newcomers_max))
        return CROWD_E_NEWCOMERS;
    if (!g)
        g = add(c, &like);
    if (!g)
        return CROWD_E_MEMORY;
    /* Counted before it leaves the old one: that may be the same, and its last. */
    g->connections++;
    g->newcomers++;
    c->newcomers++;
    crowd_leave(p);
    p->group = g;
    p->newcomer = true;
    return 0;
}

void crowd_settle(struct crowd_place *p)
{
    if (!p->newcomer)
        return;
    p->newcomer = false;
    p->group->newcomers--;
    p->group->crowd->newcomers--;
}

void crowd_leave(struct crowd_place *p)
{
    if (!p->group)
        return;
    crowd_settle(p);
    if (--p->group->connections == 0)
        drop(p->group);
    p->group = NULL;
}

const char *crowd_strerror(int error)
{
    switch ((enum crowd_error)error) {
    case CROWD_E_CONNECTIONS:
        return "its address has address_connections_max connections";
    case CROWD_E_NEWCOMERS:
        return "its address has address_newcomers_max connections without a request";
    case CROWD_E_MEMORY:
        return "out of memory";
    }
    return "";
}
