/* The queue and who is served next. Dispatching happens once a turn, deferred: whatever frees a
 * slot or joins the queue only asks for it. */
#include "workers/pool.h"

#include <stdio.h>
#include <stdlib.h>

#include "observe/counter.h"
#include "observe/log.h"
#include "workers/server.h"

struct pool {
    struct list_node node; /* on the registry's list */
    unsigned refs;
    struct conf *snapshot;
    const struct pool_conf *conf;
    struct list servers;
    struct list ahead;      /* waiters: resumes, replays, notifies */
    struct list fresh;      /* waiters: new requests */
    struct addrlimit crowd; /* those of them whose address is bounded */
    struct deferred dispatch;
    struct deadline again; /* a server that was full or refused may serve again */
    struct deferred_free deferred_free;
};

struct pools {
    struct list all;
    struct conf *next;
    struct list fresh; /* pools prepared for `next` */
};

static void pool_want_dispatch(struct pool *p);

static void free_pool(void *what)
{
    struct pool *p = what;

    while (list_first(&p->servers)) {
        struct server *s = LIST_OWNER(list_take_first(&p->servers), struct server, node);

        free(s);
    }
    addrlimit_release(&p->crowd);
    conf_unref(p->snapshot);
    free(p);
}

struct pool *pool_ref(struct pool *p)
{
    p->refs++;
    return p;
}

void pool_unref(struct pool *p)
{
    if (!p || --p->refs > 0)
        return;
    LIST_EACH(n, &p->servers)
    server_close(LIST_OWNER(n, struct server, node), true);
    loop_undefer(&p->dispatch);
    deadline_close(&p->again);
    loop_free_later(&p->deferred_free, p, free_pool);
}

const struct pool_conf *pool_conf(const struct pool *p)
{
    return p->conf;
}

static void pool_close_waiter(struct slot_waiter *w)
{
    list_remove(&w->node);
    addrlimit_remove(&w->place);
    deadline_close(&w->deadline);
    loop_undefer(&w->deferred);
}

static void pool_answer(struct slot_waiter *w, enum pool_error error, const char *why)
{
    struct pool *p = w->pool;

    pool_close_waiter(w);
    if (w->link) {
        server_take_back(w->link); /* it is still connecting */
        pool_want_dispatch(p);
    }
    w->pool = NULL;
    w->link = NULL;
    LOOP_ASSERT_OPEN(w->owner);
    w->on_answer(w->owner, NULL, error, why);
    pool_unref(p);
}

static void pool_on_deferred_error(void *owner)
{
    struct slot_waiter *w = owner;

    pool_answer(w, w->error,
        w->error == POOL_E_QUEUE_SHARE ? "its address has queue_address_share of the queue"
                                       : "the queue is full");
}

static void pool_on_wish_deadline(void *owner)
{
    pool_answer(owner, POOL_E_QUEUE_TIMEOUT, "waited too long for a free worker");
}

void pool_on_connected(struct pool *p, struct slot_waiter *w, struct worker_conn *l)
{
    struct stream *s = h1_client_begin(l->client);

    pool_close_waiter(w);
    w->stream = s;
    LOOP_ASSERT_OPEN(w->owner);
    w->on_answer(w->owner, s, 0, NULL);
}

/* Back to the front of its queue: it was its turn. */
static void pool_requeue(struct pool *p, struct slot_waiter *w)
{
    w->link = NULL;
    list_push_front(w->ahead ? &p->ahead : &p->fresh, &w->node);
    pool_want_dispatch(p);
}

static bool pool_any_serves(const struct pool *p)
{
    LIST_EACH(n, &p->servers)
    {
        const struct server *s = LIST_OWNER(n, struct server, node);

        if (!s->removed && s->busy > 0 && s->pause_ms == 0)
            return true;
    }
    return false;
}

/* All servers have refused. Whether the waiter may hope that one comes back: it keeps its place
 * then, and the next try is due when the first pause ends. */
static bool pool_may_wait(struct pool *p, struct slot_waiter *w)
{
    uint64_t now = loop_now_ms();

    if (w->refused_since_ms == 0)
        w->refused_since_ms = now;
    w->tries = 0;
    return now - w->refused_since_ms < p->conf->unreachable_wait_ms;
}

