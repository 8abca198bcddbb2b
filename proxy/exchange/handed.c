/* Handoffs, taken. */
#include "exchange/handed.h"

#include <stdio.h>

#include "exchange/run.h"
#include "observe/counter.h"

void handed_refuse(struct exchange *ex, int error, const char *why)
{
    switch ((enum handoff_error)error) {
    case HANDOFF_E_MALFORMED:
        exchange_fail(ex, PROBLEM_HANDOFF_MALFORMED, 0, "%s", why);
        break;
    case HANDOFF_E_FORBIDDEN:
        exchange_fail(ex, PROBLEM_HANDOFF_FORBIDDEN, 0, "%s", why);
        break;
    case HANDOFF_E_LIMIT:
        exchange_fail(ex, PROBLEM_HANDOFF_LIMIT, 0, "%s", why);
        break;
    case HANDOFF_E_MEMORY:
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        break;
    case HANDOFF_E_STORAGE:
        exchange_fail(ex, PROBLEM_STORAGE, 0, "cannot keep the handoff in temp_dir");
        break;
    }
}

bool handed_over_max_hops(struct exchange *ex)
{
    if (ex->hop.number - ex->hop.waits + 1 < ex->pool_conf->max_hops)
        return false;
    exchange_fail(ex, PROBLEM_LOOP, 0, "a handoff at hop %u: max_hops is %zu", ex->hop.number,
        ex->pool_conf->max_hops);
    return true;
}

/* Copied only if it is another: a run may come back very often. */
static int handed_keep(struct arena *a, struct str *kept, struct str now)
{
    if (str_eq(*kept, now))
        return 0;
    *kept = arena_copy(a, now);
    return kept->p ? 0 : -1;
}

int handed_note_run(struct exchange *ex, struct str server, bool at_is_good, char *why, size_t n)
{
    struct hop *h = &ex->hop;
    struct str at = ex->handoff->at;

    if (!ex->handoff->sticky) {
        h->server = h->at = (struct str){ 0 };
        return 0;
    }
    if (at.p && !at_is_good) {
        snprintf(why, n, "Tarry-At is not a socket in the folder of the server's own");
        return HANDOFF_E_MALFORMED;
    }
    counter_add(COUNTER_SUSPENDED, 1);
    h->at = at;
    return handed_keep(&ex->arena, &h->server, server) < 0 ? HANDOFF_E_MEMORY : 0;
}

struct handoff *handed_next(struct exchange *ex)
{
    struct run *r = ex->run;
    bool pinned = r && r->open && r->open->call && !r->handoff;

    if (ex->handoff && pinned) {
        r->handoff = ex->handoff;
        ex->handoff = NULL;
    }
    if (ex->handoff)
        handoff_release(ex->handoff);
    else
        ex->handoff = arena_alloc(&ex->arena, sizeof(*ex->handoff));
    return ex->handoff;
}

void handed_take(struct exchange *ex)
{
    struct handoff *h = ex->handoff;
    char why[256] = "";
    int rc;

    rc = handoff_read_body(h, &ex->arena, ex->conf, ex->pool_conf, why, sizeof(why));
    if (rc == 0 && handoff_asks_for_pieces(h) && ex->run && ex->run->open) {
        snprintf(why, sizeof(why), "it asks for pieces while an answer is open (Tarry-Close)");
        rc = HANDOFF_E_MALFORMED;
    }
    if (rc < 0) {
        handed_refuse(ex, rc, why);
        return;
    }
    if (h->ncalls == 0)
        ex->hop.waits++;
    else if (handed_over_max_hops(ex))
        return;
    if (body_size(&ex->request.body) > ex->pool_conf->replay_body_max) {
        ex->request.content = CONTENT_DROPPED;
        body_clear(&ex->request.body);
    }
    if (h->then == THEN_REPLAY && ex->request.content == CONTENT_DROPPED) {
        exchange_fail(ex, PROBLEM_BODY_TOO_LARGE, 0,
            "a replay needs the request's body, which is larger than replay_body_max");
        return;
    }
    counter_add(COUNTER_HANDOFFS, 1);
    exchange_enter(ex, h->then == THEN_RELAY ? STEP_RELAY : STEP_CALLS);
}
