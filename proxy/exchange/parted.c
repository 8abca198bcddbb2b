/* Responses in parts, as they take effect on the exchange. */
#include "exchange/parted.h"

#include <stdio.h>

#include "exchange/forward.h"
#include "exchange/handed.h"

bool parted_is(const struct head *response)
{
    return head_count(response, STR("tarry-then")) == 1 &&
           str_eq(head_value(response, STR("tarry-then")), STR("trailer"));
}

struct run *parted_run(struct exchange *ex)
{
    if (!ex->run)
        ex->run = arena_alloc(&ex->arena, sizeof(*ex->run));
    if (!ex->run)
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
    return ex->run;
}

/* The head of the client's response is this one's, if no byte has gone out yet. */
bool parted_head(struct exchange *ex, const struct head *in)
{
    struct run *r = parted_run(ex);
    struct arena scratch = { 0 };
    struct head out;
    int rc = -1;

    if (!r)
        return false;
    parts_init(&r->parts, ex->conf->header_max);
    r->head = NULL;
    if (!reply_may_answer(&ex->reply))
        return true;
    r->head = arena_alloc(&ex->hop.arena, sizeof(*r->head));
    if (r->head && forward_worker_response(&scratch, in, &out) == 0 &&
        forward_keep_cookies(&ex->arena, &ex->cookies, in) == 0) {
        head_remove(&out, STR("content-length"));
        head_remove(&out, STR("set-cookie"));
        if (forward_add_cookies(&scratch, ex->cookies, &out) == 0)
            rc = head_copy(&ex->hop.arena, r->head, &out, 0);
    }
    arena_release(&scratch);
    if (rc < 0)
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
    return rc == 0;
}

/* Begins the client's response with the head that was kept for it. */
static bool parted_begin(struct exchange *ex)
{
    const struct head *head = ex->run->head;

    ex->run->head = NULL;
    return !head || exchange_replied(
                        ex, reply_head(&ex->reply, head, REPLY_AT_ONCE, ex->pool_conf->spool_max));
}

bool parted_data(struct exchange *ex, struct str data)
{
    if (run_count(ex->run, data) < 0) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        return false;
    }
    if (!parted_begin(ex))
        return false;
    /* Whether the client keeps up is asked before the next visit: this one is not held up by it. */
    return exchange_replied(ex, reply_data(&ex->reply, data));
}

static int parted_read_then(const struct head *trailer, enum run_then *then)
{
    static const struct {
        struct str word;
        enum run_then then;
    } words[] = { { STR_INIT("more"), RUN_MORE }, { STR_INIT("rest"), RUN_REST },
        { STR_INIT("replay"), RUN_REPLAY }, { STR_INIT("end"), RUN_ENDS },
        { STR_INIT("cut"), RUN_CUTS } };
    struct str value = head_value(trailer, STR("tarry-then"));

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (head_count(trailer, STR("tarry-then")) == 1 && str_eq(value, words[i].word)) {
            *then = words[i].then;
            return 0;
        }
    return -1;
}

/* Tarry-Close: the open call is reset, and its answer ends there. */
static int parted_close(struct exchange *ex, const struct head *trailer, char *why, size_t n)
{
    struct run *r = ex->run;
    struct str id = head_value(trailer, STR("tarry-close"));

    if (!id.p)
        return 0;
    if (!r->open || !str_eq(r->open->enclosed->call_id, id)) {
        snprintf(why, n, "Tarry-Close names no open answer");
        return HANDOFF_E_MALFORMED;
    }
    return run_finish_open(r, &ex->arena) < 0 ? HANDOFF_E_MEMORY : 0;
}

/* `at` is in the folder of the server's own address, as the app says it. */
static bool parted_may_be_at(struct str server, struct str at)
{
    size_t folder = server.n;

    while (folder > 0 && server.p[folder - 1] != '/')
        folder--;
    return folder > 6 && str_starts_with_nocase(server, STR("unix:/")) && at.n > folder &&
           memcmp(server.p, at.p, folder) == 0 &&
           str_find_char(str_make(at.p + folder, at.n - folder), '/') < 0;
}

/* Where the visit was whose response this is. */
static struct str parted_server(const struct exchange *ex)
{
    return ex->hop.visit ? visit_server(ex->hop.visit) : ex->hop.server;
}

static int parted_read(struct exchange *ex, const struct head *trailer, char *why, size_t n)
{
    struct run *r = ex->run;
    struct handoff_kept kept = { 0 };
    struct handoff *h;
    int rc;

    if (parted_read_then(trailer, &r->then) < 0) {
        snprintf(why, n, "Tarry-Then of a trailer is none of more, rest, replay, end, cut");
        return HANDOFF_E_MALFORMED;
    }
    if (ex->handoff)
        kept = (struct handoff_kept){ ex->handoff->state, ex->handoff->on_disconnect };
    rc = parted_close(ex, trailer, why, n);
    /* The worker has the open answer to its end: it is open no longer. */
    if (rc == 0 && r->open && r->last_given && run_finish_open(r, &ex->arena) < 0)
        rc = HANDOFF_E_MEMORY;
    if (rc < 0)
        return rc;
    h = handed_next(ex);
    if (!h)
        return HANDOFF_E_MEMORY;
    rc = handoff_read_trailer(h, &ex->arena, ex->conf, ex->pool_conf, &kept, trailer, why, n);
    if (rc < 0)
        return rc;
    if (r->then == RUN_REPLAY)
        body_expect(&h->body, r->parts.left);
    if ((r->then == RUN_MORE || r->then == RUN_REST) && !r->open && !h->waits) {
        snprintf(why, n, "more or rest, but no answer is open, and there is no Tarry-Wait");
        return HANDOFF_E_MALFORMED;
    }
    return handed_note_run(
        ex, parted_server(ex), parted_may_be_at(parted_server(ex), h->at), why, n);
}

bool parted_trailer(struct exchange *ex, const struct head *trailer)
{
    char why[256] = "";
    int rc = parted_read(ex, trailer, why, sizeof(why));

    if (rc == 0)
        return true;
    handed_refuse(ex, rc, why);
    return false;
}

bool parted_content(struct exchange *ex, struct str data)
{
    char why[256] = "";
    int rc = handoff_take_data(ex->handoff, data, why, sizeof(why));

    if (rc == 0)
        return true;
    handed_refuse(ex, rc, why);
    return false;
}

void parted_end(struct exchange *ex)
{
    struct run *r = ex->run;

    parts_release(&r->parts);
    switch (r->then) {
    case RUN_ENDS:
        if (parted_begin(ex))
            exchange_complete(ex);
        return;
    case RUN_CUTS:
        if (reply_may_answer(&ex->reply))
            exchange_fail(ex, PROBLEM_WORKER_INCOMPLETE, 0, "the view failed (Tarry-Then: cut)");
        else
            exchange_cut(ex, "http_response_incomplete");
        return;
    case RUN_MORE:
    case RUN_REST:
        if (exchange_client_left(ex) && exchange_cancels(ex))
            exchange_end_cancelled(ex);
        else
            exchange_enter(ex, STEP_PIECES);
        return;
    case RUN_REPLAY:
        handed_take(ex);
        return;
    }
}
