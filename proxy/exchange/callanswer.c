/* What the attempts of a call tell, and what the call decides about it: to pass an answer on, to
 * try again, or to fail. */
#include "exchange/callstate.h"

#include <stdio.h>

#include "exchange/callmetrics.h"
#include "observe/counter.h"
#include "upstream/home.h"
#include "upstream/ratelimit.h"

/* ---- the budget of retries ---- */

static struct budget *callanswer_budget(const struct call *c)
{
    struct endpoint *e = endpoints_find(c->endpoints, c->request.upstream, c->endpoint);

    return e ? endpoint_budget(e) : NULL;
}

/* Calls count when their first result is there, as retries do: however long calls take, an outage
 * is measured against those that it has hit. */
static void callanswer_count(struct call *c)
{
    struct budget *b = c->counted ? NULL : callanswer_budget(c);

    c->counted = true;
    if (b)
        budget_note_call(b, c->request.upstream, loop_now_ms());
}

static bool callanswer_take_retry(struct call *c)
{
    struct budget *b = callanswer_budget(c);

    if (!b || budget_take(b, c->request.upstream, loop_now_ms()))
        return true;
    c->retry_denied = true;
    counter_add(COUNTER_RETRIES_DENIED, 1);
    log_info(c->log, "call %zu to \"" STR_FMT "\" is not made again: the retry budget is used up",
        c->request.index, STR_ARG(c->request.upstream->name));
    return false;
}

/* Whether the call is made again (RETRY_AGAIN, RETRY_ELSEWHERE), and after which pause: none if
 * another endpoint is ready, which is not hit by what this one suffers from and takes nothing from
 * the budget; otherwise until the first of the others is back, or for `own_ms` at this one. */
static bool callanswer_plan_retry(
    struct call *c, enum retry_decision d, uint64_t own_ms, uint64_t *pause_ms)
{
    struct group_ask ask = call_ask(c);
    uint64_t back_ms = group_next_back(c->endpoints, &ask, c->endpoint_index);

    *pause_ms = 0;
    if (group_has_other(c->endpoints, &ask))
        return true;
    *pause_ms = d == RETRY_AGAIN ? own_ms : UINT64_MAX;
    if (back_ms < *pause_ms && back_ms <= c->request.upstream->retry_after_max_ms)
        *pause_ms = back_ms;
    return *pause_ms < call_left_ms(c) && callanswer_take_retry(c);
}

/* ---- what the attempt tells ---- */

/* What a service says of its limits holds for later calls. The first time that it says something,
 * the call did not wait for any. */
static void callanswer_hear_limits(struct call *c, const struct head *head)
{
    struct meter_level levels[METER_NKINDS];

    if (!c->pacing && c->request.upstream->rate_limit_headers &&
        ratelimit_read(head, loop_wall_ms(), levels))
        c->pacing = call_make_pacing(c);
    if (c->pacing)
        pacing_answered(c->pacing, c->endpoint, head);
}

/* A refusal of a key that the client brought along says nothing about the endpoint. */
static enum verdict_outcome callanswer_outcome_of(
    const struct call *c, const struct attempt_answer *a)
{
    bool key_is_out = a->status == 401 || a->kind == LLM_ERROR_QUOTA;

    if (key_is_out)
        return rewrite_has_key(c->endpoint) ? VERDICT_DENIED : VERDICT_NEUTRAL;
    if (a->status == 429)
        return VERDICT_NEUTRAL;
    return a->status >= 500 ? VERDICT_FAILED : VERDICT_SERVED;
}

/* The answer is the call's. One of a higher tier that failed too is not: the first one counts. */
static enum attempt_decision callanswer_pass(struct call *c, const struct attempt_answer *a)
{
    call_set_state(c, CALL_IS_PASSING);
    c->status = (uint16_t)a->status;
    if (!c->kept || a->status < 400)
        return ATTEMPT_PASS;
    call_drop_attempt(c);
    c->attempt = c->kept;
    c->kept = NULL;
    attempt_pass_kept(c->attempt);
    return ATTEMPT_GONE;
}

static enum attempt_decision callanswer_keep(struct call *c)
{
    /* The first of all counts. */
    if (c->kept) {
        call_pause_before_retry(c, 0, "next tier");
        return ATTEMPT_GONE;
    }
    trail_end(c->request.trail, c->phase, loop_precise_us());
    c->kept = c->attempt;
    c->attempt = NULL;
    call_pause_before_retry(c, 0, "next tier");
    return ATTEMPT_KEEP;
}

