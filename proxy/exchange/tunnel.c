/* A WebSocket: the worker has agreed to it, and from then on bytes go both ways as they are, until
 * one end has had enough. The worker's connection and its slot are the client's for as long. */
#include "exchange/exchange.h"
#include "exchange/forward.h"
#include "observe/counter.h"

/* Bytes went through, in either direction. */
static void tunnel_touch(struct exchange *ex)
{
    deadline_set(&ex->timer, ex->pool_conf->tunnel_idle_timeout_ms);
}

void tunnel_begin(struct exchange *ex, const struct head *in)
{
    struct arena scratch = { 0 };
    struct head out;
    int rc = -1;

    if (!ex->client) {
        exchange_end(ex, "client_gone");
        return;
    }
    exchange_set_state(ex, EX_TUNNELLING);
    counter_add(COUNTER_TUNNELS, 1);
    if (forward_worker_response(&scratch, in, &out) == 0)
        rc = stream_send_head(ex->client, &out, false);
    arena_release(&scratch);
    if (rc < 0 && rc != STREAM_FULL) {
        exchange_cut(ex, "out_of_memory");
        return;
    }
    ex->head_sent = true;
    ex->status = in->status;
    /* What was said to the worker is not said again, and tunnels stand for long. */
    arena_release(&ex->visit_arena);
    tunnel_touch(ex);
}

void tunnel_on_timer(struct exchange *ex)
{
    log_debug(&ex->log, "tunnel_idle_timeout passed");
    exchange_cut(ex, "idle_timeout");
}

void tunnel_on_client_data(struct exchange *ex, struct str data)
{
    int rc = visit_send(ex->visit, data);

    tunnel_touch(ex);
    if (rc == STREAM_FULL)
        stream_pause(ex->client, true);
    else if (rc < 0)
        exchange_cut(ex, "out_of_memory");
}

/* The client will send no more. It may still have something to hear. */
void tunnel_on_client_end(struct exchange *ex)
{
    tunnel_touch(ex);
    visit_send_end(ex->visit);
}

void tunnel_on_client_drained(struct exchange *ex)
{
    visit_pause(ex->visit, false);
}

void tunnel_on_visit(struct exchange *ex, const struct visit_event *ev)
{
    switch (ev->kind) {
    case VISIT_STARTED:
    case VISIT_QUEUED:
    case VISIT_HEAD:
        break;
    case VISIT_DATA:
        tunnel_touch(ex);
        if (exchange_send_data(ex, ev->data) && ex->visit)
            visit_pause(ex->visit, true);
        break;
    case VISIT_DRAINED:
        stream_pause(ex->client, false);
        break;
    case VISIT_END:
        /* The server closes first (RFC 6455 7.1.1), and nobody is there any more for what the
         * client might still say: the slot is free for the next. */
        exchange_complete(ex);
        break;
    case VISIT_FAILED:
        log_debug(&ex->log, "the worker's end of the tunnel: %s", ev->why);
        exchange_cut(ex, "http_response_incomplete");
        break;
    }
}
