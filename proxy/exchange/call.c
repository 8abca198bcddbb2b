/* A call: its attempts, one after the other, and the pauses between them. */
#include "exchange/callstate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/entropy.h"
#include "base/num.h"
#include "exchange/callmetrics.h"
#include "observe/counter.h"

#define MAY(s) (1u << CALL_IS_##s)
static const struct machine_state states[CALL_NSTATES] = {
    [CALL_IS_PAUSING] = { "pausing", MAY(TRYING) | MAY(OVER) },
    [CALL_IS_TRYING] = { "trying", MAY(PAUSING) | MAY(PASSING) | MAY(OVER) },
    [CALL_IS_PASSING] = { "passing", MAY(OVER) },
    [CALL_IS_OVER] = { "over", 0 },
};

const struct machine call_machine = { "call", states, CALL_NSTATES };

void call_set_state(struct call *c, enum call_state to)
{
    if (c->state == to)
        return;
    BUG_IF(!(states[c->state].next & (1u << to)));
    log_debug(c->log, "call %zu to \"" STR_FMT "\": %s -> %s", c->request.index,
        STR_ARG(c->request.upstream->name), states[c->state].name, states[to].name);
    c->state = (unsigned char)to;
}

void call_emit(struct call *c, struct call_event ev)
{
    if (!c->closed)
        c->on_event(c->owner, c, &ev);
}

void call_report(struct call *c, enum verdict_outcome o, uint64_t rest_ms)
{
    struct endpoint *e = endpoints_find(c->endpoints, c->request.upstream, c->endpoint);
    struct verdict_report r = { .outcome = o,
        .began_ms = c->attempt ? attempt_times(c->attempt).began : 0,
        .rest_ms = rest_ms,
        .probe = c->probing };

    c->probing = false;
    if (e)
        endpoint_report(e, c->request.upstream, c->endpoint, &r);
}

void call_drop_attempt(struct call *c)
{
    if (c->probing)
        call_report(c, VERDICT_NEUTRAL, 0); /* it has tried nothing out */
    if (c->attempt)
        trail_end(c->request.trail, c->phase, loop_precise_us());
    attempt_close(c->attempt);
    c->attempt = NULL;
}

static void call_drop_all(struct call *c)
{
    call_drop_attempt(c);
    attempt_close(c->kept);
    c->kept = NULL;
    free(c->rewritten);
    c->rewritten = NULL;
}

/* The attempt is over; its usage is known as long as it is open. */
void call_leave_pace(struct call *c, enum pacing_end end)
{
    struct llm_usage usage = call_usage(c);

    c->paced = false;
    if (c->pacing)
        pacing_leave(c->pacing, end, &usage);
}

void call_fail(struct call *c, enum problem problem, const char *why)
{
    call_leave_pace(c, PACING_USED);
    call_set_state(c, CALL_IS_OVER);
    counter_add(COUNTER_CALLS_FAILED, 1);
    callmetrics_call_failed(c->request.upstream, problem, call_elapsed_ms(c), c->log);
    call_emit(c, (struct call_event){ .kind = CALL_FAILED,
                     .problem = problem,
                     .why = why,
                     .end = c->no_terminal ? CALL_NO_TERMINAL : CALL_COMPLETE });
}

uint64_t call_left_ms(const struct call *c)
{
    uint64_t now = loop_now_ms();

    return c->total_at_ms > now ? c->total_at_ms - now : 0;
}

struct retry_situation call_situation(const struct call *c)
{
    return (struct retry_situation){
        .retries_done = c->retries,
        .retries_max = c->retries_max,
        .free_done = c->frees,
        .left_ms = call_left_ms(c),
        .wall_ms = loop_wall_ms(),
        .conf = c->request.upstream,
    };
}

static void call_try(void *owner);
enum { QUEUE_LOOK_MS = 100 }; /* behind queue_timeout: how often is looked what is waited for */

static void call_set_pause(struct call *c, uint64_t ms)
{
    deadline_close(&c->part.timer);
    deadline_init(&c->part.timer, call_try, c);
    deadline_set(&c->part.timer, ms);
}

