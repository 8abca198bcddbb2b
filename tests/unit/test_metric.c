/* Metrics with labels: what a scrape shows, and that several processes add up. */
#include "observe/metric.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "observe/counter.h"
#include "unit.h"

static char *printed(bool openmetrics)
{
    static char text[256 << 10];
    struct buf b = { 0 };

    metric_print(&b, openmetrics);
    ck_assert_uint_lt(buf_len(&b), sizeof(text));
    memcpy(text, buf_str(&b).p, buf_len(&b));
    text[buf_len(&b)] = '\0';
    buf_release(&b);
    return text;
}

static void shows(const char *line)
{
    char *text = printed(false), *at = strstr(text, line);

    ck_assert_msg(at && (at == text || at[-1] == '\n') && at[strlen(line)] == '\n',
        "no line \"%s\" in:\n%s", line, text);
}

static void add(uint64_t n, const char *upstream, const char *outcome)
{
    metric_add(METRIC_UPSTREAM_CALLS, n, METRIC_LABELS(str_of(upstream), str_of(outcome)));
}

START_TEST(prints_each_series_under_its_metric)
{
    add(2, "chat", "2xx");
    add(1, "chat", "timeout");
    add(3, "chat", "2xx");
    metric_add(METRIC_RESPONSES, 0, METRIC_LABELS(STR("5xx")));
    shows("tarry_upstream_calls_total{upstream=\"chat\",outcome=\"2xx\"} 5");
    shows("tarry_upstream_calls_total{upstream=\"chat\",outcome=\"timeout\"} 1");
    shows("tarry_responses_total{class=\"5xx\"} 0");
    shows("# TYPE tarry_upstream_calls_total counter");
    ck_assert_uint_eq(
        metric_value(METRIC_UPSTREAM_CALLS, METRIC_LABELS(STR("chat"), STR("2xx"))), 5);
    ck_assert_uint_eq(
        metric_value(METRIC_UPSTREAM_CALLS, METRIC_LABELS(STR("chat"), STR("none"))), 0);
}
END_TEST

START_TEST(escapes_label_values)
{
    add(1, "a\"b\\c\nd", "x");
    shows("tarry_upstream_calls_total{upstream=\"a\\\"b\\\\c?d\",outcome=\"x\"} 1");
}
END_TEST

START_TEST(prints_histograms_in_seconds)
{
    metric_observe(METRIC_QUEUE_SECONDS, 1000, METRIC_LABELS(STR("app")));
    metric_observe(METRIC_QUEUE_SECONDS, 1001, METRIC_LABELS(STR("app")));
    metric_observe(METRIC_QUEUE_SECONDS, 4000000000, METRIC_LABELS(STR("app")));
    shows("# TYPE tarry_queue_wait_seconds histogram");
    shows("tarry_queue_wait_seconds_bucket{pool=\"app\",le=\"0.001\"} 1");
    shows("tarry_queue_wait_seconds_bucket{pool=\"app\",le=\"0.005\"} 2");
    shows("tarry_queue_wait_seconds_bucket{pool=\"app\",le=\"600.0\"} 2");
    shows("tarry_queue_wait_seconds_bucket{pool=\"app\",le=\"+Inf\"} 3");
    shows("tarry_queue_wait_seconds_sum{pool=\"app\"} 4000.002001");
    shows("tarry_queue_wait_seconds_count{pool=\"app\"} 3");
    ck_assert_uint_eq(metric_value(METRIC_QUEUE_SECONDS, METRIC_LABELS(STR("app"))), 3);
}
END_TEST

START_TEST(prints_seconds)
{
    metric_add(METRIC_PARKED, 1500000, METRIC_LABELS(STR("app")));
    metric_add(METRIC_PARKED, 1, METRIC_LABELS(STR("app")));
    shows("tarry_parked_seconds_total{pool=\"app\"} 1.500001");
}
END_TEST

START_TEST(openmetrics_names_the_family_without_total)
{
    add(1, "chat", "2xx");
    ck_assert_ptr_nonnull(strstr(printed(true), "# TYPE tarry_upstream_calls counter\n"));
    ck_assert_ptr_nonnull(strstr(printed(true), "# TYPE tarry_requests counter\n"));
    ck_assert_ptr_nonnull(strstr(printed(true), "\ntarry_requests_total 0\n"));
}
END_TEST

/* Runs `fn` in a process that writes to `slot`. */
static void in_process(size_t slot, void (*fn)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        metric_use_slot(slot);
        fn();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

static void one_request(void)
{
    counter_add(COUNTER_REQUESTS, 1);
    add(1, "chat", "2xx");
    metric_set(METRIC_CLIENT_CONNECTIONS, 3, NULL);
}

START_TEST(sums_processes_and_never_runs_backwards)
{
    counter_add(COUNTER_REQUESTS, 1); /* before the memory is shared */
    ck_assert_int_eq(metric_share(3), 0);
    in_process(1, one_request);
    in_process(2, one_request);
    shows("tarry_requests_total 3");
    shows("tarry_upstream_calls_total{upstream=\"chat\",outcome=\"2xx\"} 2");
    shows("tarry_client_connections_open 6");

    /* The second one has died: its connections are gone, its counters are not. */
    metric_clear_gauges(2);
    shows("tarry_requests_total 3");
    shows("tarry_client_connections_open 3");
    in_process(2, one_request);
    shows("tarry_requests_total 4");
    shows("tarry_upstream_calls_total{upstream=\"chat\",outcome=\"2xx\"} 3");
    shows("tarry_client_connections_open 6");
    /* This process uses the series that the others have made. */
    add(1, "chat", "2xx");
    shows("tarry_upstream_calls_total{upstream=\"chat\",outcome=\"2xx\"} 4");
}
END_TEST

START_TEST(refuses_series_beyond_the_table)
{
    char name[32];

    for (unsigned i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "upstream%u", i);
        add(1, name, "2xx");
    }
    ck_assert_uint_gt(counter_values[COUNTER_SERIES_REFUSED], 0);
    ck_assert_uint_lt(counter_values[COUNTER_SERIES_REFUSED], 5000);
    add(1, "upstream0", "2xx");
    ck_assert_uint_eq(
        metric_value(METRIC_UPSTREAM_CALLS, METRIC_LABELS(STR("upstream0"), STR("2xx"))), 2);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("metric");

    tcase_add_test(t, prints_each_series_under_its_metric);
    tcase_add_test(t, escapes_label_values);
    tcase_add_test(t, prints_histograms_in_seconds);
    tcase_add_test(t, prints_seconds);
    tcase_add_test(t, openmetrics_names_the_family_without_total);
    tcase_add_test(t, sums_processes_and_never_runs_backwards);
    tcase_add_test(t, refuses_series_beyond_the_table);
    return t;
}

UNIT_MAIN("metric")
