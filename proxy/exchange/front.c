/* The front: listeners, the connections behind them, and the swap of snapshots. */
#include "exchange/front.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/buf.h"
#include "http/limits.h"
#include "net/conn.h"
#include "net/linger.h"
#include "net/proxyreader.h"
#include "net/sni.h"
#include "observe/access.h"
#include "observe/counter.h"
#include "workers/server.h"

/* A listener and what its connections begin with. */
struct door {
    struct list_node node; /* on the front's doors or next_doors */
    struct front *front;
    struct listener *listener;
    struct sni *sites;    /* NULL: in the clear */
    struct sni *next_sni; /* prepared by a reload */
    bool http2, next_http2;
    bool proxy_protocol, next_proxy_protocol;
    uint64_t proxy_protocol_timeout_ms, next_proxy_protocol_timeout_ms;
    bool stays; /* in the snapshot that is being prepared */
};

enum {
    OTHER_FDS = 128, /* logs, listeners, admin pages, lookups, bodies in files */
    TRIM_PEAK = 512, /* fewer exchanges or connections leave nothing worth the work */
    TRIM_PAUSE_MS = 1000,
    COMPLAIN_EVERY_MS = 10000,
    ROOM_FOR = 16, /* connections that are ended at a time when a new one finds all places taken */
    HTTP2_OUT_MAX = 16 << 10, /* of one response: what fills a frame; more waits behind it */
};

static void front_close_door(struct door *d, bool unlink_file)
{
    list_remove(&d->node);
    listener_close(d->listener, unlink_file);
    sni_unref(d->sites);
    sni_unref(d->next_sni);
    free(d);
}

/* High water is noted, and looked at again until it has gone down. */
static void front_watch_tide(struct front *f)
{
    size_t exchanges = front_in_flight(f), connections = conn_count_accepted();

    if (exchanges > f->peak.exchanges)
        f->peak.exchanges = exchanges;
    if (connections > f->peak.connections)
        f->peak.connections = connections;
    if ((f->peak.exchanges >= TRIM_PEAK || f->peak.connections >= TRIM_PEAK) &&
        !deadline_is_set(&f->trim_timer))
        deadline_set(&f->trim_timer, TRIM_PAUSE_MS);
}

static bool front_has_gone(size_t peak, size_t now)
{
    return peak >= TRIM_PEAK && now < peak / 8;
}

/* When a wave of exchanges or connections has gone, what it needed goes back to the system: once no
 * more are going, for what is freed later would stay. */
static void front_on_trim(void *owner)
{
    struct front *f = owner;
    size_t exchanges = front_in_flight(f), connections = conn_count_accepted();
    bool going = exchanges < f->seen.exchanges || connections < f->seen.connections;

    f->seen = (struct tide){ exchanges, connections };
    if (!going && (front_has_gone(f->peak.exchanges, exchanges) ||
                      front_has_gone(f->peak.connections, connections))) {
        f->peak = (struct tide){ exchanges, connections };
        buf_trim();
#ifdef __GLIBC__
        malloc_trim(0);
#endif
    }
    front_watch_tide(f);
}

/* `fd` and `place` are taken over; `sites` NULL: in the clear. */
static void front_serve(struct front *f, int fd, const struct addr *client,
    struct addrlimit_slot *place, struct sni *sites, bool http2)
{
    SSL *ssl = sites ? sni_begin(sites) : NULL;
    struct sockaddr_storage sa;
    struct conn *c = NULL;

    addr_to_sockaddr(client, &sa);
    if (sites && !ssl)
        close(fd);
    else
        c = conn_accept(fd, (const struct sockaddr *)&sa, ssl, NULL, NULL);
    if (!c) {
        addrlimit_remove(place);
        return;
    }
    *conn_place(c) = *place;
    acceptor_take(&f->acceptor, c, http2);
    front_watch_tide(f);
}

/* A connection whose proxy has yet to say who the client is, and what its listener was then. */
struct awaited {
    struct list_node node; /* on the front's awaited */
    struct proxyreader preamble;
    struct front *front;
    struct sni *sites;
    struct addr peer;
    struct addrlimit_slot place;
    struct deferred_free deferred_free;
    bool http2;
};

static void front_free_awaited(void *what)
{
    free(what);
}

