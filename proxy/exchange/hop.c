/* A hop: the request for the worker is put together, a worker is visited, and its response is the
 * client's or the next handoff. */
#include <inttypes.h>

#include "base/num.h"
#include "exchange/exchange.h"
#include "exchange/forward.h"
#include "exchange/front.h"
#include "observe/counter.h"

enum {
    SPOOL_STEP = 16 << 10,
    SPOOL_SHARE = 4, /* of body_memory_max: many clients may be slow at a time */
    WAIT_FIRST_MS = 100,
    WAIT_MAX_MS = 1000,
};

static struct str hop_kind_text(enum hop_kind k)
{
    switch (k) {
    case HOP_REQUEST:
        return STR("request");
    case HOP_RESUME:
        return STR("resume");
    case HOP_REPLAY:
        return STR("replay");
    case HOP_NOTIFY:
        return STR("notify");
    }
    return STR("");
}

/* The pieces of the request's body: the client's, and the answers from `first` on. */
static int hop_gather(struct exchange *ex, bool with_body, size_t first)
{
    size_t n = 0, answers = ex->nanswers - first;

    ex->npieces = 0;
    ex->pieces = arena_alloc(&ex->visit_arena, (1 + 2 * answers) * sizeof(*ex->pieces));
    if (!ex->pieces)
        return -1;
    if (with_body)
        ex->pieces[n++] = (struct piece){ .body = &ex->body, .len = body_size(&ex->body) };
    for (size_t i = first; i < ex->nanswers; i++) {
        const struct answer *an = ex->answers[i];

        ex->pieces[n++] = (struct piece){ .mem = an->text.p, .len = an->text.n };
        ex->pieces[n++] = (struct piece){ .body = &an->body, .len = body_size(&an->body) };
    }
    ex->npieces = n;
    return 0;
}

/* Starts ex->visit_head with the fields of the client's that come along. */
static int hop_take_fields(struct exchange *ex, bool whole)
{
    struct head *h = arena_alloc(&ex->visit_arena, sizeof(*h));

    ex->visit_head = h;
    if (!h)
        return -1;
    *h = ex->request;
    h->websocket = h->websocket && ex->kind == HOP_REQUEST;
    h->room = ex->request.nfields + 18;
    h->nfields = 0;
    h->fields = arena_alloc(&ex->visit_arena, h->room * sizeof(*h->fields));
    if (!h->fields)
        return -1;
    for (size_t i = 0; i < ex->request.nfields; i++) {
        const struct field *f = &ex->request.fields[i];

        if (!whole && forward_describes_body(f->name))
            continue;
        /* Keep-alive bytes have fixed a head that announces no coding. */
        if (ex->keep_alive_sent != KEEP_ALIVE_OFF && str_eq_nocase(f->name, STR("accept-encoding")))
            continue;
        h->fields[h->nfields++] = *f;
    }
    return 0;
}

static int hop_add_length(struct exchange *ex)
{
    return head_add(ex->visit_head, &ex->visit_arena, STR("Content-Length"),
        arena_printf(&ex->visit_arena, "%" PRIu64, pieces_size(ex->pieces, ex->npieces)));
}

static int hop_build_request(struct exchange *ex)
{
    if (hop_take_fields(ex, true) < 0 || hop_gather(ex, true, ex->nanswers) < 0)
        return -1;
    return ex->has_body ? hop_add_length(ex) : 0;
}

static int hop_build_replay(struct exchange *ex)
{
    if (hop_take_fields(ex, true) < 0 || hop_gather(ex, true, 0) < 0 || hop_add_length(ex) < 0)
        return -1;
    return head_add(ex->visit_head, &ex->visit_arena, STR("Tarry-Body-Length"),
        arena_printf(&ex->visit_arena, "%" PRIu64, body_size(&ex->body)));
}

static int hop_build_resume(struct exchange *ex, struct str path)
{
    if (hop_take_fields(ex, false) < 0 || hop_gather(ex, false, ex->first_answer) < 0)
        return -1;
    ex->visit_head->method = STR("POST");
    ex->visit_head->target = path;
    if (head_add(ex->visit_head, &ex->visit_arena, STR("Content-Type"),
            STR("application/http; msgtype=response")) < 0)
        return -1;
    return hop_add_length(ex);
}

