/* The client's response in a content coding, where the conf, the client and the response allow it:
 * the only one on the chain of bytes that may change them, and so its last. The bytes
 * of one turn leave with that turn: compression never holds a piece back for longer. Embedded in
 * the reply. */
#ifndef TARRY_EXCHANGE_ENCODE_H
#define TARRY_EXCHANGE_ENCODE_H

#include <stdbool.h>

#include "base/arena.h"
#include "conf/snapshot.h"
#include "http/encoder.h"
#include "http/head.h"
#include "net/loop.h"

struct encode {
    struct encoder *encoder; /* NULL: the body goes as it is */
    struct deferred flush;
    int (*pass)(void *owner, struct str data); /* not 0: the body cannot be completed */
    void (*on_failed)(void *owner);            /* found out by the flush of a turn */
    void *owner;
    bool failed;
};

/* The head to send for the response `in` to `request`: itself, or `out`, made in `a`. */
const struct head *encode_begin(struct encode *e, const struct compression_conf *cc,
    const struct head *request, struct arena *a, const struct head *in, struct head *out);

/* A piece of the body, and its end. 0, or -1: it cannot be completed. */
int encode_data(struct encode *e, struct str data);
int encode_end(struct encode *e);
void encode_release(struct encode *e);

#endif