static enum attempt_decision callanswer_on_answer(void *owner, const struct attempt_answer *a)
{
    struct call *c = owner;
    struct retry_situation s = call_situation(c);
    struct retry_answer r = { a->status, a->head, a->kind, a->asks_to_wait, a->wait_ms };
    struct retry_plan plan;
    enum retry_decision decision;
    uint64_t pause_ms;
    char why[80];

    if ((r.kind == LLM_ERROR_AUTH || r.kind == LLM_ERROR_QUOTA) && !rewrite_has_key(c->endpoint))
        s.retries_max = 0;
    c->quota_is_out = a->kind == LLM_ERROR_QUOTA;
    callmetrics_attempt_answered(c->request.upstream, c->endpoint->name, a->status);
    trail_note(c->request.trail, c->phase, (uint16_t)a->status, NULL);
    callanswer_count(c);
    callanswer_hear_limits(c, a->head);
    decision = retry_after_answer(&s, &r, &plan);
    call_report(c, callanswer_outcome_of(c, a), a->status >= 400 ? plan.rest_ms : 0);
    snprintf(why, sizeof(why), "status %u%s" STR_FMT, a->status, a->word.n ? ", " : "",
        (int)(a->word.n < 48 ? a->word.n : 48), a->word.p ? a->word.p : "");
    switch (decision) {
    case RETRY_NEXT_TIER:
        return call_climb(c) ? callanswer_keep(c) : callanswer_pass(c, a);
    case RETRY_AGAIN:
    case RETRY_ELSEWHERE:
        if (c->retries >= s.retries_max ||
            !callanswer_plan_retry(c, decision, plan.pause_ms, &pause_ms))
            return callanswer_pass(c, a);
        c->retries++;
        call_pause_before_retry(c, pause_ms, why);
        return ATTEMPT_GONE;
    case RETRY_FREE:
    case RETRY_NO:
        break;
    }
    return callanswer_pass(c, a);
}

/* An SDK would multiply Tarry's tries by its own. */
static bool callanswer_must_not_be_repeated(const struct call *c, const struct head *head)
{
    return head->status >= 400 && (c->attempts > 1 || c->retry_denied || c->quota_is_out ||
                                      head->status >= 500 || head->status == 408);
}

/* Whether the answer has the chunk that include_usage has brought. */
static bool callanswer_must_sieve(const struct call *c, const struct head *head)
{
    struct str coding = head_value(head, STR("content-encoding"));

    return c->rewritten && c->rewritten->asks_usage && head->status == 200 &&
           head_is_event_stream(head) && (coding.n == 0 || str_eq_nocase(coding, STR("identity")));
}

/* The head as the caller gets it. 0, or -1 if there is no memory. */
static int callanswer_make_answer_head(
    struct call *c, struct arena *a, const struct head *head, struct head *out)
{
    bool sieved = callanswer_must_sieve(c, head);

    *out = *head;
    if (!sieved && !callanswer_must_not_be_repeated(c, head))
        return 0;
    if (head_copy(a, out, head, 1) < 0)
        return -1;
    if (sieved) {
        head_remove(out, STR("content-length"));
        c->sieve = sieve_new();
        if (!c->sieve)
            return -1;
    }
    if (callanswer_must_not_be_repeated(c, head))
        return head_set(out, a, STR("x-should-retry"), STR("false"));
    return 0;
}

static void callanswer_lose(struct call *c)
{
    call_drop_attempt(c);
    call_fail(c, PROBLEM_INTERNAL, "out of memory");
}

/* As soon as the id is known: the caller may use it before the answer has ended. */
static void callanswer_note_home(const struct call *c)
{
    const struct upstream_conf *u = c->request.upstream;
    struct str id = u->stateful && u->nendpoints > 1 ? attempt_response_id(c->attempt) : STR("");

    if (id.n > 0 && c->status < 400)
        home_note(u, c->endpoint, id);
}

static void callanswer_on_head(void *owner, const struct head *head)
{
    struct call *c = owner;
    struct arena arena = { 0 };
    struct head out;

    c->status = (uint16_t)head->status; /* a kept answer's is not the last attempt's */
    callmetrics_first_content(c->request.upstream, call_elapsed_ms(c));
    callanswer_note_home(c);
    trail_take_service_id(c->request.trail, head);
    if (callanswer_make_answer_head(c, &arena, head, &out) < 0)
        callanswer_lose(c);
    else
        call_emit(c, (struct call_event){ .kind = CALL_HEAD, .head = &out });
    arena_release(&arena);
}

