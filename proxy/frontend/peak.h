/* Peak load: when a wave of exchanges or connections has gone, the memory that it needed goes back
 * to the system. Embedded in the front. */
#ifndef TARRY_FRONTEND_PEAK_H
#define TARRY_FRONTEND_PEAK_H

#include <stddef.h>

#include "net/deadline.h"

struct load {
    size_t exchanges, connections;
};

struct peak {
    struct load highest; /* since memory was given back last */
    struct load seen;    /* when that was looked at last */
    size_t least;        /* a lower load needs no look */
    struct deadline timer;
    struct load (*measure)(void *owner);
    void *owner;
};

void peak_init(struct peak *p, struct load (*measure)(void *owner), void *owner);

/* The load may have risen. */
void peak_watch(struct peak *p);
void peak_close(struct peak *p);

#endif
