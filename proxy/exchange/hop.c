/* The request that a worker gets at each hop. */
#include "exchange/hop.h"

#include <inttypes.h>

#include "exchange/forward.h"
#include "exchange/run.h"

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
    size_t n = 0, answers = ex->answers.n - first;

    ex->hop.npieces = 0;
    ex->hop.pieces = arena_alloc(&ex->hop.arena, (1 + 2 * answers) * sizeof(*ex->hop.pieces));
    if (!ex->hop.pieces)
        return -1;
    if (with_body)
        ex->hop.pieces[n++] =
            (struct piece){ .body = &ex->request.body, .len = body_size(&ex->request.body) };
    for (size_t i = first; i < ex->answers.n; i++) {
        const struct answer *an = ex->answers.list[i];

        if (ex->run && ex->run->open == an)
            continue; /* it comes last */
        ex->hop.pieces[n++] = (struct piece){ .mem = an->text.p, .len = an->text.n };
        ex->hop.pieces[n++] = (struct piece){ .body = &an->body, .len = body_size(&an->body) };
    }
    if (ex->run && ex->run->open) {
        const struct body *b = &ex->run->open->body;
        struct str text = run_open_text(ex->run, &ex->hop.arena);

        if (!text.p)
            return -1;
        ex->hop.pieces[n++] = (struct piece){ .mem = text.p, .len = text.n };
        ex->hop.pieces[n++] = (struct piece){ .body = b, .len = body_size(b) };
    }
    ex->hop.npieces = n;
    return 0;
}

/* Starts ex->hop.head with the fields of the client's that come along. */
static int hop_take_fields(struct exchange *ex, bool whole)
{
    struct head *h = arena_alloc(&ex->hop.arena, sizeof(*h));

    ex->hop.head = h;
    if (!h)
        return -1;
    *h = ex->request.head;
    h->websocket = h->websocket && ex->hop.kind == HOP_REQUEST;
    h->room = ex->request.head.nfields + 22;
    h->nfields = 0;
    h->fields = arena_alloc(&ex->hop.arena, h->room * sizeof(*h->fields));
    if (!h->fields)
        return -1;
    for (size_t i = 0; i < ex->request.head.nfields; i++) {
        const struct field *f = &ex->request.head.fields[i];

        if (!whole && forward_describes_body(f->name))
            continue;
        /* Keep-alive bytes have fixed a head that announces no coding. */
        if (ex->reply.keep_alive != KEEP_ALIVE_OFF &&
            str_eq_nocase(f->name, STR("accept-encoding")))
            continue;
        h->fields[h->nfields++] = *f;
    }
    return 0;
}

static int hop_add_length(struct exchange *ex)
{
    return head_add(ex->hop.head, &ex->hop.arena, STR("Content-Length"),
        arena_printf(&ex->hop.arena, "%" PRIu64, pieces_size(ex->hop.pieces, ex->hop.npieces)));
}

static int hop_build_request(struct exchange *ex)
{
    if (hop_take_fields(ex, true) < 0 || hop_gather(ex, true, ex->answers.n) < 0)
        return -1;
    return ex->request.content != CONTENT_NONE ? hop_add_length(ex) : 0;
}

static int hop_build_replay(struct exchange *ex)
{
    if (hop_take_fields(ex, true) < 0 || hop_gather(ex, true, 0) < 0 || hop_add_length(ex) < 0)
        return -1;
    if (ex->run && ex->run->sent > 0 &&
        head_add(ex->hop.head, &ex->hop.arena, STR("Tarry-Sent"),
            run_sent_text(ex->run, &ex->hop.arena)) < 0)
        return -1;
    return head_add(ex->hop.head, &ex->hop.arena, STR("Tarry-Body-Length"),
        arena_printf(&ex->hop.arena, "%" PRIu64, body_size(&ex->request.body)));
}

static int hop_build_resume(struct exchange *ex)
{
    if (hop_take_fields(ex, false) < 0 || hop_gather(ex, false, ex->first_answer) < 0)
        return -1;
    ex->hop.head->method = STR("POST");
    ex->hop.head->target = ex->hop.path;
    if (head_add(ex->hop.head, &ex->hop.arena, STR("Content-Type"),
            STR("application/http; msgtype=response")) < 0)
        return -1;
    return hop_add_length(ex);
}

