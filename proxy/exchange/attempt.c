/* One try: its states, its timers, and the bytes that are held until the verdict. */
#include "exchange/attempt.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "net/deadline.h"
#include "net/loop.h"
#include "upstream/rewrite.h"

/*   QUEUED -> SENDING -> AWAITING -> HOLDING -> FLOWING -> OVER
 *                 \__________________^    \        ^
 *                                           KEPT --+    from anywhere to OVER: failure, close
 *
 *   QUEUED     has a turn at the endpoint, and no stream.
 *   SENDING    has a stream; the request goes out. An answer may come before it is out.
 *   AWAITING   the request is out.
 *   HOLDING    owns the head of the answer and what has come of its body.
 *   KEPT       the same without a stream: what has come is all that there will be.
 *   FLOWING    the answer is passed on as it comes.
 *   OVER       has nothing any more. */
enum attempt_state {
    ATTEMPT_IS_QUEUED,
    ATTEMPT_IS_SENDING,
    ATTEMPT_IS_AWAITING,
    ATTEMPT_IS_HOLDING,
    ATTEMPT_IS_KEPT,
    ATTEMPT_IS_FLOWING,
    ATTEMPT_IS_OVER,
};
#define ATTEMPT_NSTATES (ATTEMPT_IS_OVER + 1)

#define MAY(s) (1u << ATTEMPT_IS_##s)
static const struct machine_state states[ATTEMPT_NSTATES] = {
    [ATTEMPT_IS_QUEUED] = { "queued", MAY(SENDING) | MAY(AWAITING) | MAY(OVER) },
    [ATTEMPT_IS_SENDING] = { "sending", MAY(AWAITING) | MAY(HOLDING) | MAY(OVER) },
    [ATTEMPT_IS_AWAITING] = { "awaiting", MAY(HOLDING) | MAY(OVER) },
    [ATTEMPT_IS_HOLDING] = { "holding", MAY(KEPT) | MAY(FLOWING) | MAY(OVER) },
    [ATTEMPT_IS_KEPT] = { "kept", MAY(FLOWING) | MAY(OVER) },
    [ATTEMPT_IS_FLOWING] = { "flowing", MAY(OVER) },
    [ATTEMPT_IS_OVER] = { "over", 0 },
};

const struct machine attempt_machine = { "attempt", states, ATTEMPT_NSTATES };

enum { ERROR_BODY_MAX = 64 << 10 }; /* of an error, before the verdict */

/* What is held of an answer. Gone when it is passed on. */
struct held {
    struct arena arena;
    struct head head;
    struct buf body;
    bool ended;  /* the answer is complete */
    bool failed; /* it broke off */
};

/* What is known of an answer. Made when its head comes: an attempt that waits does not pay for it.
 */
struct answering {
    struct held *held;
    struct reader *reader;                                        /* NULL: it is not read */
    uint64_t head_ms, content_ms, first_content_ms, committed_ms; /* 0: not yet */
    bool error;        /* its status says that it is one */
    bool event_stream; /* it is one */
};

/* Ten thousand of them wait at a time: each byte counts. */
struct attempt {
    const struct upstream_conf *policy;
    const struct endpoint_conf *conf;
    const struct attempt_events *events;
    void *owner;
    struct endpoint_turn turn;
    struct stream *stream;
    struct answering *answer; /* NULL: no head has come */
    struct deadline *timer;   /* set to the earliest of those that hold now */
    uint64_t until_ms;
    uint64_t began_ms; /* when the request began to go out */
    uint64_t heard_ms; /* when something was sent or came last */
    union {
        struct piece_cursor cursor;         /* while it is open */
        struct deferred_free deferred_free; /* once it is closed */
    } part;
    unsigned char state; /* enum attempt_state */
    unsigned char api;   /* enum llm_api */
    bool until_end;
    bool sent;   /* the request is out */
    bool reused; /* the connection had carried others */
    bool http2;
    bool paused;
    bool no_terminal; /* the answer ended without its terminal event */
    bool tunnel;      /* the service has agreed to a WebSocket */
    bool closed;
};

