/* The step of a WebSocket: the worker has agreed to it, and from then on bytes go both ways as they
 * are, until one end has had enough. The worker's connection and its slot are the client's for as
 * long. */
#include "exchange/steps.h"
#include "observe/counter.h"
#include "observe/panic.h"

static const struct visit_handler tunnel_visit_handler;

/* Bytes went through, in either direction. */
static void tunnel_touch(struct exchange *ex)
{
    exchange_set_timer(ex, ex->pool_conf->tunnel_idle_timeout_ms);
}

static void tunnel_enter(struct exchange *ex)
{
    exchange_set_state(ex, EX_TUNNELLING);
    counter_add(COUNTER_TUNNELS, 1);
    visit_set_handler(ex->hop.visit, &tunnel_visit_handler);
    /* The request is not sent again, and tunnels stand for long: its memory goes. */
    arena_release(&ex->hop.arena);
    tunnel_touch(ex);
}

static void tunnel_on_timer(struct exchange *ex)
{
    log_debug(&ex->log, "tunnel_idle_timeout passed");
    exchange_cut(ex, "idle_timeout");
}

static void tunnel_on_client_message(struct exchange *ex, const struct message *m)
{
    int rc;

    tunnel_touch(ex);
    if (m->kind == MESSAGE_END) {
        visit_send_end(ex->hop.visit); /* the client may still have something to hear */
        return;
    }
    rc = visit_send(ex->hop.visit, m->data);
    if (rc == STREAM_FULL)
        reply_pause_client(&ex->reply, true);
    else if (rc < 0)
        exchange_cut(ex, "out_of_memory");
}

static void tunnel_on_client_drained(struct exchange *ex)
{
    visit_pause(ex->hop.visit, false);
}

static void tunnel_on_client_gone(struct exchange *ex)
{
    exchange_end(ex, "client_gone");
}

static void tunnel_on_visit(void *owner, struct visit *v, const struct message *m)
{
    struct exchange *ex = owner;
    int rc;

    panic_hold(ex, exchange_describe);
    switch (m->kind) {
    case MESSAGE_HEAD:
        break;
    case MESSAGE_DATA:
        tunnel_touch(ex);
        rc = reply_data(&ex->reply, m->data);
        if (exchange_replied(ex, rc) && rc == REPLY_FULL)
            visit_pause(v, true);
        break;
    case MESSAGE_END:
        /* The server closes first (RFC 6455 7.1.1), and nobody is there any more for what the
         * client might still say: the slot is free for the next. */
        exchange_complete(ex);
        break;
    case MESSAGE_FAILED:
        log_debug(&ex->log, "the worker's end of the tunnel: %s", m->why);
        exchange_cut(ex, "http_response_incomplete");
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

const struct step step_tunnel = {
    .enter = tunnel_enter,
    .on_message = tunnel_on_client_message,
    .on_client_drained = tunnel_on_client_drained,
    .on_client_gone = tunnel_on_client_gone,
    .on_timer = tunnel_on_timer,
};