void call_pause_before_retry(struct call *c, uint64_t ms, const char *why)
{
    call_leave_pace(c, PACING_FREE); /* a pause holds up nobody */
    call_drop_attempt(c);
    call_set_state(c, CALL_IS_PAUSING);
    log_debug(c->log,
        "call %zu to \"" STR_FMT "\": attempt %u failed (%s), again in %" PRIu64 " ms",
        c->request.index, STR_ARG(c->request.upstream->name), c->attempts, why, ms);
    call_set_pause(c, ms);
}

struct group_ask call_ask(const struct call *c)
{
    return (struct group_ask){ .upstream = c->request.upstream,
        .tried = c->tried,
        .least_tier = c->least_tier,
        .only = c->place.only,
        .has_key = c->place.has_key,
        .key = c->place.key,
        .left_ms = call_left_ms(c),
        .account_wait = c->pacing ? pacing_account_wait : NULL,
        .owner = c->pacing };
}

/* Whether an endpoint of a higher tier takes calls in time; then only those count from here on. */
bool call_climb(struct call *c)
{
    struct group_ask ask = call_ask(c);
    struct group_choice choice;

    ask.least_tier = c->endpoint->tier + 1;
    if (!group_pick(c->endpoints, &ask, &choice) || choice.state == VERDICT_PAUSED ||
        choice.wait_ms >= call_left_ms(c))
        return false;
    c->least_tier = (unsigned char)ask.least_tier;
    return true;
}

/* ---- which endpoint ---- */

/* Once: the request stays what it is. */
static void call_find_place(struct call *c)
{
    struct arena arena = { 0 };
    struct head head;

    if (c->placed)
        return;
    c->placed = true;
    if (callplace_matters(c->request.upstream) && c->make_head(c->owner, c, &arena, &head) == 0)
        callplace_find(&c->place, c->request.upstream, &head, &c->request.body, c->request.client);
    arena_release(&arena);
}

/* ---- the pace ---- */

static void call_refuse(struct call *c, const char *reason, const char *why)
{
    c->refused = true;
    call_leave_pace(c, PACING_UNBEGUN);
    call_set_state(c, CALL_IS_OVER);
    counter_add(COUNTER_CALLS_FAILED, 1);
    callmetrics_call_refused(c->request.upstream, reason, call_elapsed_ms(c));
    call_emit(
        c, (struct call_event){ .kind = CALL_FAILED, .problem = PROBLEM_CALL_LIMIT, .why = why });
}

static uint64_t call_ready_in(void *owner)
{
    struct call *c = owner;
    struct group_ask ask;
    struct group_choice choice;

    call_find_place(c);
    ask = call_ask(c);
    if (!group_pick(c->endpoints, &ask, &choice))
        return 0;
    c->resting = choice.wait_ms > 0 && !choice.limited;
    /* A rest that is too long for the call is call_wait_for()'s to tell. */
    return c->resting && choice.wait_ms >= call_left_ms(c) ? 0 : choice.wait_ms;
}

static void call_watch_queue(struct call *c);

/* queue_timeout is for limits: an endpoint that rests is waited for until total_timeout. */
static void call_on_queue_deadline(void *owner)
{
    struct call *c = owner;

    call_ready_in(c); /* of a call behind others nobody has asked */
    if (c->resting && call_left_ms(c) > 0)
        call_watch_queue(c);
    else if (c->resting)
        call_fail(c, PROBLEM_CALL_UNAVAILABLE, "total_timeout passed while no endpoint took calls");
    else
        call_refuse(c, "timeout",
            call_left_ms(c) > 0 ? "queue_timeout passed while a limit was reached"
                                : "total_timeout passed while a limit was reached");
}

static void call_watch_queue(struct call *c)
{
    uint64_t now = loop_now_ms(), until = pacing_until_ms(c->pacing), ms = call_left_ms(c);

    if (now < until && until - now < ms)
        ms = until - now;
    else if (now >= until && ms > QUEUE_LOOK_MS)
        ms = QUEUE_LOOK_MS;
    deadline_close(&c->part.timer);
    deadline_init(&c->part.timer, call_on_queue_deadline, c);
    deadline_set(&c->part.timer, ms);
}