/* Passes on what comes through the sieve. False: there is no memory and the call has failed, or its
 * owner has closed it. */
static bool callanswer_sieve(struct call *c, struct str data, bool last)
{
    struct buf out = { 0 };
    int rc = sieve_feed(c->sieve, data, &out);

    if (rc == 0 && last)
        rc = sieve_end(c->sieve, &out);
    if (rc < 0)
        callanswer_lose(c);
    else if (buf_len(&out) > 0)
        call_emit(c, (struct call_event){ .kind = CALL_DATA, .data = buf_str(&out) });
    buf_release(&out);
    return rc == 0 && !c->closed;
}

static void callanswer_on_data(void *owner, struct str data)
{
    struct call *c = owner;

    if (c->sieve)
        callanswer_sieve(c, data, false);
    else
        call_emit(c, (struct call_event){ .kind = CALL_DATA, .data = data });
}

static void callanswer_on_end(void *owner, enum attempt_end end)
{
    static const enum call_end ends[] = { [ATTEMPT_COMPLETE] = CALL_COMPLETE,
        [ATTEMPT_ERROR_EVENT] = CALL_ERROR_EVENT,
        [ATTEMPT_MALFORMED] = CALL_MALFORMED };
    struct call *c = owner;

    if (c->sieve && !callanswer_sieve(c, STR(""), true))
        return;
    callanswer_note_home(c);
    call_set_state(c, CALL_IS_OVER);
    call_leave_pace(c, c->status < 400 ? PACING_USED : PACING_FREE);
    callmetrics_call_answered(c->request.upstream, c->status, call_elapsed_ms(c), c->log);
    call_emit(c, (struct call_event){ .kind = CALL_END, .end = ends[end] });
}

static void callanswer_on_failed(void *owner, const struct attempt_failure *f)
{
    struct call *c = owner;
    struct retry_situation s = call_situation(c);
    struct retry_failure r = {
        .error = f->error,
        .sent = f->reach >= ATTEMPT_SENT,
        .answered = f->reach == ATTEMPT_ANSWERED,
        .reused = f->reused,
        .alone = f->alone,
        .took_ms = f->took_ms,
    };
    enum retry_decision decision;
    uint64_t pause_ms;

    callmetrics_attempt_failed(c->request.upstream, c->endpoint->name, f->problem);
    trail_note(c->request.trail, c->phase, 0, problem_error(f->problem));
    if (c->state == CALL_IS_PASSING) {
        call_report(c, c->request.websocket ? VERDICT_NEUTRAL : VERDICT_FAILED, 0);
        c->no_terminal = f->no_terminal;
        call_fail(c, f->problem, f->why);
        return;
    }
    decision = retry_after_failure(&s, &r, &pause_ms);
    callanswer_count(c);
    call_report(c, decision == RETRY_FREE ? VERDICT_NEUTRAL : VERDICT_FAILED, 0);
    if ((decision == RETRY_AGAIN || decision == RETRY_ELSEWHERE) &&
        callanswer_plan_retry(c, decision, pause_ms, &pause_ms)) {
        c->retries++;
        call_pause_before_retry(c, pause_ms, f->why);
    } else if (decision == RETRY_FREE) {
        c->frees++;
        c->tried &= ~(UINT64_C(1) << c->endpoint_index);
        call_leave_pace(c, PACING_UNBEGUN);
        call_pause_before_retry(c, pause_ms, f->why);
    } else if (c->kept) {
        call_drop_attempt(c);
        c->attempt = c->kept;
        c->kept = NULL;
        call_set_state(c, CALL_IS_PASSING);
        attempt_pass_kept(c->attempt);
    } else {
        call_fail(c, f->problem, f->why);
    }
}

static int callanswer_make_head(void *owner, struct arena *a, struct head *out)
{
    struct call *c = owner;

    return c->make_head(c->owner, c, a, out);
}

static void callanswer_on_drained(void *owner)
{
    call_emit(owner, (struct call_event){ .kind = CALL_DRAINED });
}

static const struct attempt_events events = {
    .make_head = callanswer_make_head,
    .on_answer = callanswer_on_answer,
    .on_head = callanswer_on_head,
    .on_data = callanswer_on_data,
    .on_end = callanswer_on_end,
    .on_drained = callanswer_on_drained,
    .on_failed = callanswer_on_failed,
};

struct call *call_open(struct endpoints *endpoints, const struct call_request *r,
    call_make_head_fn *make_head, call_event_fn *on_event, void *owner,
    const struct log_context *log)
{
    return call_start(&events, endpoints, r, make_head, on_event, owner, log);
}
