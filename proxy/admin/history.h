/* The last ten minutes in steps of five seconds, of all serving processes together: for the lines
 * of the dashboard. */
#ifndef TARRY_ADMIN_HISTORY_H
#define TARRY_ADMIN_HISTORY_H

#include <stddef.h>
#include <stdint.h>

enum { HISTORY_STEP_S = 5, HISTORY_POINTS = 120 };

/* Times are milliseconds; a quantile is 0 where nothing was observed. */
struct history_point {
    uint64_t wall_ms;          /* when the step ended */
    uint64_t requests, failed; /* in the step: responses, and those of 5xx */
    uint64_t parked, busy;     /* at its end */
    uint64_t queued;
    uint64_t first_content_p50, first_content_p95;
    uint64_t call_p50, call_p95; /* whole calls to upstreams */
    uint64_t queue_p95;
};

/* Before the first request. */
void history_begin(void);

/* Once a second. */
void history_tick(uint64_t wall_ms);

/* The points, the oldest first. */
size_t history_count(void);
const struct history_point *history_point(size_t i);

/* The value in microseconds below which the share `q` of what was observed lies, by straight lines
 * within the buckets. 0: nothing was. */
uint64_t history_quantile_us(const uint64_t *buckets, double q);

#endif
