/* Whether a peer keeps up: bytes against time. It finds peers that send or take one byte just
 * before each timeout and so would hold a connection for ever. Pure: the caller passes the clock
 * and the count whenever the peer makes progress or pace_next_ms() has passed. While we do not wait
 * for the peer, nothing is checked; afterwards the pace begins anew. */
#ifndef TARRY_NET_PACE_H
#define TARRY_NET_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace_limits {
    uint64_t timeout_ms; /* without a byte; 0: no bound */
    uint64_t rate_min;   /* bytes a second, on average over each window; 0: no bound */
    uint64_t window_ms;  /* also the grace at the beginning */
};

struct pace {
    uint64_t moved_ms, moved_bytes;   /* the last time that there was progress */
    uint64_t window_ms, window_bytes; /* at the window's beginning */
};

/* `bytes` is any count that only grows. */
void pace_begin(struct pace *p, uint64_t now_ms, uint64_t bytes);

/* False: the peer is too slow. */
bool pace_keeps_up(struct pace *p, const struct pace_limits *l, uint64_t now_ms, uint64_t bytes);

/* In how many ms to look again if nothing happens: at least 1; UINT64_MAX if nothing is bounded. */
uint64_t pace_next_ms(const struct pace *p, const struct pace_limits *l, uint64_t now_ms);

#endif