static void attempt_set_state(struct attempt *at, enum attempt_state to)
{
    if (at->state == to)
        return;
    BUG_IF(!(states[at->state].next & (1u << to)));
    at->state = (unsigned char)to;
}

static void attempt_free_held(struct held *held)
{
    if (!held)
        return;
    arena_release(&held->arena);
    buf_release(&held->body);
    free(held);
}

static void attempt_let_stream_go(struct attempt *at)
{
    struct stream *s = at->stream;

    if (at->timer)
        deadline_clear(at->timer);
    at->stream = NULL;
    if (s)
        stream_close(s);
    endpoint_leave(&at->turn);
}

static void attempt_let_go(struct attempt *at)
{
    attempt_let_stream_go(at);
    if (at->answer) {
        attempt_free_held(at->answer->held);
        at->answer->held = NULL;
    }
    attempt_set_state(at, ATTEMPT_IS_OVER);
}

static enum attempt_reach attempt_reach(const struct attempt *at)
{
    if (at->answer)
        return ATTEMPT_ANSWERED;
    if (at->sent)
        return ATTEMPT_SENT;
    return at->stream ? ATTEMPT_PARTLY : ATTEMPT_UNSENT;
}

static void attempt_fail(
    struct attempt *at, enum stream_error error, enum problem problem, const char *why)
{
    struct attempt_failure f = {
        .error = error,
        .problem = problem,
        .why = why,
        .reach = attempt_reach(at),
        .took_ms = at->began_ms ? loop_now_ms() - at->began_ms : 0,
        .reused = at->reused,
        .alone = at->http2 && at->stream && !at->stream->broken,
        .no_terminal = at->no_terminal,
    };

    attempt_let_go(at);
    at->events->on_failed(at->owner, &f);
}

/* ---- timers ---- */

enum attempt_timer {
    TIMER_TOTAL,
    TIMER_SEND,
    TIMER_FIRST_BYTE,
    TIMER_FIRST_CONTENT,
    TIMER_IDLE,
    TIMER_CONTENT_IDLE,
    TIMER_STREAM,
    TIMER_HOLD, /* the one that fails nothing: what is held is decided about as it is */
};

static const char *const timer_says[] = {
    [TIMER_TOTAL] = "total_timeout passed",
    [TIMER_SEND] = "idle_timeout passed while sending",
    [TIMER_FIRST_BYTE] = "first_byte_timeout passed",
    [TIMER_FIRST_CONTENT] = "first_content_timeout passed",
    [TIMER_IDLE] = "idle_timeout passed",
    [TIMER_CONTENT_IDLE] = "content_idle_timeout passed",
    [TIMER_STREAM] = "stream_timeout passed",
    [TIMER_HOLD] = "hold_timeout passed",
};

struct attempt_due {
    uint64_t at_ms;
    enum attempt_timer timer;
};

static void attempt_consider(struct attempt_due *d, enum attempt_timer timer, uint64_t at_ms)
{
    if (at_ms < d->at_ms)
        *d = (struct attempt_due){ at_ms, timer };
}

static void attempt_consider_answer(const struct attempt *at, struct attempt_due *d)
{
    const struct upstream_conf *u = at->policy;

    /* A client that reads slowly is not the service's fault. */
    if (at->paused)
        return;
    if (!at->answer->event_stream || u->idle_for_streams)
        attempt_consider(d, TIMER_IDLE, at->heard_ms + u->idle_timeout_ms);
    if (!at->answer->content_ms && !at->answer->error)
        attempt_consider(d, TIMER_FIRST_CONTENT, at->answer->head_ms + u->first_content_timeout_ms);
    if (at->answer->content_ms && at->answer->event_stream)
        attempt_consider(
            d, TIMER_CONTENT_IDLE, at->answer->content_ms + u->content_idle_timeout_ms);
}

