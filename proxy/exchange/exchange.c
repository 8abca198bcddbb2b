/* An exchange's beginning and end, its moves, and its client. */
#include "exchange/exchange.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "exchange/account.h"
#include "exchange/apiproblem.h"
#include "exchange/forward.h"
#include "exchange/run.h"
#include "http/h1parse.h"
#include "observe/access.h"
#include "observe/counter.h"
#include "observe/metric.h"
#include "observe/panic.h"

#define MAY(s) (1u << EX_##s)
static const struct machine_state states[EX_NSTATES] = {
    [EX_READING] = { "reading", MAY(QUEUED) | MAY(PARKED) | MAY(ANSWERING) | MAY(DONE) },
    [EX_QUEUED] = { "queued", MAY(VISITING) | MAY(ANSWERING) | MAY(DONE) },
    [EX_VISITING] = { "visiting",
        MAY(QUEUED) | MAY(PARKED) | MAY(ANSWERING) | MAY(TUNNELLING) | MAY(DONE) },
    [EX_PARKED] = { "parked",
        MAY(QUEUED) | MAY(ANSWERING) | MAY(TUNNELLING) | MAY(NOTIFYING) | MAY(DONE) },
    [EX_ANSWERING] = { "answering", MAY(QUEUED) | MAY(PARKED) | MAY(NOTIFYING) | MAY(DONE) },
    [EX_TUNNELLING] = { "tunnelling", MAY(DONE) },
    [EX_NOTIFYING] = { "notifying", MAY(DONE) },
    [EX_DONE] = { "done", 0 },
};

const struct machine exchange_machine = { "exchange", states, EX_NSTATES };

#define STEP(s) (1u << STEP_##s)
static const struct machine_state moves[STEP_COUNT] = {
    [STEP_READ] = { "read", STEP(VISIT) | STEP(RELAY) | STEP(FINISH) | STEP(END) },
    [STEP_VISIT] = { "visit",
        STEP(CALLS) | STEP(RELAY) | STEP(TUNNEL) | STEP(PIECES) | STEP(FINISH) | STEP(END) },
    [STEP_PIECES] = { "pieces",
        STEP(PIECES) | STEP(CALLS) | STEP(VISIT) | STEP(FINISH) | STEP(END) },
    [STEP_CALLS] = { "calls", STEP(VISIT) | STEP(FINISH) | STEP(END) },
    [STEP_RELAY] = { "relay",
        STEP(VISIT) | STEP(TUNNEL) | STEP(FINISH) | STEP(NOTIFY) | STEP(END) },
    [STEP_TUNNEL] = { "tunnel", STEP(END) },
    [STEP_FINISH] = { "finish", STEP(NOTIFY) | STEP(END) },
    [STEP_NOTIFY] = { "notify", STEP(END) },
    [STEP_END] = { "end", 0 },
};

const struct machine step_machine = { "step", moves, STEP_COUNT };

const char *ex_state_name(enum ex_state s)
{
    return states[s].name;
}

const char *step_name(enum step_id s)
{
    return moves[s].name;
}

static const struct step *exchange_ops(const struct exchange *ex)
{
    return ex->all->steps[ex->step];
}

void exchange_set_state(struct exchange *ex, enum ex_state to)
{
    uint64_t now = loop_precise_us(), spent = now - ex->mark_us;

    if (ex->state == to)
        return;
    BUG_IF(!machine_may_move(states, ex->state, to));
    account_keep_phase(ex, now);
    switch (ex->state) {
    case EX_QUEUED:
        ex->queue_us += spent;
        break;
    case EX_VISITING:
        ex->worker_us += spent;
        break;
    case EX_TUNNELLING:
        *(ex->gateway ? &ex->parked_us : &ex->worker_us) += spent;
        break;
    case EX_PARKED:
        ex->parked_us += spent;
        break;
    case EX_READING:
    case EX_ANSWERING:
    case EX_NOTIFYING:
    case EX_DONE:
        break;
    }
    ex->mark_us = now;
    log_debug(&ex->log, "%s -> %s", states[ex->state].name, states[to].name);
    panic_move("exchange", ex->id, states[ex->state].name, states[to].name);
    list_push(&ex->all->by_state[to], &ex->node);
    /* The client's part is over with the first of these. */
    if (to == EX_NOTIFYING || (to == EX_DONE && ex->state != EX_NOTIFYING))
        account_write(ex);
    if (to == EX_DONE && ex->trail && ex->trail->detailed && ex->all->on_trail)
        ex->all->on_trail(ex->all->viewer, ex);
    ex->state = to;
}

