/* How much of a nuisance is put up with. */
#include "http/h2guard.h"

#include "unit.h"

enum { WINDOW_MS = 30000 };

static const struct h2_guard_limits limits = {
    .max = { 100, 100, 100, 100, 100, 100 }, .window_ms = WINDOW_MS, .tiny_write = 256
};

static bool count(struct h2_guard *g, enum h2_abuse what, unsigned n, uint64_t now_ms)
{
    bool over = false;

    for (unsigned i = 0; i < n; i++)
        over |= h2_guard_count(g, &limits, what, now_ms);
    return over;
}

START_TEST(takes_a_burst_and_no_more)
{
    struct h2_guard g = { 0 };

    ck_assert(!count(&g, (enum h2_abuse)_i, 100, 5000));
    ck_assert(count(&g, (enum h2_abuse)_i, 1, 5000));
}
END_TEST

START_TEST(forgives_with_time)
{
    struct h2_guard g = { 0 };

    ck_assert(!count(&g, H2_RESETS, 100, 1000));
    ck_assert(!count(&g, H2_RESETS, 49, 1000 + WINDOW_MS / 2));
    ck_assert(count(&g, H2_RESETS, 2, 1000 + WINDOW_MS / 2));
    ck_assert(!count(&g, H2_RESETS, 100, 1000 + 9 * (uint64_t)WINDOW_MS));
}
END_TEST

START_TEST(stays_below_a_steady_rate_for_ever) /* three a second, of 100 in half a minute */
{
    struct h2_guard g = { 0 };
    uint64_t now = 1;

    for (unsigned i = 0; i < 10000; i++, now += 334)
        ck_assert(!count(&g, H2_CONTROLS, 1, now));
    for (unsigned i = 0; i < 10000; i++, now += 250)
        if (count(&g, H2_CONTROLS, 1, now))
            return;
    ck_abort_msg("four a second go on for ever");
}
END_TEST

START_TEST(counts_each_kind_for_itself)
{
    struct h2_guard g = { 0 };

    for (int i = 0; i < H2_NABUSES; i++)
        ck_assert(!count(&g, (enum h2_abuse)i, 90, 1000));
    ck_assert(count(&g, H2_EMPTIES, 11, 1000));
}
END_TEST

START_TEST(expects_window_updates_for_what_was_written)
{
    struct h2_guard g = { 0 };

    for (unsigned i = 0; i < 10000; i++) {
        h2_guard_wrote(&g, &limits, 1);
        ck_assert(!count(&g, H2_UPDATES, H2_GUARD_UPDATES_A_WRITE, 1000));
    }
    for (unsigned i = 0; i < 100000; i++) /* no more than a share of it is put aside */
        h2_guard_wrote(&g, &limits, 1);
    ck_assert(!count(&g, H2_UPDATES, H2_GUARD_UPDATES_AHEAD + 100, 1000));
    ck_assert(count(&g, H2_UPDATES, 1, 1000));
}
END_TEST

START_TEST(a_window_that_ends_within_a_write_is_no_tiny_one)
{
    struct h2_guard g = { 0 };

    for (unsigned i = 0; i < 1000; i++) {
        ck_assert(!count(&g, H2_TINY, 2, 1000));
        h2_guard_wrote(&g, &limits, 1);
        h2_guard_wrote(&g, &limits, 1024);
    }
    ck_assert(count(&g, H2_TINY, 101, 1000));
}
END_TEST

START_TEST(has_words_for_each)
{
    ck_assert_str_eq(h2_abuse_name(H2_RESETS), "too many stream resets");
    for (int i = 0; i < H2_NABUSES; i++)
        ck_assert_ptr_nonnull(h2_abuse_name((enum h2_abuse)i));
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("h2guard");

    tcase_add_loop_test(t, takes_a_burst_and_no_more, 0, H2_NABUSES);
    tcase_add_test(t, forgives_with_time);
    tcase_add_test(t, stays_below_a_steady_rate_for_ever);
    tcase_add_test(t, counts_each_kind_for_itself);
    tcase_add_test(t, expects_window_updates_for_what_was_written);
    tcase_add_test(t, a_window_that_ends_within_a_write_is_no_tiny_one);
    tcase_add_test(t, has_words_for_each);
    return t;
}

UNIT_MAIN("h2guard")
