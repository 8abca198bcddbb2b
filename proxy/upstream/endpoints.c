/* The registry: endpoints by their identity, and how a reload changes it. */
#include "upstream/endpoints.h"

#include <stdio.h>
#include <stdlib.h>

#include "http/h2limits.h"
#include "http/limits.h"
#include "net/loop.h"
#include "net/resolver.h"

/* The prepared change for one upstream of a new snapshot: every step that can fail has been done.
 */
struct prepared {
    struct list_node node;
    struct endpoint *endpoint; /* one that lives, or a new one on `staged` */
    struct origin_terms terms;
};

struct endpoints {
    struct list live, retired, staged;
    struct list prepared;
    struct conf *next; /* what was prepared points into it */
    struct resolver *resolver;
    struct pacer *pacer;
    struct h1_limits limits; /* of the snapshot in use */
    struct h2_read_ahead read_ahead;
    struct deferred_free deferred_free;
};

static struct endpoint *endpoints_find_in(
    struct list *list, const struct upstream_conf *u, const struct endpoint_conf *e)
{
    LIST_EACH(n, list) {
        if (endpoint_is_for(endpoint_on(n), u, e))
            return endpoint_on(n);
    }
    return NULL;
}

/* Endpoints that trust the same authorities and show the same certificate share one context. A new
 * reference, or NULL with a line in `why`. */
static struct tls_client *endpoints_client_for(
    struct endpoints *es, const struct endpoint_conf *e, char *why, size_t whylen)
{
    LIST_EACH(n, &es->prepared) {
        struct prepared *p = LIST_OWNER(n, struct prepared, node);

        if (p->terms.tls && str_eq(p->terms.endpoint->ca_file, e->ca_file) &&
            str_eq(p->terms.endpoint->certificate, e->certificate) &&
            str_eq(p->terms.endpoint->private_key, e->private_key))
            return tls_client_ref(tls_peer_client(p->terms.tls));
    }
    return tls_client_new(
        &(struct tls_terms){ e->ca_file, e->certificate, e->private_key }, why, whylen);
}

static struct tls_peer *endpoints_peer_for(
    struct endpoints *es, const struct endpoint_conf *e, char *why, size_t whylen)
{
    struct tls_client *client = endpoints_client_for(es, e, why, whylen);
    struct tls_peer *peer;

    if (!client)
        return NULL;
    peer = tls_peer_new(client, e->host);
    tls_client_unref(client);
    if (!peer)
        snprintf(why, whylen, "no memory for endpoint \"" STR_FMT "\"", STR_ARG(e->name));
    return peer;
}

static int endpoints_prepare_one(struct endpoints *es, const struct conf *next,
    const struct upstream_conf *u, const struct endpoint_conf *e, char *why, size_t whylen)
{
    struct prepared *p = calloc(1, sizeof(*p));

    if (!p)
        goto no_memory;
    p->terms = (struct origin_terms){
        .policy = u, .endpoint = e, .limits = limits_of(next), .read_ahead = &es->read_ahead
    };
    if (e->tls && !(p->terms.tls = endpoints_peer_for(es, e, why, whylen))) {
        free(p);
        return -1;
    }
    list_push(&es->prepared, &p->node);
    p->endpoint = endpoints_find_in(&es->live, u, e);
    if (!p->endpoint)
        p->endpoint = endpoint_open(&es->staged, es->resolver, &p->terms);
    if (p->endpoint)
        return 0;
no_memory:
    snprintf(why, whylen, "no memory for endpoint \"" STR_FMT "\"", STR_ARG(e->name));
    return -1;
}

static void endpoints_forget_prepared(struct endpoints *es)
{
    struct list_node *n;

    while ((n = list_take_first(&es->prepared))) {
        struct prepared *p = LIST_OWNER(n, struct prepared, node);

        tls_peer_unref(p->terms.tls);
        free(p);
    }
    conf_unref(es->next);
    es->next = NULL;
}

void endpoints_abandon(struct endpoints *es)
{
    while (list_first(&es->staged))
        endpoint_close(endpoint_on(list_first(&es->staged)));
    endpoints_forget_prepared(es);
}

int endpoints_prepare(struct endpoints *es, struct conf *next, char *why, size_t whylen)
{
    endpoints_abandon(es);
    es->next = conf_ref(next);
    for (size_t i = 0; i < next->nupstreams; i++) {
        const struct upstream_conf *u = &next->upstreams[i];

        for (size_t k = 0; k < u->nendpoints; k++)
            if (endpoints_prepare_one(es, next, u, &u->endpoints[k], why, whylen) < 0) {
                endpoints_abandon(es);
                return -1;
            }
    }
    return 0;
}

void endpoints_commit(struct endpoints *es)
{
    struct list old;
    struct list_node *n;

    if (!es->next)
        return;
    list_init(&old);
    while ((n = list_first(&es->live)))
        list_push(&old, n);
    LIST_EACH(at, &es->prepared) {
        struct prepared *p = LIST_OWNER(at, struct prepared, node);

        endpoint_update(p->endpoint, &p->terms);
        endpoint_enlist(p->endpoint, &es->live);
    }
    while ((n = list_first(&old)))
        endpoint_retire(endpoint_on(n), &es->retired);
    es->limits = limits_of(es->next);
    es->read_ahead.max = es->next->http2_read_ahead_max;
    pacer_update(es->pacer, es->next);
    resolver_set_stale_max(es->resolver, es->next->dns_stale_max_ms);
    endpoints_forget_prepared(es);
    /* Without memory for new name servers the old ones stay in use. */
    resolver_renew(es->resolver, NULL);
}

struct endpoints *endpoints_open(struct conf *conf)
{
    struct endpoints *es = calloc(1, sizeof(*es));
    char why[256];

    if (!es)
        return NULL;
    list_init(&es->live);
    list_init(&es->retired);
    list_init(&es->staged);
    list_init(&es->prepared);
    es->resolver = resolver_open(NULL);
    es->pacer = pacer_open();
    if (!es->resolver || !es->pacer || endpoints_prepare(es, conf, why, sizeof(why)) < 0) {
        endpoints_close(es);
        return NULL;
    }
    endpoints_commit(es);
    return es;
}

static void endpoints_free(void *what)
{
    free(what);
}

void endpoints_close(struct endpoints *es)
{
    if (!es)
        return;
    endpoints_abandon(es);
    while (list_first(&es->live))
        endpoint_close(endpoint_on(list_first(&es->live)));
    while (list_first(&es->retired))
        endpoint_close(endpoint_on(list_first(&es->retired)));
    resolver_close(es->resolver);
    pacer_close(es->pacer);
    loop_free_later(&es->deferred_free, es, endpoints_free);
}

struct endpoint *endpoints_find(
    struct endpoints *es, const struct upstream_conf *u, const struct endpoint_conf *e)
{
    struct origin_terms t = {
        .policy = u, .endpoint = e, .limits = es->limits, .read_ahead = &es->read_ahead
    };
    struct endpoint *ep = endpoints_find_in(&es->live, u, e);
    char why[256];

    if (!ep)
        ep = endpoints_find_in(&es->retired, u, e);
    if (ep)
        return ep;
    /* An exchange that began under an older snapshot still calls it. */
    if (e->tls && !(t.tls = endpoints_peer_for(es, e, why, sizeof(why))))
        return NULL;
    ep = endpoint_open(&es->retired, es->resolver, &t);
    tls_peer_unref(t.tls);
    if (ep)
        endpoint_retire(ep, &es->retired);
    return ep;
}

struct pacer *endpoints_pacer(struct endpoints *es)
{
    return es->pacer;
}
