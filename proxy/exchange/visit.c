/* Visits. A kept connection that had been closed before the request can have reached the worker is
 * no failure: the visit queues again, ahead. */
#include "exchange/visit.h"

#include <stdio.h>
#include <stdlib.h>

#include "exchange/problem.h"
#include "net/deadline.h"
#include "net/loop.h"

/*   WAITING -> SENDING -> AWAITING -> RECEIVING or TUNNELLING -> CLOSED
 *      ^          |          |
 *      +--stale---+----------+       from anywhere to CLOSED: visit_close(), or a failure
 *
 *   SENDING and all that follow hold a slot. A worker may answer while we are still sending. The
 *   deadline is for a worker that owes something: nobody does in a tunnel. */
enum visit_state {
    VISIT_IS_WAITING,
    VISIT_IS_SENDING,
    VISIT_IS_AWAITING,
    VISIT_IS_RECEIVING,
    VISIT_IS_TUNNELLING,
    VISIT_IS_CLOSED
};

struct visit {
    struct slot_waiter waiter;
    struct stream *stream;
    struct pool *pool;
    struct visit_request request;
    struct piece_cursor cursor;
    struct deadline deadline; /* response_timeout */
    const struct visit_handler *handler;
    void *owner;
    struct deferred_free deferred_free;
    enum visit_state state;
    bool paused; /* by the owner: the worker owes nothing meanwhile */
    bool sent;   /* the request, to its end */
};

static const struct stream_handler visit_stream_handler;
static void visit_on_slot(void *owner, struct stream *s, enum pool_error error, const char *why);

static void free_visit(void *what)
{
    free(what);
}

static void visit_let_go(struct visit *v)
{
    deadline_clear(&v->deadline);
    v->stream = NULL;
    v->paused = false;
    pool_release(&v->waiter);
}

/* A worker's connection or the queue failed: the last that the owner hears. */
static void visit_fail(
    struct visit *v, enum stream_error cause, enum problem problem, const char *why)
{
    struct message m = {
        .kind = MESSAGE_FAILED, .cause = cause, .detail = (int)problem, .why = why
    };

    visit_let_go(v);
    v->handler->on_message(v->owner, v, &m);
}

static void visit_on_deadline(void *owner)
{
    visit_fail(owner, STREAM_E_TIMEOUT, PROBLEM_WORKER_TIMEOUT, "response_timeout passed");
}

static void visit_touch(struct visit *v)
{
    if (v->state == VISIT_IS_TUNNELLING || v->paused)
        deadline_clear(&v->deadline);
    else
        deadline_set(&v->deadline, pool_conf(v->pool)->response_timeout_ms);
}

static void visit_send_body(struct visit *v)
{
    int rc = pieces_send(&v->cursor, v->stream);

    if (rc == STREAM_FULL)
        return;
    if (rc < 0) {
        visit_fail(v, STREAM_E_MEMORY, PROBLEM_STORAGE, "the request's body cannot be read");
        return;
    }
    v->sent = true;
    stream_send_end(v->stream);
    if (v->state == VISIT_IS_SENDING)
        v->state = VISIT_IS_AWAITING;
}

static void visit_begin(struct visit *v, struct stream *s)
{
    bool bare = pieces_size(v->request.pieces, v->request.npieces) == 0;
    int rc;

    v->stream = s;
    v->state = VISIT_IS_SENDING;
    v->sent = bare;
    v->cursor = (struct piece_cursor){ .pieces = v->request.pieces, .count = v->request.npieces };
    stream_set_owner(s, &visit_stream_handler, v);
    if (v->request.features && pool_server_is_one_process(&v->waiter))
        v->request.features->value = v->request.single;
    rc = stream_send_head(s, v->request.head, bare);
    if (rc < 0 && rc != STREAM_FULL) {
        visit_fail(
            v, (enum stream_error)rc, PROBLEM_INTERNAL, stream_strerror((enum stream_error)rc));
        return;
    }
    visit_touch(v);
    if (bare)
        v->state = VISIT_IS_AWAITING;
    else
        visit_send_body(v);
}

static void visit_ask(struct visit *v, bool ahead)
{
    struct pool_want want = v->request.want;

    v->state = VISIT_IS_WAITING;
    v->waiter.on_answer = visit_on_slot;
    v->waiter.owner = v;
    want.ahead |= ahead;
    pool_ask(v->pool, &v->waiter, &want);
}

