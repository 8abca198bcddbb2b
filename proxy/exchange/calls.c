/* The step in which the calls of a resume or replay are in flight, side by side. No worker is held.
 */
#include "exchange/hop.h"
#include "exchange/parked.h"
#include "exchange/parted.h"
#include "exchange/steps.h"
#include "observe/counter.h"
#include "observe/panic.h"

/* All calls are complete, and what was to be waited for has passed: the next visit. */
static void calls_go_on(struct exchange *ex)
{
    if (ex->calls_left > 0 || ex->wait_until_ms > loop_now_ms())
        return;
    if (ex->handoff->then == THEN_REPLAY)
        hop_prepare(ex, HOP_REPLAY, (struct str){ 0 });
    else
        hop_prepare(ex, HOP_RESUME, ex->handoff->path);
    exchange_enter(ex, STEP_VISIT);
}

static void calls_end_call(struct answer *an, enum problem p, const char *why)
{
    struct exchange *ex = an->owner;
    struct call *c = an->call;
    struct answer_facts facts = answer_facts_of(c);
    int rc = answer_finish(an, &ex->arena, ex->id, p, &facts);

    if (p != PROBLEM_NONE)
        log_write(problem_level(p), &ex->log,
            "call %zu to \"" STR_FMT "\" failed after %u attempt(s) (%s): %s",
            call_request(c)->index, STR_ARG(an->enclosed->upstream->name), call_attempts(c),
            problem_error(p), why);
    an->call = NULL;
    call_close(c);
    if (rc < 0) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        return;
    }
    ex->calls_left--;
    calls_go_on(ex);
}

/* Of the answer that is given in pieces: what has come counts for the handoff with its first byte.
 */
static bool calls_is_open(const struct answer *an)
{
    const struct exchange *ex = an->owner;

    return ex->run && ex->run->open == an;
}

static void calls_one_is_ready(struct exchange *ex)
{
    ex->calls_left--;
    calls_go_on(ex);
}

static void calls_end_open(struct answer *an, enum problem p)
{
    struct exchange *ex = an->owner;
    bool counted = body_size(&an->body) > 0;

    run_end_open(ex->run, p == PROBLEM_NONE ? STR("complete") : STR("truncated"), p);
    if (counted)
        exchange_on_open_answer(ex);
    else
        calls_one_is_ready(ex);
}

static void calls_on_open_data(struct answer *an, struct call *c, struct str data)
{
    struct exchange *ex = an->owner;
    bool first = body_size(&an->body) == 0;

    if (answer_take_data(an, data) < 0) {
        log_warn(&ex->log, "an answer in pieces is cut: %s", problem_title(answer_problem(an)));
        calls_end_open(an, answer_problem(an));
        return;
    }
    if (run_news(ex->run) > ex->pool_conf->piece_window && ex->run->then != RUN_REST)
        call_pause(c, true);
    if (first)
        calls_one_is_ready(ex);
    else
        exchange_on_open_answer(ex);
}

static void calls_on_head(struct answer *an, const struct head *head)
{
    struct exchange *ex = an->owner;

    if (answer_take_head(an, &ex->arena, head) < 0)
        calls_end_call(an, PROBLEM_INTERNAL, "out of memory");
    else if (calls_is_open(an) && (head->status < 200 || head->status > 299))
        ex->run->open = NULL; /* an error is given whole */
}

/* The call has failed, or its answer cannot be kept. */
static void calls_on_failed(struct answer *an, enum problem p, const char *why)
{
    struct exchange *ex = an->owner;

    if (calls_is_open(an) && body_size(&an->body) > 0) {
        log_warn(&ex->log, "an answer in pieces broke off (%s): %s", problem_error(p), why);
        calls_end_open(an, p);
        return;
    }
    if (calls_is_open(an))
        ex->run->open = NULL;
    calls_end_call(an, p, why);
}

static void calls_on_event(void *owner, struct call *c, const struct call_event *ev)
{
    struct answer *an = owner;

    panic_hold(an->owner, exchange_describe);
    switch (ev->kind) {
    case CALL_HEAD:
        calls_on_head(an, ev->head);
        break;
    case CALL_DATA:
        if (calls_is_open(an))
            calls_on_open_data(an, c, ev->data);
        else if (answer_take_data(an, ev->data) < 0)
            calls_end_call(an, answer_problem(an),
                an->cut == ANSWER_CUT_LIMIT ? "the response is larger than response_max"
                                            : "the response cannot be kept in temp_dir");
        break;
    case CALL_END:
        if (calls_is_open(an))
            calls_end_open(an, PROBLEM_NONE);
        else
            calls_end_call(an, PROBLEM_NONE, NULL);
        break;
    case CALL_DRAINED: /* only in a tunnel */
        break;
    case CALL_FAILED:
        calls_on_failed(an, ev->problem, ev->why);
        break;
    }
}

/* The answer that is asked for in pieces, if one is, is open from now on. */
static bool calls_open_pieces(struct exchange *ex, struct answer *an)
{
    if (!an->enclosed->pieces)
        return true;
    if (!parted_run(ex))
        return false;
    run_open(ex->run, an);
    return true;
}

/* For the keep-alive bytes and the end of the wait, whichever comes first. `now`: the bytes were
 * sent then; 0: they are due when they were. */
static void calls_set_timer(struct exchange *ex, uint64_t now)
{
    uint64_t at = ex->wait_until_ms > loop_now_ms() ? ex->wait_until_ms : UINT64_MAX;

    if (now > 0)
        ex->keep_alive_at_ms = ex->handoff->keep_alive == KEEP_ALIVE_OFF
                                   ? UINT64_MAX
                                   : now + ex->pool_conf->keep_alive_interval_ms;
    if (ex->keep_alive_at_ms < at)
        at = ex->keep_alive_at_ms;
    if (at != UINT64_MAX)
        exchange_set_timer(ex, at > loop_now_ms() ? at - loop_now_ms() : 0);
    else if (ex->calls_left == 0)
        exchange_set_timer(ex, 0); /* from the loop */
}

static void calls_enter(struct exchange *ex)
{
    exchange_set_state(ex, EX_PARKED);
    parked_begin(ex);
    ex->wait_until_ms = ex->handoff->waits ? loop_now_ms() + ex->handoff->wait_ms : 0;
    if (exchange_client_left(ex) && exchange_cancels(ex)) {
        exchange_end_cancelled(ex);
        return;
    }
    for (size_t i = 0; i < ex->handoff->ncalls; i++) {
        struct answer *an = NULL;
        struct call *c = parked_open_call(ex, i, &an, calls_on_event);

        if (!c) {
            exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
            return;
        }
        an->call = c;
        if (!calls_open_pieces(ex, an))
            return;
    }
    if (ex->handoff->waits)
        counter_add(COUNTER_WAITS, 1);
    calls_set_timer(ex, loop_now_ms());
}

static void calls_on_timer(struct exchange *ex)
{
    uint64_t now = loop_now_ms();

    if (now >= ex->keep_alive_at_ms && !parked_keep_alive(ex))
        return;
    if (ex->calls_left == 0 && now >= ex->wait_until_ms)
        calls_go_on(ex);
    else
        calls_set_timer(ex, now >= ex->keep_alive_at_ms ? now : 0);
}

static void calls_on_client_gone(struct exchange *ex)
{
    if (exchange_cancels(ex))
        exchange_end_cancelled(ex);
}

const struct step step_calls = {
    .enter = calls_enter,
    .on_client_gone = calls_on_client_gone,
    .on_timer = calls_on_timer,
    .fin_is_gone = exchange_cancels,
};
