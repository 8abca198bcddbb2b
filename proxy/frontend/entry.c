/* Listeners, and the way of a connection from the kernel to the acceptor. */
#include "frontend/entry.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "frontend/admission.h"
#include "http/arrival.h"
#include "net/conn.h"
#include "net/proxyreader.h"
#include "observe/counter.h"
#include "observe/log.h"

enum {
    OTHER_FDS = 128, /* logs, listeners, admin pages, lookups, bodies in files */
    COMPLAIN_EVERY_MS = 10000,
    ROOM_FOR = 16, /* connections that are ended at a time when a new one finds all places taken */
};

/* A listener and what its connections begin with. */
struct entry_listener {
    struct list_node node; /* on one of the entry's lists */
    struct entry *entry;
    struct listener *listener;
    struct sni *sni;      /* NULL: in the clear */
    struct sni *next_sni; /* prepared by a reload */
    bool http2, next_http2;
    unsigned next_backlog;
    bool proxy_protocol, next_proxy_protocol;
    uint64_t proxy_protocol_timeout_ms, next_proxy_protocol_timeout_ms;
    bool stays; /* in the snapshot that is being prepared */
};

static void entry_free_listener(struct entry_listener *l)
{
    list_remove(&l->node);
    sni_unref(l->sni);
    sni_unref(l->next_sni);
    free(l);
}

static void entry_close_listener(struct entry_listener *l)
{
    listener_close(l->listener, true);
    entry_free_listener(l);
}

static void entry_on_listener_closed(void *owner, struct listener *listener)
{
    entry_free_listener(listener_data(listener));
}

/* Clients that have connected already are served. */
static void entry_drain_listener(struct entry_listener *l)
{
    if (!l->entry->started) {
        entry_close_listener(l);
        return;
    }
    list_push(&l->entry->draining, &l->node);
    listener_drain(l->listener, true, entry_on_listener_closed);
}

/* `fd` and `slot` are taken over; `sni` NULL: in the clear. */
static void entry_serve(struct entry *e, int fd, const struct addr *client,
    struct addrlimit_slot *slot, struct sni *sni, bool http2)
{
    SSL *ssl = sni ? sni_begin(sni) : NULL;
    struct sockaddr_storage sa;
    struct conn *c = NULL;

    addr_to_sockaddr(client, &sa);
    if (sni && !ssl)
        close(fd);
    else
        c = conn_accept(fd, (const struct sockaddr *)&sa, ssl, NULL, NULL);
    if (!c) {
        addrlimit_remove(slot);
        return;
    }
    *conn_address_slot(c) = *slot;
    arrival_take(e->acceptor, c, http2);
    e->on_connection(e->owner);
}

/* A connection whose proxy has yet to say who the client is, and what its listener was then. */
struct entry_pending {
    struct list_node node; /* on the entry's list */
    struct proxyreader reader;
    struct entry *entry;
    struct sni *sni;
    struct addr peer;
    struct addrlimit_slot slot;
    struct deferred_free deferred_free;
    bool http2;
};

static void entry_free_pending(void *what)
{
    free(what);
}

static void entry_end_pending(struct entry_pending *w)
{
    list_remove(&w->node);
    proxyreader_close(&w->reader);
    sni_unref(w->sni);
    addrlimit_remove(&w->slot);
    loop_free_later(&w->deferred_free, w, entry_free_pending);
}

static void entry_refuse_proxy(const struct addr *peer, const char *why)
{
    char text[ADDR_TEXT_MAX];

    counter_add(COUNTER_PROXY_HEADERS_REFUSED, 1);
    log_debug(NULL, "connection from %s refused: %s", addr_ip_text(peer, text), why);
}

static void entry_on_proxy_header(
    void *owner, int fd, const struct proxyproto *header, const char *why)
{
    struct entry_pending *w = owner;
    struct addrlimit_slot slot = { 0 };
    struct addr client = w->peer;

    if (header && header->kind == PROXYPROTO_CLIENT)
        client = header->client;
    else if (header && header->kind == PROXYPROTO_UNKNOWN)
        client = (struct addr){ 0 }; /* not the proxy: what it is trusted with is not for others */
    if (!header)
        entry_refuse_proxy(&w->peer, why);
    else if (entry_admits(w->entry, &slot, &client))
        entry_serve(w->entry, fd, &client, &slot, w->sni, w->http2);
    else
        close(fd);
    entry_end_pending(w);
}