int hop_visit(struct exchange *ex, struct str path, visit_event_fn *on_event)
{
    const struct pool_conf *pc = ex->pool_conf;
    bool ahead = ex->kind != HOP_REQUEST;
    struct forward_hop hop = {
        .exchange = ex->id,
        .hop = ex->hop,
        .kind = hop_kind_text(ex->kind),
        .started_wall_ms = ex->started_wall_ms,
        .outcome = ex->kind == HOP_NOTIFY ? ex->outcome : (struct str){ 0 },
        .attempt = ex->attempt,
    };
    struct visit_request r = { .ahead = ahead,
        .client = front_bounds(ex->front, &ex->peer) ? &ex->peer : NULL };
    int rc = 0;

    if (ahead)
        hop.state = ex->kind == HOP_NOTIFY ? ex->handoff->state : ex->hop_state;
    if (ahead && pc->resume_wait_ms > pc->queue_timeout_ms)
        r.queue_timeout_ms = pc->resume_wait_ms;
    arena_release(&ex->visit_arena);
    switch (ex->kind) {
    case HOP_REQUEST:
        rc = hop_build_request(ex);
        break;
    case HOP_REPLAY:
        rc = hop_build_replay(ex);
        break;
    case HOP_RESUME:
    case HOP_NOTIFY:
        rc = hop_build_resume(ex, path);
        break;
    }
    if (rc < 0 || forward_add_tarry(ex->visit_head, &ex->visit_arena, ex->conf, pc, &hop) < 0)
        return -1;
    r.head = ex->visit_head;
    r.pieces = ex->pieces;
    r.npieces = ex->npieces;
    ex->visit = visit_open(ex->pool, &r, on_event, ex);
    return ex->visit ? 0 : -1;
}

static void hop_on_visit(void *owner, struct visit *v, const struct visit_event *ev);

static void hop_close_visit(struct exchange *ex)
{
    visit_close(ex->visit);
    ex->visit = NULL;
    ex->held_head = NULL;
    arena_release(&ex->visit_arena);
}

static void hop_visit_again(struct exchange *ex)
{
    if (ex->state != EX_QUEUED)
        exchange_set_state(ex, EX_QUEUED);
    if (hop_visit(ex, ex->hop_path, hop_on_visit) < 0)
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
}

void hop_begin(struct exchange *ex, enum hop_kind kind, struct str path)
{
    if (!ex->pool) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "the pool is no longer there");
        return;
    }
    ex->kind = kind;
    ex->hop_path = path;
    /* Of its own: a handoff that breaks off has taken the last one's place when this is delivered
     * again. */
    ex->hop_state = ex->handoff ? ex->handoff->state : (struct str){ 0 };
    ex->attempt = 1;
    ex->unreachable_since_ms = 0;
    ex->pause_ms = 0;
    exchange_set_state(ex, EX_QUEUED);
    hop_visit_again(ex);
}

void hop_on_timer(struct exchange *ex)
{
    hop_visit_again(ex);
}

/* Keeps the head until a byte of the body comes, or the end: servers write the two apart, and what
 * is paid for is delivered again if the worker dies in between. */
static int hop_hold_head(struct exchange *ex, const struct head *h)
{
    ex->held_head = arena_alloc(&ex->visit_arena, sizeof(*ex->held_head));
    return ex->held_head ? head_copy(&ex->visit_arena, ex->held_head, h, 0) : -1;
}

/* Sends the head that was held. False if that was the end of the exchange. */
static bool hop_release_head(struct exchange *ex)
{
    const struct head *h = ex->held_head;

    if (!h)
        return true;
    ex->held_head = NULL;
    if (ex->client) {
        exchange_send_head(ex, h);
    } else {
        exchange_set_state(ex, EX_ANSWERING);
        hop_on_client_gone(ex);
    }
    return ex->state != EX_DONE;
}

