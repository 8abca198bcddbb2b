/* The step in which a worker is waited for and visited, and its response read: it is the client's,
 * or the next handoff. */
#include <inttypes.h>
#include <stdio.h>

#include "base/num.h"
#include "exchange/forward.h"
#include "exchange/hop.h"
#include "exchange/steps.h"
#include "observe/counter.h"
#include "observe/panic.h"

enum {
    WAIT_FIRST_MS = 100,
    WAIT_MAX_MS = 1000,
};

/* What the worker's response is: ex->phase. */
enum visiting_phase {
    VISITING_NOTHING_YET,
    VISITING_HANDOFF,
    VISITING_UNPACKED,  /* a handoff that has come whole and is being decoded */
    VISITING_RESPONSE,  /* the client's */
    VISITING_TO_THE_END /* likewise, and the worker is let finish if the client goes */
};

static const struct visit_handler visiting_handler;

static void visiting_again(struct exchange *ex)
{
    exchange_set_state(ex, EX_QUEUED);
    ex->phase = VISITING_NOTHING_YET;
    if (hop_open(ex, &visiting_handler) < 0)
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
}

static void visiting_enter(struct exchange *ex)
{
    if (ex->pool)
        visiting_again(ex);
    else
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "the pool is no longer there");
}

static void visiting_leave(struct exchange *ex)
{
    if (ex->handoff)
        handoff_stop_reading(ex->handoff);
}

static void visiting_on_client_gone(struct exchange *ex)
{
    /* A worker that has said how much is to come is let finish: cutting it off saves nothing. So is
     * one whose handoff said that things go on without the client. Any other stream would go on for
     * nobody. */
    if (ex->state == EX_ANSWERING) {
        if (ex->phase == VISITING_TO_THE_END || (ex->handoff && !exchange_cancels(ex)))
            visit_pause(ex->hop.visit, false);
        else
            exchange_end(ex, "client_gone");
        return;
    }
    /* Hop 0 frees its place and never reaches a worker; but what has been paid for is finished. A
     * worker that is at work works on anyway, and its response is looked at when it comes. */
    if (ex->state == EX_QUEUED && ex->hop.number == 0)
        exchange_end(ex, "client_gone");
}

static bool visiting_fin_is_gone(const struct exchange *ex)
{
    return ex->state == EX_QUEUED && ex->hop.number == 0;
}

/* The response is the client's, and begins. False: that was the end of the exchange. */
static bool visiting_begin_answer(struct exchange *ex)
{
    exchange_set_state(ex, EX_ANSWERING);
    if (reply_is_open(&ex->reply))
        return true;
    visiting_on_client_gone(ex);
    return ex->state != EX_DONE;
}

static void visiting_answer_head(struct exchange *ex, const struct head *in)
{
    bool paid = ex->hop.kind != HOP_REQUEST;
    struct arena scratch = { 0 };
    struct head out;
    int rc;

    ex->phase = head_find(in, STR("content-length")) ? VISITING_TO_THE_END : VISITING_RESPONSE;
    /* The head of what is paid for is held: nothing has gone out until its body begins. */
    if (!(paid && reply_is_open(&ex->reply)) && !visiting_begin_answer(ex))
        return;
    rc = forward_worker_response(&scratch, in, &out);
    if (rc == 0)
        rc = forward_add_cookies(&scratch, ex->cookies, &out);
    rc = rc < 0 ? REPLY_E_MEMORY
                : reply_head(&ex->reply, &out, paid ? REPLY_WITH_BODY : REPLY_AT_ONCE,
                      ex->pool_conf->spool_max);
    arena_release(&scratch);
    exchange_replied(ex, rc);
}

static void visiting_answer_data(struct exchange *ex, struct str data)
{
    int rc;

    if (ex->state != EX_ANSWERING && !visiting_begin_answer(ex))
        return;
    rc = reply_data(&ex->reply, data);
    if (exchange_replied(ex, rc) && rc == REPLY_FULL)
        visit_pause(ex->hop.visit, true);
}

static void visiting_answer_end(struct exchange *ex)
{
    if (ex->state != EX_ANSWERING && !visiting_begin_answer(ex))
        return;
    ex->worker_us += loop_precise_us() - ex->mark_us;
    hop_close(ex);
    exchange_complete(ex);
}

