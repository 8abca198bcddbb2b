/* Connections to one server. A slot is taken when a wish is given to the server and free again when
 * the wish has let go. */
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

static void free_link(void *what)
{
    free(what);
}

static bool is_abandoned(const struct link *l)
{
    return l->node.on == &l->server->links[LINK_ABANDONED];
}

/* The worker is done with what nobody wanted any more. */
static void leave_abandoned(struct link *l)
{
    list_remove(&l->node);
    l->server->busy--;
    pool_on_slot_free(l->server->pool);
}

static void end(struct link *l)
{
    if (l->closed)
        return;
    l->closed = true;
    if (is_abandoned(l))
        leave_abandoned(l);
    deadline_close(&l->deadline);
    list_remove(&l->node);
    if (l->client)
        h1_client_close(l->client);
    else
        conn_close(l->conn);
    loop_bury(&l->grave, l, free_link);
}

static void set_state(struct link *l, enum link_state to)
{
    list_push_front(&l->server->links[to], &l->node);
}

/* RFC 9112 9.6 wants "Connection: close" from who closes after a response. Some servers leave it
 * out (uWSGI's http-socket), and a request that crosses such a close is lost: nobody can know
 * whether it was seen. Known for one, its connections are not kept. A server that has kept one
 * before, and closes now, restarts or ran out of patience. */
static void learn_of_close(struct link *l, const struct h1_client *c)
{
    struct server *s = l->server;
    bool soon = l->node.on == &s->links[LINK_IDLE] && loop_now_ms() - l->idle_since_ms < DROP_MS;

    if (s->keeps || s->drops || l->answered != 1 || !(soon || h1_client_went_unheard(c)))
        return;
    s->drops = true;
    log_warn(NULL,
        "worker " STR_FMT " closes connections after a response without \"Connection: close\": "
        "each request gets one of its own from now on",
        STR_ARG(s->text));
}

static void connect_failed(struct link *l, const char *why, bool full)
{
    struct server *s = l->server;
    const struct pool_conf *pc = pool_conf(s->pool);
    struct slot_wish *w = l->wish;

    l->wish = NULL;
    s->busy--;
    end(l);
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

static void on_client(void *owner, struct h1_client *c, enum h1_client_event ev)
{
    struct link *l = owner;

    switch (ev) {
    case H1_CLIENT_IDLE:
        if (is_abandoned(l))
            leave_abandoned(l);
        l->answered++;
        if (l->answered > 1)
            l->server->keeps = true;
        if (l->server->removed || l->server->drops ||
            l->server->links[LINK_IDLE].count >= l->server->slots) {
            end(l);
            return;
        }
        l->idle_since_ms = loop_now_ms();
        set_state(l, LINK_IDLE);
        deadline_set(&l->deadline, pool_conf(l->server->pool)->keep_alive_timeout_ms);
        break;
    case H1_CLIENT_CLOSED:
        learn_of_close(l, c);
        l->client = NULL;
        l->conn = NULL;
        end(l);
        break;
    }
}

static void on_conn(void *owner, struct conn *c, enum conn_event ev)
{
    struct link *l = owner;

    if (ev == CONN_FAILED) {
        connect_failed(
            l, conn_strerror(c), conn_error(c) == CONN_E_CONNECT && conn_errno(c) == EAGAIN);
        return;
    }
    if (ev != CONN_CONNECTED)
        return;
    deadline_clear(&l->deadline);
    l->client = h1_client_open(c, &limits, on_client, l);
    if (!l->client) {
        connect_failed(l, "out of memory", false);
        return;
    }
    l->server->pause_ms = 0;
    l->server->paused_until_ms = 0;
    set_state(l, LINK_BUSY);
    pool_on_connected(l->server->pool, l->wish, l);
}

static void on_deadline(void *owner)
{
    struct link *l = owner;

    if (!l->client) {
        connect_failed(l, "connecting took too long", false);
        return;
    }
    if (is_abandoned(l)) {
        counter_add(COUNTER_ABANDONED_CUT, 1);
        log_warn(NULL,
            "worker " STR_FMT " still works on a request that nobody waits for: its slot is given "
            "to the next after abandoned_timeout",
            STR_ARG(l->server->text));
    }
    end(l); /* or it was idle for long enough */
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
    for (size_t i = 0; i < LINK_NSTATES; i++)
        list_init(&s->links[i]);
}

bool server_has_room(const struct server *s)
{
    return !s->removed && s->busy < s->slots;
}

void server_serve(struct server *s, struct slot_wish *w)
{
    struct list_node *n;
    struct link *l;

    s->busy++;
    while ((n = list_first(&s->links[LINK_IDLE]))) {
        l = LIST_OWNER(n, struct link, node);
        if (!h1_client_usable(l->client)) {
            end(l);
            continue;
        }
        deadline_clear(&l->deadline);
        l->wish = w;
        w->link = l;
        set_state(l, LINK_BUSY);
        pool_on_connected(s->pool, w, l);
        return;
    }
    l = calloc(1, sizeof(*l));
    if (l)
        l->conn = conn_open((struct sockaddr *)&s->sa, s->salen, NULL, on_conn, l);
    if (!l || !l->conn) {
        /* Out of descriptors or memory: no fault of the server's. */
        free(l);
        s->busy--;
        s->full_until_ms = loop_now_ms() + FULL_MS;
        pool_on_backlog_full(s->pool, w, s);
        return;
    }
    l->server = s;
    l->wish = w;
    w->link = l;
    deadline_init(&l->deadline, on_deadline, l);
    deadline_set(&l->deadline, pool_conf(s->pool)->connect_timeout_ms);
    set_state(l, LINK_CONNECTING);
}

bool server_abandon(struct link *l)
{
    uint64_t timeout_ms = pool_conf(l->server->pool)->abandoned_timeout_ms;

    if (l->closed || !l->client || timeout_ms == 0 || !h1_client_abandon(l->client))
        return false;
    counter_add(COUNTER_ABANDONED, 1);
    l->wish = NULL;
    set_state(l, LINK_ABANDONED);
    deadline_set(&l->deadline, timeout_ms);
    return true;
}

void server_take_back(struct link *l)
{
    struct server *s = l->server;

    l->wish = NULL;
    s->busy--;
    if (!l->client && !l->closed)
        end(l); /* was still connecting */
}

void server_close(struct server *s, bool all)
{
    for (int i = 0; i < LINK_NSTATES; i++) {
        if (!all && i != LINK_IDLE)
            continue;
        while (list_first(&s->links[i]))
            end(LIST_OWNER(list_first(&s->links[i]), struct link, node));
    }
}