void pool_on_connect_failed(
    struct pool *p, struct slot_waiter *w, struct server *s, const char *why)
{
    char text[256];

    w->link = NULL;
    /* Where requests wait for servers that come back, a refusal is no news. */
    log_write(p->conf->unreachable_wait_ms > 0 ? LEVEL_DEBUG : LEVEL_WARN, NULL,
        "cannot connect to worker " STR_FMT " of pool \"" STR_FMT "\": %s", STR_ARG(s->text),
        STR_ARG(p->conf->name), why);
    /* Nothing was sent: another server may take it. Each gets one chance; while one serves, its
     * next slot is waited for. */
    if (++w->tries < p->servers.count || pool_any_serves(p) || pool_may_wait(p, w)) {
        pool_requeue(p, w);
        return;
    }
    snprintf(text, sizeof(text), "worker " STR_FMT ": %s", STR_ARG(s->text), why);
    pool_want_dispatch(p);
    pool_answer(w, POOL_E_UNREACHABLE, text);
}

void pool_on_backlog_full(struct pool *p, struct slot_waiter *w, struct server *s)
{
    pool_requeue(p, w);
}

/* The server with the smallest share of its slots taken. One that refuses connections is left alone
 * while there is another that does not, busy or not. If all refuse, they are tried at once, unless
 * requests may wait for the end of the first pause. */
static struct server *pool_pick(struct pool *p)
{
    uint64_t now = loop_now_ms();
    struct server *best = NULL;
    bool any_healthy = false;

    LIST_EACH(n, &p->servers)
    {
        struct server *s = LIST_OWNER(n, struct server, node);

        if (!s->removed && s->paused_until_ms <= now)
            any_healthy = true;
    }
    LIST_EACH(n, &p->servers)
    {
        struct server *s = LIST_OWNER(n, struct server, node);

        if (!server_has_room(s) || s->full_until_ms > now)
            continue;
        if ((any_healthy || p->conf->unreachable_wait_ms > 0) && s->paused_until_ms > now)
            continue;
        if (!best || (uint64_t)s->busy * best->slots < (uint64_t)best->busy * s->slots)
            best = s;
    }
    return best;
}

/* Nobody can serve now: whose pause ends first is tried then. */
static void pool_look_again(struct pool *p)
{
    uint64_t now = loop_now_ms(), soonest = UINT64_MAX;

    LIST_EACH(n, &p->servers)
    {
        const struct server *s = LIST_OWNER(n, struct server, node);
        uint64_t at = s->paused_until_ms > s->full_until_ms ? s->paused_until_ms : s->full_until_ms;

        if (server_has_room(s) && at > now && at < soonest)
            soonest = at;
    }
    if (soonest != UINT64_MAX)
        deadline_set(&p->again, soonest - now);
}

static void pool_on_dispatch(void *owner)
{
    struct pool *p = owner;
    struct list_node *n;

    pool_ref(p); /* an pool_answer may drop the last reference */
    while ((n = list_first(&p->ahead)) || (n = list_first(&p->fresh))) {
        struct slot_waiter *w = LIST_OWNER(n, struct slot_waiter, node);
        struct server *s = pool_pick(p);

        if (!s) {
            pool_look_again(p);
            break;
        }
        list_remove(&w->node);
        list_push(
            &p->servers, &s->node); /* of equals, the one that served least recently is next */
        server_serve(s, w);
    }
    pool_unref(p);
}

static void pool_want_dispatch(struct pool *p)
{
    loop_defer(&p->dispatch, pool_on_dispatch, p);
}

void pool_on_slot_free(struct pool *p)
{
    pool_want_dispatch(p);
}

static void pool_on_again(void *owner)
{
    pool_want_dispatch(owner);
}

/* Slots that nobody has and nobody who goes ahead waits for: who joins the queue now does not have
 * to wait in it. */
