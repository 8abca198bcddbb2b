/* Events of a sliding window, counted by any number of processes at a time: how many there were,
 * and how many of a marked kind. Zeroed at first; in shared memory. A process that ends at any
 * instruction leaves it whole: each part of the window is one word. */
#ifndef TARRY_UPSTREAM_TALLY_H
#define TARRY_UPSTREAM_TALLY_H

#include <stdint.h>

enum { TALLY_CELLS = 8 };

struct tally {
    uint64_t cells[TALLY_CELLS];
};

struct tally_sum {
    uint64_t all, marked;
};

/* `now_ms` counts from a moment that is the same for all processes. The window ends now; it moves
 * on in steps of an eighth. Events beyond a million in a step are left out in proportion. */
void tally_add(struct tally *t, uint64_t now_ms, uint64_t window_ms, unsigned all, unsigned marked);
struct tally_sum tally_sum(const struct tally *t, uint64_t now_ms, uint64_t window_ms);
void tally_clear(struct tally *t);

#endif
