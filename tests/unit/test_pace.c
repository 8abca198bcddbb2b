/* Silence and too low an average are too slow; everything else is not. */
#include "net/pace.h"

#include <stdlib.h>

#include "unit.h"

/* A peer that makes `bytes` progress every `step_ms`, for `rounds`. True: it kept up throughout. */
static bool goes_on(const struct pace_limits *l, uint64_t step_ms, uint64_t bytes, unsigned rounds)
{
    struct pace p;
    uint64_t now = 5000, total = 77;

    pace_begin(&p, now, total);
    for (unsigned i = 0; i < rounds; i++) {
        now += step_ms;
        total += bytes;
        if (!pace_keeps_up(&p, l, now, total))
            return false;
    }
    return true;
}

START_TEST(judges)
{
    static const struct {
        struct pace_limits limits;
        uint64_t step_ms, bytes;
        bool keeps_up;
    } rows[] = {
        { { 1000, 0, 0 }, 999, 1, true }, /* however little */
        { { 1000, 0, 0 }, 1500, 1, true },
        { { 1000, 0, 0 }, 999, 0, false },
        { { 0, 0, 0 }, 100000, 0, true },
        { { 1000, 100, 10000 }, 500, 50, true },
        { { 1000, 100, 10000 }, 500, 49, false },
        { { 1000, 100, 10000 }, 500, 1, false }, /* one byte just before each timeout */
        { { 0, 100, 10000 }, 5000, 0, false },
        { { 0, 100, 10000 }, 30000, 3000, true }, /* looked at later than the window's end */
        { { 0, 100, 10000 }, 30000, 2999, false },
        { { 0, 1, 3600000 }, 3600000, 3599, false },
        { { 0, 1, 3600000 }, 3600000, 3600, true },
        { { 0, UINT64_MAX, 1 }, 1, 1u << 30, false },
    };

    ck_assert_int_eq(
        goes_on(&rows[_i].limits, rows[_i].step_ms, rows[_i].bytes, 100), rows[_i].keeps_up);
}
END_TEST

START_TEST(gives_grace_at_first)
{
    struct pace_limits l = { 60000, 1000, 10000 };

    ck_assert(goes_on(&l, 9999, 1, 1));
    ck_assert(!goes_on(&l, 10000, 1, 1));
}
END_TEST

/* A burst pays for its own window only. */
START_TEST(begins_each_window_anew)
{
    struct pace_limits l = { 0, 100, 10000 };
    struct pace p;

    pace_begin(&p, 0, 0);
    ck_assert(pace_keeps_up(&p, &l, 10000, 1000000));
    ck_assert(pace_keeps_up(&p, &l, 19999, 1000001));
    ck_assert(!pace_keeps_up(&p, &l, 20000, 1000002));
}
END_TEST

START_TEST(says_when_to_look_again)
{
    struct pace_limits l = { 3000, 100, 10000 }, no_rate = { 3000, 0, 10000 }, none = { 0, 0, 0 };
    struct pace p;

    pace_begin(&p, 1000, 0);
    ck_assert_uint_eq(pace_next_ms(&p, &l, 1000), 3000);
    ck_assert(pace_keeps_up(&p, &l, 9000, 5000));
    ck_assert_uint_eq(pace_next_ms(&p, &l, 9000), 2000);
    ck_assert_uint_eq(pace_next_ms(&p, &no_rate, 9000), 3000);
    ck_assert_uint_eq(pace_next_ms(&p, &no_rate, 90000), 1); /* long due */
    ck_assert_uint_eq(pace_next_ms(&p, &none, 9000), UINT64_MAX);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("all");

    tcase_add_loop_test(t, judges, 0, 13);
    tcase_add_test(t, gives_grace_at_first);
    tcase_add_test(t, begins_each_window_anew);
    tcase_add_test(t, says_when_to_look_again);
    return t;
}

UNIT_MAIN("pace")