static void visiting_on_client_drained(struct exchange *ex)
{
    if (ex->hop.visit)
        visit_pause(ex->hop.visit, false);
}

/* Handoffs */

static void visiting_refuse(struct exchange *ex, int error, const char *why)
{
    switch ((enum handoff_error)error) {
    case HANDOFF_E_MALFORMED:
        exchange_fail(ex, PROBLEM_HANDOFF_MALFORMED, 0, "%s", why);
        break;
    case HANDOFF_E_FORBIDDEN:
        exchange_fail(ex, PROBLEM_HANDOFF_FORBIDDEN, 0, "%s", why);
        break;
    case HANDOFF_E_LIMIT:
        exchange_fail(ex, PROBLEM_HANDOFF_LIMIT, 0, "%s", why);
        break;
    case HANDOFF_E_MEMORY:
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        break;
    case HANDOFF_E_STORAGE:
        exchange_fail(ex, PROBLEM_STORAGE, 0, "cannot keep the handoff in temp_dir");
        break;
    }
}

/* What its head says beside the handoff's own fields, for the client's response. */
static int visiting_save_fields(struct exchange *ex, const struct head *in)
{
    struct arena scratch = { 0 };
    struct head fields;
    int rc = -1;

    if (forward_worker_response(&scratch, in, &fields) == 0 &&
        head_copy(&ex->arena, &ex->handoff_head, &fields, 0) == 0 &&
        forward_keep_cookies(&ex->arena, &ex->cookies, in) == 0)
        rc = 0;
    arena_release(&scratch);
    /* They are added again with the others that were kept. */
    if (rc == 0)
        head_remove(&ex->handoff_head, STR("set-cookie"));
    return rc;
}

static void visiting_on_unpacked(void *owner, int rc, const char *why);

/* One hop more would be too many: that was the end of the exchange. */
static bool visiting_is_over(struct exchange *ex)
{
    if (ex->hop.number - ex->hop.waits + 1 < ex->pool_conf->max_hops)
        return false;
    exchange_fail(ex, PROBLEM_LOOP, 0, "a handoff at hop %u: max_hops is %zu", ex->hop.number,
        ex->pool_conf->max_hops);
    return true;
}

/* Where the run is, as the handoff says that it can be come back to. -1 with `why`: Tarry-At is
 * none of this server's. */
static int visiting_note_run(struct exchange *ex, char *why, size_t n)
{
    struct hop *h = &ex->hop;

    h->server = h->at = (struct str){ 0 };
    if (!ex->handoff->sticky)
        return 0;
    if (ex->handoff->at.p && !visit_may_be_at(h->visit, ex->handoff->at)) {
        snprintf(why, n, "Tarry-At is not a socket in the folder of the server's own");
        return HANDOFF_E_MALFORMED;
    }
    h->at = ex->handoff->at;
    h->server = arena_copy(&ex->arena, visit_server(h->visit));
    return h->server.p ? 0 : HANDOFF_E_MEMORY;
}

static void visiting_handoff_head(struct exchange *ex, const struct head *in)
{
    bool waits =
        head_find(in, STR("tarry-wait")); /* it may enclose no call, and count for nothing */
    char why[256] = "";
    int rc;

    if (!waits && visiting_is_over(ex))
        return;
    if (ex->handoff)
        handoff_release(ex->handoff);
    else
        ex->handoff = arena_alloc(&ex->arena, sizeof(*ex->handoff));
    if (!ex->handoff || visiting_save_fields(ex, in) < 0) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        return;
    }
    rc = handoff_read_head(ex->handoff, &ex->arena, ex->conf, ex->pool_conf, in, why, sizeof(why));
    if (rc == 0)
        rc = visiting_note_run(ex, why, sizeof(why));
    if (rc < 0) {
        visiting_refuse(ex, rc, why);
        return;
    }
    ex->handoff->on_unpacked = visiting_on_unpacked;
    ex->handoff->owner = ex;
    ex->phase = VISITING_HANDOFF;
}

