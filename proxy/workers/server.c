/* Connections to one server. A slot is taken when a waiter is given to the server and free again
 * when the waiter has let go. */
#include "workers/server.h"

#include <errno.h>
#include <stdlib.h>

#include "observe/counter.h"
#include "observe/log.h"
#include "workers/pool.h"

enum {
    FULL_MS = 20,   /* after a full backlog */
    DROP_MS = 1000, /* who closes so soon after a response never meant to keep the connection */
};

static struct h1_limits limits; /* of responses' heads; the same for all workers of the process */

static void server_free_link(void *what)
{
    free(what);
}

static bool server_is_abandoned(const struct worker_conn *l)
{
    return l->node.on == &l->server->conns[WORKER_CONN_ABANDONED];
}

/* The worker is done with what nobody wanted any more. */
static void server_leave_abandoned(struct worker_conn *l)
{
    list_remove(&l->node);
    l->server->busy--;
    pool_on_slot_free(l->server->pool);
}

static void server_end(struct worker_conn *l)
{
    if (l->closed)
        return;
    l->closed = true;
    if (server_is_abandoned(l))
        server_leave_abandoned(l);
    deadline_close(&l->deadline);
    list_remove(&l->node);
    if (l->client)
        h1_client_close(l->client);
    else
        conn_close(l->conn);
    loop_free_later(&l->deferred_free, l, server_free_link);
}

static void server_set_state(struct worker_conn *l, enum worker_conn_state to)
{
    list_push_front(&l->server->conns[to], &l->node);
}

/* RFC 9112 9.6 wants "Connection: close" from who closes after a response. Some servers leave it
 * out (uWSGI's http-socket), and a request that crosses such a close is lost: nobody can know
 * whether it was seen. Known for one, its connections are not kept. A server that has kept one
 * before, and closes now, restarts or ran out of patience. */
static void server_learn_of_close(struct worker_conn *l, const struct h1_client *c)
{
    struct server *s = l->server;
    bool soon =
        l->node.on == &s->conns[WORKER_CONN_IDLE] && loop_now_ms() - l->idle_since_ms < DROP_MS;

    if (s->keeps || s->drops || l->answered != 1 || !(soon || h1_client_went_unheard(c)))
        return;
    s->drops = true;
    log_warn(NULL,
        "worker " STR_FMT " closes connections after a response without \"Connection: close\": "
        "each request gets one of its own from now on",
        STR_ARG(s->text));
}

static void server_connect_failed(struct worker_conn *l, const char *why, bool full)
{
    struct server *s = l->server;
    const struct pool_conf *pc = pool_conf(s->pool);
    struct slot_waiter *w = l->waiter;

    l->waiter = NULL;
    s->busy--;
    server_end(l);
    if (full) {
        s->full_until_ms = loop_now_ms() + FULL_MS;
        pool_on_backlog_full(s->pool, w, s);
        return;
    }
    s->keeps = s->drops = false; /* who comes back may be another */
    s->pause_ms = s->pause_ms ? s->pause_ms * 2 : pc->unreachable_first_pause_ms;
    if (s->pause_ms > pc->unreachable_max_pause_ms)
        s->pause_ms = pc->unreachable_max_pause_ms;
    s->paused_until_ms = loop_now_ms() + s->pause_ms;
    pool_on_connect_failed(s->pool, w, s, why);
}

static void server_on_client(void *owner, struct h1_client *c, enum h1_client_event ev)
{
    struct worker_conn *l = owner;

    switch (ev) {
    case H1_CLIENT_IDLE:
        if (server_is_abandoned(l))
            server_leave_abandoned(l);
        l->answered++;
        if (l->answered > 1)
            l->server->keeps = true;
        if (l->server->removed || l->server->drops ||
            l->server->conns[WORKER_CONN_IDLE].count >= l->server->slots) {
            server_end(l);
            return;
        }
        l->idle_since_ms = loop_now_ms();
        server_set_state(l, WORKER_CONN_IDLE);
        deadline_set(&l->deadline, pool_conf(l->server->pool)->keep_alive_timeout_ms);
        break;
    case H1_CLIENT_CLOSED:
        server_learn_of_close(l, c);
        l->client = NULL;
        l->conn = NULL;
        server_end(l);
        break;
    }
}