static struct attempt_due attempt_next_due(const struct attempt *at)
{
    const struct upstream_conf *u = at->policy;
    struct attempt_due d = { at->until_ms, TIMER_TOTAL };

    switch ((enum attempt_state)at->state) {
    case ATTEMPT_IS_QUEUED:
    case ATTEMPT_IS_KEPT:
    case ATTEMPT_IS_OVER:
        break;
    case ATTEMPT_IS_SENDING:
        attempt_consider(&d, TIMER_SEND, at->heard_ms + u->idle_timeout_ms);
        break;
    case ATTEMPT_IS_AWAITING:
        attempt_consider(&d, TIMER_FIRST_BYTE, at->heard_ms + u->first_byte_timeout_ms);
        break;
    case ATTEMPT_IS_HOLDING:
        BUG_IF(!at->answer); /* it came with the head */
        attempt_consider(&d, TIMER_HOLD, at->answer->head_ms + u->hold_timeout_ms);
        attempt_consider_answer(at, &d);
        break;
    case ATTEMPT_IS_FLOWING:
        BUG_IF(!at->answer);
        if (at->answer->event_stream && !at->until_end)
            d = (struct attempt_due){ at->answer->committed_ms + u->stream_timeout_ms,
                TIMER_STREAM };
        attempt_consider_answer(at, &d);
        break;
    }
    return d;
}

static void attempt_arm(struct attempt *at)
{
    struct attempt_due d = attempt_next_due(at);
    uint64_t now = loop_now_ms();

    if (at->tunnel && at->timer)
        deadline_clear(at->timer); /* its bounds are the tunnel's (tunnel.c) */
    else if (at->state != ATTEMPT_IS_OVER && at->timer)
        deadline_set(at->timer, d.at_ms > now ? d.at_ms - now : 0);
}

static void attempt_decide(struct attempt *at);

static void attempt_on_deadline(void *owner)
{
    struct attempt *at = owner;
    struct attempt_due d = attempt_next_due(at);

    if (d.at_ms > loop_now_ms())
        attempt_arm(at); /* it was pushed back */
    else if (d.timer == TIMER_HOLD)
        attempt_decide(at);
    else if (at->state == ATTEMPT_IS_QUEUED)
        attempt_fail(at, STREAM_E_CONNECT_TIMEOUT, PROBLEM_CALL_CONNECT_TIMEOUT,
            "total_timeout passed before there was a connection");
    else
        attempt_fail(at, STREAM_E_TIMEOUT, PROBLEM_CALL_TIMEOUT, timer_says[d.timer]);
}

/* ---- the answer ---- */

static enum attempt_end attempt_how_it_ended(const struct attempt *at)
{
    if (!at->answer->reader || at->answer->error)
        return ATTEMPT_COMPLETE;
    if (reader_has_error(at->answer->reader))
        return ATTEMPT_ERROR_EVENT;
    return reader_is_malformed(at->answer->reader) ? ATTEMPT_MALFORMED : ATTEMPT_COMPLETE;
}

/* The answer is whole in its framing. A stream without its terminal event is not complete for all
 * that, unless its error event has told the client. */
static void attempt_end(struct attempt *at)
{
    enum attempt_end end = attempt_how_it_ended(at);

    if (at->answer->reader && !at->answer->error && end != ATTEMPT_ERROR_EVENT &&
        !reader_is_complete(at->answer->reader)) {
        at->no_terminal = true;
        attempt_fail(at, STREAM_E_INCOMPLETE, PROBLEM_CALL_INCOMPLETE,
            "the event stream ended without its terminal event");
        return;
    }
    attempt_let_go(at);
    at->events->on_end(at->owner, end);
}