static void entry_await_client(struct entry *e, const struct entry_listener *l, int fd,
    const struct addr *peer, struct addrlimit_slot *at)
{
    struct entry_pending *w = calloc(1, sizeof(*w));

    if (!w) {
        close(fd);
        addrlimit_remove(at);
        return;
    }
    w->entry = e;
    w->sni = l->sni ? sni_ref(l->sni) : NULL;
    w->http2 = l->http2;
    w->peer = *peer;
    w->slot = *at;
    list_push(&e->pending, &w->node);
    proxyreader_open(&w->reader, fd, l->proxy_protocol_timeout_ms, entry_on_proxy_header, w);
}

static void entry_on_accept(
    void *owner, struct listener *listener, int fd, const struct sockaddr *peer)
{
    struct entry_listener *l = listener_data(listener);
    struct entry *e = owner;
    struct addr a = addr_of(peer);
    struct addrlimit_slot slot = { 0 };

    counter_add(COUNTER_CONNECTIONS, 1);
    if (l->proxy_protocol && !conf_trusts(e->conf, peer)) {
        entry_refuse_proxy(
            &a, "it is none of trusted_proxies, which alone may speak the PROXY protocol");
        close(fd);
    } else if (!entry_admits(e, &slot, &a)) {
        close(fd);
    } else if (l->proxy_protocol) {
        entry_await_client(e, l, fd, &a, &slot);
    } else {
        entry_serve(e, fd, &a, &slot, l->sni, l->http2);
    }
}

/* Each at debug, and one now and then where an operator sees it: a proxy that the conf does not
 * know looks like this too. */
static void entry_log_refusal(struct entry *e, const struct addr *a, const char *why)
{
    char text[ADDR_TEXT_MAX];

    addr_ip_text(a, text);
    if (e->complained_ms && loop_now_ms() - e->complained_ms < COMPLAIN_EVERY_MS) {
        log_debug(NULL, "connection from %s refused: %s", text, why);
        return;
    }
    e->complained_ms = loop_now_ms();
    log_warn(NULL,
        "connections from %s are refused: %s; if many clients come from there, name it in "
        "trusted_proxies",
        text, why);
}

bool entry_admits(struct entry *e, struct addrlimit_slot *p, const struct addr *a)
{
    int rc = addrlimit_add(&e->addresses, p, a, admission_address_counts(e->conf, a));

    if (rc == 0)
        return true;
    counter_add(COUNTER_CONNECTIONS_REFUSED, 1);
    entry_log_refusal(e, a, addrlimit_strerror(rc));
    return false;
}

size_t entry_count(const struct entry *e)
{
    return conn_count_accepted() + e->pending.count;
}

/* At most max_connections, and never so many that no descriptor is left for the workers. A new
 * connection then takes the slot of the one that has been idle longest. */
static bool entry_may_accept(void *owner, bool waits)
{
    struct entry *e = owner;
    size_t ended;

    if (entry_count(e) < e->connections_max)
        return true;
    ended = waits ? acceptor_make_room(e->acceptor, ROOM_FOR) : 0;
    counter_add(COUNTER_CONNECTIONS_EVICTED, ended);
    if (ended > 0)
        log_debug(NULL, "max_connections are open: %zu idle ones ended for new ones", ended);
    return entry_count(e) < e->connections_max;
}

/* The descriptors that workers and upstreams may need when clients have all others: without them
 * nobody could be answered. */
static size_t entry_reserved_fds(const struct conf *conf)
{
    size_t n = OTHER_FDS + conf->descriptors_reserved;

    for (size_t i = 0; i < conf->npools; i++)
        for (size_t k = 0; k < conf->pools[i].nservers; k++)
            n += conf->pools[i].servers[k].slots;
    for (size_t i = 0; i < conf->nupstreams; i++)
        n += conf->upstreams[i].max_connections;
    return n;
}

static size_t entry_connections_max(const struct conf *conf)
{
    size_t reserved = entry_reserved_fds(conf), fds;
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur == RLIM_INFINITY)
        return conf->max_connections;
    fds = r.rlim_cur > 2 * reserved ? r.rlim_cur - reserved : r.rlim_cur / 2;
    if (fds < conf->max_connections)
        log_info(NULL,
            "max_connections is %zu, but with a limit of %zu descriptors at most %zu fit beside "
            "those of workers and upstreams",
            conf->max_connections, (size_t)r.rlim_cur, fds);
    return fds < conf->max_connections ? fds : conf->max_connections;
}

static struct entry_listener *entry_find_listener(struct entry *e, struct str text)
{
    LIST_EACH(n, &e->listeners) {
        struct entry_listener *l = LIST_OWNER(n, struct entry_listener, node);

        if (str_eq(listener_text(l->listener), text))
            return l;
    }
    return NULL;
}

void entry_abandon(struct entry *e)
{
    LIST_EACH(n, &e->next_listeners)
        entry_close_listener(LIST_OWNER(n, struct entry_listener, node));
    LIST_EACH(n, &e->listeners) {
        struct entry_listener *l = LIST_OWNER(n, struct entry_listener, node);

        sni_unref(l->next_sni);
        l->next_sni = NULL;
        l->stays = false;
    }
}

