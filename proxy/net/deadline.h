/* A moment by which something must have happened. Re-armed lazily: pushing a deadline back, as
 * every byte of a transfer does, costs an assignment; the timer behind it is moved when it fires
 * too early.
 *
 * In a turn that comes late, because the process was stopped or the machine is busy, sockets are
 * read before deadlines pass: what has arrived in time counts.
 *
 * Embedded and initialised by its owner, who ends it with deadline_close() before its memory goes.
 */
#ifndef TARRY_NET_DEADLINE_H
#define TARRY_NET_DEADLINE_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

struct deadline {
    ev_timer timer;
    uint64_t at_ms; /* 0: not set */
    bool late;      /* the turn came late: it passes in the next one */
    void (*on_passed)(void *owner);
    void *owner;
};

void deadline_init(struct deadline *d, void (*on_passed)(void *owner), void *owner);

/* In `ms` from now; replaces what was set. */
void deadline_set(struct deadline *d, uint64_t ms);
void deadline_clear(struct deadline *d);

static inline bool deadline_is_set(const struct deadline *d)
{
    return d->at_ms != 0;
}

/* Stops the timer behind it. The struct can be initialised again. */
void deadline_close(struct deadline *d);

#endif
