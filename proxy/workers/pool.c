/* The queue and the order of service. Dispatching happens once a turn, deferred: code that frees a
 * slot or joins the queue only requests it. */
#include "workers/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "observe/counter.h"
#include "observe/log.h"
#include "workers/poolstate.h"
#include "workers/server.h"

/*   QUEUED -> CONNECTING -> HELD        from anywhere to answered with an error, or taken back
 *     ^  v        |
 *     |  SET ASIDE<        every server is unreachable: tries again with all others, after a pause
 *     RETURNING            waits for one server (want.server), and is served there before QUEUED
 *
 *   The list that the waiter's node is on tells these apart: a queue of the pool, a list of those
 * set aside, the server's `returning`, or none. */

enum { UNREACHED_MAX_MS = 1000 }; /* the longest pause between tries of those set aside */

const struct pool_conf *pool_conf(const struct pool *p)
{
    return p->conf;
}

static void pool_close_waiter(struct slot_waiter *w)
{
    list_remove(&w->node);
    addrlimit_remove(&w->share);
    deadline_close(&w->deadline);
    deadline_close(&w->server_wait);
    loop_undefer(&w->deferred);
    w->server = NULL;
}

static void pool_answer(struct slot_waiter *w, enum pool_error error, const char *why)
{
    struct pool *p = w->pool;

    pool_close_waiter(w);
    if (w->conn) {
        server_take_back(w->conn); /* it is still connecting */
        pool_want_dispatch(p);
    }
    w->pool = NULL;
    w->conn = NULL;
    LOOP_ASSERT_OPEN(w->owner);
    w->on_answer(w->owner, NULL, error, why);
    pool_unref(p);
}

static const char *pool_explain(int error)
{
    switch ((enum pool_error)error) {
    case POOL_E_QUEUE_FULL:
        return "the queue is full";
    case POOL_E_QUEUE_TIMEOUT:
        return "waited too long for a free worker";
    case POOL_E_UNREACHABLE:
        return "no server can be reached";
    case POOL_E_QUEUE_SHARE:
        return "its address has queue_address_share of the queue";
    case POOL_E_GONE:
        return "the process that has the run is gone or busy";
    }
    return "";
}

static void pool_on_deferred_error(void *owner)
{
    struct slot_waiter *w = owner;

    pool_answer(w, w->error, pool_explain(w->error));
}

static void pool_refuse(struct slot_waiter *w, enum pool_error error)
{
    list_remove(&w->node);
    w->error = error;
    loop_defer(&w->deferred, pool_on_deferred_error, w);
}

static void pool_on_waiter_deadline(void *owner)
{
    pool_answer(owner, POOL_E_QUEUE_TIMEOUT, pool_explain(POOL_E_QUEUE_TIMEOUT));
}

static struct list *pool_queue_of(struct pool *p, const struct slot_waiter *w)
{
    return &p->queue[w->want.ahead];
}

/* ---- coming back to a server ---- */

/* It does not wait for its server any longer. */
static void pool_take_any(struct pool *p, struct slot_waiter *w)
{
    deadline_clear(&w->server_wait);
    w->server = NULL;
    if (w->want.only)
        pool_refuse(w, POOL_E_GONE);
    else
        list_push(pool_queue_of(p, w), &w->node);
    pool_want_dispatch(p);
}

static void pool_on_server_wait(void *owner)
{
    struct slot_waiter *w = owner;

    if (w->conn)
        return; /* its turn came in time, and the connection is being made */
    pool_take_any(w->pool, w);
}

/* A process with an address of its own may take visits though the server takes no new ones. */
static bool pool_may_return(const struct slot_waiter *w, const struct server *s)
{
    return !s->removed && (w->want.at.n > 0 || s->paused_until_ms <= loop_now_ms());
}

void pool_send_elsewhere(struct pool *p, struct server *s)
{
    while (list_first(&s->returning))
        pool_take_any(p, LIST_OWNER(list_first(&s->returning), struct slot_waiter, node));
}

static void pool_check_returning(struct pool *p, struct server *s)
{
    LIST_EACH(n, &s->returning) {
        struct slot_waiter *w = LIST_OWNER(n, struct slot_waiter, node);

        if (!pool_may_return(w, s))
            pool_take_any(p, w);
    }
}

