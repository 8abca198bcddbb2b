/* Answers: the record of a response, and the response that stands for one that never came. */
#include "exchange/answer.h"

#include <inttypes.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/num.h"
#include "http/fields.h"
#include "http/h1write.h"
#include "net/loop.h"

/* A record that is cut stays cut: whoever asks for it looks at an->cut. */
static void answer_on_message(struct tap *t, const struct message *m)
{
    struct answer_tap *at = LIST_OWNER(t, struct answer_tap, tap);

    switch (m->kind) {
    case MESSAGE_HEAD:
        if (answer_take_head(at->answer, at->arena, m->head) < 0)
            at->answer->cut = ANSWER_CUT_STORAGE;
        break;
    case MESSAGE_DATA:
        answer_take_data(at->answer, m->data);
        break;
    case MESSAGE_END:
    case MESSAGE_FAILED:
        break;
    }
}

void answer_tap_init(struct answer_tap *t, struct answer *an, struct arena *a)
{
    *t = (struct answer_tap){ .tap.on_message = answer_on_message, .answer = an, .arena = a };
}

struct answer *answer_new(
    struct answers *all, struct arena *a, const struct conf *conf, const struct enclosed *e)
{
    struct answer *an = arena_alloc(a, sizeof(*an));

    if (!an)
        return NULL;
    if (all->n == all->room) {
        unsigned room = all->room ? all->room * 2 : 1;
        struct answer **more = arena_alloc(a, room * sizeof(*more));

        if (!more)
            return NULL;
        if (all->n > 0)
            memcpy(more, all->list, all->n * sizeof(*more));
        all->list = more;
        all->room = room;
    }
    an->enclosed = e;
    body_init(&an->body, conf->body_memory_max, conf->temp_dir.p);
    all->list[all->n++] = an;
    return an;
}

void answers_release(struct answers *all)
{
    for (size_t i = 0; i < all->n; i++)
        body_release(&all->list[i]->body);
}

int answer_take_head(struct answer *an, struct arena *a, const struct head *head)
{
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
    if (rc < 0)
        an->head = NULL;
    arena_release(&scratch);
    return rc;
}

int answer_take_data(struct answer *an, struct str data)
{
    size_t max = an->enclosed->upstream->response_max;
    uint64_t room = max - (body_size(&an->body) < max ? body_size(&an->body) : max);

    if (an->cut != ANSWER_WHOLE)
        return -1;
    if (data.n > room) {
        an->cut = ANSWER_CUT_LIMIT;
        data.n = (size_t)room;
    }
    if (body_append(&an->body, data.p, data.n) < 0)
        an->cut = ANSWER_CUT_STORAGE;
    return an->cut == ANSWER_WHOLE ? 0 : -1;
}

enum problem answer_problem(const struct answer *an)
{
    switch (an->cut) {
    case ANSWER_WHOLE:
        return PROBLEM_NONE;
    case ANSWER_CUT_LIMIT:
        return PROBLEM_CALL_TOO_LARGE;
    case ANSWER_CUT_STORAGE:
        break;
    }
    return PROBLEM_STORAGE;
}

/* The response that Tarry makes for a call that got none. */
static int answer_make_problem(
    struct answer *an, struct arena *a, const char *exchange, enum problem p)
{
    struct str json = problem_json(a, p, 0, exchange);

    /* The file may be full: a problem is small, and stays in memory. */
    body_clear(&an->body);
    if (an->body.mem_max < json.n)
        an->body.mem_max = json.n;
    an->head = arena_alloc(a, sizeof(*an->head));
    if (!json.p || !an->head || problem_head(a, p, 0, loop_wall_ms(), json, an->head) < 0 ||
        body_append(&an->body, json.p, json.n) < 0)
        return -1;
    head_remove(an->head, STR("content-length"));
    return 0;
}

