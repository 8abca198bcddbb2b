/* What goes wrong on purpose. A spec is a sequence of steps, `429=2*1, reset*2, gzip+trailers`: the
 * first requests of the same key each take the next turn, and after the last step all is well
 * again. A step without `*TIMES` counts once, but the last one holds for ever. `+` joins faults
 * that hit the same request. */
#ifndef PROVIDER_FAULT_H
#define PROVIDER_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

enum fault_kind {
    FAULT_STATUS, /* any number from 200 to 599 */
    FAULT_CLOSE,
    FAULT_CLOSE_MID,
    FAULT_DRIP,
    FAULT_ERROR_EVENT,
    FAULT_FILTER,
    FAULT_GARBAGE,
    FAULT_GOAWAY,
    FAULT_GOAWAY_LOST,
    FAULT_GOAWAY_PROCESSED,
    FAULT_GZIP,
    FAULT_HTTP10,
    FAULT_HUGE,
    FAULT_HUGEHEAD,
    FAULT_INTERIM,
    FAULT_MALFORMED,
    FAULT_NO_TERMINAL,
    FAULT_PAUSE,
    FAULT_PING_SILENT,
    FAULT_PINGS,
    FAULT_REFUSED,
    FAULT_RESET,
    FAULT_RESET_MID,
    FAULT_RST,
    FAULT_RST_MID,
    FAULT_SHORT,
    FAULT_SILENCE,
    FAULT_STALL,
    FAULT_TINY_WINDOW,
    FAULT_TRAILERS
};

struct fault {
    enum fault_kind kind;
    int status;      /* of FAULT_STATUS */
    const char *arg; /* NULL without one; checked: the readers below cannot fail */
};

/* The faults of one request. One block of memory: free() ends it. */
struct fault_set {
    size_t n;
    struct fault list[4];
    const char *name; /* the step as it was written, without its times */
    char words[];
};

/* How to read a fault's argument; `missing` where it has none. */
uint64_t fault_size(const struct fault *f, uint64_t missing);    /* "12", "64K", "10M" */
uint64_t fault_time_ms(const struct fault *f, uint64_t missing); /* "250ms" */
uint32_t fault_h2_code(const struct fault *f);                   /* "CANCEL", "8"; INTERNAL_ERROR */

/* NULL: the request has none of that kind. `set` may be NULL. */
const struct fault *fault_find(const struct fault_set *set, enum fault_kind kind);

/* False says in `why` what is wrong with the spec. */
bool fault_check(const char *spec, struct text *why);
/* The faults of the request that comes after `before` others of its key, or NULL when all is well.
 * The spec is checked. */
struct fault_set *fault_choose(const char *spec, uint32_t before);

/* How many requests of each key there were. Keys are hashes: 64 bits do not meet by chance in a
 * test's life. */
struct fault_counts {
    struct fault_count *slots;
    size_t n, room; /* room is 0 or a power of two */
};

/* The requests of that key before this one, which is counted now. */
uint32_t fault_counts_next(struct fault_counts *counts, uint64_t key);
void fault_counts_release(struct fault_counts *counts);

#endif
