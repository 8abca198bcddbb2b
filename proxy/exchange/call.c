/* A call: its attempts, one after the other, and the pauses between them. */
#include "exchange/call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "exchange/attempt.h"
#include "exchange/callmetrics.h"
#include "net/deadline.h"
#include "net/loop.h"
#include "observe/counter.h"
#include "upstream/retry.h"

/*   PAUSING <-> TRYING -> PASSING -> OVER       from anywhere to OVER: failure, call_close()
 *
 *   PAUSING    before each attempt, the first too: owns nothing.
 *   TRYING     owns an attempt whose answer is not decided about.
 *   PASSING    owns the attempt whose answer is passed on: it is never made again.
 *   OVER       has told how it ended, or was closed. */
enum call_state { CALL_IS_PAUSING, CALL_IS_TRYING, CALL_IS_PASSING, CALL_IS_OVER };
#define CALL_NSTATES (CALL_IS_OVER + 1)

#define MAY(s) (1u << CALL_IS_##s)
static const struct {
    const char *name;
    unsigned next;
} states[CALL_NSTATES] = {
    [CALL_IS_PAUSING] = { "pausing", MAY(TRYING) | MAY(OVER) },
    [CALL_IS_TRYING] = { "trying", MAY(PAUSING) | MAY(PASSING) | MAY(OVER) },
    [CALL_IS_PASSING] = { "passing", MAY(OVER) },
    [CALL_IS_OVER] = { "over", 0 },
};

struct call {
    struct call_request request;
    struct endpoints *endpoints;
    struct attempt *attempt;
    struct deadline pause;
    uint64_t started_ms, total_at_ms;
    call_make_head_fn *make_head;
    call_event_fn *on_event;
    void *owner;
    const struct log_context *log;
    struct deferred_free deferred_free;
    unsigned attempts, retries_max;
    unsigned answered; /* the status of the last answer; for the metrics */
    enum call_state state;
    bool closed;
};

static void call_set_state(struct call *c, enum call_state to)
{
    if (c->state == to)
        return;
    BUG_IF(!(states[c->state].next & (1u << to)));
    log_debug(c->log, "call %zu to \"" STR_FMT "\": %s -> %s", c->request.index,
        STR_ARG(c->request.upstream->name), states[c->state].name, states[to].name);
    c->state = to;
}

static void call_emit(struct call *c, struct call_event ev)
{
    if (!c->closed)
        c->on_event(c->owner, c, &ev);
}

static void call_drop_attempt(struct call *c)
{
    attempt_close(c->attempt);
    c->attempt = NULL;
}

static void call_fail(struct call *c, enum problem problem, const char *why)
{
    deadline_clear(&c->pause);
    call_drop_attempt(c);
    call_set_state(c, CALL_IS_OVER);
    counter_add(COUNTER_CALLS_FAILED, 1);
    callmetrics_call_failed(c->request.upstream, problem, call_elapsed_ms(c), c->log);
    call_emit(c, (struct call_event){ .kind = CALL_FAILED, .problem = problem, .why = why });
}

static uint64_t call_left_ms(const struct call *c)
{
    uint64_t now = loop_now_ms();

    return c->total_at_ms > now ? c->total_at_ms - now : 0;
}

static struct retry_situation call_situation(const struct call *c)
{
    return (struct retry_situation){
        .retries_done = c->attempts - 1,
        .retries_max = c->retries_max,
        .left_ms = call_left_ms(c),
        .wall_ms = loop_wall_ms(),
        .conf = c->request.upstream,
    };
}

static void call_pause_before_retry(struct call *c, uint64_t ms, const char *why)
{
    call_drop_attempt(c);
    call_set_state(c, CALL_IS_PAUSING);
    log_debug(c->log,
        "call %zu to \"" STR_FMT "\": attempt %u failed (%s), again in %" PRIu64 " ms",
        c->request.index, STR_ARG(c->request.upstream->name), c->attempts, why, ms);
    deadline_set(&c->pause, ms);
}

/* ---- what the attempt tells ---- */

static bool call_on_answer(void *owner, const struct attempt_answer *answer)
{
    struct call *c = owner;
    struct retry_situation s = call_situation(c);
    uint64_t pause_ms;
    char why[32];

    c->answered = answer->head->status;
    callmetrics_attempt_answered(
        c->request.upstream, c->request.upstream->endpoints[0].name, c->answered);
    if (!retry_after_response(&s, answer->head, &pause_ms)) {
        call_set_state(c, CALL_IS_PASSING);
        return true;
    }
    snprintf(why, sizeof(why), "status %u", answer->head->status);
    call_pause_before_retry(c, pause_ms, why);
    return false;
}

static void call_on_head(void *owner, const struct head *head)
{
    struct call *c = owner;

    callmetrics_first_content(c->request.upstream, call_elapsed_ms(c));
    call_emit(c, (struct call_event){ .kind = CALL_HEAD, .head = head });
}