/* Passes on what was held. */
static void attempt_release_held(struct attempt *at)
{
    struct held *held = at->answer->held;
    const struct attempt_events *events = at->events;

    at->answer->held =
        NULL; /* closed from within, it is still needed until the end of this function */
    at->answer->committed_ms = loop_now_ms();
    attempt_set_state(at, ATTEMPT_IS_FLOWING);
    attempt_arm(at);
    events->on_head(at->owner, &held->head);
    if (!at->closed && buf_len(&held->body) > 0)
        events->on_data(at->owner, buf_str(&held->body));
    if (!at->closed && held->failed)
        attempt_fail(
            at, STREAM_E_INCOMPLETE, PROBLEM_CALL_INCOMPLETE, stream_strerror(STREAM_E_INCOMPLETE));
    else if (!at->closed && held->ended)
        attempt_end(at);
    attempt_free_held(held);
}

/* Whether an error has come inside an answer that began well, before anything of it was passed on.
 */
static bool attempt_has_hidden_error(const struct attempt *at)
{
    return !at->answer->error && at->answer->reader && reader_has_error(at->answer->reader) &&
           reader_contents(at->answer->reader) == 0;
}

static unsigned attempt_status_of(const struct attempt *at, enum llm_error kind)
{
    switch (kind) {
    case LLM_ERROR_RATE:
    case LLM_ERROR_QUOTA:
        return 429;
    case LLM_ERROR_AUTH:
        return 401;
    case LLM_ERROR_OVERLOADED:
        return at->api == LLM_MESSAGES ? 529 : 503;
    case LLM_ERROR_CONTEXT:
    case LLM_ERROR_FILTER:
    case LLM_ERROR_INVALID:
        return 400;
    case LLM_ERROR_NONE:
    case LLM_ERROR_OTHER:
    case LLM_ERROR_SERVER:
        break;
    }
    return 500;
}

/* The data of the last event that is held: the error. Of an answer that is no event stream, all. */
static struct str attempt_error_data(const struct attempt *at)
{
    struct str all = buf_str(&at->answer->held->body), line, data = { 0 };

    if (!at->answer->event_stream)
        return all;
    while (all.n > 0) {
        str_cut(all, '\n', &line, &all);
        if (str_starts_with(line, STR("data:")))
            data = str_trim(str_make(line.p + 5, line.n - 5));
    }
    if (data.n > 0 && data.p[data.n - 1] == '\r')
        data.n--;
    return data.p ? data : buf_str(&at->answer->held->body);
}

/* An error inside a 200 becomes an answer with a status of its own, and the error as its body. */
static int attempt_show_hidden_error(struct attempt *at, unsigned status)
{
    struct held *held = at->answer->held;
    struct str data = arena_copy(&held->arena, attempt_error_data(at));

    if (!data.p)
        return -1;
    buf_release(&held->body);
    held->head.status = status;
    held->head.reason = (struct str){ 0 };
    head_remove(&held->head, STR("content-length"));
    held->ended = true;
    held->failed = false;
    at->answer->error = true;
    attempt_let_stream_go(at);
    if (head_set(&held->head, &held->arena, STR("Content-Type"), STR("application/json")) < 0 ||
        head_add(&held->head, &held->arena, STR("Content-Length"),
            arena_printf(&held->arena, "%zu", data.n)) < 0)
        return -1;
    return buf_append_str(&held->body, data);
}

static struct attempt_answer attempt_answer_of(const struct attempt *at)
{
    struct attempt_answer answer = { .head = &at->answer->held->head,
        .status = at->answer->held->head.status };

    if (at->answer->error || attempt_has_hidden_error(at)) {
        answer.kind = LLM_ERROR_OTHER;
        if (at->answer->reader) {
            answer.kind = reader_error(at->answer->reader, answer.status);
            answer.word = reader_error_word(at->answer->reader);
            answer.asks_to_wait = reader_retry_delay(at->answer->reader, &answer.wait_ms);
        }
    }
    if (!at->answer->error && answer.kind != LLM_ERROR_NONE)
        answer.status = attempt_status_of(at, answer.kind);
    return answer;
}