/* The worker's response is the client's. */
static void hop_answer_head(struct exchange *ex, const struct head *in)
{
    struct arena scratch = { 0 };
    struct head out;
    int rc;

    ex->has_length = head_find(in, STR("content-length")) != NULL;
    if (!ex->client) {
        exchange_set_state(ex, EX_ANSWERING);
        hop_on_client_gone(ex);
        return;
    }
    rc = forward_worker_response(&scratch, in, &out);
    if (rc == 0)
        rc = forward_add_cookies(&scratch, ex->cookies, &out);
    if (rc == 0 && ex->kind != HOP_REQUEST)
        rc = hop_hold_head(ex, &out);
    if (rc < 0)
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
    else if (!ex->held_head)
        exchange_send_head(ex, &out);
    arena_release(&scratch);
}

static void hop_refuse_handoff(struct exchange *ex, int error, const char *why)
{
    enum problem p = PROBLEM_INTERNAL;

    switch ((enum handoff_error)error) {
    case HANDOFF_E_MALFORMED:
        p = PROBLEM_HANDOFF_MALFORMED;
        break;
    case HANDOFF_E_FORBIDDEN:
        p = PROBLEM_HANDOFF_FORBIDDEN;
        break;
    case HANDOFF_E_LIMIT:
        p = PROBLEM_HANDOFF_LIMIT;
        break;
    case HANDOFF_E_RESOURCES:
        why = "out of memory or disk";
        break;
    }
    counter_add(COUNTER_HANDOFFS_REFUSED, 1);
    exchange_fail(ex, p, 0, "%s", why);
}

/* The worker's response names calls. */
static void hop_handoff_head(struct exchange *ex, const struct head *in)
{
    struct head fields;
    struct arena scratch = { 0 };
    char why[256] = "";
    uint64_t length;
    int rc;

    if (ex->hop + 1 >= ex->pool_conf->max_hops) {
        exchange_fail(ex, PROBLEM_LOOP, 0, "a handoff at hop %u: max_hops is %zu", ex->hop,
            ex->pool_conf->max_hops);
        return;
    }
    if (ex->handoff)
        handoff_release(ex->handoff);
    else
        ex->handoff = arena_alloc(&ex->arena, sizeof(*ex->handoff));
    if (!ex->handoff || forward_worker_response(&scratch, in, &fields) < 0 ||
        head_copy(&ex->arena, &ex->handoff_head, &fields, 0) < 0 ||
        forward_keep_cookies(&ex->arena, &ex->cookies, in) < 0) {
        arena_release(&scratch);
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        return;
    }
    arena_release(&scratch);
    /* They are added again with the others that were kept. */
    head_remove(&ex->handoff_head, STR("set-cookie"));
    rc = handoff_read_head(ex->handoff, &ex->arena, ex->conf, ex->pool_conf, in, why, sizeof(why));
    if (rc < 0) {
        hop_refuse_handoff(ex, rc, why);
        return;
    }
    ex->collecting = true;
    if (num_parse_u64(head_value(in, STR("content-length")), &length))
        body_expect(&ex->handoff->body, length);
}

static void hop_handoff_data(struct exchange *ex, struct str data)
{
    struct body *b = &ex->handoff->body;

    if (body_size(b) + data.n > ex->pool_conf->handoff_max)
        hop_refuse_handoff(ex, HANDOFF_E_LIMIT, "the handoff is larger than handoff_max");
    else if (body_append(b, data.p, data.n) < 0)
        hop_refuse_handoff(ex, HANDOFF_E_RESOURCES, NULL);
}

static void hop_handoff_end(struct exchange *ex)
{
    char why[256] = "";
    int rc;

    ex->collecting = false;
    hop_close_visit(ex);
    rc = handoff_read_body(ex->handoff, &ex->arena, ex->conf, ex->pool_conf, why, sizeof(why));
    if (rc < 0) {
        hop_refuse_handoff(ex, rc, why);
        return;
    }
    if (ex->handoff->then == THEN_REPLAY &&
        (ex->body_dropped || body_size(&ex->body) > ex->pool_conf->replay_body_max)) {
        exchange_fail(ex, PROBLEM_BODY_TOO_LARGE, 0,
            "a replay needs the request's body, which is larger than replay_body_max");
        return;
    }
    park_begin(ex);
}