struct answer_facts answer_facts_of(const struct call *c)
{
    return (struct answer_facts){
        .attempts = call_attempts(c),
        .elapsed_ms = call_elapsed_ms(c),
        .usage = call_usage(c),
        .times = call_times(c),
        .retry_after_s = call_retry_after_s(c),
    };
}

/* "input=9, output=7": what the service has said, and nothing else. */
static struct str answer_usage(struct arena *a, const struct llm_usage *u)
{
    const struct {
        unsigned char told;
        const char *name;
        uint32_t n;
    } counts[] = {
        { LLM_TOLD_INPUT, "input", u->input },
        { LLM_TOLD_OUTPUT, "output", u->output },
        { LLM_TOLD_CACHED, "cached", u->cached },
        { LLM_TOLD_REASONING, "reasoning", u->reasoning },
    };
    struct str text = STR("");

    for (size_t i = 0; i < sizeof(counts) / sizeof(*counts) && text.p; i++)
        if (u->told & counts[i].told)
            text = arena_printf(a, STR_FMT "%s%s=%" PRIu32, STR_ARG(text), text.n ? ", " : "",
                counts[i].name, counts[i].n);
    return text;
}

/* "sent=0.002, head=0.530, content=0.610": seconds since the call began; nothing for what was not.
 */
static struct str answer_times(struct arena *a, const struct call_times *t)
{
    const struct {
        const char *name;
        uint64_t ms;
    } times[] = { { "sent", t->sent }, { "head", t->head }, { "content", t->content } };
    struct str text = STR("");

    for (size_t i = 0; i < sizeof(times) / sizeof(*times) && text.p; i++)
        if (times[i].ms)
            text =
                arena_printf(a, STR_FMT "%s%s=%" PRIu64 ".%03u", STR_ARG(text), text.n ? ", " : "",
                    times[i].name, times[i].ms / 1000, (unsigned)(times[i].ms % 1000));
    return text;
}

int answer_add_facts(struct head *h, struct arena *a, const struct answer_facts *facts)
{
    uint64_t ms = facts->elapsed_ms;
    struct str usage = answer_usage(a, &facts->usage), times = answer_times(a, &facts->times);
    int rc = !usage.p || !times.p ? -1 : 0;

    rc |= head_add(
        h, a, STR("Tarry-Attempts"), arena_printf(a, "%u", facts->attempts ? facts->attempts : 1));
    if (usage.n)
        rc |= head_add(h, a, STR("Tarry-Usage"), usage);
    if (times.n)
        rc |= head_add(h, a, STR("Tarry-Times"), times);
    return rc | head_add(h, a, STR("Tarry-Time"),
                    arena_printf(a, "%" PRIu64 ".%03u", ms / 1000, (unsigned)(ms % 1000)));
}

int answer_finish(struct answer *an, struct arena *a, const char *exchange, enum problem p,
    const struct answer_facts *facts)
{
    struct buf out = { 0 };
    int rc = 0;

    if (p == PROBLEM_NONE && !an->head)
        p = PROBLEM_STORAGE;
    if (p != PROBLEM_NONE && answer_make_problem(an, a, exchange, p) < 0)
        return -1;
    if (p == PROBLEM_CALL_LIMIT && facts->retry_after_s)
        rc |= problem_retry_after(a, facts->retry_after_s, an->head);
    /* Answers to HEAD, 204 and 304 may announce a body that is not there. */
    rc |= head_add(
        an->head, a, STR("Content-Length"), arena_printf(a, "%" PRIu64, body_size(&an->body)));
    if (an->enclosed->call_id.p)
        rc |= head_add(an->head, a, STR("Tarry-Call-Id"), an->enclosed->call_id);
    rc |= answer_add_facts(an->head, a, facts);
    if (rc == 0)
        rc = h1_write_head(&out, H1_RESPONSE, an->head);
    if (rc == 0)
        an->text = arena_copy(a, buf_str(&out));
    buf_release(&out);
    return rc == 0 && an->text.p ? 0 : -1;
}