/* Decides the end; the first decision counts. `by`: as in account_end_code(). */
static void exchange_decide_end(struct exchange *ex, const char *end, char by)
{
    if (ex->end)
        return;
    ex->end = end;
    ex->end_by = by;
    ex->end_state = ex->state;
}

/* Who is to blame for an answer that cannot go on: the upstream whose call is passed on, or the
 * worker; Tarry for what is its own. */
static char exchange_blame(const struct exchange *ex, const char *end)
{
    struct str e = str_of(end);

    if (str_eq(e, STR("client_gone")))
        return 'C';
    if (str_eq(e, STR("out_of_memory")) || str_eq(e, STR("shutdown")) ||
        str_eq(e, STR("idle_timeout")))
        return 'T';
    return ex->relay ? 'U' : 'W';
}

static void free_exchange(void *what)
{
    struct exchange *ex = what;

    answers_release(&ex->answers);
    if (ex->handoff)
        handoff_release(ex->handoff);
    body_release(&ex->request.body);
    arena_release(&ex->hop.arena);
    arena_release(&ex->arena);
    pool_unref(ex->pool);
    conf_unref(ex->conf);
    free(ex);
}

static void exchange_close_calls(struct exchange *ex)
{
    call_close(ex->relay);
    ex->relay = NULL;
    for (size_t i = ex->first_answer; i < ex->answers.n; i++) {
        if (ex->run && ex->answers.list[i] == ex->run->open)
            continue; /* it goes on over the visits, until its end or the exchange's */
        call_close(ex->answers.list[i]->call);
        ex->answers.list[i]->call = NULL;
    }
}

static void exchange_arm(struct exchange *ex)
{
    uint64_t now = loop_now_ms(), at = ex->life_at_ms;

    if (ex->step_at_ms > 0 && (at == 0 || ex->step_at_ms < at))
        at = ex->step_at_ms;
    if (at > 0)
        deadline_set(&ex->timer, at > now ? at - now : 0);
    else
        deadline_clear(&ex->timer);
}

void exchange_set_timer(struct exchange *ex, uint64_t ms)
{
    ex->step_at_ms = loop_now_ms() + ms;
    exchange_arm(ex);
}

void exchange_clear_timer(struct exchange *ex)
{
    ex->step_at_ms = 0;
    exchange_arm(ex);
}

/* The one place where a step's visit, calls and timer end. */
static void exchange_leave(struct exchange *ex, enum step_id to)
{
    if (exchange_ops(ex)->leave)
        exchange_ops(ex)->leave(ex);
    if (to != STEP_TUNNEL) { /* which takes the visit or the call over */
        visit_close(ex->hop.visit);
        ex->hop.visit = NULL;
        arena_release(&ex->hop.arena);
        exchange_close_calls(ex);
    }
    exchange_clear_timer(ex);
}

void exchange_enter(struct exchange *ex, enum step_id to)
{
    BUG_IF(!machine_may_move(moves, ex->step, to));
    exchange_leave(ex, to);
    panic_move("step", ex->id, moves[ex->step].name, moves[to].name);
    ex->step = to;
    ex->phase = 0;
    exchange_ops(ex)->enter(ex);
}

