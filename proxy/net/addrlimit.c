/* A hash table of addresses that have connections. Clients choose their addresses: the hash is
 * keyed, so that nobody can choose many that meet in one bucket. */
#include "net/addrlimit.h"

#include <stdlib.h>
#include <string.h>

#include "base/entropy.h"

enum { BUCKETS_LEAST = 64, ADDRESS_BYTES = 8 };

/* The connections of one address. Lives as long as it has one. */
struct addrlimit_entry {
    struct list_node node; /* in its bucket */
    struct addrlimit *limit;
    uint64_t hash;
    size_t connections, pending;
    uint16_t family;
    unsigned char bytes[ADDRESS_BYTES]; /* IPv4: 4; IPv6: the /64 */
};

/* The finaliser of a 64-bit mixer: each bit of `x` reaches each of the result. */
static uint64_t addrlimit_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t addrlimit_hash(const struct addrlimit *c, const struct addrlimit_entry *e)
{
    uint64_t bytes;

    memcpy(&bytes, e->bytes, sizeof(bytes));
    return addrlimit_mix(addrlimit_mix(bytes ^ c->key) ^ e->family ^ (c->key << 1));
}

/* The part of the address that stands for its client; the rest is zero. */
static struct addrlimit_entry addrlimit_entry_of(const struct addrlimit *c, const struct addr *a)
{
    struct addrlimit_entry e = { .family = a->family };

    if (a->family == AF_INET)
        memcpy(e.bytes, a->ip, 4);
    else if (a->family == AF_INET6)
        memcpy(e.bytes, a->ip, ADDRESS_BYTES);
    e.hash = addrlimit_hash(c, &e);
    return e;
}

static struct list *addrlimit_bucket(const struct addrlimit *c, uint64_t h)
{
    return &c->buckets[h & (c->nbuckets - 1)];
}

static struct list *addrlimit_make_buckets(size_t n)
{
    struct list *l = calloc(n, sizeof(*l));

    for (size_t i = 0; l && i < n; i++)
        list_init(&l[i]);
    return l;
}

/* Without memory it stays as it is: slower, but right. */
static void addrlimit_resize(struct addrlimit *c, size_t n)
{
    struct list *old = c->buckets, *grown = addrlimit_make_buckets(n);
    size_t nold = c->nbuckets;

    if (!grown)
        return;
    c->buckets = grown;
    c->nbuckets = n;
    for (size_t i = 0; i < nold; i++) {
        struct list_node *node;

        while ((node = list_first(&old[i])))
            list_push(
                addrlimit_bucket(c, LIST_OWNER(node, struct addrlimit_entry, node)->hash), node);
    }
    free(old);
}

static struct addrlimit_entry *addrlimit_find(
    const struct addrlimit *c, const struct addrlimit_entry *like)
{
    if (!c->buckets)
        return NULL;
    LIST_EACH(n, addrlimit_bucket(c, like->hash)) {
        struct addrlimit_entry *e = LIST_OWNER(n, struct addrlimit_entry, node);

        if (e->hash == like->hash && e->family == like->family &&
            memcmp(e->bytes, like->bytes, ADDRESS_BYTES) == 0)
            return e;
    }
    return NULL;
}

static struct addrlimit_entry *addrlimit_new_entry(
    struct addrlimit *c, const struct addrlimit_entry *like)
{
    struct addrlimit_entry *e;

    if (c->nentries >= c->nbuckets)
        addrlimit_resize(c, c->nbuckets ? 2 * c->nbuckets : BUCKETS_LEAST);
    e = c->buckets ? malloc(sizeof(*e)) : NULL;
    if (!e)
        return NULL;
    *e = *like;
    e->limit = c;
    list_push(addrlimit_bucket(c, e->hash), &e->node);
    c->nentries++;
    return e;
}

static void addrlimit_drop(struct addrlimit_entry *e)
{
    struct addrlimit *c = e->limit;

    list_remove(&e->node);
    free(e);
    c->nentries--;
    if (c->nbuckets > BUCKETS_LEAST && c->nentries < c->nbuckets / 8)
        addrlimit_resize(c, c->nbuckets / 2);
}

void addrlimit_init(struct addrlimit *c)
{
    *c = (struct addrlimit){ 0 };
    entropy_fill(&c->key, sizeof(c->key));
}

void addrlimit_release(struct addrlimit *c)
{
    free(c->buckets);
    c->buckets = NULL;
    c->nbuckets = 0;
}

static bool addrlimit_over(size_t count, size_t max)
{
    return max > 0 && count >= max;
}

int addrlimit_add(struct addrlimit *c, struct addrlimit_slot *p, const struct addr *a, bool bounded)
{
    struct addrlimit_entry like = addrlimit_entry_of(c, a), *e = addrlimit_find(c, &like);

    if (bounded && e && addrlimit_over(e->connections, c->limits.connections_max))
        return ADDRLIMIT_E_CONNECTIONS;
    if (bounded && e && addrlimit_over(e->pending, c->limits.pending_max))
        return ADDRLIMIT_E_PENDING;
    if (!e)
        e = addrlimit_new_entry(c, &like);
    if (!e)
        return ADDRLIMIT_E_MEMORY;
    /* Counted before it leaves the old one: that may be the same, and its last. */
    e->connections++;
    e->pending++;
    c->pending++;
    addrlimit_remove(p);
    p->entry = e;
    p->pending = true;
    return 0;
}

void addrlimit_settle(struct addrlimit_slot *p)
{
    if (!p->pending)
        return;
    p->pending = false;
    p->entry->pending--;
    p->entry->limit->pending--;
}

void addrlimit_remove(struct addrlimit_slot *p)
{
    if (!p->entry)
        return;
    addrlimit_settle(p);
    if (--p->entry->connections == 0)
        addrlimit_drop(p->entry);
    p->entry = NULL;
}

const char *addrlimit_strerror(int error)
{
    switch ((enum addrlimit_error)error) {
    case ADDRLIMIT_E_CONNECTIONS:
        return "its address has address_connections_max connections";
    case ADDRLIMIT_E_PENDING:
        return "its address has address_newcomers_max connections without a request";
    case ADDRLIMIT_E_MEMORY:
        return "out of memory";
    }
    return "";
}
