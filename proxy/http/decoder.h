/* One coded body on its way back to what it was (RFC 9110 8.4.1): coded bytes in, plain bytes out,
 * without I/O and a slice at a time, so that a small body that unpacks to a large one never holds
 * up the loop. Belongs to its maker, who ends it with decoder_free(). How much memory all decoders
 * have is counted.
 *
 *     struct str in = (the bytes that have come);
 *
 *     switch (decoder_put(d, &in, slice, on_plain, owner)) {
 *     case DECODER_MORE:   all of `in` is used: go on when more comes; after the last of it,
 *                          decoder_end() says whether the body is whole
 *     case DECODER_AGAIN:  the slice is used up: keep the rest of `in` (it may be empty) and
 *                          call again on a later turn, before anything else is put in
 *     default:             an error; nothing may follow but decoder_free()
 *     } */
#ifndef TARRY_HTTP_DECODER_H
#define TARRY_HTTP_DECODER_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "http/head.h"

enum coding { CODING_IDENTITY, CODING_GZIP, CODING_DEFLATE, CODING_BR, CODING_ZSTD };
#define CODING_COUNT (CODING_ZSTD + 1)

enum decoder_result {
    DECODER_MORE = 0,
    DECODER_AGAIN = 1,
    DECODER_E_DAMAGED = -1,   /* it is not in that coding, or bytes follow its end */
    DECODER_E_ENDED = -2,     /* decoder_end() only: it is not whole */
    DECODER_E_TOO_LARGE = -3, /* more than size_max bytes would come out */
    DECODER_E_WINDOW = -4,    /* zstd: it needs more than 8 MiB to be decoded (RFC 9659) */
    DECODER_E_MEMORY = -5,
    DECODER_E_STOPPED = -6, /* the callback has said so */
};

struct decoder;

/* A piece of the plain body, never empty; good until it returns. Not 0: stop, with
 * DECODER_E_STOPPED. It may not free the decoder. */
typedef int decoder_out_fn(void *owner, struct str out);

/* What Content-Encoding says over all its lines; x-gzip is gzip, and identity is nothing. 0, or -1
 * for a coding that is unknown and for more than one. */
int decoder_coding_of(const struct head *h, enum coding *coding);

/* As Content-Encoding has it. */
struct str decoder_coding_name(enum coding c);

/* Not for CODING_IDENTITY. `size_max`: bytes that may come out in all; UINT64_MAX: no limit. NULL
 * if there is no memory. */
struct decoder *decoder_new(enum coding c, uint64_t size_max);

/* Decodes from the front of *in, which is moved past the bytes used. A slice is used up when
 * `slice` bytes (at least 1) have gone in or have come out, whichever is first; the last piece may
 * go over by up to 16 KiB. */
int decoder_put(struct decoder *d, struct str *in, size_t slice, decoder_out_fn *out, void *owner);

/* No more will be put in, and the last decoder_put() gave DECODER_MORE: 0 if the body is whole,
 * else DECODER_E_ENDED. */
int decoder_end(const struct decoder *d);

/* How many bytes have come out. */
uint64_t decoder_size(const struct decoder *d);

/* NULL is allowed. */
void decoder_free(struct decoder *d);

/* For logs: "ends early". */
const char *decoder_strerror(int result);

/* Bytes that all decoders of the process have now, and how many there are. One has up to 48 KiB
 * (gzip, deflate), 16 MiB (br) or 8 MiB (zstd), as the body asks for. */
size_t decoder_memory(void);
size_t decoder_count(void);

#endif