static void call_on_turn(void *owner)
{
    struct call *c = owner;

    c->paced = true;
    call_set_pause(c, 0); /* it is call_try()'s again */
    deadline_clear(&c->part.timer);
    call_try(c);
}

struct pacing *call_make_pacing(struct call *c)
{
    struct pacing_request r = {
        .upstream = c->request.upstream,
        .endpoints = c->endpoints,
        .body = &c->request.body,
        .tenant = c->request.tenant ? *c->request.tenant : (struct str){ 0 },
        .client = c->request.client,
        .on_turn = call_on_turn,
        .ready_in = call_ready_in,
        .owner = c,
    };
    struct arena arena = { 0 };
    struct head head;
    struct pacing *p = NULL;

    r.head = &head;
    if (c->make_head(c->owner, c, &arena, &head) == 0)
        p = pacing_new(&r);
    arena_release(&arena);
    return p;
}

/* True: the attempt may begin. False: it waits, and call_on_turn() follows, or the call is over. */
static bool call_pace(struct call *c)
{
    if (!c->pacing && !pacing_is_needed(c->endpoints, c->request.upstream))
        return c->paced = true;
    if (!c->pacing && !(c->pacing = call_make_pacing(c))) {
        call_fail(c, PROBLEM_INTERNAL, "out of memory");
        return false;
    }
    switch (pacing_ask(c->pacing, c->attempts > 0)) {
    case PACER_GO:
        return c->paced = true;
    case PACER_WAITS:
        call_watch_queue(c);
        break;
    case PACER_FULL:
        call_refuse(c, "full", "queue_max calls wait for a limit");
        break;
    case PACER_SHARE:
        call_refuse(c, "tenant", "queue_tenant_max calls of its tenant wait for a limit");
        break;
    case PACER_NO_MEMORY:
        call_fail(c, PROBLEM_INTERNAL, "out of memory");
        break;
    }
    return false;
}

/* ---- attempts ---- */

/* Whether the request may be made to ask for its usage. */
static bool call_may_ask_usage(struct call *c)
{
    struct arena arena = { 0 };
    struct head head;
    bool may;

    if (!c->request.upstream->include_usage)
        return false;
    may = c->make_head(c->owner, c, &arena, &head) == 0 &&
          rewrite_may_ask_usage(c->request.upstream, &head);
    arena_release(&arena);
    return may;
}

static void call_note_choice(struct call *c, const struct group_choice *choice)
{
    c->endpoint = choice->conf;
    c->endpoint_index = (unsigned char)choice->index;
    c->tried |= UINT64_C(1) << choice->index;
}

/* The endpoint has as many WebSockets as it may have: another one, or none. That says nothing about
 * the endpoint's health. */
static void call_pass_over(struct call *c, const struct group_choice *choice)
{
    struct group_ask ask;

    call_note_choice(c, choice);
    if (c->probing)
        call_report(c, VERDICT_NEUTRAL, 0);
    ask = call_ask(c);
    if (group_has_other(c->endpoints, &ask)) {
        call_set_pause(c, 0);
        return;
    }
    call_leave_pace(c, PACING_UNBEGUN); /* nothing was sent */
    call_fail(c, PROBLEM_CALL_WEBSOCKETS_FULL,
        "websockets_max WebSockets are open; raise it, or add endpoints");
}

static void call_open_attempt(struct call *c, const struct group_choice *choice)
{
    struct attempt_request r = {
        .endpoint = choice->endpoint,
        .policy = c->request.upstream,
        .conf = choice->conf,
        .body = &c->request.body,
        .npieces = 1,
        .timer = &c->part.timer,
        .until_ms = c->total_at_ms,
        .fresh = c->frees > 0,
        .until_end = c->request.timeout_ms > 0,
        .websocket = c->request.websocket,
        .events = c->events,
        .owner = c,
    };
    int rc;

    call_note_choice(c, choice);
    free(c->rewritten);
    c->rewritten = rewrite_body(choice->conf, call_may_ask_usage(c), &c->request.body, &rc);
    if (rc < 0) {
        call_fail(c, PROBLEM_INTERNAL, "the request's body cannot be read");
        return;
    }
    if (c->rewritten) {
        r.body = c->rewritten->pieces;
        r.npieces = c->rewritten->n;
    }
    if (c->attempts++ > 0)
        counter_add(COUNTER_CALL_RETRIES, 1);
    call_set_state(c, CALL_IS_TRYING);
    c->phase = (signed char)trail_begin_attempt(c->request.trail, &choice->conf->name);
    c->attempt = attempt_open(&r);
    if (!c->attempt)
        call_fail(c, PROBLEM_INTERNAL, "out of memory");
}