static bool pool_has_queue(const struct pool *p)
{
    return list_first(&p->queue[0]) || list_first(&p->queue[1]);
}

/* The next of those who wait for `s`. A visit with pieces does not follow another while anybody
 * else waits. */
static struct slot_waiter *pool_next_returning(struct pool *p, struct server *s)
{
    struct slot_waiter *pieces = NULL;

    LIST_EACH(n, &s->returning) {
        struct slot_waiter *w = LIST_OWNER(n, struct slot_waiter, node);

        if (!w->want.pieces || !s->served_pieces)
            return w;
        if (!pieces)
            pieces = w;
    }
    return pool_has_queue(p) ? NULL : pieces;
}

/* ---- results of a connection attempt ---- */

static void pool_on_connected(struct pool *p, struct slot_waiter *w, struct worker_conn *l)
{
    struct stream *s = h1_client_begin(l->client);

    p->unreached_pause_ms = 0;
    if (deadline_is_set(&p->unreached))
        deadline_set(&p->unreached, 0); /* the others try again at once */
    pool_close_waiter(w);
    w->stream = s;
    LOOP_ASSERT_OPEN(w->owner);
    w->on_answer(w->owner, s, 0, NULL);
}

/* Back to the front of its queue: it was its turn. */
static void pool_requeue(struct pool *p, struct slot_waiter *w)
{
    w->conn = NULL;
    list_push_front(w->server ? &w->server->returning : pool_queue_of(p, w), &w->node);
    pool_want_dispatch(p);
}

static bool pool_any_serves(const struct pool *p)
{
    LIST_EACH(n, &p->servers) {
        const struct server *s = LIST_OWNER(n, struct server, node);

        if (!s->removed && s->busy > 0 && s->pause_ms == 0)
            return true;
    }
    return false;
}

/* Every server is unreachable, and the waiter has time: it tries again with all others after a
 * pause. The time does not count as time in the queue. */
static void pool_set_aside(struct pool *p, struct slot_waiter *w)
{
    uint64_t now = loop_now_ms(), longest;

    if (w->unreachable_since_ms == 0)
        w->unreachable_since_ms = now;
    w->left_ms = w->deadline.at_ms > now ? w->deadline.at_ms - now : 1;
    deadline_clear(&w->deadline);
    list_push(&p->set_aside[w->want.ahead], &w->node);
    if (deadline_is_set(&p->unreached))
        return;
    longest = p->conf->unreachable_max_pause_ms < UNREACHED_MAX_MS
                  ? p->conf->unreachable_max_pause_ms
                  : UNREACHED_MAX_MS;
    p->unreached_pause_ms =
        p->unreached_pause_ms ? p->unreached_pause_ms * 2 : p->conf->unreachable_first_pause_ms;
    if (p->unreached_pause_ms > longest)
        p->unreached_pause_ms = longest;
    deadline_set(&p->unreached, p->unreached_pause_ms);
}

static bool pool_has_patience(const struct pool *p, const struct slot_waiter *w)
{
    uint64_t wait_ms =
        w->want.unreachable_wait_ms ? w->want.unreachable_wait_ms : p->conf->unreachable_wait_ms;

    return wait_ms > 0 &&
           (w->unreachable_since_ms == 0 || loop_now_ms() - w->unreachable_since_ms < wait_ms);
}

static void pool_on_unreached(void *owner)
{
    struct pool *p = owner;

    pool_ref(p); /* an answer may drop the last reference */
    for (int ahead = 1; ahead >= 0; ahead--) {
        struct list due;
        struct list_node *n;

        list_init(&due);
        while ((n = list_first(&p->set_aside[ahead])))
            list_push(&due, n);
        while ((n = list_first(&due))) {
            struct slot_waiter *w = LIST_OWNER(n, struct slot_waiter, node);

            if (!pool_has_patience(p, w)) {
                pool_answer(w, POOL_E_UNREACHABLE, p->why);
                continue;
            }
            w->tries = 0;
            deadline_set(&w->deadline, w->left_ms);
            list_push(pool_queue_of(p, w), &w->node);
        }
    }
    pool_want_dispatch(p);
    pool_unref(p);
}