static void attempt_decide(struct attempt *at)
{
    struct attempt_answer answer = attempt_answer_of(at);

    if (!at->answer->error && answer.kind != LLM_ERROR_NONE &&
        attempt_show_hidden_error(at, answer.status) < 0) {
        attempt_fail(at, STREAM_E_MEMORY, PROBLEM_INTERNAL, "out of memory");
        return;
    }
    switch (at->events->on_answer(at->owner, &answer)) {
    case ATTEMPT_PASS:
        attempt_release_held(at);
        break;
    case ATTEMPT_KEEP:
        at->timer = NULL; /* it is the next attempt's now */
        at->answer->held->failed = !at->answer->held->ended;
        attempt_let_stream_go(at);
        attempt_set_state(at, ATTEMPT_IS_KEPT);
        break;
    case ATTEMPT_GONE:
        break;
    }
}

void attempt_pass_kept(struct attempt *at)
{
    BUG_IF(at->state != ATTEMPT_IS_KEPT);
    attempt_release_held(at);
}

/* Whether its body is what the API says, and not packed. Of other APIs, errors are read. */
static bool attempt_is_readable(const struct attempt *at, const struct head *head)
{
    struct str coding = head_value(head, STR("content-encoding"));

    return (at->api != LLM_OTHER || at->answer->error) && at->policy->api != API_NONE &&
           (coding.n == 0 || str_eq_nocase(coding, STR("identity")));
}

static void attempt_on_head(struct attempt *at, const struct head *head)
{
    at->answer = calloc(1, sizeof(*at->answer));
    if (at->answer)
        at->answer->held = calloc(1, sizeof(*at->answer->held));
    if (!at->answer || !at->answer->held ||
        head_copy(&at->answer->held->arena, &at->answer->held->head, head, 0) < 0) {
        attempt_fail(at, STREAM_E_MEMORY, PROBLEM_INTERNAL, "out of memory");
        return;
    }
    at->answer->head_ms = at->heard_ms = loop_now_ms();
    at->answer->error = head->status >= 400;
    at->answer->event_stream = head_is_event_stream(head);
    attempt_set_state(at, ATTEMPT_IS_HOLDING);
    if (attempt_is_readable(at, head)) {
        at->answer->reader = reader_new((enum llm_api)at->api, at->answer->event_stream);
        if (!at->answer->reader) {
            attempt_fail(at, STREAM_E_MEMORY, PROBLEM_INTERNAL, "out of memory");
            return;
        }
    }
    at->tunnel = head->status == 101;
    if (at->tunnel)
        attempt_decide(at); /* nothing of it is to be waited for */
    else
        attempt_arm(at);
}

/* Whether enough of the answer is here. */
static bool attempt_is_decidable(const struct attempt *at)
{
    size_t most = at->answer->error ? ERROR_BODY_MAX : at->policy->hold_max;

    return buf_len(&at->answer->held->body) >= most ||
           (!at->answer->error && (at->answer->content_ms || attempt_has_hidden_error(at)));
}

/* Reads the piece. True: content was in it. */
static bool attempt_read(struct attempt *at, struct str data)
{
    uint64_t before;

    if (!at->answer->reader || at->answer->error) {
        if (at->answer->reader)
            reader_feed(at->answer->reader, data);
        return true;
    }
    before = reader_contents(at->answer->reader);
    reader_feed(at->answer->reader, data);
    return reader_contents(at->answer->reader) > before ||
           (!at->answer->content_ms && reader_has_content(at->answer->reader));
}

static void attempt_on_data(struct attempt *at, struct str data)
{
    at->heard_ms = loop_now_ms();
    if (at->tunnel) {
        at->events->on_data(at->owner, data);
        return;
    }
    if (attempt_read(at, data))
        at->answer->content_ms = at->heard_ms;
    if (at->answer->content_ms && !at->answer->first_content_ms)
        at->answer->first_content_ms = at->answer->content_ms;
    if (at->state == ATTEMPT_IS_FLOWING) {
        attempt_arm(at);
        at->events->on_data(at->owner, data);
        return;
    }
    if (buf_append(&at->answer->held->body, data.p, data.n) < 0)
        attempt_fail(at, STREAM_E_MEMORY, PROBLEM_INTERNAL, "out of memory");
    else if (attempt_is_decidable(at))
        attempt_decide(at);
    else
        attempt_arm(at);
}

