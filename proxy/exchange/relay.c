/* The step in which a call's response streams to the client: of a relay, or of a gateway route.
 * With a notify it is recorded on the way; with an error handler, a response that is no 2xx is kept
 * for a worker instead. */
#include "exchange/forward.h"
#include "exchange/gateway.h"
#include "exchange/hop.h"
#include "exchange/parked.h"
#include "exchange/steps.h"
#include "observe/counter.h"
#include "observe/panic.h"

/* What becomes of the response: ex->phase. */
enum relay_phase {
    RELAY_WAITING, /* no head yet */
    RELAY_PASSING, /* to the client */
    RELAY_KEEPING  /* for a worker, which answers instead */
};

/* Where the response is recorded; NULL for a gateway's. */
static struct answer *relay_record(const struct exchange *ex)
{
    return ex->handoff ? ex->answers.list[ex->first_answer] : NULL;
}

static bool relay_records(const struct exchange *ex)
{
    return ex->handoff && (ex->phase == RELAY_KEEPING || ex->handoff->notify.p);
}

/* A worker answers instead: a resume with the failed response enclosed. */
static void relay_hand_to_worker(struct exchange *ex, enum problem p)
{
    struct answer *record = relay_record(ex);
    struct answer_facts facts = answer_facts_of(ex->relay);

    if (p == PROBLEM_NONE)
        p = answer_problem(record);
    ex->handoff->notify = (struct str){ 0 }; /* not told of a call that the worker took over */
    reply_drop_held(&ex->reply);
    if (answer_finish(record, &ex->arena, ex->id, p, &facts) < 0) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        return;
    }
    hop_prepare(ex, HOP_RESUME, ex->handoff->on_error);
    exchange_enter(ex, STEP_VISIT);
}

static int relay_make_response(struct exchange *ex, struct call *c, const struct head *in,
    struct arena *scratch, struct head *out)
{
    int rc;

    if (ex->gateway)
        rc = gateway_make_response(ex, scratch, in, out);
    else
        rc = forward_relay_response(scratch, in, &ex->handoff_head, call_request(c)->upstream, out);
    /* The answer to a HEAD announces a body that does not come: the client asked for one. */
    if (rc == 0 && ex->handoff && str_eq(relay_record(ex)->enclosed->method, STR("HEAD")))
        head_remove(out, STR("content-length"));
    return rc == 0 ? forward_add_cookies(scratch, ex->cookies, out) : rc;
}

/* The record is kept only for whoever will ask for it. */
static void relay_tap(struct exchange *ex, const struct message *m)
{
    if (relay_records(ex))
        taps_pass(ex->taps, m);
}

/* The WebSocket that was asked for stands. */
static void relay_upgrade(struct exchange *ex, const struct head *in)
{
    struct arena scratch = { 0 };
    struct head out;
    int rc = -1;

    if (forward_gateway_response(&scratch, in, &out) == 0)
        rc = reply_tunnel(&ex->reply, &out);
    arena_release(&scratch);
    if (rc < 0)
        exchange_cut(ex, "out_of_memory");
    else
        exchange_enter(ex, STEP_TUNNEL);
}

static void relay_on_head(struct exchange *ex, struct call *c, const struct head *in)
{
    bool failed = in->status < 200 || in->status > 299;
    struct arena scratch = { 0 };
    struct head out;
    int rc;

    ex->phase = failed && ex->handoff && ex->handoff->on_error.p ? RELAY_KEEPING : RELAY_PASSING;
    relay_tap(ex, &(struct message){ .kind = MESSAGE_HEAD, .head = in });
    if (ex->phase == RELAY_KEEPING)
        return;
    rc = relay_make_response(ex, c, in, &scratch, &out);
    rc = rc < 0 ? REPLY_E_MEMORY : reply_head(&ex->reply, &out, REPLY_WITH_TURN, 0);
    arena_release(&scratch);
    if (exchange_replied(ex, rc) && ex->reply.keep_alive == KEEP_ALIVE_OFF)
        exchange_set_state(ex, EX_ANSWERING);
}