static size_t pool_free_slots(const struct pool *p)
{
    size_t n = 0;

    LIST_EACH(at, &p->servers)
    {
        const struct server *s = LIST_OWNER(at, struct server, node);

        if (server_has_room(s))
            n += s->slots - s->busy;
    }
    return n > p->ahead.count ? n - p->ahead.count : 0;
}

/* Whether one more of the client's may wait; then it is counted. Who does not have to wait is not
 * bounded, and without memory to count with nobody is. */
static bool pool_has_share(struct pool *p, struct slot_waiter *w, const struct addr *client)
{
    size_t share = p->conf->queue_max / 100 * p->conf->queue_address_share +
                   p->conf->queue_max % 100 * p->conf->queue_address_share / 100;

    if (!client || p->conf->queue_address_share == 100)
        return true;
    p->crowd.limits.connections_max = share > 0 ? share : 1;
    return addrlimit_add(&p->crowd, &w->place, client, p->fresh.count >= pool_free_slots(p)) !=
           ADDRLIMIT_E_CONNECTIONS;
}

static void pool_refuse(struct slot_waiter *w, enum pool_error error)
{
    w->error = error;
    loop_defer(&w->deferred, pool_on_deferred_error, w);
}

void pool_ask(struct pool *p, struct slot_waiter *w, bool ahead, const struct addr *client,
    uint64_t timeout_ms)
{
    BUG_IF(w->pool);
    w->pool = pool_ref(p);
    w->link = NULL;
    w->stream = NULL;
    w->tries = 0;
    w->refused_since_ms = 0;
    w->ahead = ahead;
    deadline_init(&w->deadline, pool_on_wish_deadline, w);
    /* The bound is for those who wait behind taken slots; resumes are bounded by the exchanges that
     * exist. */
    if (!ahead && p->fresh.count >= p->conf->queue_max &&
        p->fresh.count >= p->conf->queue_max + pool_free_slots(p)) {
        pool_refuse(w, POOL_E_QUEUE_FULL);
        return;
    }
    if (!ahead && !pool_has_share(p, w, client)) {
        counter_add(COUNTER_QUEUE_SHARE, 1);
        pool_refuse(w, POOL_E_QUEUE_SHARE);
        return;
    }
    deadline_set(&w->deadline, timeout_ms ? timeout_ms : p->conf->queue_timeout_ms);
    list_push(ahead ? &p->ahead : &p->fresh, &w->node);
    pool_want_dispatch(p);
}

void pool_release(struct slot_waiter *w)
{
    struct pool *p = w->pool;

    if (!p)
        return;
    pool_close_waiter(w);
    if (w->link && !(w->stream && server_abandon(w->link))) {
        if (w->stream)
            stream_close(w->stream);
        server_take_back(w->link);
    }
    w->link = NULL;
    w->stream = NULL;
    w->pool = NULL;
    pool_want_dispatch(p);
    pool_unref(p);
}

struct pool_counts pool_counts(const struct pool *p)
{
    struct pool_counts c = { .queued_ahead = p->ahead.count, .queued_new = p->fresh.count };

    LIST_EACH(n, &p->servers)
    {
        const struct server *s = LIST_OWNER(n, struct server, node);

        if (s->removed)
            continue;
        c.servers++;
        c.servers_paused += s->paused_until_ms > loop_now_ms();
        c.slots += s->slots;
        c.busy += s->busy;
        c.abandoned += s->conns[WORKER_CONN_ABANDONED].count;
    }
    return c;
}

static struct pool *pool_make(const struct pool_conf *pc)
{
    struct pool *p = calloc(1, sizeof(*p));

    if (!p)
        return NULL;
    p->refs = 1;
    p->conf = pc;
    list_init(&p->servers);
    list_init(&p->ahead);
    list_init(&p->fresh);
    addrlimit_init(&p->crowd);
    deadline_init(&p->again, pool_on_again, p);
    return p;
}

static struct server *pool_find_server(struct pool *p, struct str text)
{
    LIST_EACH(n, &p->servers)
    {
        struct server *s = LIST_OWNER(n, struct server, node);

        if (str_eq(s->text, text))
            return s;
    }
    return NULL;
}

