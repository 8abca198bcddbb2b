/* A cell is the number of its step, and two counts. A cell of an old step counts as empty. */
#include "upstream/tally.h"

#include <stdbool.h>

enum { COUNT_BITS = 20, COUNT_MAX = (1 << COUNT_BITS) - 1, STEP_BITS = 24 };

#define STEP_MASK ((UINT64_C(1) << STEP_BITS) - 1)

static uint64_t tally_step(uint64_t now_ms, uint64_t window_ms)
{
    uint64_t length = window_ms / TALLY_CELLS;

    /* Step 0 is that of an empty cell. */
    return now_ms / (length > 0 ? length : 1) + 1;
}

static uint64_t tally_pack(uint64_t step, uint64_t all, uint64_t marked)
{
    return (step & STEP_MASK) << (2 * COUNT_BITS) | all << COUNT_BITS | marked;
}

static struct tally_sum tally_unpack(uint64_t cell, uint64_t step)
{
    if (cell >> (2 * COUNT_BITS) != (step & STEP_MASK))
        return (struct tally_sum){ 0, 0 };
    return (struct tally_sum){ cell >> COUNT_BITS & COUNT_MAX, cell & COUNT_MAX };
}

void tally_add(struct tally *t, uint64_t now_ms, uint64_t window_ms, unsigned all, unsigned marked)
{
    uint64_t step = tally_step(now_ms, window_ms);
    uint64_t *cell = &t->cells[step % TALLY_CELLS];
    uint64_t old = __atomic_load_n(cell, __ATOMIC_RELAXED), next;

    do {
        struct tally_sum s = tally_unpack(old, step);

        if (s.all + all > COUNT_MAX || s.marked + marked > COUNT_MAX) {
            s.all /= 2;
            s.marked /= 2;
        }
        next = tally_pack(step, s.all + all, s.marked + marked);
    } while (
        !__atomic_compare_exchange_n(cell, &old, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

struct tally_sum tally_sum(const struct tally *t, uint64_t now_ms, uint64_t window_ms)
{
    uint64_t step = tally_step(now_ms, window_ms);
    struct tally_sum sum = { 0, 0 };

    for (uint64_t i = 0; i < TALLY_CELLS && i < step; i++) {
        uint64_t cell = __atomic_load_n(&t->cells[(step - i) % TALLY_CELLS], __ATOMIC_RELAXED);
        struct tally_sum s = tally_unpack(cell, step - i);

        sum.all += s.all;
        sum.marked += s.marked;
    }
    return sum;
}

void tally_clear(struct tally *t)
{
    for (unsigned i = 0; i < TALLY_CELLS; i++)
        __atomic_store_n(&t->cells[i], 0, __ATOMIC_RELAXED);
}