static uint64_t hop_spooled(const struct exchange *ex)
{
    return ex->spool ? body_size(ex->spool) - ex->spool_off : 0;
}

/* Keeps what the client does not take yet. */
static int hop_spool(struct exchange *ex, struct str data)
{
    if (!ex->spool) {
        ex->spool = arena_alloc(&ex->arena, sizeof(*ex->spool));
        if (!ex->spool)
            return -1;
        body_init(ex->spool, ex->conf->body_memory_max / SPOOL_SHARE, ex->conf->temp_dir.p);
    }
    return body_append(ex->spool, data.p, data.n);
}

static void hop_answer_data(struct exchange *ex, struct str data)
{
    if (!hop_release_head(ex))
        return;
    /* In steps: what a client does not take is for the spool, not for the memory of its stream. */
    while (data.n > 0 && ex->client && !ex->client_full && hop_spooled(ex) == 0) {
        size_t n = data.n < SPOOL_STEP ? data.n : SPOOL_STEP;

        exchange_send_data(ex, str_make(data.p, n));
        data = str_make(data.p + n, data.n - n);
    }
    if (data.n == 0 || !ex->client)
        return;
    if (hop_spool(ex, data) < 0) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "cannot keep the response in temp_dir");
        return;
    }
    if (hop_spooled(ex) > ex->pool_conf->spool_max && !ex->worker_paused) {
        ex->worker_paused = true;
        visit_pause(ex->visit, true);
    }
}

static void hop_answer_end(struct exchange *ex)
{
    if (!hop_release_head(ex))
        return;
    ex->worker_us += loop_precise_us() - ex->mark_us;
    ex->source_ended = true;
    hop_close_visit(ex);
    if (hop_spooled(ex) == 0 || !ex->client)
        exchange_complete(ex);
}

void hop_on_client_drained(struct exchange *ex)
{
    char scratch[SPOOL_STEP];

    while (ex->client && !ex->client_full && hop_spooled(ex) > 0) {
        struct str data;

        if (body_read(ex->spool, ex->spool_off, sizeof(scratch), scratch, &data) < 0) {
            exchange_fail(ex, PROBLEM_INTERNAL, 0, "cannot read the response from temp_dir");
            return;
        }
        ex->spool_off += data.n;
        exchange_send_data(ex, data);
        if (ex->state == EX_DONE)
            return;
    }
    if (ex->worker_paused && hop_spooled(ex) < ex->pool_conf->spool_max / 2) {
        ex->worker_paused = false;
        if (ex->visit)
            visit_pause(ex->visit, false);
    }
    if (hop_spooled(ex) > 0)
        return;
    if (ex->spool)
        body_clear(ex->spool);
    ex->spool_off = 0;
    if (ex->source_ended)
        exchange_complete(ex);
}

void hop_on_client_gone(struct exchange *ex)
{
    bool to_the_end = ex->has_length || (ex->handoff && !park_cancels(ex));

    /* A worker that has said how much is to come is let finish: cutting it off saves nothing. So is
     * one whose handoff said that things go on without the client. Any other stream would go on for
     * nobody. */
    if (ex->visit && to_the_end) {
        if (ex->worker_paused)
            visit_pause(ex->visit, false);
        ex->worker_paused = false;
        return;
    }
    exchange_end(ex, "client_gone");
}

/* A resume or replay carries what has been paid for: it is delivered again, and waits for a worker
 * that can be reached. */