/* Every endpoint rests or is paused: the first to come back is waited for, if that is in time. */
static void call_wait_for(struct call *c, const struct group_choice *choice)
{
    uint64_t left_ms = call_left_ms(c);
    bool known = choice->state == VERDICT_RESTING || choice->state == VERDICT_BROKEN;
    char why[160];

    call_leave_pace(c, PACING_UNBEGUN); /* it holds up nobody meanwhile */
    if (left_ms > 0 && (!known || choice->wait_ms < left_ms)) {
        /* Those that wait together do not come back together. */
        uint64_t ms = choice->wait_ms + entropy_below(choice->wait_ms / 8 + 1);

        call_set_pause(c, ms < left_ms ? ms : left_ms);
        return;
    }
    if (known && left_ms > 0)
        snprintf(why, sizeof(why),
            "no endpoint takes calls now (the first is %s for %" PRIu64
            " ms more), and the call may take %" PRIu64 " ms",
            verdict_state_name(choice->state), choice->wait_ms, left_ms);
    else
        snprintf(why, sizeof(why), "total_timeout passed while no endpoint took calls (%s)",
            verdict_state_name(choice->state));
    call_fail(c, PROBLEM_CALL_UNAVAILABLE, why);
}

/* The endpoint for the next attempt. Another call may become an endpoint's probe at this moment, or
 * take what is left of its account: then it is chosen again. False: there is none. */
static bool call_choose(struct call *c, struct group_choice *choice)
{
    struct group_ask ask;

    call_find_place(c);
    ask = call_ask(c);
    while (group_pick(c->endpoints, &ask, choice)) {
        enum verdict_admission admission;

        if (choice->wait_ms == 0 && c->pacing)
            choice->wait_ms = pacing_begin(c->pacing, choice->conf);
        if (choice->wait_ms > 0)
            return true;
        admission = endpoint_admit(choice->endpoint);
        c->probing = admission == VERDICT_IS_PROBE;
        if (admission != VERDICT_REFUSED || choice->insist)
            return true;
    }
    return false;
}

static void call_try(void *owner)
{
    struct call *c = owner;
    struct group_choice choice;

    call_find_place(c);
    if (c->place.gone) {
        call_fail(c, PROBLEM_CALL_UNAVAILABLE,
            "the endpoint that has the response which the request names is no longer in the conf");
        return;
    }
    if (!c->paced && !call_pace(c))
        return;
    if (!call_choose(c, &choice))
        call_fail(c, PROBLEM_INTERNAL, "the endpoint is no longer in the conf");
    else if (choice.wait_ms > 0)
        call_wait_for(c, &choice);
    else if (c->request.websocket && !endpoint_has_websocket_room(choice.endpoint))
        call_pass_over(c, &choice);
    else
        call_open_attempt(c, &choice);
}

/* ---- life ---- */

static void call_free(void *what)
{
    struct call *c = what;

    sieve_free(c->sieve);
    pacing_free(c->pacing);
    free(c);
}

/* The least number of seconds that the client's fields name; 0: none does. */
static uint64_t call_client_patience_ms(const struct head *request)
{
    static const struct str names[] = { STR_INIT("x-stainless-read-timeout"),
        STR_INIT("x-stainless-timeout"), STR_INIT("x-server-timeout") };
    uint64_t least = 0, ms;

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct str value = head_value(request, names[i]);

        if (value.n > 0 && num_parse_seconds(str_trim(value), &ms) && ms > 0 &&
            (least == 0 || ms < least))
            least = ms;
    }
    return least;
}

void call_heed_client(struct call_request *r, const struct head *request)
{
    size_t most = r->retries < r->upstream->retries ? r->retries : r->upstream->retries;
    uint64_t tried;

    if (num_parse_u64(head_value(request, STR("x-stainless-retry-count")), &tried))
        r->retries = tried < most ? most - (size_t)tried : 0;
    r->within_ms = call_client_patience_ms(request);
}