void exchange_end(struct exchange *ex, const char *end)
{
    if (ex->state == EX_DONE)
        return;
    exchange_decide_end(ex, end, exchange_blame(ex, end));
    exchange_leave(ex, STEP_END);
    ex->step = STEP_END;
    if (ex->run)
        run_release(ex->run);
    reply_release(&ex->reply);
    exchange_set_state(ex, EX_DONE);
    deadline_close(&ex->timer);
    list_remove(&ex->node);
    ex->all->on_ended(ex->all->owner);
    panic_forget(ex);
    loop_free_later(&ex->deferred_free, ex, free_exchange);
}

/* The client has its response, or never will: what is left is the notify, if one is owed. */
static void exchange_let_go(struct exchange *ex, const char *end)
{
    bool owed = ex->handoff && ex->handoff->notify.p && ex->outcome;

    exchange_decide_end(ex, end, exchange_blame(ex, end));
    if (owed && ex->state != EX_NOTIFYING && ex->state != EX_DONE)
        exchange_enter(ex, STEP_NOTIFY);
    else
        exchange_end(ex, end);
}

bool exchange_replied(struct exchange *ex, int result)
{
    if (result >= 0)
        return true;
    switch ((enum reply_result)result) {
    case REPLY_E_STORAGE:
        exchange_fail(ex, PROBLEM_STORAGE, 0, "cannot keep the response in temp_dir");
        break;
    case REPLY_E_CODING:
        exchange_fail(ex, PROBLEM_CALL_CODING, 0,
            "the response is coded, though keep-alive bytes have announced no coding, and cannot "
            "be decoded");
        break;
    case REPLY_E_MEMORY:
    case REPLY_OK:
    case REPLY_FULL:
        exchange_cut(ex, "out_of_memory");
        break;
    }
    return false;
}

void exchange_complete(struct exchange *ex)
{
    int rc = reply_end(&ex->reply);

    if (!exchange_replied(ex, rc))
        return;
    if (rc == REPLY_FULL)
        exchange_enter(ex, STEP_FINISH);
    else
        exchange_let_go(ex, "complete");
}

void exchange_spoil(struct exchange *ex, const char *end)
{
    exchange_decide_end(ex, end, 'U');
}

void exchange_cut(struct exchange *ex, const char *end)
{
    reply_cut(&ex->reply);
    exchange_let_go(ex, end);
}

/* Tells of the problem; only while the reply may still answer. */
static void exchange_answer_problem(struct exchange *ex, enum problem p, unsigned status)
{
    metric_add(METRIC_REFUSALS, 1, METRIC_LABELS(str_of(problem_error(p))));
    if (reply_problem(&ex->reply, p, status, ex->id, ex->cookies) < 0)
        exchange_cut(ex, "out_of_memory");
    else
        exchange_complete(ex);
}

