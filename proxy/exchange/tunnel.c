/* The step of a WebSocket: a worker or an upstream has agreed to it, and from then on bytes go both
 * ways as they are, until one end has had enough. A worker's connection and its slot are the
 * client's for as long; so is the call to an upstream, with its turn at the endpoint and under the
 * limits.
 *
 * Tarry follows the frames of both directions only to be able to close an idle or old WebSocket,
 * or one that is open when the process stops, with a status (1001, going away). */
#include "exchange/steps.h"
#include "http/wsframes.h"
#include "observe/counter.h"
#include "observe/metric.h"
#include "observe/panic.h"

struct tunnel {
    struct wsframes down; /* to the client */
    struct wsframes up;   /* from the client */
    uint64_t until_ms;    /* tunnel_timeout; 0: none */
    const char *end;      /* why it is closed as soon as a frame to the client is complete; NULL: it
                             is not */
    bool client_ended;    /* the client sends no more */
};

static const struct visit_handler tunnel_visit_handler;
static void tunnel_on_call(void *owner, struct call *c, const struct call_event *ev);

/* ---- the far end: a worker or an upstream ---- */

static int tunnel_send_far(struct exchange *ex, struct str data)
{
    return ex->relay ? call_send(ex->relay, data) : visit_send(ex->hop.visit, data);
}

static void tunnel_end_far(struct exchange *ex)
{
    if (ex->relay)
        call_send_end(ex->relay);
    else
        visit_send_end(ex->hop.visit);
}

static void tunnel_pause_far(struct exchange *ex, bool paused)
{
    if (ex->relay)
        call_pause(ex->relay, paused);
    else
        visit_pause(ex->hop.visit, paused);
}

static void tunnel_count(const struct exchange *ex, struct str direction, size_t n)
{
    if (ex->gateway)
        metric_add(METRIC_UPSTREAM_TUNNEL_BYTES, n, METRIC_LABELS(ex->gateway->name, direction));
}

/* ---- its time ---- */

/* Bytes went through, in either direction. */
static void tunnel_touch(struct exchange *ex)
{
    uint64_t now = loop_now_ms(), until = ex->tunnel->until_ms,
             at = now + (ex->gateway ? ex->gateway->tunnel_idle_timeout_ms
                                     : ex->pool_conf->tunnel_idle_timeout_ms);

    if (ex->tunnel->client_ended)
        return; /* it is about to end */
    if (until > 0 && until < at)
        at = until;
    exchange_set_timer(ex, at > now ? at - now : 0);
}

static void tunnel_enter(struct exchange *ex)
{
    struct tunnel *t = arena_alloc(&ex->arena, sizeof(*t));

    if (!t) {
        exchange_cut(ex, "out_of_memory");
        return;
    }
    *t = (struct tunnel){ .until_ms =
                              ex->gateway ? loop_now_ms() + ex->gateway->tunnel_timeout_ms : 0 };
    ex->tunnel = t;
    exchange_set_state(ex, EX_TUNNELLING);
    counter_add(COUNTER_TUNNELS, 1);
    if (ex->relay)
        call_set_handler(ex->relay, tunnel_on_call);
    else
        visit_set_handler(ex->hop.visit, &tunnel_visit_handler);
    /* The request is not sent again, and tunnels stand for long: its memory goes. */
    arena_release(&ex->hop.arena);
    tunnel_touch(ex);
}

/* ---- its end ---- */

/* Tells the far end, unless the client has, or has left a frame unfinished. */
static void tunnel_close_far(struct exchange *ex)
{
    unsigned char frame[WSFRAMES_CLOSE_MAX];
    struct tunnel *t = ex->tunnel;

    if (!t->up.closed && wsframes_may_begin(&t->up)) {
        size_t n = wsframes_close(frame, WSFRAMES_GOING_AWAY, true);

        t->up.closed = true;
        tunnel_send_far(ex, str_make((char *)frame, n));
    }
    tunnel_end_far(ex);
}

/* Whether the client has been told, by the far end or now. */
static bool tunnel_close_client(struct exchange *ex)
{
    unsigned char frame[WSFRAMES_CLOSE_MAX];
    struct tunnel *t = ex->tunnel;
    size_t n;

    if (t->down.closed)
        return wsframes_may_begin(&t->down);
    if (!wsframes_may_begin(&t->down))
        return false;
    t->down.closed = true;
    n = wsframes_close(frame, WSFRAMES_GOING_AWAY, false);
    return reply_data(&ex->reply, str_make((char *)frame, n)) >= 0;
}

static void tunnel_go_away(struct exchange *ex, const char *end)
{
    tunnel_close_far(ex);
    if (!ex->end)
        ex->end = end;
    if (tunnel_close_client(ex))
        exchange_complete(ex);
    else
        exchange_cut(ex, end);
}

static void tunnel_on_timer(struct exchange *ex)
{
    struct tunnel *t = ex->tunnel;

    if (t->client_ended) {
        exchange_end(ex, "complete");
    } else if (t->until_ms > 0 && loop_now_ms() >= t->until_ms) {
        log_debug(&ex->log, "tunnel_timeout passed");
        tunnel_go_away(ex, "total_timeout");
    } else {
        log_debug(&ex->log, "tunnel_idle_timeout passed");
        tunnel_go_away(ex, "idle_timeout");
    }
}

