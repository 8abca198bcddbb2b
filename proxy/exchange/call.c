/* Calls: attempts, the four timeouts, and the pauses between attempts. */
#include "exchange/call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/deadline.h"
#include "net/loop.h"
#include "observe/counter.h"
#include "upstream/retry.h"

/*   WAITING -> SENDING -> RECEIVING -> DONE
 *      ^          v
 *      +------ PAUSING      from anywhere to DONE: failure, deadline, call_close()
 *
 *   PAUSING    before each attempt, the first too.
 *   WAITING    for a stream, connecting included.
 *   SENDING    until the head of the response. Nothing of a response that is tried again is told.
 */
enum call_state { CALL_WAITING, CALL_SENDING, CALL_RECEIVING, CALL_PAUSING, CALL_DONE };

struct call {
    struct call_request request;
    struct origins *origins;
    struct origin_waiter waiter;
    struct stream *stream;
    struct piece_cursor cursor;
    struct deadline deadline; /* of the state, or of the whole call, whichever is earlier */
    uint64_t started_ms, total_at_ms;
    call_make_head_fn *make_head;
    call_event_fn *on_event;
    void *owner;
    const struct log_context *log;
    struct deferred_free deferred_free;
    unsigned attempts, retries_max;
    enum call_state state;
    bool sent; /* the request is out */
    bool closed;
};

static void call_attempt(struct call *c);

static void call_emit(struct call *c, struct call_event ev)
{
    if (!c->closed)
        c->on_event(c->owner, c, &ev);
}

static void call_let_go(struct call *c)
{
    deadline_clear(&c->deadline);
    origin_cancel(&c->waiter);
    if (c->stream) {
        stream_close(c->stream);
        c->stream = NULL;
    }
}

static void call_fail(struct call *c, enum problem problem, const char *why)
{
    call_let_go(c);
    c->state = CALL_DONE;
    counter_add(COUNTER_CALLS_FAILED, 1);
    call_emit(c, (struct call_event){ .kind = CALL_FAILED, .problem = problem, .why = why });
}

static uint64_t call_left_ms(const struct call *c)
{
    uint64_t now = loop_now_ms();

    return c->total_at_ms > now ? c->total_at_ms - now : 0;
}

static void call_set_deadline(struct call *c, uint64_t ms)
{
    uint64_t left = call_left_ms(c);

    deadline_set(&c->deadline, ms < left ? ms : left);
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
    call_let_go(c);
    c->state = CALL_PAUSING;
    log_debug(c->log,
        "call %zu to \"" STR_FMT "\": attempt %u failed (%s), again in %" PRIu64 " ms",
        c->request.index, STR_ARG(c->request.upstream->name), c->attempts, why, ms);
    deadline_set(&c->deadline, ms);
}

static void call_on_deadline(void *owner)
{
    struct call *c = owner;

    switch (c->state) {
    case CALL_PAUSING:
        call_attempt(c);
        break;
    case CALL_WAITING:
        call_fail(
            c, PROBLEM_CALL_CONNECT_TIMEOUT, "total_timeout passed before there was a connection");
        break;
    case CALL_SENDING:
        call_fail(c, PROBLEM_CALL_TIMEOUT,
            call_left_ms(c) == 0 ? "total_timeout passed"
            : c->sent            ? "first_byte_timeout passed"
                                 : "idle_timeout passed while sending");
        break;
    case CALL_RECEIVING:
        call_fail(c, PROBLEM_CALL_TIMEOUT,
            call_left_ms(c) == 0 ? "total_timeout passed" : "idle_timeout passed");
        break;
    case CALL_DONE:
        break;
    }
}

static void call_send_body(struct call *c)
{
    int rc = pieces_send(&c->cursor, c->stream);

    if (rc == STREAM_FULL) {
        call_set_deadline(c, c->request.upstream->idle_timeout_ms);
        return;
    }
    if (rc < 0) {
        call_fail(c, PROBLEM_INTERNAL, "the request's body cannot be read");
        return;
    }
    c->sent = true;
    stream_send_end(c->stream);
    if (c->state == CALL_SENDING)
        call_set_deadline(c, c->request.upstream->first_byte_timeout_ms);
}

static void call_on_head(struct call *c, const struct head *head)
{
    struct retry_situation s = call_situation(c);
    uint64_t pause_ms;
    char why[32];

    if (retry_after_response(&s, head, &pause_ms)) {
        snprintf(why, sizeof(why), "status %u", head->status);
        call_pause_before_retry(c, pause_ms, why);
        return;
    }
    c->state = CALL_RECEIVING;
    call_set_deadline(c, c->request.upstream->idle_timeout_ms);
    call_emit(c, (struct call_event){ .kind = CALL_HEAD, .head = head });
}

