/* The step in which the calls of a resume or replay are in flight, side by side. No worker is held.
 */
#include "exchange/hop.h"
#include "exchange/parked.h"
#include "exchange/steps.h"
#include "observe/panic.h"

/* One of the calls is complete, and perhaps it was the last. */
static void calls_one_done(struct exchange *ex)
{
    if (--ex->calls_left > 0)
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
    struct answer_facts facts = parked_facts(c);
    int rc = answer_finish(an, p, &facts);

    if (p != PROBLEM_NONE)
        log_write(problem_level(p), &ex->log,
            "call %zu to \"" STR_FMT "\" failed after %u attempt(s) (%s): %s",
            call_request(c)->index, STR_ARG(an->enclosed->upstream->name), call_attempts(c),
            problem_error(p), why);
    an->call = NULL;
    call_close(c);
    if (rc < 0)
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
    else
        calls_one_done(ex);
}

static void calls_on_event(void *owner, struct call *c, const struct call_event *ev)
{
    struct answer *an = owner;

    panic_hold(an->owner, exchange_describe);
    switch (ev->kind) {
    case CALL_HEAD:
        if (answer_take_head(an, ev->head) < 0)
            calls_end_call(an, PROBLEM_INTERNAL, "out of memory");
        break;
    case CALL_DATA:
        if (answer_take_data(an, ev->data) < 0)
            calls_end_call(an, answer_problem(an),
                an->cut == ANSWER_CUT_LIMIT ? "the response is larger than response_max"
                                            : "the response cannot be kept in temp_dir");
        break;
    case CALL_END:
        calls_end_call(an, PROBLEM_NONE, NULL);
        break;
    case CALL_FAILED:
        calls_end_call(an, ev->problem, ev->why);
        break;
    }
}

static void calls_enter(struct exchange *ex)
{
    exchange_set_state(ex, EX_PARKED);
    parked_begin(ex);
    if (exchange_client_left(ex) && exchange_cancels(ex)) {
        exchange_end(ex, "client_gone");
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
    }
    if (ex->handoff->keep_alive != KEEP_ALIVE_OFF)
        deadline_set(&ex->timer, ex->pool_conf->keep_alive_interval_ms);
}

static void calls_on_timer(struct exchange *ex)
{
    parked_keep_alive(ex);
}

static void calls_on_client_gone(struct exchange *ex)
{
    if (exchange_cancels(ex))
        exchange_end(ex, "client_gone");
}

const struct step step_calls = {
    .enter = calls_enter,
    .on_client_gone = calls_on_client_gone,
    .on_timer = calls_on_timer,
    .fin_is_gone = exchange_cancels,
};