static void front_end_awaited(struct awaited *w)
{
    list_remove(&w->node);
    proxyreader_close(&w->preamble);
    sni_unref(w->sites);
    addrlimit_remove(&w->place);
    loop_free_later(&w->deferred_free, w, front_free_awaited);
}

static void front_refuse_proxy(const struct addr *peer, const char *why)
{
    char text[ADDR_TEXT_MAX];

    counter_add(COUNTER_PROXY_HEADERS_REFUSED, 1);
    log_debug(NULL, "connection from %s refused: %s", addr_ip_text(peer, text), why);
}

static void front_on_preamble(void *owner, int fd, const struct proxyproto *header, const char *why)
{
    struct awaited *w = owner;
    struct addrlimit_slot place = { 0 };
    struct addr client = w->peer;

    if (header && header->kind == PROXYPROTO_CLIENT)
        client = header->client;
    else if (header && header->kind == PROXYPROTO_UNKNOWN)
        client = (struct addr){ 0 }; /* not the proxy: what it is trusted with is not for others */
    if (!header)
        front_refuse_proxy(&w->peer, why);
    else if (front_admits(w->front, &place, &client))
        front_serve(w->front, fd, &client, &place, w->sites, w->http2);
    else
        close(fd);
    front_end_awaited(w);
}

static void front_await_client(struct front *f, const struct door *d, int fd,
    const struct addr *peer, struct addrlimit_slot *at)
{
    struct awaited *w = calloc(1, sizeof(*w));

    if (!w) {
        close(fd);
        addrlimit_remove(at);
        return;
    }
    w->front = f;
    w->sites = d->sites ? sni_ref(d->sites) : NULL;
    w->http2 = d->http2;
    w->peer = *peer;
    w->place = *at;
    list_push(&f->awaited, &w->node);
    proxyreader_open(&w->preamble, fd, d->proxy_protocol_timeout_ms, front_on_preamble, w);
}

static void front_on_accept(void *owner, struct listener *l, int fd, const struct sockaddr *peer)
{
    struct door *d = listener_data(l);
    struct front *f = owner;
    struct addr a = addr_of(peer);
    struct addrlimit_slot place = { 0 };

    counter_add(COUNTER_CONNECTIONS, 1);
    if (d->proxy_protocol && !conf_trusts(f->conf, peer)) {
        front_refuse_proxy(
            &a, "it is none of trusted_proxies, which alone may speak the PROXY protocol");
        close(fd);
    } else if (!front_admits(f, &place, &a)) {
        close(fd);
    } else if (d->proxy_protocol) {
        front_await_client(f, d, fd, &a, &place);
    } else {
        front_serve(f, fd, &a, &place, d->sites, d->http2);
    }
}

bool front_bounds(const struct front *f, const struct addr *a)
{
    struct sockaddr_storage sa;

    addr_to_sockaddr(a, &sa);
    return (a->family == AF_INET || a->family == AF_INET6) &&
           (f->conf->address_limit_loopback || !addr_is_local(a)) &&
           !conf_trusts(f->conf, (const struct sockaddr *)&sa);
}

/* Each at debug, and one now and then where an operator sees it: a proxy that the conf does not
 * know looks like this too. */
static void front_log_refusal(struct front *f, const struct addr *a, const char *why)
{
    char text[ADDR_TEXT_MAX];

    addr_ip_text(a, text);
    if (f->complained_ms && loop_now_ms() - f->complained_ms < COMPLAIN_EVERY_MS) {
        log_debug(NULL, "connection from %s refused: %s", text, why);
        return;
    }
    f->complained_ms = loop_now_ms();
    log_warn(NULL,
        "connections from %s are refused: %s; if many clients come from there, name it in "
        "trusted_proxies",
        text, why);
}

bool front_admits(struct front *f, struct addrlimit_slot *p, const struct addr *a)
{
    int rc = addrlimit_add(&f->crowd, p, a, front_bounds(f, a));

    if (rc == 0)
        return true;
    counter_add(COUNTER_CONNECTIONS_REFUSED, 1);
    front_log_refusal(f, a, addrlimit_strerror(rc));
    return false;
}

static size_t front_count_connections(const struct front *f)
{
    return conn_count_accepted() + f->awaited.count;
}

/* At most max_connections, and never so many that no descriptor is left for the workers. Who comes
 * then gets the place of who has been idle longest. */
