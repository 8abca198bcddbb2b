/* Connections to one server. A slot is taken when a waiter is given to the server, and free again
 * when the waiter has released it. */
#include "workers/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "observe/counter.h"
#include "observe/log.h"
#include "workers/poolstate.h"

enum {
    FULL_MS = 20,   /* after a full backlog */
    DROP_MS = 1000, /* a server that closes this soon after a response never keeps connections */
};

static void server_free_conn(void *what)
{
    free(what);
}

static bool server_is_abandoned(const struct worker_conn *l)
{
    return l->node.on == &l->server->conns[WORKER_CONN_ABANDONED];
}

/* The worker is done with a request that nobody waited for any more. */
static void server_leave_abandoned(struct worker_conn *l)
{
    list_remove(&l->node);
    l->server->busy--;
    l->server->events->on_slot_free(l->server->pool);
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
    loop_free_later(&l->deferred_free, l, server_free_conn);
}

static void server_set_state(struct worker_conn *l, enum worker_conn_state to)
{
    list_push_front(&l->server->conns[to], &l->node);
}

/* RFC 9112 9.6 wants "Connection: close" in a response after which the server closes. Some servers
 * leave it out (uWSGI's http-socket), and a request that crosses such a close is lost: nobody can
 * know whether it was seen. The connections of such a server are not kept. A server that has kept
 * one before and closes now is restarting, or its idle timeout has passed. */
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

static void server_connect(struct worker_conn *l);

/* Whether an address of the name is left to try. */
static bool server_has_untried(const struct worker_conn *l)
{
    return l->server->naddrs > 0 && l->server->naddrs < 32 && l->tried > 0 &&
           l->tried != (UINT32_C(1) << l->server->naddrs) - 1;
}

static void server_connect_failed(struct worker_conn *l, const char *why, bool full)
{
    struct server *s = l->server;
    const struct pool_conf *pc = s->pool->conf;
    struct slot_waiter *w = l->waiter;
    bool once = l->once;

    l->waiter = NULL;
    s->busy--;
    server_end(l);
    if (full) {
        s->full_until_ms = loop_now_ms() + FULL_MS;
        s->events->on_backlog_full(s->pool, w, s);
        return;
    }
    if (once) {
        s->events->on_connect_failed(s->pool, w, s, why); /* this is no evidence about the server */
        return;
    }
    s->keeps = s->drops = false; /* the server that comes back may be another */
    s->ask_again_ms = 0;         /* its name may have a new address */
    s->pause_ms = s->pause_ms ? s->pause_ms * 2 : pc->unreachable_first_pause_ms;
    if (s->pause_ms > pc->unreachable_max_pause_ms)
        s->pause_ms = pc->unreachable_max_pause_ms;
    s->paused_until_ms = loop_now_ms() + s->pause_ms;
    s->events->on_connect_failed(s->pool, w, s, why);
}

/* Whether the server's name has this connection's address no longer. */
static bool server_has_moved(const struct worker_conn *l)
{
    const struct server *s = l->server;

    for (size_t i = 0; i < s->naddrs; i++)
        if (s->addrs[i].family == l->addr.family &&
            memcmp(s->addrs[i].ip, l->addr.ip, sizeof(l->addr.ip)) == 0)
            return false;
    return s->naddrs > 0;
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
        if (l->server->removed || l->server->drops || l->once || server_has_moved(l) ||
            l->server->conns[WORKER_CONN_IDLE].count >= l->server->slots) {
            server_end(l);
            return;
        }
        l->idle_since_ms = loop_now_ms();
        server_set_state(l, WORKER_CONN_IDLE);
        deadline_set(&l->deadline, l->server->pool->conf->keep_alive_timeout_ms);
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

    if (ev == CONN_FAILED && server_has_untried(l)) {
        l->conn = NULL;
        conn_close(c);
        server_connect(l);
        return;
    }
    if (ev == CONN_FAILED) {
        server_connect_failed(
            l, conn_strerror(c), conn_error(c) == CONN_E_CONNECT && conn_errno(c) == EAGAIN);
        return;
    }
    if (ev != CONN_CONNECTED)
        return;
    deadline_clear(&l->deadline);
    l->client = h1_client_open(c, &l->server->pool->shared->limits, server_on_client, l);
    if (!l->client) {
        l->conn = NULL; /* closed already */
        server_connect_failed(l, "out of memory", false);
        return;
    }
    if (!l->once)
        l->server->pause_ms = l->server->paused_until_ms = 0;
    l->server->family = l->addr.family;
    server_set_state(l, WORKER_CONN_BUSY);
    l->server->events->on_connected(l->server->pool, l->waiter, l);
}

