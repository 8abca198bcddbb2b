/* How many retries there are for how many calls. */
#include "upstream/budget.h"

#include "unit.h"

static const struct upstream_conf policy = {
    .retry_budget = 50, .retry_budget_min = 3, .retry_budget_window_ms = 8000
};
static uint64_t now = 1000000;

static unsigned take_all(struct budget *b)
{
    unsigned n = 0;

    while (budget_take(b, &policy, now))
        n++;
    return n;
}

static const struct {
    unsigned calls, retries;
} shares[] = { { 0, 3 }, { 5, 3 }, { 8, 4 }, { 100, 50 } };

START_TEST(retries_are_a_share_of_calls_but_some_are_free)
{
    struct budget b;

    budget_init(&b, STR("up"));
    for (unsigned i = 0; i < shares[_i].calls; i++)
        budget_note_call(&b, &policy, now);
    ck_assert_uint_eq(take_all(&b), shares[_i].retries);
    ck_assert_uint_eq(budget_left(&b, &policy, now), 0);
    now += policy.retry_budget_window_ms;
    ck_assert_uint_eq(take_all(&b), 3);
}
END_TEST

START_TEST(upstreams_have_their_own)
{
    struct budget a, b, same;

    budget_init(&a, STR("a"));
    budget_init(&b, STR("b"));
    budget_init(&same, STR("a"));
    ck_assert_uint_eq(take_all(&a), 3);
    ck_assert_uint_eq(take_all(&same), 0);
    ck_assert_uint_eq(take_all(&b), 3);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("budget");

    tcase_add_loop_test(t, retries_are_a_share_of_calls_but_some_are_free, 0, COUNT_OF(shares));
    tcase_add_test(t, upstreams_have_their_own);
    return t;
}

UNIT_MAIN("budget")
