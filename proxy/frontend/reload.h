/* A reload is a list of parts: each prepares itself for a new snapshot without touching what is in
 * use, then all commit, or, if one cannot, all that have prepared abandon it. */
#ifndef TARRY_FRONTEND_RELOAD_H
#define TARRY_FRONTEND_RELOAD_H

#include <stddef.h>

#include "conf/snapshot.h"

struct reload_part {
    /* 0, or -1 with one line in `why` and nothing left behind. */
    int (*prepare)(void *owner, struct conf *next, char *why, size_t whylen);
    void (*commit)(void *owner, struct conf *next); /* cannot fail */
    void (*abandon)(void *owner);
};

/* Takes `next` into use, in the order of the list. 0, or -1 with `why` and nothing changed. */
int reload_apply(const struct reload_part *parts, size_t n, void *owner, struct conf *next,
    char *why, size_t whylen);

#endif
