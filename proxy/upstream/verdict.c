/* The words of a row. Each is changed by one atomic operation, and any of them alone is sound. */
#include "upstream/verdict.h"

#include "base/procid.h"

/* Times are of the monotonic clock, which all processes of a machine share. */
struct verdict_words {
    uint64_t kind;            /* enum verdict_kind */
    uint64_t rest_until_ms;   /* 0: it does not rest */
    uint64_t out_until_ms;    /* 0: it is not out */
    uint64_t broken_until_ms; /* 0: the breaker is closed */
    uint64_t probe;           /* the process (procid.h) whose call is the probe; 0: none */
    uint64_t paused;          /* of an endpoint with any key: 1 */
    struct tally calls;
};
_Static_assert(sizeof(struct verdict_words) <= LEDGER_WORDS * sizeof(uint64_t), "it has to fit");

enum verdict_kind { KIND_NONE, KIND_KEY, KIND_HAND };

/* How often to look whether a probe, or an operator's pause, has ended. */
enum { LOOK_AGAIN_MS = 1000 };

const char *verdict_state_name(enum verdict_state s)
{
    static const char *const names[VERDICT_NSTATES] = { [VERDICT_READY] = "ready",
        [VERDICT_RESTING] = "resting",
        [VERDICT_BROKEN] = "broken",
        [VERDICT_PROBING] = "probing",
        [VERDICT_OUT] = "out",
        [VERDICT_PAUSED] = "paused" };

    return names[s];
}