static void relay_on_data(struct exchange *ex, struct call *c, struct str data)
{
    int rc;

    relay_tap(ex, &(struct message){ .kind = MESSAGE_DATA, .data = data });
    if (ex->phase == RELAY_KEEPING) {
        if (relay_record(ex)->cut != ANSWER_WHOLE)
            relay_hand_to_worker(ex, PROBLEM_NONE);
        return;
    }
    exchange_clear_timer(ex); /* no keep-alive bytes within a response */
    exchange_set_state(ex, EX_ANSWERING);
    if (ex->gateway)
        gateway_arm(ex);
    rc = ex->gateway ? gateway_data(ex, data) : reply_data(&ex->reply, data);
    if (exchange_replied(ex, rc) && rc == REPLY_FULL)
        call_pause(c, true);
}

/* Makes the record ready for the notify. */
static void relay_close_record(struct exchange *ex, const char *outcome, enum problem p)
{
    struct answer_facts facts = answer_facts_of(ex->relay);
    struct answer *record = relay_record(ex);

    if (!ex->handoff || !ex->handoff->notify.p)
        return;
    ex->outcome = outcome;
    if (record->cut != ANSWER_WHOLE && p == PROBLEM_NONE) {
        ex->outcome = "truncated";
        ex->truncated = record->cut == ANSWER_CUT_LIMIT ? "limit" : "storage";
        log_error(&ex->log, "the record for the notify to " STR_FMT " is cut: %s",
            STR_ARG(ex->handoff->notify),
            record->cut == ANSWER_CUT_LIMIT ? "the response is larger than response_max"
                                            : "it cannot be kept in temp_dir");
    }
    if (answer_finish(record, &ex->arena, ex->id, p, &facts) < 0) {
        log_error(&ex->log, "out of memory: the notify is lost");
        counter_add(COUNTER_NOTIFIES_LOST, 1);
        ex->outcome = NULL;
    }
}

static void relay_end_call(struct exchange *ex)
{
    call_close(ex->relay);
    ex->relay = NULL;
}

/* An answer that is whole in its framing and not in what it says is told of as truncated. */
static const char *relay_judge_end(enum call_end end)
{
    switch (end) {
    case CALL_COMPLETE:
    case CALL_NO_TERMINAL: /* is a failure */
        break;
    case CALL_ERROR_EVENT:
        return "error_event";
    case CALL_MALFORMED:
        return "malformed";
    }
    return NULL;
}

static void relay_on_end(struct exchange *ex, enum call_end end)
{
    const char *fault = relay_judge_end(end);

    relay_tap(ex, &(struct message){ .kind = MESSAGE_END });
    if (ex->phase == RELAY_KEEPING) {
        relay_hand_to_worker(ex, PROBLEM_NONE);
        return;
    }
    relay_close_record(ex, fault ? "truncated" : "complete", PROBLEM_NONE);
    if (fault) {
        exchange_spoil(ex, fault);
        if (ex->outcome && !ex->truncated)
            ex->truncated = "stream";
    }
    relay_end_call(ex);
    if (!ex->gateway || exchange_replied(ex, gateway_end(ex)))
        exchange_complete(ex);
}

static void relay_on_failed(struct exchange *ex, enum problem p, const char *why, enum call_end end)
{
    bool had_head = relay_record(ex) ? relay_record(ex)->head != NULL : ex->phase != RELAY_WAITING;

    relay_tap(ex, &(struct message){ .kind = MESSAGE_FAILED, .detail = (int)p, .why = why });
    if (ex->handoff && ex->handoff->on_error.p && reply_may_answer(&ex->reply)) {
        relay_hand_to_worker(ex, p);
        return;
    }
    reply_drop_held(&ex->reply);
    ex->reply.retry_after_s = call_retry_after_s(ex->relay);
    relay_close_record(ex, had_head ? "truncated" : "failed", had_head ? PROBLEM_NONE : p);
    if (end == CALL_NO_TERMINAL && ex->outcome && !ex->truncated)
        ex->truncated = "stream";
    relay_end_call(ex);
    if (reply_may_answer(&ex->reply)) {
        exchange_fail(ex, p, 0, "%s", why);
        return;
    }
    log_warn(&ex->log, "the upstream ended in mid-response (%s): %s", problem_error(p), why);
    exchange_spoil(ex, problem_error(p));
    exchange_cut(ex, problem_error(p));
}