static void call_on_failure(struct call *c, enum stream_error error, const char *why)
{
    struct retry_situation s = call_situation(c);
    uint64_t pause_ms;

    if (c->state != CALL_RECEIVING && retry_after_failure(&s, error, &pause_ms))
        call_pause_before_retry(c, pause_ms, why);
    else
        call_fail(c, problem_of_call(error), why);
}

static void call_on_message(void *owner, struct stream *s, const struct message *m)
{
    struct call *c = owner;

    switch (m->kind) {
    case MESSAGE_HEAD:
        call_on_head(c, m->head);
        break;
    case MESSAGE_DATA:
        call_set_deadline(c, c->request.upstream->idle_timeout_ms);
        call_emit(c, (struct call_event){ .kind = CALL_DATA, .data = m->data });
        break;
    case MESSAGE_END:
        call_let_go(c);
        c->state = CALL_DONE;
        call_emit(c, (struct call_event){ .kind = CALL_END });
        break;
    case MESSAGE_FAILED:
        call_on_failure(c, m->cause, stream_strerror(m->cause));
        break;
    }
}

static void call_on_stream_drained(void *owner, struct stream *s)
{
    struct call *c = owner;

    /* Also when the response has begun: the service may read on before it goes on. */
    if (!c->sent)
        call_send_body(c);
}

static const struct stream_handler call_stream_handler = { .on_message = call_on_message,
    .on_drained = call_on_stream_drained };

static void call_on_answer(void *owner, struct stream *s, enum stream_error error, const char *why)
{
    struct call *c = owner;
    bool bare = c->request.body.len == 0;
    struct arena arena = { 0 };
    struct head head;
    int rc;

    if (!s) {
        call_on_failure(c, error, why ? why : stream_strerror(error));
        return;
    }
    c->stream = s;
    c->state = CALL_SENDING;
    c->sent = bare;
    c->cursor = (struct piece_cursor){ .pieces = &c->request.body, .count = 1 };
    stream_set_owner(s, &call_stream_handler, c);
    if (c->make_head(c->owner, c, &arena, &head) < 0) {
        arena_release(&arena);
        call_fail(c, PROBLEM_INTERNAL, "out of memory");
        return;
    }
    rc = stream_send_head(s, &head, bare);
    arena_release(&arena);
    if (rc < 0 && rc != STREAM_FULL) {
        call_fail(c, PROBLEM_INTERNAL, stream_strerror(rc));
        return;
    }
    if (bare)
        call_set_deadline(c, c->request.upstream->first_byte_timeout_ms);
    else
        call_send_body(c);
}

static void call_attempt(struct call *c)
{
    struct origin *o = origins_find(c->origins, c->request.upstream);

    if (c->attempts++ > 0)
        counter_add(COUNTER_CALL_RETRIES, 1);
    if (!o) {
        call_fail(c, PROBLEM_INTERNAL, "the upstream is no longer in the conf");
        return;
    }
    c->state = CALL_WAITING;
    c->waiter.on_answer = call_on_answer;
    c->waiter.owner = c;
    call_set_deadline(c, call_left_ms(c));
    origin_ask(o, &c->waiter);
}

static void free_call(void *what)
{
    free(what);
}

struct call *call_open(struct origins *origins, const struct call_request *r,
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
    c->origins = origins;
    c->make_head = make_head;
    c->on_event = on_event;
    c->owner = owner;
    c->log = log;
    c->started_ms = loop_now_ms();
    c->total_at_ms = c->started_ms + total;
    c->state = CALL_PAUSING;
    deadline_init(&c->deadline, call_on_deadline, c);
    deadline_set(&c->deadline, 0); /* the first call_attempt begins from the loop */
    return c;
}

void call_pause(struct call *c, bool paused)
{
    if (!c->stream)
        return;
    stream_pause(c->stream, paused);
    /* A client that reads slowly is not the upstream's fault: only the whole call's time runs on.
     */
    call_set_deadline(c, paused ? call_left_ms(c) : c->request.upstream->idle_timeout_ms);
}

void call_close(struct call *c)
{
    if (!c || c->closed)
        return;
    c->closed = true;
    call_let_go(c);
    c->state = CALL_DONE;
    deadline_close(&c->deadline);
    loop_free_later(&c->deferred_free, c, free_call);
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
