/* The step of a view that stands still: until more of the open answer has come, or all of it, or
 * its wait is over. Then the process that has the run is visited with a piece, together with
 * others'. */
#include <inttypes.h>

#include "exchange/forward.h"
#include "exchange/hop.h"
#include "exchange/parted.h"
#include "exchange/steps.h"
#include "observe/counter.h"
#include "observe/panic.h"

/* ex->phase */
enum pieces_phase {
    PIECES_WAITING, /* for the answer, the time, or the client */
    PIECES_DUE,     /* for the visit */
    PIECES_WHOLE,   /* its response is a whole one */
    PIECES_PARTS,   /* its response is one in parts, whose trailer has not come */
    PIECES_SAID,    /* its trailer has */
    PIECES_LOST,    /* the process does not have the run */
};

static const struct batch_ops pieces_batch_ops;

static bool pieces_is_due(const struct exchange *ex)
{
    const struct run *r = ex->run;

    /* A client that has much left to take is not given more. */
    if (reply_kept(&ex->reply) > ex->pool_conf->piece_window)
        return false;
    if (ex->wait_until_ms > 0)
        return loop_now_ms() >= ex->wait_until_ms;
    return r->outcome.p || (r->then == RUN_MORE && run_news(r) > 0);
}

/* Everything that has been paid for goes to any server, as a replay with the same hop number. */
static void pieces_replay(struct exchange *ex, const char *why)
{
    log_debug(&ex->log, "hop %u is replayed whole: %s", ex->hop.number, why);
    counter_add(COUNTER_PIECES_LOST, 1);
    if (ex->request.content == CONTENT_DROPPED) {
        exchange_fail(ex, PROBLEM_BODY_TOO_LARGE, 0,
            "a replay needs the request's body, which is larger than replay_body_max");
        return;
    }
    hop_prepare_again(ex);
    exchange_enter(ex, STEP_VISIT);
}

static void pieces_look(struct exchange *ex)
{
    struct batch_process at = { ex->pool, ex->conf, ex->hop.server, ex->hop.at };

    if (ex->phase != PIECES_WAITING || !pieces_is_due(ex))
        return;
    if (ex->hop.server.n == 0) {
        pieces_replay(ex, "there is no process to come back to");
        return;
    }
    ex->phase = PIECES_DUE;
    exchange_clear_timer(ex);
    if (batch_join(&ex->all->batches, &at, &ex->run->member, &pieces_batch_ops, ex) < 0)
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
}

/* For the end of the wait and for keep-alive bytes, whichever comes first. */
static void pieces_set_timer(struct exchange *ex)
{
    uint64_t now = loop_now_ms(), at = UINT64_MAX;

    if (ex->phase == PIECES_WAITING && ex->wait_until_ms > now)
        at = ex->wait_until_ms;
    if (ex->keep_alive_at_ms < at)
        at = ex->keep_alive_at_ms;
    if (at != UINT64_MAX)
        exchange_set_timer(ex, at > now ? at - now : 0);
}

static void pieces_enter(struct exchange *ex)
{
    struct body *b = &ex->request.body;

    exchange_set_state(ex, EX_PARKED);
    if (body_size(b) > ex->pool_conf->replay_body_max) {
        ex->request.content = CONTENT_DROPPED;
        body_clear(b);
    }
    ex->wait_until_ms = ex->handoff->waits ? loop_now_ms() + ex->handoff->wait_ms : 0;
    if (ex->handoff->waits)
        counter_add(COUNTER_WAITS, 1);
    if (ex->wait_until_ms == 0 && ex->handoff->waits)
        ex->wait_until_ms = 1;
    ex->keep_alive_at_ms = ex->handoff->keep_alive == KEEP_ALIVE_SSE
                               ? loop_now_ms() + ex->pool_conf->keep_alive_interval_ms
                               : UINT64_MAX;
    if (ex->run->open && ex->run->open->call)
        call_pause(ex->run->open->call,
            ex->run->then == RUN_MORE && run_news(ex->run) > ex->pool_conf->piece_window);
    pieces_set_timer(ex);
    pieces_look(ex);
}

/* A comment line, where the stream stands between two events. */
static void pieces_keep_alive(struct exchange *ex)
{
    if (ex->run->sent > 0 ? run_at_empty_line(ex->run) : reply_may_answer(&ex->reply))
        reply_comment(&ex->reply);
    ex->keep_alive_at_ms = loop_now_ms() + ex->pool_conf->keep_alive_interval_ms;
}

static void pieces_on_timer(struct exchange *ex)
{
    if (loop_now_ms() >= ex->keep_alive_at_ms)
        pieces_keep_alive(ex);
    pieces_set_timer(ex);
    pieces_look(ex);
}