struct call *call_start(const struct attempt_events *events, struct endpoints *endpoints,
    const struct call_request *r, call_make_head_fn *make_head, call_event_fn *on_event,
    void *owner, const struct log_context *log)
{
    const struct upstream_conf *u = r->upstream;
    struct call *c = calloc(1, sizeof(*c));
    uint64_t total;

    if (!c)
        return NULL;
    total =
        r->timeout_ms && r->timeout_ms < u->total_timeout_ms ? r->timeout_ms : u->total_timeout_ms;
    c->request = *r;
    c->retries_max = (unsigned char)(r->retries < u->retries ? r->retries : u->retries);
    c->endpoints = endpoints;
    c->make_head = make_head;
    c->events = events;
    c->on_event = on_event;
    c->owner = owner;
    c->log = log;
    c->started_ms = loop_now_ms();
    if (r->within_ms && r->within_ms < total)
        total = r->within_ms;
    c->total_at_ms = c->started_ms + total;
    c->place.only = -1;
    c->state = CALL_IS_PAUSING;
    deadline_init(&c->part.timer, call_try, c);
    deadline_set(&c->part.timer, 0); /* the first attempt begins from the loop */
    return c;
}

void call_pause(struct call *c, bool paused)
{
    if (c->attempt)
        attempt_pause(c->attempt, paused);
}

void call_set_handler(struct call *c, call_event_fn *on_event)
{
    c->on_event = on_event;
}

int call_send(struct call *c, struct str data)
{
    return c->attempt ? attempt_send(c->attempt, data) : 0;
}

void call_send_end(struct call *c)
{
    if (c->attempt)
        attempt_send_end(c->attempt);
}

static void call_add_to_record(const struct call *c)
{
    struct call_record *r = c->request.record;
    struct llm_usage usage = call_usage(c);

    callmetrics_tokens(c->request.upstream, &usage);
    if (!r)
        return;
    r->usage.known = r->usage.known || usage.known;
    r->usage.told |= usage.told;
    r->usage.input += usage.input;
    r->usage.output += usage.output;
    r->usage.cached += usage.cached;
    r->usage.reasoning += usage.reasoning;
    r->attempts = (uint16_t)(r->attempts + c->attempts);
    r->endpoint = c->endpoint;
    r->first_content_ms = (uint32_t)call_times(c).content;
    r->status = c->status;
    r->retry_denied = r->retry_denied || c->retry_denied;
    if (c->pacing)
        r->queued_ms += (uint32_t)pacing_queued_ms(c->pacing);
}

void call_close(struct call *c)
{
    if (!c || c->closed)
        return;
    c->closed = true;
    if (c->state != CALL_IS_OVER)
        callmetrics_call_cancelled(c->request.upstream, call_elapsed_ms(c));
    call_leave_pace(c, c->status >= 400 ? PACING_FREE : PACING_USED);
    call_add_to_record(c);
    call_drop_all(c);
    call_set_state(c, CALL_IS_OVER);
    deadline_close(&c->part.timer);
    loop_free_later(&c->part.deferred_free, c, call_free);
}

const struct call_request *call_request(const struct call *c)
{
    return &c->request;
}

unsigned call_attempts(const struct call *c)
{
    return c->attempts;
}

unsigned call_retry_after_s(const struct call *c)
{
    return c->refused ? pacing_retry_after_s(c->pacing) : 0;
}

uint64_t call_elapsed_ms(const struct call *c)
{
    return loop_now_ms() - c->started_ms;
}

struct llm_usage call_usage(const struct call *c)
{
    return c->attempt ? attempt_usage(c->attempt) : (struct llm_usage){ 0 };
}

struct call_times call_times(const struct call *c)
{
    struct attempt_times t = { 0 };

    if (c->attempt)
        t = attempt_times(c->attempt);
    return (struct call_times){
        .sent = t.began ? t.began - c->started_ms : 0,
        .head = t.head ? t.head - c->started_ms : 0,
        .content = t.content ? t.content - c->started_ms : 0,
    };
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
