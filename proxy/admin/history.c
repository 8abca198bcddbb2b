/* Each process keeps its own, from the sums that all share. */
#include "admin/history.h"

#include <string.h>

#include "base/str.h"
#include "observe/metric.h"

enum { SERIES = 3 };

/* Counts at the end of the last step. */
struct history_sums {
    uint64_t responses, failed;
    uint64_t buckets[SERIES][METRIC_BUCKETS];
};

static struct {
    struct history_point points[HISTORY_POINTS];
    struct history_sums last;
    size_t first, n;
    unsigned seconds;
} history;

uint64_t history_quantile_us(const uint64_t *buckets, double q)
{
    uint64_t all = 0, below = 0;
    double rank;

    for (size_t i = 0; i < METRIC_BUCKETS; i++)
        all += buckets[i];
    if (all == 0)
        return 0;
    rank = q * (double)all;
    for (size_t i = 0; i < METRIC_BUCKETS; i++) {
        uint64_t from = i > 0 ? metric_bound_us(i - 1) : 0, to = metric_bound_us(i);

        if (to == UINT64_MAX) /* the last bucket has no end to draw a line to */
            return from;
        if (buckets[i] > 0 && (double)(below + buckets[i]) >= rank)
            return from +
                   (uint64_t)((double)(to - from) * (rank - (double)below) / (double)buckets[i]);
        below += buckets[i];
    }
    return 0;
}

static void history_read(struct history_sums *s)
{
    static const enum metric of[SERIES] = { METRIC_UPSTREAM_FIRST_CONTENT, METRIC_UPSTREAM_SECONDS,
        METRIC_QUEUE_SECONDS };

    s->responses = metric_total(METRIC_RESPONSES);
    s->failed = metric_value(METRIC_RESPONSES, METRIC_LABELS(STR("5xx")));
    for (size_t i = 0; i < SERIES; i++)
        metric_histogram(of[i], s->buckets[i]);
}

/* Sums never run backwards; but a process that has just died may take an observation with it. */
static uint64_t history_more(uint64_t now, uint64_t before)
{
    return now > before ? now - before : 0;
}

static uint64_t history_ms(const struct history_sums *now, size_t series, double q)
{
    uint64_t step[METRIC_BUCKETS];

    for (size_t i = 0; i < METRIC_BUCKETS; i++)
        step[i] = history_more(now->buckets[series][i], history.last.buckets[series][i]);
    return history_quantile_us(step, q) / 1000;
}

static uint64_t history_exchanges(struct str state)
{
    return metric_value(METRIC_EXCHANGES, METRIC_LABELS(state, STR("")));
}

void history_begin(void)
{
    history_read(&history.last);
}

void history_tick(uint64_t wall_ms)
{
    struct history_sums now;
    struct history_point *p;

    if (++history.seconds < HISTORY_STEP_S)
        return;
    history.seconds = 0;
    history_read(&now);
    p = &history.points[(history.first + history.n) % HISTORY_POINTS];
    if (history.n < HISTORY_POINTS)
        history.n++;
    else
        history.first = (history.first + 1) % HISTORY_POINTS;
    *p = (struct history_point){
        .wall_ms = wall_ms,
        .requests = history_more(now.responses, history.last.responses),
        .failed = history_more(now.failed, history.last.failed),
        .parked = history_exchanges(STR("parked")),
        .busy = history_exchanges(STR("visiting")),
        .queued = history_exchanges(STR("queued")),
        .first_content_p50 = history_ms(&now, 0, 0.5),
        .first_content_p95 = history_ms(&now, 0, 0.95),
        .call_p50 = history_ms(&now, 1, 0.5),
        .call_p95 = history_ms(&now, 1, 0.95),
        .queue_p95 = history_ms(&now, 2, 0.95),
    };
    history.last = now;
}

size_t history_count(void)
{
    return history.n;
}

const struct history_point *history_point(size_t i)
{
    return &history.points[(history.first + i) % HISTORY_POINTS];
}