static bool front_may_accept(void *owner, bool waits)
{
    struct front *f = owner;
    size_t ended;

    if (front_count_connections(f) < f->connections_max)
        return true;
    ended = waits ? acceptor_make_room(&f->acceptor, ROOM_FOR) : 0;
    counter_add(COUNTER_CONNECTIONS_EVICTED, ended);
    if (ended > 0)
        log_debug(NULL, "max_connections are open: %zu idle ones ended for those who come", ended);
    return front_count_connections(f) < f->connections_max;
}

/* The descriptors that workers and upstreams may need when clients have all others: without them
 * nobody could be answered. */
static size_t front_reserved_fds(const struct conf *conf)
{
    size_t n = OTHER_FDS;

    for (size_t i = 0; i < conf->npools; i++)
        for (size_t k = 0; k < conf->pools[i].nservers; k++)
            n += conf->pools[i].servers[k].slots;
    for (size_t i = 0; i < conf->nupstreams; i++)
        n += conf->upstreams[i].max_connections;
    return n;
}

static size_t front_connections_max(const struct conf *conf)
{
    size_t reserved = front_reserved_fds(conf), fds;
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur == RLIM_INFINITY)
        return conf->max_connections;
    fds = r.rlim_cur > 2 * reserved ? r.rlim_cur - reserved : r.rlim_cur / 2;
    if (fds < conf->max_connections)
        log_info(NULL,
            "max_connections is %zu, but with a limit of %zu descriptors at most %zu fit beside "
            "those "
            "of workers and upstreams",
            conf->max_connections, (size_t)r.rlim_cur, fds);
    return fds < conf->max_connections ? fds : conf->max_connections;
}

static void front_on_request(void *owner, struct stream *s, const struct stream_request *r)
{
    exchange_begin(owner, s, r);
    front_watch_tide(owner);
}

static struct h2_server_limits front_http2_limits(const struct conf *c)
{
    return (struct h2_server_limits){
        .common = {
            .stream_window = (uint32_t)c->http2_stream_window,
            .connection_window = (uint32_t)c->http2_connection_window,
            .out_max = HTTP2_OUT_MAX,
            .queue_max = c->http2_queue_max,
            .head_max = c->header_max,
            .fields_max = c->header_fields_max,
            .ping_interval_ms = c->http2_ping_interval_ms,
            .ping_timeout_ms = c->http2_ping_timeout_ms,
        },
        .streams_max = (uint32_t)c->http2_streams_max,
        .stalled_max = (uint32_t)c->http2_stalled_max,
        .stalled_timeout_ms = c->http2_stalled_timeout_ms,
        .nuisances_max = {
            [H2_RESETS] = (uint32_t)c->http2_resets_max,
            [H2_GLITCHES] = (uint32_t)c->http2_glitches_max,
            [H2_CONTROLS] = (uint32_t)c->http2_controls_max,
            [H2_EMPTIES] = (uint32_t)c->http2_empty_frames_max,
            [H2_UPDATES] = (uint32_t)c->http2_window_updates_max,
            [H2_TINY] = (uint32_t)c->http2_tiny_windows_max,
        },
    };
}

static bool front_has_websockets(const struct conf *c)
{
    for (size_t i = 0; i < c->nroutes; i++)
        if (c->routes[i].websocket)
            return true;
    return false;
}

/* What the acceptor and the servers take from the snapshot in force. */
static void front_apply_limits(struct front *f)
{
    const struct conf *c = f->conf;
    struct h1_limits limits = limits_of(c);

    f->acceptor.limits = limits;
    f->acceptor.websockets = front_has_websockets(c);
    f->acceptor.http2 = front_http2_limits(c);
    f->acceptor.handshake_timeout_ms = c->handshake_timeout_ms;
    f->acceptor.header_timeout_ms = c->header_timeout_ms;
    f->acceptor.body_timeout_ms = c->body_timeout_ms;
    f->acceptor.send_timeout_ms = c->send_timeout_ms;
    f->acceptor.keep_alive_timeout_ms = c->keep_alive_timeout_ms;
    f->acceptor.body_rate_min = c->body_rate_min;
    f->acceptor.send_rate_min = c->send_rate_min;
    f->acceptor.rate_window_ms = c->rate_window_ms;
    conn_set_output_max(c->output_max);
    linger_set_limits(
        &(struct linger_limits){ c->linger_timeout_ms, c->send_rate_min, c->rate_window_ms });
    f->acceptor.requests_max = c->connection_requests_max;
    f->crowd.limits =
        (struct addrlimit_bounds){ c->address_connections_max, c->address_newcomers_max };
    f->connections_max = front_connections_max(c);
    server_set_limits(&limits);
}

