/* An operator's pauses of pools, in the table that all processes share (upstream/ledger.h): they
 * hold for a process that takes the place of another, and for another binary. */
#ifndef TARRY_ADMIN_PAUSE_H
#define TARRY_ADMIN_PAUSE_H

#include <stdbool.h>

#include "base/str.h"

struct front;

/* The pool of that name, in this process now and in the others within a second. False: there is
 * none. */
bool pause_set(const struct front *f, struct str pool, bool paused);

/* Takes over what other processes have been told. To be called at the start and every second: a
 * pause that nobody asks for is forgotten. */
void pause_apply(const struct front *f);

#endif
