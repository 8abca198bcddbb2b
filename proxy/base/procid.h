/* A process in one word: its id and the time when it started, so that another process that gets the
 * same id later is not taken for it. For what processes leave in memory that they share. */
#ifndef TARRY_BASE_PROCID_H
#define TARRY_BASE_PROCID_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* This process. Never 0. Reads /proc once in each process; call it before a sandbox closes that. */
uint64_t procid_self(void);

/* Another one that runs. Without /proc the word is the id alone. */
uint64_t procid_of(pid_t pid);

/* It has ended, even if nobody has waited for it yet. False if that cannot be found out. */
bool procid_is_dead(uint64_t id);

#endif