static struct door *front_find_door(struct front *f, struct str text)
{
    LIST_EACH(n, &f->doors)
    {
        struct door *d = LIST_OWNER(n, struct door, node);

        if (str_eq(listener_text(d->listener), text))
            return d;
    }
    return NULL;
}

static void front_abandon_doors(struct front *f)
{
    LIST_EACH(n, &f->next_doors)
    front_close_door(LIST_OWNER(n, struct door, node), true);
    LIST_EACH(n, &f->doors)
    {
        struct door *d = LIST_OWNER(n, struct door, node);

        sni_unref(d->next_sni);
        d->next_sni = NULL;
        d->stays = false;
    }
}

/* Binds what is new, makes the TLS contexts; nothing that is in use changes. */
static int front_prepare_doors(struct front *f, const struct conf *conf, char *why, size_t whylen)
{
    for (size_t i = 0; i < conf->nlistens; i++) {
        const struct listen_conf *lc = &conf->listens[i];
        struct door *d = front_find_door(f, lc->addr.text);

        if (!d) {
            d = calloc(1, sizeof(*d));
            if (d)
                d->listener = listener_open(lc->addr.text, (const struct sockaddr *)&lc->addr.sa,
                    lc->addr.salen, lc->backlog, f->reuse_port, why, whylen);
            if (!d || !d->listener) {
                free(d);
                goto failed;
            }
            d->front = f;
            listener_set_data(d->listener, d);
            list_push(&f->next_doors, &d->node);
        }
        d->stays = true;
        d->next_http2 = lc->http2;
        d->next_proxy_protocol = lc->proxy_protocol;
        d->next_proxy_protocol_timeout_ms = lc->proxy_protocol_timeout_ms;
        if (lc->certificate.n) {
            d->next_sni = sni_new(conf, lc, d->sites, f->tickets, why, whylen);
            if (!d->next_sni)
                goto failed;
        }
    }
    return 0;

failed:
    front_abandon_doors(f);
    return -1;
}

static void front_warn(const char *line)
{
    log_warn(NULL, "%s", line);
}

static void front_commit_doors(struct front *f, const struct conf *conf)
{
    struct list_node *n;

    LIST_EACH(at, &f->doors)
    {
        struct door *d = LIST_OWNER(at, struct door, node);

        if (!d->stays)
            front_close_door(d, true);
    }
    while ((n = list_first(&f->next_doors))) {
        list_push(&f->doors, n);
        if (f->started)
            listener_start(
                LIST_OWNER(n, struct door, node)->listener, front_on_accept, front_may_accept, f);
    }
    if (f->tickets)
        tickets_set_secret(f->tickets, conf->ticket_secret, loop_wall_ms());
    LIST_EACH(at, &f->doors)
    {
        struct door *d = LIST_OWNER(at, struct door, node);

        if (d->next_sni)
            sni_inspect(d->next_sni, loop_wall_ms(), front_warn);
        sni_unref(d->sites);
        d->sites = d->next_sni;
        d->next_sni = NULL;
        d->http2 = d->next_http2;
        d->proxy_protocol = d->next_proxy_protocol;
        d->proxy_protocol_timeout_ms = d->next_proxy_protocol_timeout_ms;
        d->stays = false;
    }
}

static void front_on_drain_timer(void *owner);

int front_open(struct front *f, struct conf *conf, struct tickets *tickets, bool reuse_port,
    char *why, size_t whylen)
{
    *f = (struct front){ .conf = conf_ref(conf), .tickets = tickets, .reuse_port = reuse_port };
    list_init(&f->doors);
    list_init(&f->next_doors);
    list_init(&f->awaited);
    for (size_t i = 0; i < EX_NSTATES; i++)
        list_init(&f->exchanges[i]);
    deadline_init(&f->drain_timer, front_on_drain_timer, f);
    deadline_init(&f->trim_timer, front_on_trim, f);
    acceptor_init(&f->acceptor);
    addrlimit_init(&f->crowd);
    f->acceptor.on_request = front_on_request;
    f->acceptor.owner = f;
    front_apply_limits(f);
    if (front_prepare_doors(f, conf, why, whylen) < 0)
        goto failed;
    snprintf(why, whylen, "out of memory");
    f->pools = pools_open(conf);
    f->endpoints = f->pools ? endpoints_open(conf) : NULL;
    if (!f->endpoints)
        goto failed;
    front_commit_doors(f, f->conf);
    return 0;

failed:
    front_abandon_doors(f);
    pools_close(f->pools);
    conf_unref(f->conf);
    return -1;
}

