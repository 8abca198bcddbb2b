/* The registry: origins by what identifies them, and what a reload does to it. */
#include "upstream/origin.h"

#include <stdio.h>
#include <stdlib.h>

#include "http/limits.h"
#include "net/loop.h"

/* What a new snapshot will mean for one upstream: everything that can fail has been done. */
struct prepared {
    struct list_node node;
    struct origin *origin; /* one that lives, or a fresh one on `fresh` */
    struct origin_terms terms;
};

struct origins {
    struct list live, retired, fresh;
    struct list prepared;
    struct conf *next; /* what was prepared points into it */
    struct resolver *resolver;
    struct h1_limits limits; /* of the snapshot in use */
    struct deferred_free deferred_free;
};

static struct origin *origins_find_in(struct list *list, const struct upstream_conf *u)
{
    LIST_EACH(n, list)
    {
        if (origin_is_for(origin_on(n), u))
            return origin_on(n);
    }
    return NULL;
}

/* One context for all that trust the same authorities. A new reference, or NULL with a line in
 * `why`. */
static struct tls_client *origins_client_for(
    struct origins *os, const struct upstream_conf *u, char *why, size_t whylen)
{
    LIST_EACH(n, &os->prepared)
    {
        struct prepared *p = LIST_OWNER(n, struct prepared, node);

        if (p->terms.tls && str_eq(p->terms.u->ca_file, u->ca_file))
            return tls_client_ref(tls_peer_client(p->terms.tls));
    }
    return tls_client_new(u->ca_file, why, whylen);
}

static struct tls_peer *origins_peer_for(
    struct origins *os, const struct upstream_conf *u, char *why, size_t whylen)
{
    struct tls_client *client = origins_client_for(os, u, why, whylen);
    struct tls_peer *peer;

    if (!client)
        return NULL;
    peer = tls_peer_new(client, u->host, u->http2);
    tls_client_unref(client);
    if (!peer)
        snprintf(why, whylen, "no memory for upstream \"" STR_FMT "\"", STR_ARG(u->name));
    return peer;
}

static int origins_prepare_one(struct origins *os, const struct conf *next,
    const struct upstream_conf *u, char *why, size_t whylen)
{
    struct prepared *p = calloc(1, sizeof(*p));

    if (!p)
        goto no_memory;
    p->terms = (struct origin_terms){ .u = u, .limits = limits_of(next) };
    if (u->tls && !(p->terms.tls = origins_peer_for(os, u, why, whylen))) {
        free(p);
        return -1;
    }
    list_push(&os->prepared, &p->node);
    p->origin = origins_find_in(&os->live, u);
    if (!p->origin)
        p->origin = origin_open(&os->fresh, os->resolver, &p->terms);
    if (p->origin)
        return 0;
no_memory:
    snprintf(why, whylen, "no memory for upstream \"" STR_FMT "\"", STR_ARG(u->name));
    return -1;
}

static void origins_forget_prepared(struct origins *os)
{
    struct list_node *n;

    while ((n = list_take_first(&os->prepared))) {
        struct prepared *p = LIST_OWNER(n, struct prepared, node);

        tls_peer_unref(p->terms.tls);
        free(p);
    }
    conf_unref(os->next);
    os->next = NULL;
}

void origins_abandon(struct origins *os)
{
    while (list_first(&os->fresh))
        origin_close(origin_on(list_first(&os->fresh)));
    origins_forget_prepared(os);
}

int origins_prepare(struct origins *os, struct conf *next, char *why, size_t whylen)
{
    origins_abandon(os);
    os->next = conf_ref(next);
    for (size_t i = 0; i < next->nupstreams; i++) {
        if (origins_prepare_one(os, next, &next->upstreams[i], why, whylen) < 0) {
            origins_abandon(os);
            return -1;
        }
    }
    return 0;
}

void origins_commit(struct origins *os)
{
    struct list old;
    struct list_node *n;

    if (!os->next)
        return;
    list_init(&old);
    while ((n = list_first(&os->live)))
        list_push(&old, n);
    LIST_EACH(at, &os->prepared)
    {
        struct prepared *p = LIST_OWNER(at, struct prepared, node);

        origin_update(p->origin, &p->terms);
        origin_enlist(p->origin, &os->live);
    }
    while ((n = list_first(&old)))
        origin_retire(origin_on(n), &os->retired);
    os->limits = limits_of(os->next);
    origins_forget_prepared(os);
    /* Without memory for new ones the old name servers serve on. */
    resolver_renew(os->resolver, NULL);
}

struct origins *origins_open(struct conf *conf)
{
    struct origins *os = calloc(1, sizeof(*os));
    char why[256];

    if (!os)
        return NULL;
    list_init(&os->live);
    list_init(&os->retired);
    list_init(&os->fresh);
    list_init(&os->prepared);
    os->resolver = resolver_open(NULL);
    if (!os->resolver || origins_prepare(os, conf, why, sizeof(why)) < 0) {
        origins_close(os);
        return NULL;
    }
    origins_commit(os);
    return os;
}

static void free_origins(void *what)
{
    free(what);
}

void origins_close(struct origins *os)
{
    if (!os)
        return;
    origins_abandon(os);
    while (list_first(&os->live))
        origin_close(origin_on(list_first(&os->live)));
    while (list_first(&os->retired))
        origin_close(origin_on(list_first(&os->retired)));
    resolver_close(os->resolver);
    loop_free_later(&os->deferred_free, os, free_origins);
}

struct origin *origins_find(struct origins *os, const struct upstream_conf *u)
{
    struct origin_terms t = { .u = u, .limits = os->limits };
    struct origin *o = origins_find_in(&os->live, u);
    char why[256];

    if (!o)
        o = origins_find_in(&os->retired, u);
    if (o)
        return o;
    /* An exchange that began under an older snapshot still calls it. */
    if (u->tls && !(t.tls = origins_peer_for(os, u, why, sizeof(why))))
        return NULL;
    o = origin_open(&os->retired, os->resolver, &t);
    tls_peer_unref(t.tls);
    if (o)
        origin_retire(o, &os->retired);
    return o;
}
