/* A state machine's table: what its states are called, and which may follow which. Each machine has
 * one, one function that moves it, and this for whoever prints the tables. */
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
