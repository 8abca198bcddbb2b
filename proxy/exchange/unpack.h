/* A coded body on its way back to plain bytes, a slice a turn: what has come and is not decoded yet
 * waits, and its source is to be paused meanwhile. Embedded; unpack_release() ends it. */
#ifndef TARRY_EXCHANGE_UNPACK_H
#define TARRY_EXCHANGE_UNPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "http/decoder.h"
#include "net/deadline.h"

enum { UNPACK_OK = 0, UNPACK_BUSY = 1 };

struct unpack {
    struct decoder *decoder; /* NULL: not in use */
    struct buf in;           /* not decoded yet */
    struct deadline again;
    bool busy;  /* a later turn goes on */
    bool ended; /* no more will be put in */
    decoder_out_fn *on_data;
    /* The slice of a later turn is done: UNPACK_OK (all that was put in is decoded; after
     * unpack_end(): the body is whole) or an error. Not while it goes on. */
    void (*on_done)(void *owner, int result);
    void *owner;
};

/* 0, or -1 without memory. */
int unpack_init(struct unpack *u, enum coding c, uint64_t size_max, decoder_out_fn *on_data,
    void (*on_done)(void *owner, int result), void *owner);

/* UNPACK_OK; UNPACK_BUSY: on_done() follows, put nothing in before; or an enum decoder_result that
 * is an error. */
int unpack_put(struct unpack *u, struct str in);

/* No more will come: UNPACK_OK (it is whole), UNPACK_BUSY (on_done() follows), or an error. */
int unpack_end(struct unpack *u);

void unpack_release(struct unpack *u);

#endif
