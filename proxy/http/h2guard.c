/* Leaking buckets. */
#include "http/h2guard.h"

static const char *const names[H2_NABUSES] = {
    [H2_RESETS] = "too many stream resets",
    [H2_GLITCHES] = "too many malformed frames or requests",
    [H2_CONTROLS] = "too many control frames",
    [H2_EMPTIES] = "too many empty frames",
    [H2_UPDATES] = "too many window updates",
    [H2_TINY] = "too many windows of a few bytes",
};

const char *h2_abuse_name(enum h2_abuse what)
{
    return names[what];
}

static void h2guard_leak(struct h2_guard *g, const struct h2_guard_limits *limits, uint64_t now_ms)
{
    const uint32_t *max = limits->max;
    float share = (float)(now_ms - g->at_ms) / (float)limits->window_ms;

    g->at_ms = now_ms;
    for (size_t i = 0; i < H2_NABUSES; i++) {
        if (g->level[i] > share * (float)max[i])
            g->level[i] -= share * (float)max[i];
        else if (g->level[i] > 0)
            g->level[i] = 0;
    }
}

bool h2_guard_count(
    struct h2_guard *g, const struct h2_guard_limits *limits, enum h2_abuse what, uint64_t now_ms)
{
    if (now_ms != g->at_ms)
        h2guard_leak(g, limits, now_ms);
    g->level[what] += 1;
    return g->level[what] > (float)limits->max[what];
}

void h2_guard_wrote(struct h2_guard *g, const struct h2_guard_limits *limits, size_t n)
{
    g->level[H2_UPDATES] -= H2_GUARD_UPDATES_A_WRITE;
    if (g->level[H2_UPDATES] < -H2_GUARD_UPDATES_AHEAD)
        g->level[H2_UPDATES] = -H2_GUARD_UPDATES_AHEAD;
    if (n >= H2_GUARD_FULL_WRITE * limits->tiny_write)
        g->level[H2_TINY] = g->level[H2_TINY] > 2 ? g->level[H2_TINY] - 2 : 0;
}