static void pool_on_connect_failed(
    struct pool *p, struct slot_waiter *w, struct server *s, const char *why)
{
    w->conn = NULL;
    if (w->server && w->want.at.n > 0)
        log_debug(NULL, "the process at " STR_FMT " is gone: %s", STR_ARG(w->want.at), why);
    else /* if requests may wait for servers, a refusal is expected */
        log_write(p->conf->unreachable_wait_ms > 0 ? LEVEL_DEBUG : LEVEL_WARN, NULL,
            "cannot connect to worker " STR_FMT " of pool \"" STR_FMT "\": %s", STR_ARG(s->text),
            STR_ARG(p->conf->name), why);
    if (w->server) {
        pool_take_any(p, w);
        if (list_on(&w->node))
            list_push_front(pool_queue_of(p, w), &w->node); /* it was its turn */
        return;
    }
    pool_want_dispatch(p);
    /* Nothing was sent: another server may take it. Each gets one chance; while one serves, its
     * next slot is waited for. */
    if (++w->tries < p->servers.count || pool_any_serves(p)) {
        pool_requeue(p, w);
        return;
    }
    snprintf(p->why, sizeof(p->why), "worker " STR_FMT ": %s", STR_ARG(s->text), why);
    if (pool_has_patience(p, w))
        pool_set_aside(p, w);
    else
        pool_answer(w, POOL_E_UNREACHABLE, p->why);
}

static void pool_on_backlog_full(struct pool *p, struct slot_waiter *w, struct server *s)
{
    pool_requeue(p, w);
}

/* ---- dispatch ---- */

/* The server with the smallest share of its slots taken. A server that refuses connections is
 * skipped while another one accepts them, even if that one is busy. If all refuse, they are tried;
 * otherwise nobody would notice that they are back. */
static struct server *pool_pick(struct pool *p)
{
    uint64_t now = loop_now_ms();
    struct server *best = NULL;
    bool any_healthy = false;

    LIST_EACH(n, &p->servers) {
        struct server *s = LIST_OWNER(n, struct server, node);

        if (!s->removed && s->paused_until_ms <= now)
            any_healthy = true;
    }
    LIST_EACH(n, &p->servers) {
        struct server *s = LIST_OWNER(n, struct server, node);

        if (!server_has_room(s) || s->full_until_ms > now)
            continue;
        if (any_healthy && s->paused_until_ms > now)
            continue;
        if (!best || (uint64_t)s->busy * best->slots < (uint64_t)best->busy * s->slots)
            best = s;
    }
    return best;
}

/* No server can serve now: the one whose pause ends first is tried then. */
static void pool_look_again(struct pool *p)
{
    uint64_t now = loop_now_ms(), soonest = UINT64_MAX;

    LIST_EACH(n, &p->servers) {
        const struct server *s = LIST_OWNER(n, struct server, node);
        uint64_t at = s->paused_until_ms > s->full_until_ms ? s->paused_until_ms : s->full_until_ms;

        if (server_has_room(s) && at > now && at < soonest)
            soonest = at;
    }
    if (soonest != UINT64_MAX)
        deadline_set(&p->again, soonest - now);
}

static void pool_serve(struct pool *p, struct server *s, struct slot_waiter *w)
{
    list_remove(&w->node);
    s->served_pieces = w->want.pieces;
    /* Of equals, the one that served least recently is next. */
    list_push(&p->servers, &s->node);
    server_serve(s, w);
}

/* Serves one of those who come back to a server, if that has room. */
static bool pool_serve_returning(struct pool *p)
{
    bool wait = false;

    LIST_EACH(n, &p->servers) {
        struct server *s = LIST_OWNER(n, struct server, node);
        struct slot_waiter *w;

        pool_check_returning(p, s);
        if (!list_first(&s->returning) || !server_has_room(s))
            continue;
        if (s->full_until_ms > loop_now_ms()) {
            wait = true;
        } else if ((w = pool_next_returning(p, s))) {
            pool_serve(p, s, w);
            return true;
        }
    }
    if (wait)
        pool_look_again(p);
    return false;
}

