/* Encodes one body: bytes in, coded bytes out, without I/O. Belongs to its maker, who ends it with
 * encoder_free(). The memory of all encoders is counted. */
#ifndef TARRY_HTTP_ENCODER_H
#define TARRY_HTTP_ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "http/encoding.h"

struct encoder;

enum encoder_step {
    ENCODER_MORE,  /* keep some back for better compression */
    ENCODER_FLUSH, /* everything put in so far comes out, readable for the peer */
    ENCODER_END,   /* likewise, and the stream is complete. Nothing may follow */
};

/* A piece of the encoded body; good until it returns. */
typedef void encoder_out_fn(void *owner, struct str out);

/* `level` is the coding's own: gzip 1 to 9, br 0 to 11, zstd 1 to 19. `window`: how far back it
 * looks for repetitions, in bytes; rounded down to a power of two, and to what the coding can. With
 * the level it decides about the memory. NULL if there is no memory. */
struct encoder *encoder_new(enum encoding e, unsigned level, size_t window);

/* 0, or -1 if there is no memory: the stream cannot be completed then. */
int encoder_put(
    struct encoder *enc, struct str in, enum encoder_step step, encoder_out_fn *out, void *owner);

/* NULL is allowed. */
void encoder_free(struct encoder *enc);

/* Bytes that all encoders of the process have now, and how many there are. */
size_t encoder_memory(void);
size_t encoder_count(void);

#endif