static void attempt_on_end(struct attempt *at)
{
    if (at->state == ATTEMPT_IS_FLOWING) {
        attempt_end(at);
        return;
    }
    at->answer->held->ended = true;
    /* Nothing of it has been passed on, and it is not complete: a failure, not an answer. */
    if (at->answer->reader && !at->answer->error && !at->answer->content_ms &&
        !attempt_has_hidden_error(at) && !reader_is_complete(at->answer->reader))
        attempt_end(at);
    else
        attempt_decide(at);
}

static void attempt_on_broken(struct attempt *at, enum stream_error error)
{
    /* An error that breaks off is still an error: its status is enough for the verdict. */
    if (at->state == ATTEMPT_IS_HOLDING && at->answer->error) {
        at->answer->held->failed = true;
        attempt_decide(at);
        return;
    }
    attempt_fail(at, error, problem_of_call(error), stream_strerror(error));
}

/* ---- the request ---- */

static void attempt_send_body(struct attempt *at)
{
    int rc = pieces_send(&at->part.cursor, at->stream);

    if (rc < 0 && rc != STREAM_FULL) {
        attempt_fail(at, STREAM_E_MEMORY, PROBLEM_INTERNAL, "the request's body cannot be read");
        return;
    }
    if (!at->answer)
        at->heard_ms = loop_now_ms();
    if (rc == 0) {
        at->sent = true;
        stream_send_end(at->stream);
        if (at->state == ATTEMPT_IS_SENDING)
            attempt_set_state(at, ATTEMPT_IS_AWAITING);
    }
    attempt_arm(at);
}

static void attempt_on_message(void *owner, struct stream *s, const struct message *m)
{
    struct attempt *at = owner;

    switch (m->kind) {
    case MESSAGE_HEAD:
        attempt_on_head(at, m->head);
        break;
    case MESSAGE_DATA:
        attempt_on_data(at, m->data);
        break;
    case MESSAGE_END:
        attempt_on_end(at);
        break;
    case MESSAGE_FAILED:
        attempt_on_broken(at, m->cause);
        break;
    }
}

static void attempt_on_drained(void *owner, struct stream *s)
{
    struct attempt *at = owner;

    /* Also when the response has begun: the service may read on before it goes on. */
    if (at->tunnel)
        at->events->on_drained(at->owner);
    else if (!at->sent)
        attempt_send_body(at);
}

static const struct stream_handler stream_handler = { .on_message = attempt_on_message,
    .on_drained = attempt_on_drained };

/* What the answer is to be read for must not be packed. */
static int attempt_finish_head(struct attempt *at, struct arena *a, struct head *h)
{
    int rc = rewrite_head(a, at->conf, h);

    if (rc == 0 && at->part.cursor.count > 1)
        rc = head_set(h, a, STR("Content-Length"),
            arena_printf(a, "%llu",
                (unsigned long long)pieces_size(at->part.cursor.pieces, at->part.cursor.count)));
    at->api = (unsigned char)api_of(rewrite_family(at->policy), h->target);
    if (rc == 0 && at->api != LLM_OTHER && at->policy->usage)
        rc = head_set(h, a, STR("Accept-Encoding"), STR("identity"));
    return rc;
}

/* 0, or a negative stream_error. */
static int attempt_send_head(struct attempt *at, bool bare)
{
    struct arena arena = { 0 };
    struct head head;
    int rc = STREAM_E_MEMORY;

    if (at->events->make_head(at->owner, &arena, &head) == 0 &&
        attempt_finish_head(at, &arena, &head) == 0)
        rc = stream_send_head(at->stream, &head, bare);
    arena_release(&arena);
    return rc == STREAM_FULL ? 0 : rc;
}

