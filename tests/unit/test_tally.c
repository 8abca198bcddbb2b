/* A window that slides, and many processes that count in it. */
#include "upstream/tally.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

enum { WINDOW = 8000, STEP = WINDOW / TALLY_CELLS };

static const uint64_t now = UINT64_C(123456) * STEP; /* a step begins */

static void is(const struct tally *t, uint64_t at, uint64_t all, uint64_t marked)
{
    struct tally_sum s = tally_sum(t, at, WINDOW);

    ck_assert_uint_eq(s.all, all);
    ck_assert_uint_eq(s.marked, marked);
}

START_TEST(forgets_what_is_older_than_the_window)
{
    struct tally t = { { 0 } };

    is(&t, now, 0, 0);
    tally_add(&t, now, WINDOW, 1, 1);
    tally_add(&t, now + 4 * STEP, WINDOW, 1, 0);
    is(&t, now + 4 * STEP, 2, 1);
    is(&t, now + 7 * STEP, 2, 1);
    is(&t, now + 8 * STEP, 1, 0);
    is(&t, now + 11 * STEP, 1, 0);
    is(&t, now + 12 * STEP, 0, 0);
}
END_TEST

START_TEST(counts_again_where_an_old_step_was)
{
    struct tally t = { { 0 } };

    tally_add(&t, now, WINDOW, 5, 5);
    tally_add(&t, now + WINDOW, WINDOW, 1, 0);
    is(&t, now + WINDOW, 1, 0);
    tally_clear(&t);
    is(&t, now + WINDOW, 0, 0);
}
END_TEST

/* In the first milliseconds of a machine there are no older steps. */
START_TEST(begins_at_zero)
{
    struct tally t = { { 0 } };

    is(&t, 0, 0, 0);
    tally_add(&t, 0, WINDOW, 2, 1);
    is(&t, 0, 2, 1);
    is(&t, WINDOW, 0, 0);
}
END_TEST

START_TEST(keeps_the_proportion_beyond_its_bounds)
{
    struct tally t = { { 0 } };
    struct tally_sum s;

    for (int i = 0; i < 3000; i++)
        tally_add(&t, now, WINDOW, 1000, 250);
    s = tally_sum(&t, now, WINDOW);
    ck_assert_uint_ge(s.all, 500000);
    ck_assert_uint_le(s.marked * 4, s.all + 4000);
    ck_assert_uint_ge(s.marked * 4 + 4000, s.all);
}
END_TEST

START_TEST(many_processes_lose_nothing)
{
    enum { PROCESSES = 8, EVENTS = 20000 };
    struct tally *t =
        mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0) {
            for (int k = 0; k < EVENTS; k++)
                tally_add(t, now + (uint64_t)(k % 4) * STEP, WINDOW, 1, k % 2);
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    is(t, now + 3 * STEP, PROCESSES * EVENTS, PROCESSES * EVENTS / 2);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("tally");

    tcase_add_test(t, forgets_what_is_older_than_the_window);
    tcase_add_test(t, counts_again_where_an_old_step_was);
    tcase_add_test(t, begins_at_zero);
    tcase_add_test(t, keeps_the_proportion_beyond_its_bounds);
    tcase_add_test(t, many_processes_lose_nothing);
    return t;
}

UNIT_MAIN("tally")