static bool hop_deliver_again(struct exchange *ex, const struct visit_event *ev)
{
    const struct pool_conf *pc = ex->pool_conf;
    bool paid = ex->kind != HOP_REQUEST;
    struct str m = ex->request.method;

    if (ev->failure == VISIT_UNREACHABLE && paid) {
        uint64_t now = loop_now_ms();

        if (ex->unreachable_since_ms == 0)
            ex->unreachable_since_ms = now;
        if (now - ex->unreachable_since_ms >= pc->resume_wait_ms)
            return false;
        ex->pause_ms = ex->pause_ms ? ex->pause_ms * 2 : WAIT_FIRST_MS;
        if (ex->pause_ms > WAIT_MAX_MS)
            ex->pause_ms = WAIT_MAX_MS;
        hop_close_visit(ex);
        deadline_set(&ex->timer, ex->pause_ms);
        return true;
    }
    /* Of a handoff that broke off, or of a head alone, nothing has gone to the client: it is as if
     * there were no response. */
    if (ev->failure != VISIT_DIED &&
        !(paid && (ex->collecting || ex->held_head) && ev->failure == VISIT_INCOMPLETE))
        return false;
    if (!paid &&
        (!pc->retry_idempotent || ex->attempt > 1 ||
            !(str_eq(m, STR("GET")) || str_eq(m, STR("HEAD")) || str_eq(m, STR("OPTIONS")) ||
                str_eq(m, STR("PUT")) || str_eq(m, STR("DELETE")))))
        return false;
    if (paid && ex->attempt >= pc->resume_attempts)
        return false;
    ex->collecting = false;
    ex->attempt++;
    counter_add(COUNTER_REDELIVERIES, 1);
    log_warn(&ex->log, "a worker died at hop %u before it answered: delivering again (%u)", ex->hop,
        ex->attempt);
    hop_close_visit(ex);
    hop_visit_again(ex);
    return true;
}

static void hop_visit_failed(struct exchange *ex, const struct visit_event *ev)
{
    enum problem p = PROBLEM_INTERNAL;

    counter_add(COUNTER_VISITS_FAILED, 1);
    if (ex->state != EX_ANSWERING && hop_deliver_again(ex, ev))
        return;
    switch (ev->failure) {
    case VISIT_QUEUE_FULL:
        p = PROBLEM_QUEUE_FULL;
        break;
    case VISIT_QUEUE_TIMEOUT:
        p = PROBLEM_QUEUE_TIMEOUT;
        break;
    case VISIT_UNREACHABLE:
        p = PROBLEM_WORKER_UNREACHABLE;
        break;
    case VISIT_DIED:
    case VISIT_INCOMPLETE:
        p = PROBLEM_WORKER_INCOMPLETE;
        break;
    case VISIT_PROTOCOL:
        p = PROBLEM_WORKER_PROTOCOL;
        break;
    case VISIT_TIMEOUT:
        p = PROBLEM_WORKER_TIMEOUT;
        break;
    case VISIT_RESOURCES:
        p = PROBLEM_INTERNAL;
        break;
    }
    ex->collecting = false;
    exchange_fail(ex, p, 0, "hop %u: %s", ex->hop, ev->why);
}

static void hop_on_visit(void *owner, struct visit *v, const struct visit_event *ev)
{
    struct exchange *ex = owner;

    if (ex->state == EX_TUNNELLING) {
        tunnel_on_visit(ex, ev);
        return;
    }
    switch (ev->kind) {
    case VISIT_STARTED:
        counter_add(COUNTER_VISITS, 1);
        ex->nhops = ex->hop + 1;
        ex->unreachable_since_ms = 0;
        exchange_set_state(ex, EX_VISITING);
        break;
    case VISIT_QUEUED:
        exchange_set_state(ex, EX_QUEUED);
        if (!ex->client && ex->hop == 0)
            exchange_end(ex, "client_gone");
        break;
    case VISIT_HEAD:
        /* Hop 0 and replays have the client's method. */
        if (ev->head->status == 101)
            tunnel_begin(ex, ev->head);
        else if (ex->websocket_only && ev->head->status < 300)
            exchange_fail(ex, PROBLEM_WORKER_PROTOCOL, 0,
                "hop %u: the worker answered a WebSocket's handshake with %u", ex->hop,
                ev->head->status);
        else if (handoff_is(ev->head) && !(ex->is_head && ex->kind != HOP_RESUME))
            hop_handoff_head(ex, ev->head);
        else
            hop_answer_head(ex, ev->head);
        break;
    case VISIT_DATA:
        if (ex->collecting)
            hop_handoff_data(ex, ev->data);
        else
            hop_answer_data(ex, ev->data);
        break;
    case VISIT_DRAINED:
        break;
    case VISIT_END:
        if (ex->collecting)
            hop_handoff_end(ex);
        else
            hop_answer_end(ex);
        break;
    case VISIT_FAILED:
        hop_visit_failed(ex, ev);
        break;
    }
}
