/* A tally of calls, of which the marked events are retries. */
#include "upstream/budget.h"

#include "upstream/tally.h"

static struct tally *budget_tally(struct budget *b, uint64_t now_ms)
{
    /* The first words are those that verdicts have, so that a row is never taken for one. */
    return (struct tally *)(void *)(ledger_words(&b->place, now_ms) + LEDGER_WORDS - TALLY_CELLS);
}

void budget_init(struct budget *b, struct str upstream)
{
    struct siphash h = ledger_hash();

    siphash_add_field(&h, STR("budget"));
    siphash_add_field(&h, upstream);
    b->place = (struct ledger_place){ .id = siphash_end(&h) | 1 };
}

void budget_note_call(struct budget *b, const struct upstream_conf *policy, uint64_t now_ms)
{
    tally_add(budget_tally(b, now_ms), now_ms, policy->retry_budget_window_ms, 1, 0);
}

uint64_t budget_left(struct budget *b, const struct upstream_conf *policy, uint64_t now_ms)
{
    struct tally_sum s = tally_sum(budget_tally(b, now_ms), now_ms, policy->retry_budget_window_ms);
    uint64_t most = s.all * policy->retry_budget / 100;

    if (most < policy->retry_budget_min)
        most = policy->retry_budget_min;
    return most > s.marked ? most - s.marked : 0;
}

bool budget_take(struct budget *b, const struct upstream_conf *policy, uint64_t now_ms)
{
    if (budget_left(b, policy, now_ms) == 0)
        return false;
    tally_add(budget_tally(b, now_ms), now_ms, policy->retry_budget_window_ms, 0, 1);
    return true;
}