static void relay_on_event(struct exchange *ex, struct call *c, const struct call_event *ev)
{
    panic_hold(ex, exchange_describe);
    switch (ev->kind) {
    case CALL_HEAD:
        if (ev->head->status == 101)
            relay_upgrade(ex, ev->head);
        else if (ex->request.websocket == WEBSOCKET_ONLY && ev->head->status < 300)
            exchange_fail(ex, PROBLEM_CALL_PROTOCOL, 0,
                "the upstream answered a WebSocket's handshake with %u", ev->head->status);
        else
            relay_on_head(ex, c, ev->head);
        break;
    case CALL_DATA:
        relay_on_data(ex, c, ev->data);
        break;
    case CALL_END:
        relay_on_end(ex, ev->end);
        break;
    case CALL_DRAINED: /* only in a tunnel */
        break;
    case CALL_FAILED:
        relay_on_failed(ex, ev->problem, ev->why, ev->end);
        break;
    }
}

static void relay_on_call(void *owner, struct call *c, const struct call_event *ev)
{
    struct answer *an = owner;

    relay_on_event(an->owner, c, ev);
}

static void relay_on_gateway_call(void *owner, struct call *c, const struct call_event *ev)
{
    relay_on_event(owner, c, ev);
}

static int relay_make_gateway_head(void *owner, struct call *c, struct arena *a, struct head *out)
{
    struct exchange *ex = owner;

    return gateway_make_request(ex, a, out);
}

static struct call *relay_open_gateway(struct exchange *ex)
{
    struct body *b = &ex->request.body;
    struct call_request r = {
        .upstream = ex->gateway,
        .body = { .body = b, .len = body_size(b) },
        .retries = SIZE_MAX,
        .client = exchange_client(ex),
        .record = &ex->record,
        .trail = ex->trail,
        .websocket = ex->request.head.websocket,
    };

    call_heed_client(&r, &ex->request.head);
    if (ex->request.content != CONTENT_NONE) {
        struct str n = arena_printf(&ex->arena, "%llu", (unsigned long long)body_size(b));

        if (head_add(&ex->request.head, &ex->arena, STR("Content-Length"), n) < 0)
            return NULL;
    }
    counter_add(COUNTER_CALLS, 1);
    ex->ncalls++;
    return call_open(
        ex->all->endpoints, &r, relay_make_gateway_head, relay_on_gateway_call, ex, &ex->log);
}

/* The taps on the response. A scan or a trace of it would join here. */
static int relay_add_taps(struct exchange *ex)
{
    struct answer_tap *t;

    ex->taps = NULL;
    if (!ex->handoff || !(ex->handoff->notify.p || ex->handoff->on_error.p))
        return 0;
    t = arena_alloc(&ex->arena, sizeof(*t));
    if (!t)
        return -1;
    answer_tap_init(t, relay_record(ex), &ex->arena);
    ex->taps = &t->tap;
    return 0;
}

static void relay_enter(struct exchange *ex)
{
    struct answer *an;

    exchange_set_state(ex, EX_PARKED);
    if (ex->handoff)
        parked_begin(ex);
    if (exchange_client_left(ex) && exchange_cancels(ex)) {
        exchange_end(ex, "client_gone");
        return;
    }
    ex->relay = ex->gateway ? relay_open_gateway(ex) : parked_open_call(ex, 0, &an, relay_on_call);
    if (!ex->relay || relay_add_taps(ex) < 0)
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
    else if (ex->gateway)
        gateway_arm(ex);
    else if (ex->handoff && ex->handoff->keep_alive != KEEP_ALIVE_OFF)
        exchange_set_timer(ex, ex->pool_conf->keep_alive_interval_ms);
}

static void relay_on_timer(struct exchange *ex)
{
    if (ex->gateway) {
        gateway_on_silence(ex);
        return;
    }
    if (reply_may_answer(&ex->reply) && parked_keep_alive(ex))
        exchange_set_timer(ex, ex->pool_conf->keep_alive_interval_ms);
}

static void relay_on_client_drained(struct exchange *ex)
{
    call_pause(ex->relay, false);
}

static void relay_on_client_gone(struct exchange *ex)
{
    if (!exchange_cancels(ex)) {
        call_pause(ex->relay, false);
        return;
    }
    relay_close_record(ex, "cancelled",
        ex->handoff && relay_record(ex)->head ? PROBLEM_NONE : PROBLEM_CALL_CANCELLED);
    relay_end_call(ex);
    exchange_cut(ex, "client_gone");
}

static void relay_leave(struct exchange *ex)
{
    if (ex->gateway)
        gateway_release(ex);
}

const struct step step_relay = {
    .enter = relay_enter,
    .on_client_drained = relay_on_client_drained,
    .on_client_gone = relay_on_client_gone,
    .on_timer = relay_on_timer,
    .leave = relay_leave,
    .fin_is_gone = exchange_cancels,
};
