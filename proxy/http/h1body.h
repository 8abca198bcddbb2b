/* The body of an HTTP/1.1 message from bytes (RFC 9112 6 and 7), by memory spans, without copying.
 * A part of what h1parse.h opens. */
#ifndef TARRY_HTTP_H1BODY_H
#define TARRY_HTTP_H1BODY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"
#include "http/h1parse.h"

/* How much is worth gathering: what one read brings. */
enum { H1_BODY_GATHER = 16 << 10 };

/* A body being decoded. Owns nothing; needs no end. */
struct h1_body {
    enum h1_framing framing;
    uint64_t left;     /* of the length or of the current chunk */
    unsigned state;    /* of the chunked coding */
    uint32_t overhead; /* bytes of chunk extensions and trailers so far */
    uint32_t line;     /* bytes of the current such line; digits of a chunk size */
    uint32_t line_max, overhead_max;
    bool complete;
};

void h1_body_begin(struct h1_body *b, const struct h1_message *m, const struct h1_limits *limits);

/* Uses up to in.n bytes and returns how many: the next piece of the body is in *data (borrowed from
 * `in`, may be empty); call again with the rest until it returns 0 ("more") or b->complete is
 * set. Bytes after the end are not touched. Trailers are checked like fields and dropped; chunk
 * extensions are checked and dropped. Negative: an enum h1_error, and the same again if it is
 * called again. */
ssize_t h1_body_next(struct h1_body *b, struct str in, struct str *data);

/* The same for all of `in` at once, as far as it goes into `room` bytes of `scratch`: small pieces
 * are put together there, so that a body in chunks of one byte costs its owner one call a read and
 * not one a byte. *data is in `in` or in `scratch`. An error is told behind the data before it. */
ssize_t h1_body_gather(
    struct h1_body *b, struct str in, char *scratch, size_t room, struct str *data);

/* The connection's end came. 0 if the body is complete by that (H1_UNTIL_CLOSE) or already was,
 * else H1_E_ENDED. */
int h1_body_end(struct h1_body *b);

#endif
