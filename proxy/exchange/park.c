/* Parked: the handoff's calls are in flight, side by side. No worker is held. */
#include "exchange/exchange.h"
#include "exchange/forward.h"
#include "exchange/front.h"
#include "observe/counter.h"

bool park_cancels(const struct exchange *ex)
{
    if (!ex->handoff)
        return true; /* a gateway's call is for the client alone */
    switch (ex->handoff->on_disconnect) {
    case DISCONNECT_CANCEL:
        return true;
    case DISCONNECT_FINISH:
        return false;
    case DISCONNECT_DEFAULT:
        break;
    }
    return ex->handoff->then == THEN_RELAY && !ex->handoff->notify.p;
}

int park_make_head(void *owner, struct call *c, struct arena *a, struct head *out)
{
    struct answer *an = owner;

    return handoff_enclosed_head(an->ex->handoff, an->enclosed, an->ex->conf,
        an->ex->handoff->keep_alive != KEEP_ALIVE_OFF && an->ex->handoff->then == THEN_RELAY, a,
        out);
}

/* The relayed call's owner is the exchange: one client, one call. */
static int park_relay_make_head(void *owner, struct call *c, struct arena *a, struct head *out)
{
    struct exchange *ex = owner;

    if (ex->gateway)
        return forward_gateway_request(a, &ex->request, out);
    return park_make_head(ex->answers[ex->first_answer], c, a, out);
}

static int park_open_call(struct exchange *ex, size_t i)
{
    const struct enclosed *e = &ex->handoff->calls[i];
    struct call_request r = {
        .upstream = e->upstream,
        .body = { .body = &ex->handoff->body, .off = e->body_off, .len = e->body_len },
        .timeout_ms = e->timeout_ms,
        .retries = e->retries,
        .index = i,
    };
    struct answer *an = answer_new(ex, e);

    if (!an)
        return -1;
    counter_add(COUNTER_CALLS, 1);
    ex->ncalls++;
    if (ex->handoff->then == THEN_RELAY) {
        ex->relay =
            call_open(ex->front->endpoints, &r, park_relay_make_head, relay_on_call, ex, &ex->log);
        return ex->relay ? 0 : -1;
    }
    an->call = call_open(ex->front->endpoints, &r, park_make_head, answer_on_call, an, &ex->log);
    return an->call ? 0 : -1;
}

void park_begin(struct exchange *ex)
{
    bool gone = !ex->client || ex->half_closed;

    counter_add(COUNTER_HANDOFFS, 1);
    if (body_size(&ex->body) > ex->pool_conf->replay_body_max) {
        ex->body_dropped = true;
        body_clear(&ex->body);
    }
    exchange_set_state(ex, EX_PARKED);
    ex->relay = NULL;
    ex->relay_pending = false;
    ex->outcome = (struct str){ 0 };
    ex->first_answer = ex->nanswers;
    ex->calls_left = ex->handoff->ncalls;
    if (gone && park_cancels(ex)) {
        exchange_end(ex, "client_gone");
        return;
    }
    for (size_t i = 0; i < ex->handoff->ncalls; i++) {
        if (park_open_call(ex, i) < 0) {
            exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
            return;
        }
    }
    if (ex->handoff->keep_alive != KEEP_ALIVE_OFF)
        deadline_set(&ex->timer, ex->pool_conf->keep_alive_interval_ms);
}

void park_gateway(struct exchange *ex)
{
    struct call_request r = {
        .upstream = ex->gateway,
        .body = { .body = &ex->body, .len = body_size(&ex->body) },
        .retries = SIZE_MAX,
    };

    if (ex->has_body) {
        struct str n = arena_printf(&ex->arena, "%llu", (unsigned long long)body_size(&ex->body));

        if (!n.p || head_add(&ex->request, &ex->arena, STR("Content-Length"), n) < 0) {
            exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
            return;
        }
    }
    exchange_set_state(ex, EX_PARKED);
    if (ex->half_closed) {
        exchange_end(ex, "client_gone");
        return;
    }
    counter_add(COUNTER_CALLS, 1);
    ex->ncalls++;
    ex->relay =
        call_open(ex->front->endpoints, &r, park_relay_make_head, relay_on_call, ex, &ex->log);
    if (!ex->relay)
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
}

static int park_send_keep_alive_head(struct exchange *ex)
{
    static const struct head none = { .status = 200 };
    struct arena scratch = { 0 };
    struct head head;
    struct str type = ex->handoff->keep_alive == KEEP_ALIVE_SSE ? STR("text/event-stream")
                                                                : STR("application/json");
    int rc = forward_relay_response(
        &scratch, &none, &ex->handoff_head, ex->handoff->calls[0].upstream, &head);

    if (rc == 0)
        rc = head_add(&head, &scratch, STR("Content-Type"), type);
    if (rc == 0)
        rc = forward_add_cookies(&scratch, ex->cookies, &head);
    if (rc == 0) {
        ex->head_sent = true;
        ex->status = 200;
        ex->keep_alive_sent = ex->handoff->keep_alive;
        stream_send_head(ex->client, &head, false);
    }
    arena_release(&scratch);
    return rc;
}

void park_on_timer(struct exchange *ex)
{
    struct str bytes;

    if (!ex->client || ex->handoff->keep_alive == KEEP_ALIVE_OFF)
        return;
    if (!ex->head_sent && park_send_keep_alive_head(ex) < 0) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        return;
    }
    /* A head that an earlier handoff has fixed stays what it is. */
    bytes = ex->keep_alive_sent == KEEP_ALIVE_SSE ? STR(": keep-alive\n\n") : STR(" ");
    if (!ex->client_full) {
        ex->bytes_out += bytes.n;
        ex->client_full = stream_send_data(ex->client, bytes.p, bytes.n) == STREAM_FULL;
    }
    deadline_set(&ex->timer, ex->pool_conf->keep_alive_interval_ms);
}

void park_client_gone(struct exchange *ex)
{
    if (!park_cancels(ex))
        return;
    if (ex->relay && ex->handoff && ex->handoff->notify.p) {
        relay_client_gone(ex);
        return;
    }
    exchange_end(ex, "client_gone");
}

void park_answer_done(struct exchange *ex)
{
    if (--ex->calls_left > 0)
        return;
    ex->hop++;
    if (ex->handoff->then == THEN_REPLAY)
        hop_begin(ex, HOP_REPLAY, (struct str){ 0 });
    else
        hop_begin(ex, HOP_RESUME, ex->handoff->path);
}

void park_close_calls(struct exchange *ex)
{
    call_close(ex->relay);
    ex->relay = NULL;
    for (size_t i = ex->first_answer; i < ex->nanswers; i++) {
        call_close(ex->answers[i]->call);
        ex->answers[i]->call = NULL;
    }
}