static void pool_on_dispatch(void *owner)
{
    struct pool *p = owner;
    struct list_node *n;

    if (p->held) /* pool_hold() asks again */
        return;
    pool_ref(p); /* an answer may drop the last reference */
    while (pool_serve_returning(p))
        ;
    while ((n = list_first(&p->queue[1])) || (n = list_first(&p->queue[0]))) {
        struct slot_waiter *w = LIST_OWNER(n, struct slot_waiter, node);
        struct server *s;

        /* A try failed a moment ago at every server: not every waiter has to repeat it. */
        if (deadline_is_set(&p->unreached) && pool_has_patience(p, w) && !pool_any_serves(p)) {
            pool_set_aside(p, w);
            continue;
        }
        s = pool_pick(p);
        if (!s) {
            pool_look_again(p);
            break;
        }
        pool_serve(p, s, w);
    }
    while (pool_serve_returning(p)) /* pieces, which gave way to the others */
        ;
    pool_unref(p);
}

void pool_want_dispatch(struct pool *p)
{
    loop_defer(&p->dispatch, pool_on_dispatch, p);
}

static void pool_on_slot_free(struct pool *p)
{
    pool_want_dispatch(p);
}

static void pool_on_again(void *owner)
{
    pool_want_dispatch(owner);
}

static void pool_init_queue(struct pool *p)
{
    for (int i = 0; i < 2; i++) {
        list_init(&p->queue[i]);
        list_init(&p->set_aside[i]);
    }
    addrlimit_init(&p->shares);
    deadline_init(&p->again, pool_on_again, p);
    deadline_init(&p->unreached, pool_on_unreached, p);
}

static void pool_release_queue(struct pool *p)
{
    loop_undefer(&p->dispatch);
    deadline_close(&p->again);
    deadline_close(&p->unreached);
}

const struct server_events pool_server_events = {
    .on_slot_free = pool_on_slot_free,
    .on_connected = pool_on_connected,
    .on_connect_failed = pool_on_connect_failed,
    .on_backlog_full = pool_on_backlog_full,
};

static void pool_free(void *what)
{
    struct pool *p = what;
    struct list_node *n;

    while ((n = list_take_first(&p->servers)))
        server_free(LIST_OWNER(n, struct server, node));
    addrlimit_release(&p->shares);
    conf_unref(p->snapshot);
    poolshared_unref(p->shared);
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
    pool_release_queue(p);
    loop_free_later(&p->deferred_free, p, pool_free);
}

struct pool *pool_new(const struct pool_conf *pc, struct conf *snapshot, struct poolshared *shared)
{
    struct pool *p = calloc(1, sizeof(*p));

    if (!p)
        return NULL;
    p->refs = 1;
    p->conf = pc;
    p->snapshot = conf_ref(snapshot);
    p->shared = poolshared_ref(shared);
    list_init(&p->servers);
    pool_init_queue(p);
    return p;
}

/* ---- asking ---- */

/* Free slots that no resume waits for: a request that joins the queue now gets one of them at once.
 */
static size_t pool_free_slots(const struct pool *p)
{
    size_t n = 0;

    LIST_EACH(at, &p->servers) {
        const struct server *s = LIST_OWNER(at, struct server, node);

        if (server_has_room(s))
            n += s->slots - s->busy;
    }
    return n > p->queue[1].count ? n - p->queue[1].count : 0;
}

static size_t pool_new_count(const struct pool *p)
{
    return p->queue[0].count + p->set_aside[0].count;
}

/* Whether another request of the client may wait; if so, it is counted. Requests that need not wait
 * are not limited; neither is any request if there is no memory for the count. */
static bool pool_has_share(struct pool *p, struct slot_waiter *w)
{
    size_t share = p->conf->queue_max / 100 * p->conf->queue_address_share +
                   p->conf->queue_max % 100 * p->conf->queue_address_share / 100;

    if (!w->want.client || p->conf->queue_address_share == 100)
        return true;
    p->shares.limits.connections_max = share > 0 ? share : 1;
    return addrlimit_add(&p->shares, &w->share, w->want.client,
               pool_new_count(p) >= pool_free_slots(p)) != ADDRLIMIT_E_CONNECTIONS;
}

