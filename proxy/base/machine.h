/* A state machine's table: the names of its states, and the allowed transitions. Each machine has
 * one table and one function that moves it. This struct lets other code print the tables. */
#ifndef TARRY_BASE_MACHINE_H
#define TARRY_BASE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

struct machine_state {
    const char *name;
    unsigned next; /* bits of the states that may follow */
};

struct machine {
    const char *name;
    const struct machine_state *states;
    size_t n;
};

static inline bool machine_may_move(const struct machine_state *states, unsigned from, unsigned to)
{
    return states[from].next & (1u << to);
}

#endif
