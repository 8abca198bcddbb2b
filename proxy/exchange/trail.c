/* Phases, labels, and the place in a trace. */
#include "exchange/trail.h"

#include <string.h>

#include "base/entropy.h"
#include "net/loop.h"

enum { FIRST_ROOM = 6 };

const char *phase_name(enum phase_kind k)
{
    static const char *const names[PHASE_COUNT] = { "read", "queue", "visit", "parked", "answer",
        "tunnel", "notify", "attempt" };

    return names[k];
}

/* Makes room for one phase more. */
static bool trail_grow(struct trail *t)
{
    size_t room = t->room ? t->room * 2 : FIRST_ROOM;
    struct phase *more;

    if (t->nphases < t->room)
        return true;
    if (room > TRAIL_PHASES_MAX)
        room = TRAIL_PHASES_MAX;
    if (room <= t->nphases)
        return false;
    more = arena_alloc(t->arena, room * sizeof(*more));
    if (!more)
        return false;
    if (t->nphases > 0)
        memcpy(more, t->phases, t->nphases * sizeof(*more));
    t->phases = more;
    t->room = (uint8_t)room;
    return true;
}

int trail_add(struct trail *t, const struct phase *p)
{
    if (!t || !t->detailed || !trail_grow(t))
        return -1;
    t->phases[t->nphases] = *p;
    return t->nphases++;
}

int trail_begin_attempt(struct trail *t, const struct str *endpoint)
{
    struct phase p = { .kind = PHASE_ATTEMPT, .name = endpoint };

    if (!t || !t->detailed)
        return -1;
    p.began_us = loop_precise_us();
    p.number = ++t->attempts;
    return trail_add(t, &p);
}

void trail_note(struct trail *t, int place, uint16_t status, const char *error)
{
    if (!t || place < 0)
        return;
    if (status)
        t->phases[place].status = status;
    t->phases[place].error = error;
}

void trail_end(struct trail *t, int place, uint64_t ended_us)
{
    if (t && place >= 0 && t->phases[place].ended_us == 0)
        t->phases[place].ended_us = ended_us;
}

static struct str trail_copy(struct trail *t, struct str s, size_t max)
{
    return s.n > 0 ? arena_copy(t->arena, str_make(s.p, s.n < max ? s.n : max)) : (struct str){ 0 };
}

void trail_take_label(struct trail *t, const struct head *response)
{
    struct str label;

    if (!t)
        return;
    label = head_value(response, STR("tarry-label"));
    if (label.n > 0 && !str_eq(label, t->label))
        t->label = trail_copy(t, label, TRAIL_LABEL_MAX);
}

void trail_take_service_id(struct trail *t, const struct head *answer)
{
    static const struct str names[] = { STR_INIT("x-request-id"), STR_INIT("request-id"),
        STR_INIT("apim-request-id"), STR_INIT("x-amzn-requestid"), STR_INIT("x-goog-request-id") };

    if (!t)
        return;
    t->service_id = (struct str){ 0 };
    for (size_t i = 0; i < sizeof(names) / sizeof(*names) && t->service_id.n == 0; i++)
        t->service_id = trail_copy(t, head_value(answer, names[i]), TRAIL_SERVICE_ID_MAX);
}

/* ---- traces ---- */

static bool trail_draw(const struct tracing_conf *conf)
{
    return conf->one_in <= 1 || entropy_below(conf->one_in) == 0;
}

int trail_begin_trace(
    struct trail *t, const struct tracing_conf *conf, struct head *request, bool follow)
{
    struct str given = head_value(request, STR("traceparent"));
    struct trace_context from;
    char text[TRACE_PARENT_LEN + 1];
    struct str value;

    t->trace = arena_alloc(t->arena, sizeof(*t->trace));
    if (!t->trace)
        return -1;
    if (head_count(request, STR("traceparent")) == 1 && trace_parse(given, &from)) {
        t->trace->own = from;
        memcpy(t->trace->parent, from.span, sizeof(from.span));
        if (!follow)
            t->trace->own.sampled = trail_draw(conf);
    } else {
        entropy_fill(t->trace->own.trace, TRACE_ID_BYTES);
        t->trace->own.sampled = trail_draw(conf);
        head_remove(request, STR("tracestate")); /* it belongs to a traceparent */
    }
    entropy_fill(t->trace->own.span, TRACE_SPAN_BYTES);
    t->detailed = t->detailed || t->trace->own.sampled;
    trace_write(&t->trace->own, text);
    value = arena_copy(t->arena, str_of(text));
    return value.p ? head_set(request, t->arena, STR("traceparent"), value) : -1;
}

/* splitmix64: different for each phase, and never zero in practice. */
void trail_span(const struct trail *t, enum phase_kind kind, unsigned number,
    unsigned char out[TRACE_SPAN_BYTES])
{
    uint64_t z;

    memcpy(&z, t->trace->own.span, sizeof(z));
    z += UINT64_C(0x9e3779b97f4a7c15) * (1 + kind + (uint64_t)number * PHASE_COUNT);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    memcpy(out, &z, sizeof(z));
}
