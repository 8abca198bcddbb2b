/* The front: an exchange for each request, and the swap of snapshots. */
#include "frontend/front.h"

#include <stdio.h>

#include "exchange/batch.h"
#include "exchange/steps.h"
#include "frontend/admission.h"
#include "frontend/reload.h"
#include "http/limits.h"
#include "net/conn.h"
#include "net/linger.h"
#include "observe/access.h"

enum {
    HTTP2_OUT_MAX = 16 << 10, /* of one response: what fills a frame; more waits behind it */
};

static struct load front_measure(void *owner)
{
    return (struct load){ front_in_flight(owner), conn_count() };
}

static void front_on_connection(void *owner)
{
    struct front *f = owner;

    peak_watch(&f->peak);
}

struct health front_health(const struct front *f)
{
    return (struct health){ f->exchanges.conf, f->exchanges.pools, f->stopping };
}

static void front_answer_health(
    const struct front *f, struct exchange *ex, const struct admitted *a)
{
    char text[HEALTH_TEXT_MAX];
    struct health h = front_health(f);
    unsigned status = health_answer(&h, a->route->health, text);

    exchange_answer(ex, a, status, str_of(text));
}

static void front_on_request(void *owner, struct stream *s, const struct stream_request *r)
{
    struct front *f = owner;
    struct exchange *ex = exchange_open(&f->exchanges, s, r);
    struct admitted admitted;
    struct refusal no;

    if (!ex) {
        stream_close(s);
        return;
    }
    if (!admission_decide(ex->conf, &ex->arena, ex->id, s, r, &admitted, &no))
        exchange_refuse(ex, &admitted, no.problem, no.status, no.why);
    else if (admitted.route->health != ROUTE_HEALTH_OFF)
        front_answer_health(f, ex, &admitted);
    else
        exchange_begin(ex, &admitted);
    peak_watch(&f->peak);
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
            .finish_ms = c->send_timeout_ms,
            .calm_ms = c->http2_goaway_wait_ms,
        },
        .streams_max = (uint32_t)c->http2_streams_max,
        .stalled_max = (uint32_t)c->http2_stalled_max,
        .stalled_timeout_ms = c->http2_stalled_timeout_ms,
        .early_answer_wait_ms = c->http2_early_answer_wait_ms,
        .goaway_wait_ms = c->http2_goaway_wait_ms,
        .unread_timeout_ms = c->http2_unread_timeout_ms,
        .head_excess = c->http2_header_excess,
        .abuse = {
            .max = {
                [H2_RESETS] = (uint32_t)c->http2_resets_max,
                [H2_GLITCHES] = (uint32_t)c->http2_glitches_max,
                [H2_CONTROLS] = (uint32_t)c->http2_controls_max,
                [H2_EMPTIES] = (uint32_t)c->http2_empty_frames_max,
                [H2_UPDATES] = (uint32_t)c->http2_window_updates_max,
                [H2_TINY] = (uint32_t)c->http2_tiny_windows_max,
            },
            .window_ms = c->http2_limits_window_ms,
            .tiny_write = c->http2_tiny_window,
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
    const struct conf *c = f->exchanges.conf;
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
    conn_set_input_max(c->header_max + 1); /* a header section that is too long shows */
    linger_set_limits(
        &(struct linger_limits){ c->linger_timeout_ms, c->send_rate_min, c->rate_window_ms });
    f->acceptor.requests_max = c->connection_requests_max;
}

/* The parts of a reload */

static int front_prepare_entry(void *owner, struct conf *next, char *why, size_t whylen)
{
    struct front *f = owner;

    return entry_prepare(&f->entry, next, why, whylen);
}

static void front_commit_entry(void *owner, struct conf *next)
{
    struct front *f = owner;

    entry_commit(&f->entry, next);
}

static void front_abandon_entry(void *owner)
{
    struct front *f = owner;

    entry_abandon(&f->entry);
}

static int front_prepare_pools(void *owner, struct conf *next, char *why, size_t whylen)
{
    struct front *f = owner;

    snprintf(why, whylen, "out of memory");
    if (f->exchanges.pools)
        return pools_prepare(f->exchanges.pools, next);
    f->exchanges.pools = pools_open(next); /* at the start */
    return f->exchanges.pools ? 0 : -1;
}

static void front_commit_pools(void *owner, struct conf *next)
{
    struct front *f = owner;

    if (f->exchanges.conf)
        pools_commit(f->exchanges.pools);
}

static void front_abandon_pools(void *owner)
{
    struct front *f = owner;

    if (f->exchanges.conf) {
        pools_abandon(f->exchanges.pools);
        return;
    }
    pools_close(f->exchanges.pools);
    f->exchanges.pools = NULL;
}

static int front_prepare_endpoints(void *owner, struct conf *next, char *why, size_t whylen)
{
    struct front *f = owner;

    if (f->exchanges.endpoints)
        return endpoints_prepare(f->exchanges.endpoints, next, why, whylen);
    snprintf(why, whylen, "out of memory");
    f->exchanges.endpoints = endpoints_open(next);
    return f->exchanges.endpoints ? 0 : -1;
}

