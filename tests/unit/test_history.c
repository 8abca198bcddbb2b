/* The lines of the dashboard: quantiles of histograms, and what happened in each step. */
#include "admin/history.h"

#include "observe/metric.h"
#include "unit.h"

START_TEST(quantiles_lie_within_their_bucket)
{
    uint64_t buckets[METRIC_BUCKETS] = { 0 };

    ck_assert_uint_eq(history_quantile_us(buckets, 0.5), 0);
    buckets[3] = 100; /* from 10 to 25 ms */
    ck_assert_uint_gt(history_quantile_us(buckets, 0.01), metric_bound_us(2));
    ck_assert_uint_eq(history_quantile_us(buckets, 1), metric_bound_us(3));
    ck_assert_uint_eq(
        history_quantile_us(buckets, 0.5), (metric_bound_us(2) + metric_bound_us(3)) / 2);
    buckets[METRIC_BUCKETS - 1] = 300; /* beyond all bounds: no less than the last */
    ck_assert_uint_eq(history_quantile_us(buckets, 0.9), metric_bound_us(METRIC_BUCKETS - 2));
}
END_TEST

static void step(uint64_t wall_ms)
{
    for (int i = 0; i < HISTORY_STEP_S; i++)
        history_tick(wall_ms);
}

START_TEST(a_step_has_what_happened_in_it)
{
    metric_add(METRIC_RESPONSES, 7, METRIC_LABELS(STR("2xx")));
    history_begin(); /* what was before does not count */
    metric_add(METRIC_RESPONSES, 5, METRIC_LABELS(STR("2xx")));
    metric_add(METRIC_RESPONSES, 2, METRIC_LABELS(STR("5xx")));
    for (int i = 0; i < 10; i++)
        metric_observe(METRIC_UPSTREAM_SECONDS, 2000000, METRIC_LABELS(STR("up")));
    step(1000);
    step(6000);
    ck_assert_uint_eq(history_count(), 2);
    ck_assert_uint_eq(history_point(0)->wall_ms, 1000);
    ck_assert_uint_eq(history_point(0)->requests, 7);
    ck_assert_uint_eq(history_point(0)->failed, 2);
    ck_assert_uint_gt(history_point(0)->call_p50, 1000);
    ck_assert_uint_eq(history_point(1)->requests, 0);
    ck_assert_uint_eq(history_point(1)->call_p50, 0);
}
END_TEST

START_TEST(the_oldest_steps_go)
{
    for (uint64_t i = 1; i <= HISTORY_POINTS + 3; i++)
        step(i);
    ck_assert_uint_eq(history_count(), HISTORY_POINTS);
    ck_assert_uint_eq(history_point(0)->wall_ms, 4);
    ck_assert_uint_eq(history_point(HISTORY_POINTS - 1)->wall_ms, HISTORY_POINTS + 3);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("history");

    tcase_add_test(t, quantiles_lie_within_their_bucket);
    tcase_add_test(t, a_step_has_what_happened_in_it);
    tcase_add_test(t, the_oldest_steps_go);
    return t;
}

UNIT_MAIN("history")