static void server_on_deadline(void *owner)
{
    struct worker_conn *l = owner;

    if (!l->client) {
        server_connect_failed(
            l, l->conn ? "connecting took too long" : "looking its name up took too long", false);
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

void server_init(struct server *s, struct pool *p, const struct server_events *events,
    const struct server_conf *conf)
{
    *s = (struct server){
        .pool = p, .events = events, .sa = conf->addr.sa, .salen = conf->addr.salen
    };
    server_set_conf(s, conf);
    list_init(&s->returning);
    for (size_t i = 0; i < WORKER_CONN_NSTATES; i++)
        list_init(&s->conns[i]);
}

void server_set_conf(struct server *s, const struct server_conf *conf)
{
    s->text = conf ? conf->addr.text : (struct str){ 0 };
    s->host = conf ? conf->addr.host : (struct str){ 0 };
    if (!conf)
        return;
    s->port = conf->addr.port;
    s->slots = conf->slots;
}

void server_free(struct server *s)
{
    list_remove(&s->node);
    resolver_cancel(&s->lookup);
    free(s);
}

bool server_has_room(const struct server *s)
{
    return !s->removed && s->busy < s->slots;
}

/* ---- connecting ---- */

/* The next address of the name: the family that answered last goes first, its addresses in turn.
 */
static const struct addr *server_pick_address(struct worker_conn *l)
{
    struct server *s = l->server;

    for (int any_family = 0; any_family < 2; any_family++)
        for (size_t k = 0; k < s->naddrs; k++) {
            size_t i = (s->next_addr + k) % s->naddrs;

            if (l->tried & UINT32_C(1) << i || (!any_family && s->addrs[i].family != s->family))
                continue;
            l->tried |= UINT32_C(1) << i;
            s->next_addr = i + 1;
            return &s->addrs[i];
        }
    return NULL;
}

/* Where the connection goes; its length, 0 if there is no such address. */
static socklen_t server_target(struct worker_conn *l, struct sockaddr_storage *sa)
{
    const struct server *s = l->server;
    const struct addr *a;

    if (l->once) {
        struct sockaddr_un *un = (struct sockaddr_un *)(void *)sa;
        struct str path = str_make(l->waiter->want.at.p + 5, l->waiter->want.at.n - 5);

        if (path.n >= sizeof(un->sun_path))
            return 0;
        memset(sa, 0, sizeof(*sa));
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, path.p, path.n);
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + 1);
    }
    if (s->host.n == 0) {
        *sa = s->sa;
        return s->salen;
    }
    a = server_pick_address(l);
    if (!a)
        return 0;
    l->addr = *a;
    l->addr.port = s->port;
    return addr_to_sockaddr(&l->addr, sa);
}

/* Begins to connect. Out of descriptors or memory, which is no fault of the server's, the waiter
 * goes back to its queue. */
static void server_connect(struct worker_conn *l)
{
    struct sockaddr_storage sa;
    socklen_t n = server_target(l, &sa);

    if (n == 0) {
        server_connect_failed(l, "its name has no address", false);
        return;
    }
    l->conn = conn_open((struct sockaddr *)&sa, n, NULL, server_on_conn, l);
    if (!l->conn)
        server_connect_failed(l, "out of descriptors or memory", true);
}