static void front_commit_endpoints(void *owner, struct conf *next)
{
    struct front *f = owner;

    if (f->exchanges.conf)
        endpoints_commit(f->exchanges.endpoints);
}

static void front_abandon_endpoints(void *owner)
{
    struct front *f = owner;

    if (f->exchanges.conf) {
        endpoints_abandon(f->exchanges.endpoints);
        return;
    }
    endpoints_close(f->exchanges.endpoints);
    f->exchanges.endpoints = NULL;
}

static int front_prepare_snapshot(void *owner, struct conf *next, char *why, size_t whylen)
{
    return 0;
}

/* The last: exchanges that begin from now on have it. */
static void front_commit_snapshot(void *owner, struct conf *next)
{
    struct front *f = owner;

    conf_unref(f->exchanges.conf);
    f->exchanges.conf = conf_ref(next);
    front_apply_limits(f);
}

static void front_abandon_snapshot(void *owner)
{
}

static const struct reload_part parts[] = {
    { front_prepare_entry, front_commit_entry, front_abandon_entry },
    { front_prepare_pools, front_commit_pools, front_abandon_pools },
    { front_prepare_endpoints, front_commit_endpoints, front_abandon_endpoints },
    { front_prepare_snapshot, front_commit_snapshot, front_abandon_snapshot },
};

int front_reload(struct front *f, struct conf *next, char *why, size_t whylen)
{
    return reload_apply(parts, sizeof(parts) / sizeof(*parts), f, next, why, whylen);
}

/* Life */

static void front_on_exchange_ended(void *owner);
static void front_on_drain_timer(void *owner);

int front_open(struct front *f, struct conf *conf, struct tickets *tickets, bool reuse_port,
    char *why, size_t whylen)
{
    *f = (struct front){
        .exchanges = { .steps = steps, .on_ended = front_on_exchange_ended, .owner = f },
    };
    for (size_t i = 0; i < EX_NSTATES; i++)
        list_init(&f->exchanges.by_state[i]);
    list_init(&f->exchanges.batches);
    deadline_init(&f->drain_timer, front_on_drain_timer, f);
    peak_init(&f->peak, front_measure, f);
    acceptor_init(&f->acceptor);
    f->acceptor.on_request = front_on_request;
    f->acceptor.owner = f;
    entry_init(&f->entry, &f->acceptor, tickets, reuse_port, front_on_connection, f);
    return front_reload(f, conf, why, whylen);
}

void front_start(struct front *f)
{
    entry_start(&f->entry);
}

size_t front_in_flight(const struct front *f)
{
    size_t n = 0;

    for (size_t i = 0; i < EX_DONE; i++)
        n += f->exchanges.by_state[i].count;
    return n;
}

static void front_check_idle(struct front *f)
{
    if (!f->draining || front_in_flight(f) > 0 || entry_count(&f->entry) > 0 ||
        entry_is_draining(&f->entry))
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

static void front_close_tunnels(struct front *f)
{
    struct list_node *next;

    for (struct list_node *n = list_first(&f->exchanges.by_state[EX_TUNNELLING]); n; n = next) {
        next = list_next(n);
        exchange_go_away(LIST_OWNER(n, struct exchange, node), false);
    }
}

void front_announce_stop(struct front *f)
{
    f->stopping = true;
}

void front_drain(struct front *f, void (*on_idle)(void *owner), void *owner)
{
    f->draining = true;
    f->on_idle = on_idle;
    f->owner = owner;
    entry_stop(&f->entry);
    acceptor_drain(&f->acceptor);
    if (f->exchanges.conf->websocket_drain == TUNNEL_DRAIN_CLOSE)
        front_close_tunnels(f);
    deadline_set(&f->drain_timer, 1);
}

size_t front_close(struct front *f)
{
    size_t left = front_in_flight(f);

    deadline_close(&f->drain_timer);
    peak_close(&f->peak);
    entry_stop(&f->entry);
    for (size_t i = 0; i < EX_DONE; i++)
        while (list_first(&f->exchanges.by_state[i]))
            exchange_shut_down(
                LIST_OWNER(list_first(&f->exchanges.by_state[i]), struct exchange, node));
    batches_close(&f->exchanges.batches);
    entry_close(&f->entry);
    acceptor_close(&f->acceptor);
    conn_close_finishing();
    addrlimit_release(&f->entry.addresses);
    pools_close(f->exchanges.pools);
    endpoints_close(f->exchanges.endpoints);
    loop_undefer(&f->exchanges.access_flush);
    access_flush();
    conf_unref(f->exchanges.conf);
    return left;
}

static void front_on_exchange_ended(void *owner)
{
    struct front *f = owner;

    if (f->draining)
        deadline_set(&f->drain_timer, 1);
}