void hop_prepare(struct exchange *ex, enum hop_kind kind, struct str path)
{
    ex->hop.kind = kind;
    ex->hop.path = path;
    /* A copy of the span: a handoff that breaks off has taken the last one's place when this is
     * delivered again. */
    ex->hop.state = ex->handoff ? ex->handoff->state : (struct str){ 0 };
    ex->hop.attempt = 1;
    ex->hop.unreachable_since_ms = 0;
    ex->hop.pause_ms = 0;
    if (kind != HOP_REQUEST)
        ex->hop.number++;
}

void hop_prepare_again(struct exchange *ex)
{
    ex->hop.kind = HOP_REPLAY;
    ex->hop.path = (struct str){ 0 };
    ex->hop.state = ex->handoff->state;
    ex->hop.attempt++;
    ex->hop.unreachable_since_ms = 0;
    ex->hop.pause_ms = 0;
}

static int hop_build(struct exchange *ex)
{
    switch (ex->hop.kind) {
    case HOP_REQUEST:
        return hop_build_request(ex);
    case HOP_REPLAY:
        return hop_build_replay(ex);
    case HOP_RESUME:
    case HOP_NOTIFY:
        break;
    }
    return hop_build_resume(ex);
}

/* The worker's spans belong below the visit's. */
static int hop_set_trace(struct exchange *ex)
{
    struct trail *t = ex->trail;
    struct trace_context c;
    char text[TRACE_PARENT_LEN + 1];

    if (!t || !t->trace)
        return 0;
    c = t->trace->own;
    trail_span(t, PHASE_VISIT, ++t->visits, c.span);
    trace_write(&c, text);
    return head_set(
        ex->hop.head, &ex->hop.arena, STR("traceparent"), arena_copy(&ex->hop.arena, str_of(text)));
}

int hop_open(struct exchange *ex, const struct visit_handler *handler)
{
    const struct pool_conf *pc = ex->pool_conf;
    bool ahead = ex->hop.kind != HOP_REQUEST, notify = ex->hop.kind == HOP_NOTIFY;
    struct forward_hop hop = {
        .exchange = ex->id,
        .hop = ex->hop.number,
        .kind = hop_kind_text(ex->hop.kind),
        .started_wall_ms = ex->started_wall_ms,
        .state = ex->hop.state,
        .outcome = notify && ex->outcome ? str_of(ex->outcome) : (struct str){ 0 },
        .truncated = notify && ex->truncated ? str_of(ex->truncated) : (struct str){ 0 },
        .attempt = ex->hop.attempt,
    };
    struct visit_request r = {
        .want = { .ahead = ahead,
            .client = ex->request.client.family ? &ex->request.client : NULL },
    };

    if (ahead && pc->resume_wait_ms > pc->queue_timeout_ms)
        r.want.timeout_ms = pc->resume_wait_ms;
    arena_release(&ex->hop.arena);
    if (hop_build(ex) < 0 ||
        forward_add_tarry(ex->hop.head, &ex->hop.arena, ex->conf, pc, &hop) < 0 ||
        hop_set_trace(ex) < 0)
        return -1;
    for (size_t i = 0; i < ex->hop.head->nfields; i++)
        if (str_eq(ex->hop.head->fields[i].name, STR("Tarry-Features")))
            r.features = &ex->hop.head->fields[i];
    r.single = forward_features(true);
    /* The first delivery goes back to where the run is, a later one to any. */
    if (ex->hop.kind == HOP_REPLAY && ex->hop.attempt == 1 && ex->handoff->sticky &&
        ex->hop.server.n > 0) {
        r.want.server = ex->hop.server;
        r.want.server_wait_ms = ex->handoff->sticky_ms;
        r.want.at = ex->hop.at;
    }
    r.head = ex->hop.head;
    r.pieces = ex->hop.pieces;
    r.npieces = ex->hop.npieces;
    ex->hop.visit = visit_open(ex->pool, &r, handler, ex);
    return ex->hop.visit ? 0 : -1;
}

void hop_close(struct exchange *ex)
{
    visit_close(ex->hop.visit);
    ex->hop.visit = NULL;
    arena_release(&ex->hop.arena);
}
