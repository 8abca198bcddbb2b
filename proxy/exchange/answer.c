/* A call's response as it is kept for a worker: its fields, its body (memory, then a file), and in
 * the end the head with which it is enclosed. A call that got no response is answered by Tarry
 * itself. */
#include <inttypes.h>

#include "base/num.h"
#include "exchange/exchange.h"
#include "exchange/forward.h"
#include "http/fields.h"
#include "http/h1parse.h"

struct answer *answer_new(struct exchange *ex, const struct enclosed *e)
{
    struct answer *an = arena_alloc(&ex->arena, sizeof(*an));

    if (!an)
        return NULL;
    if (ex->nanswers == ex->answers_room) {
        size_t room = ex->answers_room ? ex->answers_room * 2 : 1;
        struct answer **more = arena_alloc(&ex->arena, room * sizeof(*more));

        if (!more)
            return NULL;
        if (ex->nanswers > 0)
            memcpy(more, ex->answers, ex->nanswers * sizeof(*more));
        ex->answers = more;
        ex->answers_room = room;
    }
    an->ex = ex;
    an->enclosed = e;
    body_init(&an->body, ex->conf->body_memory_max, ex->conf->temp_dir.p);
    ex->answers[ex->nanswers++] = an;
    return an;
}

void answer_release(struct answer *an)
{
    call_close(an->call);
    an->call = NULL;
    body_release(&an->body);
}

int answer_take_head(struct answer *an, const struct head *head)
{
    struct arena *a = &an->ex->arena;
    struct str length = head_value(head, STR("content-length"));
    struct arena scratch = { 0 };
    struct head kept = *head;
    uint64_t n;
    int rc;

    kept.nfields = 0;
    kept.room = head->nfields;
    kept.fields = arena_alloc(&scratch, (head->nfields + 1) * sizeof(struct field));
    if (!kept.fields)
        return -1;
    for (size_t i = 0; i < head->nfields; i++) {
        struct str name = head->fields[i].name;

        if (!field_ends_here(head, name) && !field_is_tarry(name) &&
            !str_eq_nocase(name, STR("content-length")))
            kept.fields[kept.nfields++] = head->fields[i];
    }
    if (length.p && num_parse_u64(length, &n))
        body_expect(&an->body, n);
    an->head = arena_alloc(a, sizeof(*an->head));
    rc = an->head ? head_copy(a, an->head, &kept, 4) : -1;
    arena_release(&scratch);
    return rc;
}

int answer_take_data(struct answer *an, struct str data)
{
    size_t max = an->enclosed->upstream->response_max;
    uint64_t room = max - (body_size(&an->body) < max ? body_size(&an->body) : max);

    if (an->cut)
        return -1;
    if (data.n > room) {
        an->cut = true;
        data.n = (size_t)room;
    }
    if (body_append(&an->body, data.p, data.n) < 0)
        an->cut = true;
    return an->cut ? -1 : 0;
}

/* The response that Tarry makes for a call that got none. */
static int answer_make_problem(struct answer *an, enum problem p)
{
    struct exchange *ex = an->ex;
    struct str json = problem_json(&ex->arena, p, 0, ex->id);

    body_clear(&an->body);
    an->head = arena_alloc(&ex->arena, sizeof(*an->head));
    if (!json.p || !an->head ||
        problem_head(&ex->arena, p, 0, loop_wall_ms(), json, an->head) < 0 ||
        body_append(&an->body, json.p, json.n) < 0)
        return -1;
    head_remove(an->head, STR("content-length"));
    return 0;
}

int answer_finish(struct answer *an, enum problem p, const struct call *c)
{
    struct arena *a = &an->ex->arena;
    uint64_t ms = c ? call_elapsed_ms(c) : 0;
    struct buf out = { 0 };
    int rc = 0;

    if (p != PROBLEM_NONE && answer_make_problem(an, p) < 0)
        return -1;
    /* Answers to HEAD, 204 and 304 may announce a body that is not there. */
    rc |= head_add(
        an->head, a, STR("Content-Length"), arena_printf(a, "%" PRIu64, body_size(&an->body)));
    if (an->enclosed->call_id.p)
        rc |= head_add(an->head, a, STR("Tarry-Call-Id"), an->enclosed->call_id);
    rc |= head_add(an->head, a, STR("Tarry-Attempts"),
        arena_printf(a, "%u", c && call_attempts(c) ? call_attempts(c) : 1));
    rc |= head_add(an->head, a, STR("Tarry-Time"),
        arena_printf(a, "%" PRIu64 ".%03u", ms / 1000, (unsigned)(ms % 1000)));
    if (rc == 0)
        rc = h1_write_head(&out, H1_RESPONSE, an->head);
    if (rc == 0)
        an->text = arena_copy(a, buf_str(&out));
    buf_release(&out);
    return rc == 0 && an->text.p ? 0 : -1;
}

/* The call is over: its answer is made, and perhaps it was the last. */
static void answer_done(struct answer *an, enum problem p, const char *why)
{
    struct exchange *ex = an->ex;
    struct call *c = an->call;
    int rc = answer_finish(an, p, c);

    if (p != PROBLEM_NONE)
        log_warn(&ex->log, "call %zu to \"" STR_FMT "\" failed after %u attempt(s) (%s): %s",
            call_request(c)->index, STR_ARG(an->enclosed->upstream->name), call_attempts(c),
            problem_error(p), why);
    an->call = NULL;
    call_close(c);
    if (rc < 0)
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
    else
        park_answer_done(ex);
}

void answer_on_call(void *owner, struct call *c, const struct call_event *ev)
{
    struct answer *an = owner;

    switch (ev->kind) {
    case CALL_HEAD:
        if (answer_take_head(an, ev->head) < 0)
            answer_done(an, PROBLEM_INTERNAL, "out of memory");
        break;
    case CALL_DATA:
        if (answer_take_data(an, ev->data) < 0)
            answer_done(an, PROBLEM_CALL_TOO_LARGE, "the response is larger than response_max");
        break;
    case CALL_END:
        answer_done(an, PROBLEM_NONE, NULL);
        break;
    case CALL_FAILED:
        answer_done(an, ev->problem, ev->why);
        break;
    }
}