int entry_prepare(struct entry *e, struct conf *conf, char *why, size_t whylen)
{
    for (size_t i = 0; i < conf->nlistens; i++) {
        const struct listen_conf *lc = &conf->listens[i];
        struct entry_listener *l = entry_find_listener(e, lc->addr.text);

        if (!l) {
            l = calloc(1, sizeof(*l));
            if (l)
                l->listener = listener_open(&lc->addr, lc->backlog, e->reuse_port, why, whylen);
            if (!l || !l->listener) {
                free(l);
                goto failed;
            }
            l->entry = e;
            listener_set_data(l->listener, l);
            list_push(&e->next_listeners, &l->node);
        }
        l->stays = true;
        l->next_http2 = lc->http2;
        l->next_backlog = lc->backlog;
        l->next_proxy_protocol = lc->proxy_protocol;
        l->next_proxy_protocol_timeout_ms = lc->proxy_protocol_timeout_ms;
        if (lc->certificate.n) {
            l->next_sni = sni_new(conf, lc, l->sni, e->tickets, why, whylen);
            if (!l->next_sni)
                goto failed;
        }
    }
    return 0;

failed:
    entry_abandon(e);
    return -1;
}

static void entry_warn(const char *line)
{
    log_warn(NULL, "%s", line);
}

void entry_commit(struct entry *e, struct conf *conf)
{
    struct list_node *n;

    e->conf = conf;
    e->connections_max = entry_connections_max(conf);
    e->addresses.limits =
        (struct addrlimit_bounds){ conf->address_connections_max, conf->address_newcomers_max };
    LIST_EACH(at, &e->listeners) {
        struct entry_listener *l = LIST_OWNER(at, struct entry_listener, node);

        if (!l->stays)
            entry_drain_listener(l);
    }
    while ((n = list_first(&e->next_listeners))) {
        list_push(&e->listeners, n);
        if (e->started)
            listener_start(LIST_OWNER(n, struct entry_listener, node)->listener, entry_on_accept,
                entry_may_accept, e);
    }
    if (e->tickets)
        tickets_set_secret(e->tickets, conf->ticket_secret, loop_wall_ms());
    LIST_EACH(at, &e->listeners) {
        struct entry_listener *l = LIST_OWNER(at, struct entry_listener, node);

        if (l->next_sni)
            sni_inspect(l->next_sni, loop_wall_ms(), entry_warn);
        sni_unref(l->sni);
        l->sni = l->next_sni;
        l->next_sni = NULL;
        l->http2 = l->next_http2;
        l->proxy_protocol = l->next_proxy_protocol;
        l->proxy_protocol_timeout_ms = l->next_proxy_protocol_timeout_ms;
        listener_set_backlog(l->listener, l->next_backlog);
        l->stays = false;
    }
}

void entry_init(struct entry *e, struct acceptor *acceptor, struct tickets *tickets,
    bool reuse_port, void (*on_connection)(void *owner), void *owner)
{
    *e = (struct entry){
        .acceptor = acceptor,
        .tickets = tickets,
        .reuse_port = reuse_port,
        .on_connection = on_connection,
        .owner = owner,
    };
    list_init(&e->listeners);
    list_init(&e->next_listeners);
    list_init(&e->draining);
    list_init(&e->pending);
    addrlimit_init(&e->addresses);
}

void entry_start(struct entry *e)
{
    e->started = true;
    LIST_EACH(n, &e->listeners)
        listener_start(LIST_OWNER(n, struct entry_listener, node)->listener, entry_on_accept,
            entry_may_accept, e);
}

void entry_stop(struct entry *e)
{
    LIST_EACH(n, &e->listeners)
        entry_drain_listener(LIST_OWNER(n, struct entry_listener, node));
}

bool entry_is_draining(const struct entry *e)
{
    return list_first(&e->draining) != NULL;
}

void entry_close(struct entry *e)
{
    LIST_EACH(n, &e->listeners)
        entry_close_listener(LIST_OWNER(n, struct entry_listener, node));
    LIST_EACH(n, &e->draining)
        entry_close_listener(LIST_OWNER(n, struct entry_listener, node));
    while (list_first(&e->pending))
        entry_end_pending(LIST_OWNER(list_first(&e->pending), struct entry_pending, node));
}

void entry_each_sni(const struct entry *e, entry_sni_fn *fn, void *owner)
{
    LIST_EACH(n, &e->listeners) {
        const struct entry_listener *l = LIST_OWNER(n, struct entry_listener, node);

        if (l->sni)
            fn(owner, listener_text(l->listener), l->sni);
    }
}