void exchange_fail(struct exchange *ex, enum problem p, unsigned status, const char *fmt, ...)
{
    unsigned code = status ? status : problem_status(p);
    char why[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    if (code < 500)
        log_write(problem_level(p), &ex->log, "request refused with %u: %s", code, why);
    else
        log_write(problem_level(p), &ex->log, "%s (%u, %s): %s", problem_title(p), code,
            problem_error(p), why);
    if (!problem_is_call(p))
        problem_count(p);
    exchange_leave(ex, STEP_END);
    ex->end = NULL;
    exchange_decide_end(ex, problem_error(p), problem_by(p));
    if (!reply_is_open(&ex->reply)) {
        if (reply_may_answer(&ex->reply) && ex->reply.keep_alive == KEEP_ALIVE_OFF)
            ex->reply.status = code;
        exchange_let_go(ex, ex->end);
    } else if (reply_may_answer(&ex->reply)) {
        exchange_answer_problem(ex, p, status);
    } else {
        exchange_cut(ex, ex->end);
    }
}

void exchange_end_cancelled(struct exchange *ex)
{
    struct batch_process at = { ex->pool, ex->conf, ex->hop.server, ex->hop.at };

    if (ex->handoff && ex->handoff->sticky && ex->hop.server.n > 0 && ex->pool)
        batch_tell_cancelled(&ex->all->batches, &at, ex->id, ex->hop.number);
    exchange_end(ex, "client_gone");
}

void exchange_on_open_answer(struct exchange *ex)
{
    if (exchange_ops(ex)->on_open_answer)
        exchange_ops(ex)->on_open_answer(ex);
}

const struct addr *exchange_client(const struct exchange *ex)
{
    return ex->request.client.family ? &ex->request.client : &ex->request.peer;
}

bool exchange_cancels(const struct exchange *ex)
{
    if (!ex->handoff)
        return true; /* a gateway's call is for the client alone */
    switch (ex->handoff->on_disconnect) {
    case DISCONNECT_CANCEL:
        return true;
    case DISCONNECT_FINISH:
        return false;
    case DISCONNECT_DEFAULT:
        break;
    }
    return ex->handoff->then == THEN_RELAY && !ex->handoff->notify.p;
}

bool exchange_client_left(const struct exchange *ex)
{
    return !reply_is_open(&ex->reply) || ex->client == CLIENT_SENT_FIN;
}

void exchange_shut_down(struct exchange *ex)
{
    bool owed = ex->state == EX_PARKED || ex->state == EX_ANSWERING || ex->state == EX_NOTIFYING;

    if (owed && ex->handoff && ex->handoff->notify.p) {
        counter_add(COUNTER_NOTIFIES_LOST, 1);
        log_error(&ex->log,
            "the notify to " STR_FMT " is lost: Tarry stopped before it was delivered",
            STR_ARG(ex->handoff->notify));
    }
    exchange_go_away(ex, true);
    exchange_end(ex, "shutdown");
}

void exchange_go_away(struct exchange *ex, bool now)
{
    if (exchange_ops(ex)->on_going_away)
        exchange_ops(ex)->on_going_away(ex, now);
}

static void exchange_client_gone(struct exchange *ex, const char *why)
{
    counter_add(COUNTER_CLIENTS_GONE, 1);
    log_debug(&ex->log, "client gone while %s: %s", states[ex->state].name, why);
    reply_client_gone(&ex->reply);
    exchange_decide_end(ex, "client_gone", 'C');
    exchange_ops(ex)->on_client_gone(ex);
}

static void exchange_on_client_failed(struct exchange *ex, const struct message *m)
{
    if (ex->step == STEP_READ && m->cause == STREAM_E_BAD_REQUEST)
        exchange_fail(
            ex, PROBLEM_BAD_REQUEST, h1_error_status(m->detail), "%s", h1_strerror(m->detail));
    else if (ex->step == STEP_READ && m->cause == STREAM_E_TIMEOUT)
        exchange_fail(ex, PROBLEM_REQUEST_TIMEOUT, 0,
            "the body came too slowly (body_timeout, body_rate_min)");
    else
        exchange_client_gone(ex, stream_strerror(m->cause));
}

/* The client is gone, or only done with sending: nobody can tell. As long as the calls are to
 * finish anyway, the answer is still offered. */
static void exchange_on_half_closed(void *owner, struct stream *s)
{
    struct exchange *ex = owner;
    const struct step *ops = exchange_ops(ex);

    panic_hold(ex, exchange_describe);
    ex->client = CLIENT_SENT_FIN;
    if (ops->fin_is_gone && ops->fin_is_gone(ex))
        exchange_client_gone(ex, "closed by the client");
    else
        log_debug(&ex->log, "client gone, or done with sending: the exchange goes on");
}

/* Bytes of a request that come after its answer are read and dropped until the connection ends. */
static void exchange_on_client_message(void *owner, struct stream *s, const struct message *m)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    if (m->kind == MESSAGE_FAILED) {
        exchange_on_client_failed(ex, m);
        return;
    }
    if (m->kind == MESSAGE_DATA)
        ex->bytes_in += m->data.n;
    if (exchange_ops(ex)->on_message)
        exchange_ops(ex)->on_message(ex, m);
}

