/* A timeout for silence, and an average over windows that follow each other. */
#include "net/pace.h"

void pace_begin(struct pace *p, uint64_t now_ms, uint64_t bytes)
{
    *p = (struct pace){ now_ms, bytes, now_ms, bytes };
}

static bool pace_is_bounded(const struct pace_limits *l)
{
    return l->rate_min > 0 && l->window_ms > 0;
}

bool pace_keeps_up(struct pace *p, const struct pace_limits *l, uint64_t now_ms, uint64_t bytes)
{
    uint64_t window = now_ms - p->window_ms;

    if (bytes != p->moved_bytes) {
        p->moved_bytes = bytes;
        p->moved_ms = now_ms;
    } else if (l->timeout_ms > 0 && now_ms - p->moved_ms >= l->timeout_ms) {
        return false;
    }
    if (!pace_is_bounded(l) || window < l->window_ms)
        return true;
    if ((bytes - p->window_bytes) / window < l->rate_min / 1000 ||
        (bytes - p->window_bytes) * 1000 / window < l->rate_min)
        return false;
    p->window_ms = now_ms;
    p->window_bytes = bytes;
    return true;
}

static uint64_t pace_left(uint64_t since_ms, uint64_t bound_ms, uint64_t now_ms)
{
    uint64_t passed = now_ms - since_ms;

    return passed < bound_ms ? bound_ms - passed : 1;
}

uint64_t pace_next_ms(const struct pace *p, const struct pace_limits *l, uint64_t now_ms)
{
    uint64_t silence = UINT64_MAX, window = UINT64_MAX;

    if (l->timeout_ms > 0)
        silence = pace_left(p->moved_ms, l->timeout_ms, now_ms);
    if (pace_is_bounded(l))
        window = pace_left(p->window_ms, l->window_ms, now_ms);
    return silence < window ? silence : window;
}