/* With `cancel` a visit under way is waited for; then the process is told. */
static void pieces_on_client_gone(struct exchange *ex)
{
    if (exchange_cancels(ex) && (ex->phase == PIECES_WAITING || !ex->run->member.seat))
        exchange_end_cancelled(ex);
    else if (exchange_cancels(ex) && ex->run->open && ex->run->open->call)
        run_end_open(ex->run, STR("cancelled"), PROBLEM_NONE);
    else
        pieces_look(ex);
}

/* The visit */

static int pieces_make(void *owner, struct arena *a, struct head *head, struct piece *data)
{
    struct exchange *ex = owner;
    struct run *r = ex->run;
    int rc = head_add(head, a, STR("Tarry-Exchange"), str_of(ex->id));

    rc |= head_add(head, a, STR("Tarry-Hop"), arena_printf(a, "%u", ex->hop.number));
    if (rc == 0 && r->open) {
        *data = (struct piece){ .body = &r->open->body, .off = r->given, .len = run_news(r) };
        rc = run_add_piece(r, a, r->given, head);
        if (rc == 0 && r->last_given)
            rc = answer_add_facts(head, a, &r->facts);
        if (r->open->call)
            call_pause(r->open->call, false);
    }
    return rc;
}

/* The response of the batch is not the client's while it is decided what it is. */
static void pieces_on_head(void *owner, const struct head *head)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    if (parted_is(head)) {
        ex->phase = PIECES_PARTS;
        parted_head(ex, head);
    } else if (head->status == 409 && head_find(head, STR("tarry-then"))) {
        ex->phase = PIECES_LOST;
    } else if (!reply_may_answer(&ex->reply) || head_find(head, STR("tarry-then"))) {
        log_warn(&ex->log, "hop %u: a response to a piece is none of the helper's", ex->hop.number);
        exchange_cut(ex, "http_response_incomplete");
    } else {
        struct arena scratch = { 0 };
        struct head out;
        int rc = REPLY_E_MEMORY;

        ex->phase = PIECES_WHOLE;
        if (forward_worker_response(&scratch, head, &out) == 0 &&
            forward_add_cookies(&scratch, ex->cookies, &out) == 0)
            rc = reply_head(&ex->reply, &out, REPLY_WITH_BODY, ex->pool_conf->spool_max);
        arena_release(&scratch);
        exchange_replied(ex, rc);
    }
}

static void pieces_on_data(void *owner, struct str data)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    if (ex->phase == PIECES_PARTS)
        parted_data(ex, data);
    else if (ex->phase == PIECES_WHOLE)
        exchange_replied(ex, reply_data(&ex->reply, data));
}

static void pieces_on_trailer(void *owner, const struct head *trailer)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    if (ex->phase != PIECES_PARTS)
        return;
    ex->phase = PIECES_SAID;
    parted_trailer(ex, trailer);
}

static void pieces_on_content(void *owner, struct str data)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    if (ex->phase == PIECES_SAID)
        parted_content(ex, data);
}

static void pieces_on_end(void *owner)
{
    struct exchange *ex = owner;
    bool gone = exchange_client_left(ex) && exchange_cancels(ex);

    panic_hold(ex, exchange_describe);
    if (ex->phase == PIECES_WHOLE) {
        exchange_complete(ex);
    } else if (ex->phase == PIECES_LOST) {
        if (gone)
            exchange_end(ex, "client_gone");
        else
            pieces_replay(ex, "the process does not have the run");
    } else {
        ex->hop.attempt = 1;
        parted_end(ex);
    }
}

static void pieces_on_failed(void *owner, enum problem p, const char *why)
{
    struct exchange *ex = owner;
    bool died = p == PROBLEM_WORKER_DIED || p == PROBLEM_WORKER_INCOMPLETE;

    panic_hold(ex, exchange_describe);
    if (exchange_client_left(ex) && exchange_cancels(ex)) {
        exchange_end(ex, "client_gone");
        return;
    }
    problem_count(p);
    reply_drop_held(&ex->reply);
    if (p != PROBLEM_WORKER_UNREACHABLE && !died)
        exchange_fail(ex, p, 0, "pieces at hop %u: %s", ex->hop.number, why);
    else if (died && ex->hop.attempt >= ex->pool_conf->resume_attempts)
        exchange_fail(ex, p, 0, "pieces at hop %u: %s", ex->hop.number, why);
    else
        pieces_replay(ex, why);
}

static const struct batch_ops pieces_batch_ops = {
    .make = pieces_make,
    .on_head = pieces_on_head,
    .on_data = pieces_on_data,
    .on_trailer = pieces_on_trailer,
    .on_content = pieces_on_content,
    .on_end = pieces_on_end,
    .on_failed = pieces_on_failed,
};

static void pieces_leave(struct exchange *ex)
{
    batch_leave(&ex->run->member);
}

const struct step step_pieces = {
    .enter = pieces_enter,
    .on_client_drained = pieces_look,
    .on_client_gone = pieces_on_client_gone,
    .on_timer = pieces_on_timer,
    .on_open_answer = pieces_look,
    .leave = pieces_leave,
    .fin_is_gone = exchange_cancels,
};