static void attempt_on_turn(void *owner, struct stream *s, enum stream_error error, const char *why)
{
    struct attempt *at = owner;
    bool bare = pieces_size(at->part.cursor.pieces, at->part.cursor.count) == 0;
    int rc;

    if (!s) {
        attempt_fail(at, error, problem_of_call(error), why ? why : stream_strerror(error));
        return;
    }
    at->stream = s;
    at->reused = s->reused;
    at->http2 = s->http2;
    at->began_ms = at->heard_ms = loop_now_ms();
    stream_set_owner(s, &stream_handler, at);
    rc = attempt_send_head(at, bare);
    if (rc < 0) {
        attempt_fail(at, rc, PROBLEM_INTERNAL, stream_strerror(rc));
        return;
    }
    at->sent = bare;
    attempt_set_state(at, bare ? ATTEMPT_IS_AWAITING : ATTEMPT_IS_SENDING);
    if (bare)
        attempt_arm(at);
    else
        attempt_send_body(at);
}

/* ---- life ---- */

struct attempt *attempt_open(const struct attempt_request *r)
{
    struct attempt *at = calloc(1, sizeof(*at));

    if (!at)
        return NULL;
    at->policy = r->policy;
    at->conf = r->conf;
    at->events = r->events;
    at->owner = r->owner;
    at->until_ms = r->until_ms;
    at->until_end = r->until_end;
    at->timer = r->timer;
    at->part.cursor = (struct piece_cursor){ .pieces = r->body, .count = r->npieces };
    at->turn.on_answer = attempt_on_turn;
    at->turn.owner = at;
    at->turn.fresh = r->fresh;
    at->turn.websocket = r->websocket;
    at->state = ATTEMPT_IS_QUEUED;
    deadline_close(at->timer);
    deadline_init(at->timer, attempt_on_deadline, at);
    attempt_arm(at);
    endpoint_ask(r->endpoint, &at->turn);
    return at;
}

void attempt_pause(struct attempt *at, bool paused)
{
    if (at->paused == paused || at->state != ATTEMPT_IS_FLOWING)
        return;
    at->paused = paused;
    if (at->stream)
        stream_pause(at->stream, paused);
    if (!paused) {
        at->heard_ms = loop_now_ms();
        if (at->answer->content_ms)
            at->answer->content_ms = at->heard_ms;
    }
    attempt_arm(at);
}

int attempt_send(struct attempt *at, struct str data)
{
    return at->stream ? stream_send_data(at->stream, data.p, data.n) : 0;
}

void attempt_send_end(struct attempt *at)
{
    if (at->stream)
        stream_send_end(at->stream);
}

struct llm_usage attempt_usage(const struct attempt *at)
{
    return at->answer && at->answer->reader && at->policy->usage ? reader_usage(at->answer->reader)
                                                                 : (struct llm_usage){ 0 };
}

struct str attempt_response_id(const struct attempt *at)
{
    return at->answer && at->answer->reader ? reader_response_id(at->answer->reader) : STR("");
}

struct attempt_times attempt_times(const struct attempt *at)
{
    const struct answering *an = at->answer;

    return (
        struct attempt_times){ at->began_ms, an ? an->head_ms : 0, an ? an->first_content_ms : 0 };
}

static void attempt_free(void *what)
{
    struct attempt *at = what;

    if (at->answer) {
        reader_free(at->answer->reader);
        free(at->answer);
    }
    free(at);
}

void attempt_close(struct attempt *at)
{
    if (!at || at->closed)
        return;
    at->closed = true;
    attempt_let_go(at);
    if (at->timer)
        deadline_close(at->timer);
    loop_free_later(&at->part.deferred_free, at, attempt_free);
}

void attempt_describe(const struct attempt *at, char *buf, size_t n)
{
    snprintf(buf, n, "attempt at \"" STR_FMT "\": %s, %zu bytes held", STR_ARG(at->conf->name),
        states[at->state].name,
        at->answer && at->answer->held ? buf_len(&at->answer->held->body) : 0);
}