/* A connection that waits for the address of the name. */
static struct worker_conn *server_first_unaddressed(struct server *s)
{
    LIST_EACH(n, &s->conns[WORKER_CONN_CONNECTING]) {
        struct worker_conn *l = LIST_OWNER(n, struct worker_conn, node);

        if (!l->conn && !l->once)
            return l;
    }
    return NULL;
}

static void server_close_moved(struct server *s)
{
    LIST_EACH(n, &s->conns[WORKER_CONN_IDLE]) {
        struct worker_conn *l = LIST_OWNER(n, struct worker_conn, node);

        if (server_has_moved(l))
            server_end(l);
    }
}

/* An answer without addresses leaves those of the last one in force. */
static void server_on_addresses(void *owner, const struct resolver_answer *a)
{
    struct server *s = owner;
    struct worker_conn *l;
    char why[160];

    if (a->n > 0) {
        s->naddrs = a->n < SERVER_ADDRS_MAX - 1 ? a->n : SERVER_ADDRS_MAX - 1;
        memcpy(s->addrs, a->addrs, s->naddrs * sizeof(*a->addrs));
        if (s->family == 0)
            s->family = s->addrs[0].family;
        server_close_moved(s);
    }
    s->ask_again_ms = a->until_ms;
    snprintf(why, sizeof(why), "cannot resolve its name: %s", a->why);
    while ((l = server_first_unaddressed(s))) {
        if (s->naddrs > 0)
            server_connect(l);
        else
            server_connect_failed(l, why, false);
    }
}

static void server_look_up(struct server *s)
{
    struct resolver *r = poolshared_resolver(s->pool->shared);

    if (list_on(&s->lookup.node))
        return;
    /* Without memory the connections that wait for it run into connect_timeout. */
    if (r)
        resolver_ask(r, &s->lookup, s->host, server_on_addresses, s);
}

/* A kept connection that can still be used, or NULL. */
static struct worker_conn *server_take_idle(struct server *s)
{
    struct list_node *n;

    while ((n = list_first(&s->conns[WORKER_CONN_IDLE]))) {
        struct worker_conn *l = LIST_OWNER(n, struct worker_conn, node);

        if (h1_client_usable(l->client)) {
            deadline_clear(&l->deadline);
            return l;
        }
        server_end(l);
    }
    return NULL;
}

void server_serve(struct server *s, struct slot_waiter *w)
{
    bool once = w->server && w->want.at.n > 0, named = s->host.n > 0 && !once;
    struct worker_conn *l;

    s->busy++;
    if (named && loop_now_ms() >= s->ask_again_ms)
        server_look_up(s);
    if (!once && (l = server_take_idle(s))) {
        l->waiter = w;
        w->conn = l;
        server_set_state(l, WORKER_CONN_BUSY);
        s->events->on_connected(s->pool, w, l);
        return;
    }
    l = calloc(1, sizeof(*l));
    if (!l) {
        s->busy--;
        s->full_until_ms = loop_now_ms() + FULL_MS;
        s->events->on_backlog_full(s->pool, w, s);
        return;
    }
    l->server = s;
    l->waiter = w;
    l->once = once;
    w->conn = l;
    deadline_init(&l->deadline, server_on_deadline, l);
    deadline_set(&l->deadline, s->pool->conf->connect_timeout_ms);
    server_set_state(l, WORKER_CONN_CONNECTING);
    if (!named || (s->naddrs > 0 && loop_now_ms() < s->ask_again_ms))
        server_connect(l);
}

bool server_abandon(struct worker_conn *l)
{
    uint64_t timeout_ms = l->server->pool->conf->abandoned_timeout_ms;

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
    if (all)
        resolver_cancel(&s->lookup);
    for (int i = 0; i < WORKER_CONN_NSTATES; i++) {
        if (!all && i != WORKER_CONN_IDLE)
            continue;
        while (list_first(&s->conns[i]))
            server_end(LIST_OWNER(list_first(&s->conns[i]), struct worker_conn, node));
    }
}