/* Its body is there and plain: all is checked before the first call is made. */
static void visiting_take_handoff(struct exchange *ex)
{
    struct handoff *h = ex->handoff;
    char why[256] = "";
    int rc;

    rc = handoff_read_body(h, &ex->arena, ex->conf, ex->pool_conf, why, sizeof(why));
    if (rc < 0) {
        visiting_refuse(ex, rc, why);
        return;
    }
    if (h->ncalls == 0)
        ex->hop.waits++;
    else if (h->waits && visiting_is_over(ex))
        return;
    if (body_size(&ex->request.body) > ex->pool_conf->replay_body_max) {
        ex->request.content = CONTENT_DROPPED;
        body_clear(&ex->request.body);
    }
    if (h->then == THEN_REPLAY && ex->request.content == CONTENT_DROPPED) {
        exchange_fail(ex, PROBLEM_BODY_TOO_LARGE, 0,
            "a replay needs the request's body, which is larger than replay_body_max");
        return;
    }
    counter_add(COUNTER_HANDOFFS, 1);
    exchange_enter(ex, h->then == THEN_RELAY ? STEP_RELAY : STEP_CALLS);
}

/* A slice of the handoff has been decoded. */
static void visiting_on_unpacked(void *owner, int rc, const char *why)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    if (rc < 0)
        visiting_refuse(ex, rc, why);
    else if (ex->phase == VISITING_UNPACKED)
        visiting_take_handoff(ex);
    else
        visit_pause(ex->hop.visit, false);
}

static void visiting_handoff_data(struct exchange *ex, struct str data)
{
    char why[256] = "";
    int rc = handoff_take_data(ex->handoff, data, why, sizeof(why));

    if (rc < 0)
        visiting_refuse(ex, rc, why);
    else if (rc == HANDOFF_BUSY)
        visit_pause(ex->hop.visit, true);
}

static void visiting_handoff_end(struct exchange *ex)
{
    char why[256] = "";
    int rc = handoff_end_data(ex->handoff, why, sizeof(why));

    hop_close(ex); /* the worker is free already while a large handoff is decoded */
    ex->phase = VISITING_UNPACKED;
    if (rc < 0)
        visiting_refuse(ex, rc, why);
    else if (rc == 0)
        visiting_take_handoff(ex);
}

/* Failures */

static bool visiting_is_idempotent(struct str m)
{
    return str_eq(m, STR("GET")) || str_eq(m, STR("HEAD")) || str_eq(m, STR("OPTIONS")) ||
           str_eq(m, STR("PUT")) || str_eq(m, STR("DELETE"));
}

/* No worker can be reached: a resume or replay carries what has been paid for, and waits. */
static bool visiting_wait(struct exchange *ex)
{
    uint64_t now = loop_now_ms();
    struct hop *h = &ex->hop;

    if (h->kind == HOP_REQUEST)
        return false;
    if (h->unreachable_since_ms == 0)
        h->unreachable_since_ms = now;
    if (now - h->unreachable_since_ms >= ex->pool_conf->resume_wait_ms)
        return false;
    h->pause_ms = h->pause_ms ? h->pause_ms * 2 : WAIT_FIRST_MS;
    if (h->pause_ms > WAIT_MAX_MS)
        h->pause_ms = WAIT_MAX_MS;
    hop_close(ex);
    deadline_set(&ex->timer, h->pause_ms);
    return true;
}

/* Whether the worker that died is replaced by another. What has been paid for is delivered again in
 * every case in which nothing of a response has gone to the client; hop 0 only where the conf and
 * the method allow it and no byte has come. */
static bool visiting_may_deliver_again(const struct exchange *ex, enum problem p)
{
    const struct pool_conf *pc = ex->pool_conf;

    if (!reply_may_answer(&ex->reply))
        return false;
    if (ex->hop.kind != HOP_REQUEST)
        return (p == PROBLEM_WORKER_DIED || p == PROBLEM_WORKER_INCOMPLETE) &&
               ex->hop.attempt < pc->resume_attempts;
    return p == PROBLEM_WORKER_DIED && pc->retry_idempotent && ex->hop.attempt == 1 &&
           visiting_is_idempotent(ex->request.head.method);
}