static struct server *pool_find_server(struct pool *p, struct str text)
{
    LIST_EACH(n, &p->servers) {
        struct server *s = LIST_OWNER(n, struct server, node);

        if (str_eq(s->text, text))
            return s;
    }
    return NULL;
}

/* Joins the queue of the one server that it wants. False if it must accept any server. */
static bool pool_join_server(struct pool *p, struct slot_waiter *w)
{
    struct server *s = pool_find_server(p, w->want.server);

    if (!s || !pool_may_return(w, s))
        return false;
    w->server = s;
    deadline_set(&w->server_wait, w->want.server_wait_ms);
    list_push(&s->returning, &w->node);
    return true;
}

void pool_ask(struct pool *p, struct slot_waiter *w, const struct pool_want *want)
{
    BUG_IF(w->pool);
    w->pool = pool_ref(p);
    w->conn = NULL;
    w->server = NULL;
    w->stream = NULL;
    w->want = *want;
    w->tries = 0;
    w->unreachable_since_ms = 0;
    deadline_init(&w->deadline, pool_on_waiter_deadline, w);
    deadline_init(&w->server_wait, pool_on_server_wait, w);
    /* The bound is for requests that wait behind taken slots. Resumes are bounded by the exchanges
     * that exist. */
    if (!want->ahead && pool_new_count(p) >= p->conf->queue_max &&
        pool_new_count(p) >= p->conf->queue_max + pool_free_slots(p)) {
        pool_refuse(w, POOL_E_QUEUE_FULL);
        return;
    }
    if (!want->ahead && !pool_has_share(p, w)) {
        counter_add(COUNTER_QUEUE_SHARE, 1);
        pool_refuse(w, POOL_E_QUEUE_SHARE);
        return;
    }
    deadline_set(&w->deadline, want->timeout_ms ? want->timeout_ms : p->conf->queue_timeout_ms);
    if (want->server.n == 0)
        list_push(pool_queue_of(p, w), &w->node);
    else if (!pool_join_server(p, w))
        pool_take_any(p, w);
    pool_want_dispatch(p);
}

void pool_release(struct slot_waiter *w)
{
    struct pool *p = w->pool;

    if (!p)
        return;
    pool_close_waiter(w);
    if (w->conn && !(w->stream && server_abandon(w->conn))) {
        if (w->stream)
            stream_close(w->stream);
        server_take_back(w->conn);
    }
    w->conn = NULL;
    w->stream = NULL;
    w->pool = NULL;
    pool_want_dispatch(p);
    pool_unref(p);
}

/* ---- questions ---- */

struct str pool_server(const struct slot_waiter *w)
{
    return w->conn ? w->conn->server->text : STR("");
}

bool pool_server_is_one_process(const struct slot_waiter *w)
{
    return w->conn && w->conn->server->slots == 1 && w->conn->server->naddrs <= 1;
}

static size_t pool_folder_length(struct str path)
{
    while (path.n > 0 && path.p[path.n - 1] != '/')
        path.n--;
    return path.n;
}

bool pool_server_may_be_at(const struct slot_waiter *w, struct str at)
{
    const struct sockaddr_un *un;
    struct str own, path;
    size_t n;

    if (!w->conn || w->conn->server->sa.ss_family != AF_UNIX || !str_starts_with(at, STR("unix:")))
        return false;
    un = (const struct sockaddr_un *)(const void *)&w->conn->server->sa;
    own = str_of(un->sun_path);
    path = str_make(at.p + 5, at.n - 5);
    n = pool_folder_length(own);
    return n > 0 && path.n < sizeof(un->sun_path) && pool_folder_length(path) == n &&
           memcmp(path.p, own.p, n) == 0 && path.n > n && !memchr(path.p, 0, path.n);
}

void pool_hold(struct pool *p, bool held)
{
    p->held = held;
    if (!held)
        pool_want_dispatch(p);
}

bool pool_is_held(const struct pool *p)
{
    return p->held;
}

struct pool_counts pool_counts(const struct pool *p)
{
    struct pool_counts c = { .queued_ahead = p->queue[1].count + p->set_aside[1].count,
        .queued_new = pool_new_count(p) };

    LIST_EACH(n, &p->servers) {
        const struct server *s = LIST_OWNER(n, struct server, node);

        c.queued_ahead += s->returning.count;
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