static struct pool *pool_find_in(struct list *l, struct str name)
{
    LIST_EACH(n, l)
    {
        struct pool *p = LIST_OWNER(n, struct pool, node);

        if (str_eq(p->conf->name, name)) /* NOLINT(clang-analyzer-core.NullDereference) */
            return p;
    }
    return NULL;
}

struct pool *pools_find(struct pools *ps, struct str name)
{
    return pool_find_in(&ps->all, name);
}

/* Builds the pools of `conf` with their servers on `to`. */
static int pool_build(struct list *to, struct conf *conf)
{
    for (size_t i = 0; i < conf->npools; i++) {
        struct pool *p = pool_make(&conf->pools[i]);

        if (!p)
            return -1;
        p->snapshot = conf_ref(conf);
        list_push(to, &p->node);
        for (size_t k = 0; k < p->conf->nservers; k++) {
            struct server *s = malloc(sizeof(*s));

            if (!s)
                return -1;
            server_init(s, p, &p->conf->servers[k]);
            list_push(&p->servers, &s->node);
        }
    }
    return 0;
}

static void pool_drop_all(struct list *l)
{
    struct list_node *n;

    while ((n = list_take_first(l)))
        pool_unref(LIST_OWNER(n, struct pool, node));
}

int pools_prepare(struct pools *ps, struct conf *next)
{
    list_init(&ps->fresh);
    if (pool_build(&ps->fresh, next) < 0) {
        pool_drop_all(&ps->fresh);
        return -1;
    }
    ps->next = next;
    return 0;
}

void pools_abandon(struct pools *ps)
{
    pool_drop_all(&ps->fresh);
    ps->next = NULL;
}

/* A server without a slot taken can go; one that still serves goes when its pool does. */
static void pool_remove_server(struct server *s)
{
    s->removed = true;
    server_close(s, false);
    if (s->busy == 0 && !list_first(&s->conns[WORKER_CONN_BUSY])) {
        list_remove(&s->node);
        free(s);
    }
}

/* The live pool takes over what the prepared one says; servers that are in both keep their
 * connections and their counts. */
static void pool_merge(struct pool *live, struct pool *fresh)
{
    struct conf *old = live->snapshot;

    LIST_EACH(n, &live->servers)
    {
        struct server *s = LIST_OWNER(n, struct server, node);
        struct server *next = pool_find_server(fresh, s->text);

        if (!next) {
            s->text = (struct str){ 0 };
            pool_remove_server(s);
            continue;
        }
        s->text = next->text;
        s->slots = next->slots;
        list_remove(&next->node);
        free(next);
    }
    while (list_first(&fresh->servers)) {
        struct server *s = LIST_OWNER(list_first(&fresh->servers), struct server, node);

        s->pool = live;
        list_push(&live->servers, &s->node);
    }
    live->snapshot = fresh->snapshot;
    live->conf = fresh->conf;
    fresh->snapshot = old;
    pool_want_dispatch(live);
}

void pools_commit(struct pools *ps)
{
    struct list kept;
    struct list_node *n;

    list_init(&kept);
    while ((n = list_first(&ps->fresh))) {
        struct pool *fresh = LIST_OWNER(n, struct pool, node);
        struct pool *live = pool_find_in(&ps->all, fresh->conf->name);

        if (live) {
            pool_merge(live, fresh);
            list_push(&kept, &live->node);
            list_remove(&fresh->node);
            pool_unref(fresh);
        } else {
            list_push(&kept, &fresh->node);
        }
    }
    pool_drop_all(&ps->all);
    while ((n = list_first(&kept)))
        list_push(&ps->all, n);
    ps->next = NULL;
}

struct pools *pools_open(struct conf *conf)
{
    struct pools *ps = calloc(1, sizeof(*ps));

    if (!ps)
        return NULL;
    list_init(&ps->all);
    list_init(&ps->fresh);
    if (pool_build(&ps->all, conf) < 0) {
        pools_close(ps);
        return NULL;
    }
    return ps;
}

void pools_close(struct pools *ps)
{
    if (!ps)
        return;
    pool_drop_all(&ps->all);
    free(ps);
}
