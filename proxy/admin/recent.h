/* The exchanges that an operator wants to see: the slowest of the last minutes, those that failed
 * last, and those that are in flight longest. In memory that all serving processes share, so that
 * any of them can show those of all. A reader may come while a record is written: each has a count
 * that is odd meanwhile. */
#ifndef TARRY_ADMIN_RECENT_H
#define TARRY_ADMIN_RECENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "exchange/exchange.h"

enum {
    RECENT_PHASES = 12,
    RECENT_SLOW = 12,   /* of each process */
    RECENT_FAILED = 32, /* likewise */
    RECENT_FLYING = 12, /* likewise */
    RECENT_MINUTES = 10 /* how long a slow one is kept */
};

/* Texts end with a NUL and are cut to their room. */
struct recent_phase {
    uint32_t began, took; /* in units of 10 us since the exchange began */
    uint16_t status;
    uint8_t kind; /* enum phase_kind */
};

struct recent_record {
    uint64_t started_wall_ms, total_us;
    uint32_t pid;
    uint16_t status;
    uint8_t nphases;
    char id[ENTROPY_ID_LEN + 1], code[3];
    char state[12], method[12], path[96], route[32], upstream[32], endpoint[32], label[40], end[40];
    struct recent_phase phases[RECENT_PHASES];
};

enum recent_kind { RECENT_IS_SLOW, RECENT_IS_FAILED, RECENT_IS_FLYING };

/* Before the first fork: memory for `nslots` processes. 0, or -1 with errno. Without this call a
 * process has memory of its own. */
int recent_share(size_t nslots);
void recent_use_slot(size_t slot);

/* Its process has ended. */
void recent_clear_slot(size_t slot);

/* An exchange has ended. */
void recent_add(const struct exchange *ex);

/* Once a second: the exchanges of this process that are in flight longest. */
void recent_publish(const struct exchanges *all);

/* Those of all processes, in no order. */
void recent_each(
    enum recent_kind kind, void (*fn)(void *owner, const struct recent_record *r), void *owner);

#endif
