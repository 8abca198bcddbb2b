/* The step in which a worker is waited for and visited, and its response read: it is the client's,
 * or the next handoff. */
#include <inttypes.h>
#include <stdio.h>

#include "base/num.h"
#include "exchange/forward.h"
#include "exchange/handed.h"
#include "exchange/hop.h"
#include "exchange/parted.h"
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
    VISITING_PARTS,     /* a response in parts, whose trailer has not come */
    VISITING_SAID,      /* its trailer has */
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
    if (ex->state == EX_QUEUED && ex->hop.kind == HOP_REQUEST)
        exchange_end(ex, "client_gone");
}

static bool visiting_fin_is_gone(const struct exchange *ex)
{
    return ex->state == EX_QUEUED && ex->hop.kind == HOP_REQUEST;
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

    if (!reply_may_answer(&ex->reply)) {
        log_warn(&ex->log,
            "hop %u: the response does not come from the helper that has begun the "
            "client's",
            ex->hop.number);
        exchange_cut(ex, "http_response_incomplete");
        return;
    }
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

static void visiting_handoff_head(struct exchange *ex, const struct head *in)
{
    bool waits =
        head_find(in, STR("tarry-wait")); /* it may enclose no call, and count for nothing */
    char why[256] = "";
    int rc;

    if (!waits && handed_over_max_hops(ex))
        return;
    handed_next(ex);
    if (!ex->handoff || visiting_save_fields(ex, in) < 0) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        return;
    }
    rc = handoff_read_head(ex->handoff, &ex->arena, ex->conf, ex->pool_conf, in, why, sizeof(why));
    if (rc == 0)
        rc = handed_note_run(ex, visit_server(ex->hop.visit),
            visit_may_be_at(ex->hop.visit, ex->handoff->at), why, sizeof(why));
    if (rc < 0) {
        handed_refuse(ex, rc, why);
        return;
    }
    ex->handoff->on_unpacked = visiting_on_unpacked;
    ex->handoff->owner = ex;
    ex->phase = VISITING_HANDOFF;
}

/* A slice of the handoff has been decoded. */
static void visiting_on_unpacked(void *owner, int rc, const char *why)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    if (rc < 0)
        handed_refuse(ex, rc, why);
    else if (ex->phase == VISITING_UNPACKED)
        handed_take(ex);
    else
        visit_pause(ex->hop.visit, false);
}

static void visiting_handoff_data(struct exchange *ex, struct str data)
{
    char why[256] = "";
    int rc = handoff_take_data(ex->handoff, data, why, sizeof(why));

    if (rc < 0)
        handed_refuse(ex, rc, why);
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
        handed_refuse(ex, rc, why);
    else if (rc == 0)
        handed_take(ex);
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
    exchange_set_timer(ex, h->pause_ms);
    return true;
}

/* Whether the worker that died is replaced by another. A resume or replay has been paid for
 * and is delivered again in every case in which nothing of a response has gone to the client; hop 0
 * only where the conf and the method allow it and no byte has come. */
static bool visiting_may_deliver_again(const struct exchange *ex, enum problem p)
{
    const struct pool_conf *pc = ex->pool_conf;

    bool helper = ex->run && ex->run->sent > 0; /* it drops what the client has: Tarry-Sent */

    if (!reply_may_answer(&ex->reply) && !(helper && ex->phase < VISITING_RESPONSE))
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
    if (ex->run)
        parts_release(&ex->run->parts);
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
    } else if (parted_is(head) && !ex->reply.head_only) {
        ex->phase = VISITING_PARTS;
        parted_head(ex, head);
    } else if (handoff_is(head) && !(ex->reply.head_only && ex->hop.kind != HOP_RESUME)) {
        visiting_handoff_head(ex, head); /* hop 0 and replays have the client's method */
    } else {
        visiting_answer_head(ex, head);
    }
}

/* A response in parts: each takes effect as it comes. */
static void visiting_parts_data(struct exchange *ex, struct str in)
{
    struct str data;
    bool goes_on = true;

    while (goes_on) {
        int rc = parts_next(&ex->run->parts, &in, &data);

        switch (rc) {
        case PARTS_NEED_MORE:
            return;
        case PARTS_DATA:
            goes_on = parted_data(ex, data);
            break;
        case PARTS_TRAILER:
            ex->phase = VISITING_SAID;
            goes_on = parted_trailer(ex, &ex->run->parts.trailer);
            break;
        case PARTS_CONTENT:
            goes_on = parted_content(ex, data);
            break;
        case PARTS_END:
            break;
        default:
            exchange_fail(ex, PROBLEM_WORKER_PROTOCOL, 0,
                "hop %u: the inner chunks of a response in parts are malformed", ex->hop.number);
            return;
        }
        if (ex->run->parts.state == PARTS_AT_END && in.n == 0)
            return;
        if (ex->run->parts.state == PARTS_AT_END) {
            exchange_fail(ex, PROBLEM_WORKER_PROTOCOL, 0,
                "hop %u: bytes follow the end of a response in parts", ex->hop.number);
            return;
        }
    }
}

static void visiting_parts_end(struct exchange *ex)
{
    struct message died = { .kind = MESSAGE_FAILED,
        .cause = STREAM_E_INCOMPLETE,
        .detail = PROBLEM_WORKER_INCOMPLETE,
        .why = "the response in parts ended before its end" };

    /* The content may be complete for HTTP and not for us: the view ended without a word. */
    if (ex->run->parts.state != PARTS_AT_END &&
        !(ex->run->parts.state == PARTS_IN_CONTENT && ex->run->parts.left == 0)) {
        visiting_on_failed(ex, &died);
        return;
    }
    /* Not the first attempt again: a run that is replayed because its process dies over each piece
     * would be for ever. A piece that is answered begins anew. */
    parted_end(ex);
}

static void visiting_on_data(struct exchange *ex, struct str data)
{
    if (ex->phase == VISITING_HANDOFF)
        visiting_handoff_data(ex, data);
    else if (ex->phase == VISITING_PARTS || ex->phase == VISITING_SAID)
        visiting_parts_data(ex, data);
    else
        visiting_answer_data(ex, data);
}

static void visiting_on_end(struct exchange *ex)
{
    if (ex->phase == VISITING_HANDOFF)
        visiting_handoff_end(ex);
    else if (ex->phase == VISITING_PARTS || ex->phase == VISITING_SAID)
        visiting_parts_end(ex);
    else
        visiting_answer_end(ex);
}

static void visiting_on_message(void *owner, struct visit *v, const struct message *m)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    switch (m->kind) {
    case MESSAGE_HEAD:
        trail_take_label(ex->trail, m->head);
        visiting_on_head(ex, m->head);
        break;
    case MESSAGE_DATA:
        visiting_on_data(ex, m->data);
        break;
    case MESSAGE_END:
        visiting_on_end(ex);
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
