/* The registry of pools, and how a reload changes them: pools and servers that are in both confs
 * keep their connections and counts. */
#include <stdlib.h>

#include "http/limits.h"
#include "workers/pool.h"
#include "workers/poolshared.h"
#include "workers/poolstate.h"
#include "workers/server.h"

struct pools {
    struct list all;
    struct conf *next;
    struct list staged; /* pools prepared for `next` */
    struct poolshared *shared;
};

/* ---- the registry ---- */

int pools_set_name_servers(struct pools *ps, const char *name_servers)
{
    return poolshared_set_name_servers(ps->shared, name_servers);
}

static struct pool *pools_find_in(struct list *l, struct str name)
{
    LIST_EACH(n, l) {
        struct pool *p = LIST_OWNER(n, struct pool, node);

        if (str_eq(p->conf->name, name)) /* NOLINT(clang-analyzer-core.NullDereference) */
            return p;
    }
    return NULL;
}

struct pool *pools_find(struct pools *ps, struct str name)
{
    return pools_find_in(&ps->all, name);
}

/* Builds the pools of `conf` with their servers on `to`. */
static int pools_build(struct list *to, struct conf *conf, struct poolshared *shared)
{
    for (size_t i = 0; i < conf->npools; i++) {
        struct pool *p = pool_new(&conf->pools[i], conf, shared);

        if (!p)
            return -1;
        list_push(to, &p->node);
        for (size_t k = 0; k < p->conf->nservers; k++) {
            struct server *s = malloc(sizeof(*s));

            if (!s)
                return -1;
            server_init(s, p, &pool_server_events, &p->conf->servers[k]);
            list_push(&p->servers, &s->node);
        }
    }
    return 0;
}

static void pools_drop_all(struct list *l)
{
    struct list_node *n;

    while ((n = list_take_first(l)))
        pool_unref(LIST_OWNER(n, struct pool, node));
}

/* ---- reload ---- */

int pools_prepare(struct pools *ps, struct conf *next)
{
    list_init(&ps->staged);
    if (pools_build(&ps->staged, next, ps->shared) < 0) {
        pools_drop_all(&ps->staged);
        return -1;
    }
    ps->next = next;
    return 0;
}

void pools_abandon(struct pools *ps)
{
    pools_drop_all(&ps->staged);
    ps->next = NULL;
}

/* A server without a taken slot is freed; one that still serves is freed with its pool. */
static void pools_remove_server(struct pool *p, struct server *s)
{
    s->removed = true;
    server_set_conf(s, NULL);
    pool_send_elsewhere(p, s);
    server_close(s, false);
    if (s->busy == 0 && !list_first(&s->conns[WORKER_CONN_BUSY]))
        server_free(s);
}

static struct server *pools_find_server(struct pool *p, struct str text)
{
    LIST_EACH(n, &p->servers) {
        struct server *s = LIST_OWNER(n, struct server, node);

        if (str_eq(s->text, text))
            return s;
    }
    return NULL;
}

/* The live pool takes over the settings of the staged one; servers that are in both keep their
 * connections and counts. */
static void pools_merge(struct pool *live, struct pool *staged)
{
    struct conf *old = live->snapshot;

    for (size_t i = 0; i < staged->conf->nservers; i++) {
        const struct server_conf *sc = &staged->conf->servers[i];
        struct server *kept = pools_find_server(live, sc->addr.text), *twin;

        if (!kept)
            continue;
        server_set_conf(kept, sc);
        twin = pools_find_server(staged, sc->addr.text);
        if (twin)
            server_free(twin);
        kept->stays = true;
    }
    LIST_EACH(n, &live->servers) {
        struct server *s = LIST_OWNER(n, struct server, node);

        if (!s->stays)
            pools_remove_server(live, s);
        else
            s->stays = false;
    }
    while (list_first(&staged->servers)) {
        struct server *s = LIST_OWNER(list_first(&staged->servers), struct server, node);

        s->pool = live;
        list_push(&live->servers, &s->node);
    }
    live->snapshot = staged->snapshot;
    live->conf = staged->conf;
    staged->snapshot = old;
    pool_want_dispatch(live);
}

void pools_commit(struct pools *ps)
{
    struct list kept;
    struct list_node *n;

    list_init(&kept);
    ps->shared->limits = limits_of(ps->next);
    while ((n = list_first(&ps->staged))) {
        struct pool *staged = LIST_OWNER(n, struct pool, node);
        struct pool *live = pools_find_in(&ps->all, staged->conf->name);

        if (live) {
            pools_merge(live, staged);
            list_push(&kept, &live->node);
            list_remove(&staged->node);
            pool_unref(staged);
        } else {
            list_push(&kept, &staged->node);
        }
    }
    pools_drop_all(&ps->all);
    while ((n = list_first(&kept)))
        list_push(&ps->all, n);
    ps->next = NULL;
    poolshared_renew(ps->shared); /* the system's name servers may have changed as well */
}

struct pools *pools_open(struct conf *conf)
{
    struct pools *ps = calloc(1, sizeof(*ps));

    if (!ps)
        return NULL;
    list_init(&ps->all);
    list_init(&ps->staged);
    ps->shared = poolshared_new(conf);
    if (!ps->shared || pools_build(&ps->all, conf, ps->shared) < 0) {
        pools_close(ps);
        return NULL;
    }
    return ps;
}

void pools_close(struct pools *ps)
{
    if (!ps)
        return;
    pools_drop_all(&ps->all);
    poolshared_unref(ps->shared);
    free(ps);
}