void front_each_sni(const struct front *f, front_sites_fn *fn, void *owner)
{
    LIST_EACH(n, &f->doors)
    {
        const struct door *d = LIST_OWNER(n, struct door, node);

        if (d->sites)
            fn(owner, listener_text(d->listener), d->sites);
    }
}

void front_start(struct front *f)
{
    f->started = true;
    LIST_EACH(n, &f->doors)
    listener_start(
        LIST_OWNER(n, struct door, node)->listener, front_on_accept, front_may_accept, f);
}

int front_reload(struct front *f, struct conf *next, char *why, size_t whylen)
{
    struct conf *old = f->conf;

    if (front_prepare_doors(f, next, why, whylen) < 0)
        return -1;
    if (pools_prepare(f->pools, next) < 0) {
        snprintf(why, whylen, "out of memory");
        front_abandon_doors(f);
        return -1;
    }
    if (endpoints_prepare(f->endpoints, next, why, whylen) < 0) {
        pools_abandon(f->pools);
        front_abandon_doors(f);
        return -1;
    }
    f->conf = conf_ref(next);
    pools_commit(f->pools);
    endpoints_commit(f->endpoints);
    front_commit_doors(f, f->conf);
    front_apply_limits(f);
    conf_unref(old);
    return 0;
}

size_t front_in_flight(const struct front *f)
{
    size_t n = 0;

    for (size_t i = 0; i < EX_DONE; i++)
        n += f->exchanges[i].count;
    return n;
}

static void front_check_idle(void *owner)
{
    struct front *f = owner;

    if (!f->draining || front_in_flight(f) > 0 || front_count_connections(f) > 0)
        return;
    f->draining = false;
    f->on_idle(f->owner);
}

/* Connections close by themselves while draining: the count is looked at now and then. */
static void front_on_drain_timer(void *owner)
{
    struct front *f = owner;

    front_check_idle(f);
    if (f->draining)
        deadline_set(&f->drain_timer, 20);
}

void front_drain(struct front *f, void (*on_idle)(void *owner), void *owner)
{
    f->draining = true;
    f->on_idle = on_idle;
    f->owner = owner;
    LIST_EACH(n, &f->doors)
    front_close_door(LIST_OWNER(n, struct door, node), true);
    acceptor_drain(&f->acceptor);
    deadline_set(&f->drain_timer, 1);
}

size_t front_close(struct front *f)
{
    size_t left = front_in_flight(f);

    deadline_close(&f->drain_timer);
    deadline_close(&f->trim_timer);
    LIST_EACH(n, &f->doors)
    front_close_door(LIST_OWNER(n, struct door, node), true);
    for (size_t i = 0; i < EX_DONE; i++)
        while (list_first(&f->exchanges[i])) {
            struct exchange *ex = LIST_OWNER(list_first(&f->exchanges[i]), struct exchange, node);

            notify_on_shutdown(ex);
            exchange_end(ex, "shutdown");
        }
    while (list_first(&f->awaited))
        front_end_awaited(LIST_OWNER(list_first(&f->awaited), struct awaited, node));
    acceptor_close(&f->acceptor);
    conn_close_finishing();
    addrlimit_release(&f->crowd);
    pools_close(f->pools);
    endpoints_close(f->endpoints);
    loop_undefer(&f->access_flush);
    access_flush();
    conf_unref(f->conf);
    return left;
}

static void front_on_access_flush(void *owner)
{
    access_flush();
}

void front_flush_access(struct front *f)
{
    loop_defer(&f->access_flush, front_on_access_flush, f);
}

void front_exchange_ended(struct front *f)
{
    if (f->draining)
        deadline_set(&f->drain_timer, 1);
}