static void visit_on_slot(void *owner, struct stream *s, enum pool_error error, const char *why)
{
    struct visit *v = owner;

    if (s) {
        visit_begin(v, s);
        if (v->state != VISIT_IS_CLOSED && v->stream)
            v->handler->on_started(v->owner, v);
        return;
    }
    switch (error) {
    case POOL_E_QUEUE_FULL:
    case POOL_E_QUEUE_SHARE:
        visit_fail(v, STREAM_E_CONNECT, PROBLEM_QUEUE_FULL, why);
        break;
    case POOL_E_QUEUE_TIMEOUT:
        visit_fail(v, STREAM_E_CONNECT, PROBLEM_QUEUE_TIMEOUT, why);
        break;
    case POOL_E_UNREACHABLE:
    case POOL_E_GONE:
        visit_fail(v, STREAM_E_CONNECT, PROBLEM_WORKER_UNREACHABLE, why);
        break;
    }
}

static bool visit_is_stale(enum stream_error e)
{
    return e == STREAM_E_STALE || e == STREAM_E_REFUSED || e == STREAM_E_CONNECT;
}

static void visit_on_message(void *owner, struct stream *s, const struct message *m)
{
    struct visit *v = owner;

    switch (m->kind) {
    case MESSAGE_HEAD:
        v->state = m->head->status == 101 ? VISIT_IS_TUNNELLING : VISIT_IS_RECEIVING;
        visit_touch(v);
        v->handler->on_message(v->owner, v, m);
        break;
    case MESSAGE_DATA:
        visit_touch(v);
        v->handler->on_message(v->owner, v, m);
        break;
    case MESSAGE_END:
        visit_let_go(v);
        v->handler->on_message(v->owner, v, m);
        break;
    case MESSAGE_FAILED:
        if (visit_is_stale(m->cause)) {
            visit_let_go(v);
            visit_ask(v, true);
            v->handler->on_requeued(v->owner, v);
        } else {
            visit_fail(v, m->cause, problem_of_visit(m->cause), stream_strerror(m->cause));
        }
        break;
    }
}

static void visit_on_stream_drained(void *owner, struct stream *s)
{
    struct visit *v = owner;

    visit_touch(v);
    if (v->state == VISIT_IS_TUNNELLING) {
        if (v->handler->on_drained)
            v->handler->on_drained(v->owner, v);
    } else if (!v->sent) { /* also when the response has begun: a worker may read on */
        visit_send_body(v);
    }
}

static const struct stream_handler visit_stream_handler = { .on_message = visit_on_message,
    .on_drained = visit_on_stream_drained };

struct visit *visit_open(struct pool *pool, const struct visit_request *r,
    const struct visit_handler *handler, void *owner)
{
    struct visit *v = calloc(1, sizeof(*v));

    if (!v)
        return NULL;
    v->pool = pool_ref(pool);
    v->request = *r;
    v->handler = handler;
    v->owner = owner;
    deadline_init(&v->deadline, visit_on_deadline, v);
    visit_ask(v, false);
    return v;
}

struct str visit_server(const struct visit *v)
{
    return pool_server(&v->waiter);
}

bool visit_may_be_at(const struct visit *v, struct str at)
{
    return pool_server_may_be_at(&v->waiter, at);
}

void visit_set_handler(struct visit *v, const struct visit_handler *handler)
{
    v->handler = handler;
}

int visit_send(struct visit *v, struct str data)
{
    return v->stream ? stream_send_data(v->stream, data.p, data.n) : 0;
}

void visit_send_end(struct visit *v)
{
    if (v->stream)
        stream_send_end(v->stream);
}

void visit_pause(struct visit *v, bool paused)
{
    if (!v->stream || v->paused == paused)
        return;
    v->paused = paused;
    stream_pause(v->stream, paused);
    visit_touch(v);
}

void visit_close(struct visit *v)
{
    if (!v || v->state == VISIT_IS_CLOSED)
        return;
    v->state = VISIT_IS_CLOSED;
    visit_let_go(v);
    deadline_close(&v->deadline);
    pool_unref(v->pool);
    loop_free_later(&v->deferred_free, v, free_visit);
}

void visit_describe(const struct visit *v, char *buf, size_t n)
{
    static const char *const names[] = {
        [VISIT_IS_WAITING] = "waiting for a slot",
        [VISIT_IS_SENDING] = "sending",
        [VISIT_IS_AWAITING] = "awaiting the response",
        [VISIT_IS_RECEIVING] = "receiving",
        [VISIT_IS_TUNNELLING] = "tunnelling",
        [VISIT_IS_CLOSED] = "closed",
    };

    if (v)
        snprintf(buf, n, "visit %s%s", names[v->state], v->paused ? ", paused" : "");
    else
        snprintf(buf, n, "no visit");
}