static void exchange_on_client_drained(void *owner, struct stream *s)
{
    struct exchange *ex = owner;

    panic_hold(ex, exchange_describe);
    reply_drained(&ex->reply);
}

static const struct stream_handler exchange_client_handler = {
    .on_message = exchange_on_client_message,
    .on_drained = exchange_on_client_drained,
    .on_half_closed = exchange_on_half_closed,
};

static void exchange_on_reply_room(void *owner)
{
    struct exchange *ex = owner;

    if (exchange_ops(ex)->on_client_drained)
        exchange_ops(ex)->on_client_drained(ex);
}

static void exchange_on_reply_ended(void *owner)
{
    exchange_let_go(owner, "complete");
}

static void exchange_on_reply_failed(void *owner, int result)
{
    exchange_replied(owner, result);
}

static const struct reply_handler exchange_reply_handler = {
    .on_room = exchange_on_reply_room,
    .on_ended = exchange_on_reply_ended,
    .on_failed = exchange_on_reply_failed,
};

static void exchange_on_timer(void *owner)
{
    struct exchange *ex = owner;

    uint64_t now = loop_now_ms();

    panic_hold(ex, exchange_describe);
    if (ex->life_at_ms > 0 && now >= ex->life_at_ms) {
        ex->life_at_ms = 0;
        if (ex->step != STEP_TUNNEL && ex->step != STEP_NOTIFY) {
            exchange_fail(ex, PROBLEM_EXCHANGE_TIMEOUT, 0, "exchange_max passed");
            return;
        }
    }
    if (ex->step_at_ms > 0 && now >= ex->step_at_ms) {
        exchange_clear_timer(ex);
        exchange_ops(ex)->on_timer(ex);
    } else {
        exchange_arm(ex);
    }
}

struct exchange *exchange_open(
    struct exchanges *all, struct stream *client, const struct stream_request *r)
{
    struct exchange *ex = calloc(1, sizeof(*ex));

    if (!ex)
        return NULL;
    counter_add(COUNTER_REQUESTS, 1);
    ex->all = all;
    ex->conf = conf_ref(all->conf);
    ex->request.peer = *client->peer;
    ex->request.protocol = client->http2                    ? "HTTP/2.0"
                           : r->head && r->head->minor == 0 ? "HTTP/1.0"
                                                            : "HTTP/1.1";
    reply_init(
        &ex->reply, client, ex->conf, &ex->request.head, &ex->arena, &exchange_reply_handler, ex);
    ex->state = EX_READING;
    ex->step = STEP_READ;
    ex->hop.attempt = 1;
    entropy_id(ex->id);
    ex->log.exchange = ex->id;
    ex->trail = arena_alloc(&ex->arena, sizeof(*ex->trail));
    if (ex->trail) {
        ex->trail->arena = &ex->arena;
        ex->trail->detailed = ex->conf->nadmins > 0;
    }
    ex->started_wall_ms = loop_wall_ms();
    ex->started_us = ex->mark_us = loop_precise_us();
    body_init(&ex->request.body, ex->conf->body_memory_max, ex->conf->temp_dir.p);
    deadline_init(&ex->timer, exchange_on_timer, ex);
    list_push(&all->by_state[EX_READING], &ex->node);
    stream_set_owner(client, &exchange_client_handler, ex);
    panic_hold(ex, exchange_describe);
    return ex;
}

/* What is known of the request, whether it is admitted or not. */
static void exchange_take_request(struct exchange *ex, const struct admitted *a)
{
    ex->request.head = a->head;
    ex->reply.head_only = str_eq(a->head.method, STR("HEAD"));
    ex->route = a->route;
    ex->gateway = a->gateway;
    if (a->gateway)
        ex->reply.errors = apiproblem_family(a->route, &a->head);
}