static void visiting_on_failed(struct exchange *ex, const struct message *m)
{
    enum problem p = (enum problem)m->detail;

    if (p == PROBLEM_WORKER_UNREACHABLE && visiting_wait(ex)) {
        problem_count(p);
        return;
    }
    if (!visiting_may_deliver_again(ex, p)) {
        exchange_fail(ex, p, 0, "hop %u: %s", ex->hop.number, m->why);
        return;
    }
    problem_count(p);
    ex->hop.attempt++;
    counter_add(COUNTER_REDELIVERIES, 1);
    log_warn(&ex->log, "a worker died at hop %u before it answered: delivering again (%u)",
        ex->hop.number, ex->hop.attempt);
    reply_drop_held(&ex->reply);
    if (ex->handoff)
        handoff_stop_reading(ex->handoff);
    hop_close(ex);
    visiting_again(ex);
}

/* The visit */

/* The WebSocket that was asked for stands. */
static void visiting_upgrade(struct exchange *ex, const struct head *in)
{
    struct arena scratch = { 0 };
    struct head out;
    int rc = -1;

    if (!reply_is_open(&ex->reply)) {
        exchange_end(ex, "client_gone");
        return;
    }
    if (forward_worker_response(&scratch, in, &out) == 0)
        rc = reply_tunnel(&ex->reply, &out);
    arena_release(&scratch);
    if (rc < 0)
        exchange_cut(ex, "out_of_memory");
    else
        exchange_enter(ex, STEP_TUNNEL);
}

static void visiting_on_head(struct exchange *ex, const struct head *head)
{
    if (head->status == 101) {
        visiting_upgrade(ex, head);
    } else if (ex->request.websocket == WEBSOCKET_ONLY && head->status < 300) {
        exchange_fail(ex, PROBLEM_WORKER_PROTOCOL, 0,
            "hop %u: the worker answered a WebSocket's handshake with %u", ex->hop.number,
            head->status);
    } else if (handoff_is(head) && !(ex->reply.head_only && ex->hop.kind != HOP_RESUME)) {
        visiting_handoff_head(ex, head); /* hop 0 and replays have the client's method */
    } else {
        visiting_answer_head(ex, head);
    }
}

static void visiting_on_message(void *owner, struct visit *v, const struct message *m)
{
    struct exchange *ex = owner;
    bool handoff = ex->phase == VISITING_HANDOFF;

    panic_hold(ex, exchange_describe);
    switch (m->kind) {
    case MESSAGE_HEAD:
        visiting_on_head(ex, m->head);
        break;
    case MESSAGE_DATA:
        if (handoff)
            visiting_handoff_data(ex, m->data);
        else
            visiting_answer_data(ex, m->data);
        break;
    case MESSAGE_END:
        if (handoff)
            visiting_handoff_end(ex);
        else
            visiting_answer_end(ex);
        break;
    case MESSAGE_FAILED:
        visiting_on_failed(ex, m);
        break;
    }
}

static void visiting_on_started(void *owner, struct visit *v)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    counter_add(COUNTER_VISITS, 1);
    if (ex->hop.kind == HOP_REPLAY && ex->handoff->sticky && ex->hop.attempt == 1)
        counter_add(
            str_eq(visit_server(v), ex->hop.server) ? COUNTER_STICKY_HITS : COUNTER_STICKY_MISSES,
            1);
    ex->nhops = ex->hop.number + 1;
    ex->hop.unreachable_since_ms = 0;
    exchange_set_state(ex, EX_VISITING);
}

static void visiting_on_requeued(void *owner, struct visit *v)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    exchange_set_state(ex, EX_QUEUED);
    if (!reply_is_open(&ex->reply))
        visiting_on_client_gone(ex);
}

static const struct visit_handler visiting_handler = {
    .on_message = visiting_on_message,
    .on_started = visiting_on_started,
    .on_requeued = visiting_on_requeued,
};

const struct step step_visit = {
    .enter = visiting_enter,
    .on_client_drained = visiting_on_client_drained,
    .on_client_gone = visiting_on_client_gone,
    .on_timer = visiting_again,
    .leave = visiting_leave,
    .fin_is_gone = visiting_fin_is_gone,
};