static void call_on_data(void *owner, struct str data)
{
    call_emit(owner, (struct call_event){ .kind = CALL_DATA, .data = data });
}

static void call_on_end(void *owner)
{
    struct call *c = owner;

    call_drop_attempt(c);
    call_set_state(c, CALL_IS_OVER);
    callmetrics_call_answered(c->request.upstream, c->answered, call_elapsed_ms(c), c->log);
    call_emit(c, (struct call_event){ .kind = CALL_END });
}

static void call_on_failed(void *owner, const struct attempt_failure *f)
{
    struct call *c = owner;
    struct retry_situation s = call_situation(c);
    uint64_t pause_ms;

    callmetrics_attempt_failed(
        c->request.upstream, c->request.upstream->endpoints[0].name, f->problem);
    if (c->state == CALL_IS_TRYING && retry_after_failure(&s, f->error, &pause_ms))
        call_pause_before_retry(c, pause_ms, f->why);
    else
        call_fail(c, f->problem, f->why);
}

static const struct attempt_events events = {
    .on_answer = call_on_answer,
    .on_head = call_on_head,
    .on_data = call_on_data,
    .on_end = call_on_end,
    .on_failed = call_on_failed,
};

/* ---- attempts ---- */

static int call_make_head(void *owner, struct arena *a, struct head *out)
{
    struct call *c = owner;

    return c->make_head(c->owner, c, a, out);
}

static void call_try(void *owner)
{
    struct call *c = owner;
    const struct upstream_conf *u = c->request.upstream;
    const struct endpoint_conf *conf = &u->endpoints[0];
    struct attempt_request r = {
        .endpoint = endpoints_find(c->endpoints, u, conf),
        .policy = u,
        .conf = conf,
        .body = &c->request.body,
        .until_ms = c->total_at_ms,
        .until_end = c->request.timeout_ms > 0,
        .make_head = call_make_head,
        .events = &events,
        .owner = c,
    };

    if (c->attempts++ > 0)
        counter_add(COUNTER_CALL_RETRIES, 1);
    call_set_state(c, CALL_IS_TRYING);
    if (!r.endpoint) {
        call_fail(c, PROBLEM_INTERNAL, "the endpoint is no longer in the conf");
        return;
    }
    c->attempt = attempt_open(&r);
    if (!c->attempt)
        call_fail(c, PROBLEM_INTERNAL, "out of memory");
}

/* ---- life ---- */

static void call_free(void *what)
{
    free(what);
}

struct call *call_open(struct endpoints *endpoints, const struct call_request *r,
    call_make_head_fn *make_head, call_event_fn *on_event, void *owner,
    const struct log_context *log)
{
    const struct upstream_conf *u = r->upstream;
    struct call *c = calloc(1, sizeof(*c));
    uint64_t total;

    if (!c)
        return NULL;
    total =
        r->timeout_ms && r->timeout_ms < u->total_timeout_ms ? r->timeout_ms : u->total_timeout_ms;
    c->request = *r;
    c->retries_max = (unsigned)(r->retries < u->retries ? r->retries : u->retries);
    c->endpoints = endpoints;
    c->make_head = make_head;
    c->on_event = on_event;
    c->owner = owner;
    c->log = log;
    c->started_ms = loop_now_ms();
    c->total_at_ms = c->started_ms + total;
    c->state = CALL_IS_PAUSING;
    deadline_init(&c->pause, call_try, c);
    deadline_set(&c->pause, 0); /* the first attempt begins from the loop */
    return c;
}

void call_pause(struct call *c, bool paused)
{
    if (c->attempt)
        attempt_pause(c->attempt, paused);
}

void call_close(struct call *c)
{
    if (!c || c->closed)
        return;
    c->closed = true;
    if (c->state != CALL_IS_OVER)
        callmetrics_call_cancelled(c->request.upstream, call_elapsed_ms(c));
    call_drop_attempt(c);
    call_set_state(c, CALL_IS_OVER);
    deadline_close(&c->pause);
    loop_free_later(&c->deferred_free, c, call_free);
}

const struct call_request *call_request(const struct call *c)
{
    return &c->request;
}

unsigned call_attempts(const struct call *c)
{
    return c->attempts;
}

uint64_t call_elapsed_ms(const struct call *c)
{
    return loop_now_ms() - c->started_ms;
}

void call_describe(const struct call *c, char *buf, size_t n)
{
    int k = snprintf(buf, n, "call %zu to \"" STR_FMT "\": %s, attempt %u, %" PRIu64 " ms",
        c->request.index, STR_ARG(c->request.upstream->name), states[c->state].name, c->attempts,
        call_elapsed_ms(c));

    if (c->attempt && k > 0 && (size_t)k + 2 < n) {
        memcpy(buf + k, "; ", 3);
        attempt_describe(c->attempt, buf + k + 2, n - (size_t)k - 2);
    }
}