static uint64_t verdict_load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void verdict_store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static bool verdict_swap(uint64_t *word, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static struct verdict_words *verdict_words(struct ledger_place *p, uint64_t now_ms)
{
    return (struct verdict_words *)(void *)ledger_words(p, now_ms);
}

/* ---- names ---- */

static uint64_t verdict_hand_id(struct str upstream, const struct endpoint_conf *e)
{
    struct siphash h = ledger_hash();

    siphash_add_field(&h, STR("hand"));
    siphash_add_field(&h, upstream);
    siphash_add_field(&h, e->name);
    return siphash_end(&h) | 1;
}

static uint64_t verdict_key_id(struct str upstream, const struct endpoint_conf *e)
{
    struct siphash h = ledger_hash();

    siphash_add_field(&h, STR("key"));
    siphash_add_field(&h, upstream);
    siphash_add_field(&h, e->name);
    siphash_add_field(&h, e->origin);
    for (size_t i = 0; i < e->nset_header; i++) {
        siphash_add_field(&h, e->set_header[i].name);
        siphash_add_field(&h, e->set_header[i].value);
    }
    return siphash_end(&h) | 1;
}

void verdict_init(struct verdict *v, struct str upstream, const struct endpoint_conf *e)
{
    v->place = (struct ledger_place){ .id = verdict_key_id(upstream, e) };
    v->hand = (struct ledger_place){ .id = verdict_hand_id(upstream, e) };
}

bool verdict_is_of(const struct verdict *v, struct str upstream, const struct endpoint_conf *e)
{
    return v->place.id == verdict_key_id(upstream, e);
}

/* ---- looking ---- */

static uint64_t verdict_until(uint64_t at_ms, uint64_t now_ms)
{
    return at_ms > now_ms ? at_ms - now_ms : 0;
}

static uint64_t verdict_look_again(const struct upstream_conf *policy)
{
    return policy->breaker_pause_ms < LOOK_AGAIN_MS ? policy->breaker_pause_ms : LOOK_AGAIN_MS;
}

struct verdict_view verdict_view(
    struct verdict *v, const struct upstream_conf *policy, uint64_t now_ms)
{
    const struct verdict_words *w = verdict_words(&v->place, now_ms);
    uint64_t out = verdict_until(verdict_load(&w->out_until_ms), now_ms);
    uint64_t rest = verdict_until(verdict_load(&w->rest_until_ms), now_ms);
    uint64_t broken_until = verdict_load(&w->broken_until_ms);
    uint64_t broken = verdict_until(broken_until, now_ms);

    if (verdict_load(&verdict_words(&v->hand, now_ms)->paused))
        return (struct verdict_view){ VERDICT_PAUSED, LOOK_AGAIN_MS };
    if (out > 0)
        return (struct verdict_view){ VERDICT_OUT, out };
    if (broken > rest)
        return (struct verdict_view){ VERDICT_BROKEN, broken };
    if (rest > 0)
        return (struct verdict_view){ VERDICT_RESTING, rest };
    if (broken_until && verdict_load(&w->probe))
        return (struct verdict_view){ VERDICT_PROBING, verdict_look_again(policy) };
    /* A broken one whose pause is over: the next call is the probe. */
    return (struct verdict_view){ VERDICT_READY, 0 };
}

/* ---- calls ---- */

enum verdict_admission verdict_admit(struct verdict *v, uint64_t now_ms)
{
    struct verdict_words *w = verdict_words(&v->place, now_ms);
    uint64_t broken_until = verdict_load(&w->broken_until_ms), me = procid_self();

    if (broken_until == 0)
        return VERDICT_ADMITTED;
    if (now_ms < broken_until || !verdict_swap(&w->probe, 0, me))
        return VERDICT_REFUSED;
    /* Another process's probe may have ended in between. */
    if (verdict_load(&w->broken_until_ms) == broken_until)
        return VERDICT_IS_PROBE;
    verdict_swap(&w->probe, me, 0);
    return verdict_load(&w->broken_until_ms) == 0 ? VERDICT_ADMITTED : VERDICT_REFUSED;
}

static void verdict_rest(struct verdict_words *w, uint64_t until_ms)
{
    uint64_t old = verdict_load(&w->rest_until_ms);

    while (old < until_ms && !__atomic_compare_exchange_n(&w->rest_until_ms, &old, until_ms, false,
                                 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
}

static bool verdict_is_too_much(struct tally_sum s, const struct upstream_conf *policy)
{
    return s.marked >= policy->breaker_failures && s.marked * 100 >= s.all * policy->breaker_rate;
}

static enum verdict_change verdict_served(struct verdict_words *w,
    const struct upstream_conf *policy, const struct verdict_report *r, uint64_t now_ms)
{
    uint64_t out_until = verdict_load(&w->out_until_ms);
    uint64_t broken_until = verdict_load(&w->broken_until_ms);

    tally_add(&w->calls, now_ms, policy->breaker_window_ms, 1, 0);
    if (r->probe && broken_until) {
        tally_clear(&w->calls);
        if (verdict_swap(&w->broken_until_ms, broken_until, 0))
            return VERDICT_RECOVERED;
    }
    /* A call that began before says nothing about the key now. */
    if (out_until > 0 && r->began_ms + policy->out_pause_ms > out_until &&
        verdict_swap(&w->out_until_ms, out_until, 0) && out_until > now_ms)
        return VERDICT_CAME_BACK;
    return VERDICT_SAME;
}

static enum verdict_change verdict_failed(struct verdict_words *w,
    const struct upstream_conf *policy, const struct verdict_report *r, uint64_t now_ms)
{
    tally_add(&w->calls, now_ms, policy->breaker_window_ms, 1, 1);
    if (r->probe) {
        verdict_store(&w->broken_until_ms, now_ms + policy->breaker_pause_ms);
        return VERDICT_SAME;
    }
    if (verdict_is_too_much(tally_sum(&w->calls, now_ms, policy->breaker_window_ms), policy) &&
        verdict_swap(&w->broken_until_ms, 0, now_ms + policy->breaker_pause_ms))
        return VERDICT_BROKE;
    return VERDICT_SAME;
}

static enum verdict_change verdict_denied(
    struct verdict_words *w, const struct upstream_conf *policy, uint64_t now_ms)
{
    uint64_t old = verdict_load(&w->out_until_ms);
    bool first = verdict_swap(&w->out_until_ms, old, now_ms + policy->out_pause_ms);

    return first && old <= now_ms ? VERDICT_WENT_OUT : VERDICT_SAME;
}

enum verdict_change verdict_report(struct verdict *v, const struct upstream_conf *policy,
    const struct verdict_report *r, uint64_t now_ms)
{
    struct verdict_words *w = verdict_words(&v->place, now_ms);
    enum verdict_change change = VERDICT_SAME;

    verdict_store(&w->kind, KIND_KEY);
    if (r->rest_ms)
        verdict_rest(w, now_ms + r->rest_ms);
    switch (r->outcome) {
    case VERDICT_SERVED:
        change = verdict_served(w, policy, r, now_ms);
        break;
    case VERDICT_NEUTRAL:
        break;
    case VERDICT_FAILED:
        change = verdict_failed(w, policy, r, now_ms);
        break;
    case VERDICT_DENIED:
        change = verdict_denied(w, policy, now_ms);
        break;
    }
    /* Last, when the breaker says what follows. */
    if (r->probe)
        verdict_swap(&w->probe, procid_self(), 0);
    return change;
}

void verdict_pause(struct verdict *v, bool paused, uint64_t now_ms)
{
    struct verdict_words *w = verdict_words(&v->hand, now_ms);

    verdict_store(&w->kind, KIND_HAND);
    verdict_store(&w->paused, paused);
}

struct tally_sum verdict_calls(
    struct verdict *v, const struct upstream_conf *policy, uint64_t now_ms)
{
    return tally_sum(&verdict_words(&v->place, now_ms)->calls, now_ms, policy->breaker_window_ms);
}

static void verdict_forget_probe(void *owner, uint64_t *words)
{
    struct verdict_words *w = (struct verdict_words *)(void *)words;
    uint64_t probe;

    (void)owner;
    if (verdict_load(&w->kind) != KIND_KEY)
        return;
    probe = verdict_load(&w->probe);
    if (probe && procid_is_dead(probe))
        verdict_swap(&w->probe, probe, 0);
}

void verdict_forget_dead(void)
{
    ledger_each(verdict_forget_probe, NULL);
}