static void tunnel_on_going_away(struct exchange *ex, bool now)
{
    if (now || wsframes_may_begin(&ex->tunnel->down))
        tunnel_go_away(ex, "shutdown");
    else
        ex->tunnel->end = "shutdown";
}

/* ---- from the client ---- */

/* A worker may still have something to say. An upstream may not, as a WebSocket has no half-close
 * (RFC 6455 7.1.1), and it costs money: it is told, and has a moment to end in order. */
static void tunnel_on_client_end(struct exchange *ex)
{
    if (!ex->gateway) {
        tunnel_end_far(ex);
        return;
    }
    if (!ex->tunnel->up.closed && !ex->end)
        ex->end = "client_gone";
    tunnel_close_far(ex);
    exchange_set_timer(ex, ex->conf->linger_timeout_ms);
    ex->tunnel->client_ended = true;
}

static void tunnel_on_client_message(struct exchange *ex, const struct message *m)
{
    int rc;

    tunnel_touch(ex);
    if (m->kind == MESSAGE_END) {
        tunnel_on_client_end(ex);
        return;
    }
    wsframes_feed(&ex->tunnel->up, m->data);
    tunnel_count(ex, STR("sent"), m->data.n);
    rc = tunnel_send_far(ex, m->data);
    if (rc == STREAM_FULL)
        reply_pause_client(&ex->reply, true);
    else if (rc < 0)
        exchange_cut(ex, "out_of_memory");
}

static void tunnel_on_client_drained(struct exchange *ex)
{
    tunnel_pause_far(ex, false);
}

static void tunnel_on_client_gone(struct exchange *ex)
{
    if (ex->gateway)
        tunnel_close_far(ex);
    exchange_end(ex, "client_gone");
}

/* ---- from the far end ---- */

static void tunnel_on_far_data(struct exchange *ex, struct str data)
{
    struct tunnel *t = ex->tunnel;
    ssize_t whole = wsframes_feed(&t->down, data);
    bool last = t->end && whole >= 0;
    int rc;

    tunnel_touch(ex);
    tunnel_count(ex, STR("received"), data.n);
    if (last) {
        t->down = (struct wsframes){ .closed = t->down.closed && wsframes_may_begin(&t->down) };
        data.n = (size_t)whole; /* what follows is the beginning of a frame */
    }
    rc = reply_data(&ex->reply, data);
    if (!exchange_replied(ex, rc))
        return;
    if (last)
        tunnel_go_away(ex, t->end);
    else if (rc == REPLY_FULL)
        tunnel_pause_far(ex, true);
}

/* The server closes first (RFC 6455 7.1.1), and nobody is there any more for what the client might
 * still say: a slot is free for the next. */
static void tunnel_on_far_end(struct exchange *ex)
{
    exchange_complete(ex);
}

/* A server that has closed in order may end its connection as it likes. */
static void tunnel_on_far_failed(struct exchange *ex, const char *why)
{
    log_debug(&ex->log, "the far end of the tunnel: %s", why);
    if (ex->tunnel->down.closed && wsframes_may_begin(&ex->tunnel->down))
        exchange_complete(ex);
    else
        exchange_cut(ex, "http_response_incomplete");
}

static void tunnel_on_visit(void *owner, struct visit *v, const struct message *m)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    switch (m->kind) {
    case MESSAGE_HEAD:
        break;
    case MESSAGE_DATA:
        tunnel_on_far_data(ex, m->data);
        break;
    case MESSAGE_END:
        tunnel_on_far_end(ex);
        break;
    case MESSAGE_FAILED:
        tunnel_on_far_failed(ex, m->why);
        break;
    }
}

static void tunnel_on_visit_drained(void *owner, struct visit *v)
{
    struct exchange *ex = owner;

    reply_pause_client(&ex->reply, false);
}

static void tunnel_on_visit_moved(void *owner, struct visit *v)
{
}

static const struct visit_handler tunnel_visit_handler = {
    .on_message = tunnel_on_visit,
    .on_started = tunnel_on_visit_moved,
    .on_requeued = tunnel_on_visit_moved,
    .on_drained = tunnel_on_visit_drained,
};

static void tunnel_on_call(void *owner, struct call *c, const struct call_event *ev)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    switch (ev->kind) {
    case CALL_HEAD:
        break;
    case CALL_DATA:
        tunnel_on_far_data(ex, ev->data);
        break;
    case CALL_END:
        tunnel_on_far_end(ex);
        break;
    case CALL_DRAINED:
        reply_pause_client(&ex->reply, false);
        break;
    case CALL_FAILED:
        tunnel_on_far_failed(ex, ev->why);
        break;
    }
}

const struct step step_tunnel = {
    .enter = tunnel_enter,
    .on_message = tunnel_on_client_message,
    .on_client_drained = tunnel_on_client_drained,
    .on_client_gone = tunnel_on_client_gone,
    .on_timer = tunnel_on_timer,
    .on_going_away = tunnel_on_going_away,
};