static void server_on_conn(void *owner, struct conn *c, enum conn_event ev)
{
    struct worker_conn *l = owner;

    if (ev == CONN_FAILED) {
        server_connect_failed(
            l, conn_strerror(c), conn_error(c) == CONN_E_CONNECT && conn_errno(c) == EAGAIN);
        return;
    }
    if (ev != CONN_CONNECTED)
        return;
    deadline_clear(&l->deadline);
    l->client = h1_client_open(c, &limits, server_on_client, l);
    if (!l->client) {
        server_connect_failed(l, "out of memory", false);
        return;
    }
    l->server->pause_ms = 0;
    l->server->paused_until_ms = 0;
    server_set_state(l, WORKER_CONN_BUSY);
    pool_on_connected(l->server->pool, l->waiter, l);
}

static void server_on_deadline(void *owner)
{
    struct worker_conn *l = owner;

    if (!l->client) {
        server_connect_failed(l, "connecting took too long", false);
        return;
    }
    if (server_is_abandoned(l)) {
        counter_add(COUNTER_ABANDONED_CUT, 1);
        log_warn(NULL,
            "worker " STR_FMT " still works on a request that nobody waits for: its slot is given "
            "to the next after abandoned_timeout",
            STR_ARG(l->server->text));
    }
    server_end(l); /* or it was idle for long enough */
}

void server_set_limits(const struct h1_limits *l)
{
    limits = *l;
}

void server_init(struct server *s, struct pool *p, const struct server_conf *conf)
{
    *s = (struct server){ .pool = p,
        .text = conf->addr.text,
        .sa = conf->addr.sa,
        .salen = conf->addr.salen,
        .slots = conf->slots };
    for (size_t i = 0; i < WORKER_CONN_NSTATES; i++)
        list_init(&s->conns[i]);
}

bool server_has_room(const struct server *s)
{
    return !s->removed && s->busy < s->slots;
}

void server_serve(struct server *s, struct slot_waiter *w)
{
    struct list_node *n;
    struct worker_conn *l;

    s->busy++;
    while ((n = list_first(&s->conns[WORKER_CONN_IDLE]))) {
        l = LIST_OWNER(n, struct worker_conn, node);
        if (!h1_client_usable(l->client)) {
            server_end(l);
            continue;
        }
        deadline_clear(&l->deadline);
        l->waiter = w;
        w->link = l;
        server_set_state(l, WORKER_CONN_BUSY);
        pool_on_connected(s->pool, w, l);
        return;
    }
    l = calloc(1, sizeof(*l));
    if (l)
        l->conn = conn_open((struct sockaddr *)&s->sa, s->salen, NULL, server_on_conn, l);
    if (!l || !l->conn) {
        /* Out of descriptors or memory: no fault of the server's. */
        free(l);
        s->busy--;
        s->full_until_ms = loop_now_ms() + FULL_MS;
        pool_on_backlog_full(s->pool, w, s);
        return;
    }
    l->server = s;
    l->waiter = w;
    w->link = l;
    deadline_init(&l->deadline, server_on_deadline, l);
    deadline_set(&l->deadline, pool_conf(s->pool)->connect_timeout_ms);
    server_set_state(l, WORKER_CONN_CONNECTING);
}

bool server_abandon(struct worker_conn *l)
{
    uint64_t timeout_ms = pool_conf(l->server->pool)->abandoned_timeout_ms;

    if (l->closed || !l->client || timeout_ms == 0 || !h1_client_abandon(l->client))
        return false;
    counter_add(COUNTER_ABANDONED, 1);
    l->waiter = NULL;
    server_set_state(l, WORKER_CONN_ABANDONED);
    deadline_set(&l->deadline, timeout_ms);
    return true;
}

void server_take_back(struct worker_conn *l)
{
    struct server *s = l->server;

    l->waiter = NULL;
    s->busy--;
    if (!l->client && !l->closed)
        server_end(l); /* was still connecting */
}

void server_close(struct server *s, bool all)
{
    for (int i = 0; i < WORKER_CONN_NSTATES; i++) {
        if (!all && i != WORKER_CONN_IDLE)
            continue;
        while (list_first(&s->conns[i]))
            server_end(LIST_OWNER(list_first(&s->conns[i]), struct worker_conn, node));
    }
}
