/* What both steps with calls in flight do. */
#include "exchange/parked.h"

#include "exchange/forward.h"
#include "observe/counter.h"

static int parked_make_head(void *owner, struct call *c, struct arena *a, struct head *out)
{
    struct answer *an = owner;
    struct exchange *ex = an->owner;

    return handoff_enclosed_head(ex->handoff, an->enclosed, ex->conf,
        ex->handoff->keep_alive != KEEP_ALIVE_OFF && ex->handoff->then == THEN_RELAY, a, out);
}

struct call *parked_open_call(
    struct exchange *ex, size_t i, struct answer **answer, call_event_fn *on_event)
{
    const struct enclosed *e = &ex->handoff->calls[i];
    struct call_request r = {
        .upstream = e->upstream,
        .body = { .body = &ex->handoff->body, .off = e->body_off, .len = e->body_len },
        .timeout_ms = e->timeout_ms,
        .retries = e->retries,
        .index = i,
        .tenant = e->limit_key.p ? &e->limit_key : NULL,
        .client = exchange_client(ex),
        .record = &ex->record,
        .trail = ex->trail,
    };
    struct answer *an = answer_new(&ex->answers, &ex->arena, ex->conf, e);

    if (!an)
        return NULL;
    an->owner = ex;
    *answer = an;
    counter_add(COUNTER_CALLS, 1);
    ex->ncalls++;
    return call_open(ex->all->endpoints, &r, parked_make_head, on_event, an, &ex->log);
}

void parked_begin(struct exchange *ex)
{
    ex->outcome = ex->truncated = NULL;
    ex->first_answer = ex->answers.n;
    ex->calls_left = ex->handoff->ncalls;
}

/* The head that keep-alive bytes fix: the handoff's, whatever comes of the calls. */
static int parked_keep_alive_head(struct exchange *ex, struct arena *a, struct head *head)
{
    static const struct head none = { .status = 200 };
    static const struct upstream_conf no_upstream; /* of a handoff that only waits */
    struct str type = ex->handoff->keep_alive == KEEP_ALIVE_SSE ? STR("text/event-stream")
                                                                : STR("application/json");

    if (forward_relay_response(a, &none, &ex->handoff_head,
            ex->handoff->ncalls > 0 ? ex->handoff->calls[0].upstream : &no_upstream, head) < 0 ||
        head_add(head, a, STR("Content-Type"), type) < 0)
        return -1;
    return forward_add_cookies(a, ex->cookies, head);
}

bool parked_keep_alive(struct exchange *ex)
{
    struct arena scratch = { 0 };
    struct head head = { 0 };
    int rc = 0;

    if (!reply_is_open(&ex->reply) || ex->handoff->keep_alive == KEEP_ALIVE_OFF)
        return true;
    if (ex->reply.state == REPLY_NONE)
        rc = parked_keep_alive_head(ex, &scratch, &head);
    if (rc == 0)
        rc = reply_keep_alive(&ex->reply, ex->handoff->keep_alive, &head);
    arena_release(&scratch);
    if (rc < 0) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        return false;
    }
    return true;
}