uint64_t exchange_body_max(const struct exchange *ex)
{
    return ex->route && ex->route->body_max ? ex->route->body_max : ex->conf->body_max;
}

/* Without memory it goes on untraced. */
static void exchange_trace(struct exchange *ex)
{
    struct sockaddr_storage sa;

    if (!ex->conf->tracing.upstream || !ex->trail)
        return;
    addr_to_sockaddr(&ex->request.peer, &sa);
    if (trail_begin_trace(ex->trail, &ex->conf->tracing, &ex->request.head,
            conf_trusts(ex->conf, (struct sockaddr *)&sa)) < 0)
        ex->trail->trace = NULL;
}

void exchange_begin(struct exchange *ex, const struct admitted *a)
{
    struct message whole = { .kind = MESSAGE_END };

    exchange_take_request(ex, a);
    ex->request.content = a->has_body ? CONTENT_KEPT : CONTENT_NONE;
    ex->request.websocket = a->websocket_only ? WEBSOCKET_ONLY : WEBSOCKET_MAY;
    ex->request.client = a->client;
    ex->reply.compress = a->compress;
    if (a->pool) {
        struct pool *pool = pools_find(ex->all->pools, a->pool->name);

        ex->pool_conf = a->pool;
        ex->pool = pool ? pool_ref(pool) : NULL;
        ex->life_at_ms = loop_now_ms() + ex->pool_conf->exchange_max_ms;
        exchange_arm(ex);
    }
    body_expect(&ex->request.body, a->length);
    exchange_trace(ex);
    exchange_ops(ex)->enter(ex);
    if (a->expects_continue)
        reply_continue(&ex->reply);
    if (!a->body_follows)
        exchange_ops(ex)->on_message(ex, &whole);
}

void exchange_refuse(
    struct exchange *ex, const struct admitted *a, enum problem p, unsigned status, const char *why)
{
    exchange_take_request(ex, a);
    exchange_fail(ex, p, status, "%s", why);
}

void exchange_answer(
    struct exchange *ex, const struct admitted *a, unsigned status, struct str text)
{
    struct head head = { .status = status, .minor = 1 };
    struct arena scratch = { 0 };
    int rc;

    exchange_take_request(ex, a);
    rc = head_add(&head, &scratch, STR("Content-Type"), STR("text/plain; charset=utf-8")) |
         head_add(&head, &scratch, STR("Cache-Control"), STR("no-store")) |
         head_add(&head, &scratch, STR("Content-Length"), arena_printf(&scratch, "%zu", text.n));
    rc = rc < 0 ? REPLY_E_MEMORY : reply_head(&ex->reply, &head, REPLY_AT_ONCE, 0);
    arena_release(&scratch);
    if (!exchange_replied(ex, rc))
        return;
    exchange_set_state(ex, EX_ANSWERING);
    if (exchange_replied(ex, reply_data(&ex->reply, text)))
        exchange_complete(ex);
}

/* The first call that is in flight, or NULL. */
static const struct call *exchange_any_call(const struct exchange *ex)
{
    if (ex->relay)
        return ex->relay;
    for (unsigned i = ex->first_answer; i < ex->answers.n; i++)
        if (ex->answers.list[i]->call)
            return ex->answers.list[i]->call;
    return NULL;
}

void exchange_describe(const void *exchange, char *buf, size_t n)
{
    const struct exchange *ex = exchange;
    const struct call *c = exchange_any_call(ex);
    char reply[160], visit[80], call[200] = "no call";

    reply_describe(&ex->reply, reply, sizeof(reply));
    visit_describe(ex->hop.visit, visit, sizeof(visit));
    if (c)
        call_describe(c, call, sizeof(call));
    snprintf(buf, n, "exchange %s: %s, step %s (%d), hop %u attempt %u, %u calls left; %s; %s; %s",
        ex->id, states[ex->state].name, moves[ex->step].name, ex->phase, ex->hop.number,
        ex->hop.attempt, ex->calls_left, reply, visit, call);
}
