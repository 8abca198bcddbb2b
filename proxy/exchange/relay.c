/* A call's response as it streams to the client: of a relay, or of a gateway route. With a notify
 * it is recorded on the way; with an error handler, a response that is no 2xx is kept for a worker
 * instead. */
#include "exchange/exchange.h"
#include "exchange/forward.h"

static struct answer *relay_record(struct exchange *ex)
{
    return ex->handoff ? ex->answers[ex->first_answer] : NULL;
}

static bool relay_records(const struct exchange *ex)
{
    return ex->on_error || (ex->handoff && ex->handoff->notify.p);
}

static void relay_end_call(struct exchange *ex)
{
    ex->relay_pending = false;
    loop_undefer(&ex->relay_flush);
    call_close(ex->relay);
    ex->relay = NULL;
}

/* Sends the head that was held. False if there was no way. */
static bool relay_flush_head(struct exchange *ex)
{
    if (!ex->relay_pending)
        return true;
    ex->relay_pending = false;
    loop_undefer(&ex->relay_flush);
    exchange_send_head(ex, ex->relay_head);
    return ex->state != EX_DONE;
}

static void relay_on_flush(void *owner)
{
    relay_flush_head(owner);
}

/* A worker answers instead: a resume with the failed response enclosed. */
static void relay_hand_to_worker(struct exchange *ex, enum problem p, const struct call *c)
{
    struct str path = ex->handoff->on_error;
    int rc = answer_finish(relay_record(ex), p, c);

    relay_end_call(ex);
    ex->on_error = false;
    ex->handoff->notify = (struct str){ 0 }; /* not told of a call that the worker took over */
    if (rc < 0) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        return;
    }
    ex->hop++;
    hop_begin(ex, HOP_RESUME, path);
}

static void relay_on_head(struct exchange *ex, struct call *c, const struct head *in)
{
    bool failed = in->status < 200 || in->status > 299;
    struct arena scratch = { 0 };
    struct head out;
    int rc;

    ex->on_error = failed && ex->handoff && ex->handoff->on_error.p;
    if (relay_records(ex) && answer_take_head(relay_record(ex), in) < 0) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        return;
    }
    if (ex->on_error)
        return;
    if (ex->gateway)
        rc = forward_gateway_response(&scratch, in, &out);
    else
        rc = forward_relay_response(
            &scratch, in, &ex->handoff_head, call_request(c)->upstream, &out);
    /* The answer to a HEAD announces a body that does not come: the client asked for one. */
    if (rc == 0 && ex->handoff && str_eq(relay_record(ex)->enclosed->method, STR("HEAD")))
        head_remove(&out, STR("content-length"));
    if (rc == 0)
        rc = forward_add_cookies(&scratch, ex->cookies, &out);
    if (rc == 0) {
        ex->relay_head = arena_alloc(&ex->arena, sizeof(*ex->relay_head));
        rc = ex->relay_head ? head_copy(&ex->arena, ex->relay_head, &out, 0) : -1;
    }
    arena_release(&scratch);
    if (rc < 0) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        return;
    }
    /* An upstream that breaks off at once is an error that the client can still be told of. */
    ex->relay_pending = true;
    loop_defer(&ex->relay_flush, relay_on_flush, ex);
}

static void relay_on_data(struct exchange *ex, struct call *c, struct str data)
{
    if (relay_records(ex) && answer_take_data(relay_record(ex), data) < 0 && ex->on_error) {
        relay_hand_to_worker(ex, PROBLEM_CALL_TOO_LARGE, c);
        return;
    }
    if (ex->on_error || !relay_flush_head(ex))
        return;
    if (ex->client && exchange_send_data(ex, data) && ex->relay)
        call_pause(c, true);
}

/* Makes the record ready for the notify. */
static void relay_close_record(
    struct exchange *ex, struct str outcome, enum problem p, struct call *c)
{
    if (!relay_records(ex))
        return;
    ex->outcome = outcome;
    if (answer_finish(relay_record(ex), p, c) < 0) {
        log_error(&ex->log, "out of memory: the notify is lost");
        ex->outcome = (struct str){ 0 };
    }
}

static void relay_on_end(struct exchange *ex, struct call *c)
{
    if (ex->on_error) {
        relay_hand_to_worker(ex, PROBLEM_NONE, c);
        return;
    }
    if (!relay_flush_head(ex))
        return;
    relay_close_record(ex, STR("complete"), PROBLEM_NONE, c);
    relay_end_call(ex);
    exchange_complete(ex);
}

static void relay_on_failed(struct exchange *ex, struct call *c, const struct call_event *ev)
{
    bool had_head = ex->relay_pending || (relay_record(ex) && relay_record(ex)->head) ||
                    (ex->head_sent && ex->keep_alive_sent == KEEP_ALIVE_OFF);
    bool real = ex->head_sent && (ex->keep_alive_sent == KEEP_ALIVE_OFF || ex->body_begun);

    loop_undefer(&ex->relay_flush);
    ex->relay_pending = false;
    if (ex->handoff && ex->handoff->on_error.p && !real) {
        relay_hand_to_worker(ex, ev->problem, c);
        return;
    }
    relay_close_record(
        ex, had_head ? STR("truncated") : STR("failed"), had_head ? PROBLEM_NONE : ev->problem, c);
    relay_end_call(ex);
    if (real) {
        log_warn(&ex->log, "the upstream ended in mid-response (%s): %s",
            problem_error(ev->problem), ev->why);
        exchange_cut(ex, problem_error(ev->problem));
    } else {
        exchange_fail(ex, ev->problem, 0, "%s", ev->why);
    }
}

void relay_on_call(void *owner, struct call *c, const struct call_event *ev)
{
    struct exchange *ex = owner;

    switch (ev->kind) {
    case CALL_HEAD:
        relay_on_head(ex, c, ev->head);
        break;
    case CALL_DATA:
        relay_on_data(ex, c, ev->data);
        break;
    case CALL_END:
        relay_on_end(ex, c);
        break;
    case CALL_FAILED:
        relay_on_failed(ex, c, ev);
        break;
    }
}

void relay_on_client_drained(struct exchange *ex)
{
    call_pause(ex->relay, false);
}

void relay_client_gone(struct exchange *ex)
{
    struct call *c = ex->relay;

    if (!park_cancels(ex)) {
        ex->client_full = false;
        call_pause(c, false);
        return;
    }
    if (ex->handoff && ex->handoff->notify.p) {
        relay_close_record(ex, STR("cancelled"),
            relay_record(ex)->head ? PROBLEM_NONE : PROBLEM_CALL_CANCELLED, c);
        relay_end_call(ex);
        if (!ex->end)
            ex->end = "client_gone";
        exchange_complete(ex);
        return;
    }
    exchange_end(ex, "client_gone");
}
