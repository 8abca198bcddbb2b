/* A tap sits on the bytes between a call (or visit) and the client's response: it sees every
 * message once, in order, and changes none. Records, the scan for usage and traces are taps.
 * Embedded in what it serves; on its chain until that ends. */
#ifndef TARRY_EXCHANGE_TAP_H
#define TARRY_EXCHANGE_TAP_H

#include "http/stream.h"

struct tap {
    struct tap *next; /* NULL: the chain's last */
    void (*on_message)(struct tap *t, const struct message *m);
};

static inline void taps_pass(struct tap *first, const struct message *m)
{
    for (struct tap *t = first; t; t = t->next)
        t->on_message(t, m);
}

#endif
