/* Heads in HTTP/2: a header block as it comes, field by field and within limits, to a struct head;
 * and a struct head to the fields that nghttp2 sends. */
#ifndef TARRY_HTTP_H2HEAD_H
#define TARRY_HTTP_H2HEAD_H

#include <nghttp2/nghttp2.h>
#include <stddef.h>

#include "base/arena.h"
#include "http/head.h"
#include "http/stream.h"

/* A head that is being received, or waits to be delivered. */
struct h2_inbox {
    struct arena arena;
    struct head head;
    struct str scheme, protocol; /* of a request that was received */
};

/* The size so far of the current header block: a connection receives one at a time. */
struct h2_block {
    size_t bytes, fields;
};

struct h2_inbox *h2_inbox_new(void);
void h2_inbox_free(struct h2_inbox *b); /* NULL is allowed */

/* Counts a field (its bytes and 32 more; pseudo-fields not among the number) and adds it; `to`
 * NULL: counts only (trailers). 0, or the error to end the stream with. */
enum stream_error h2_head_take(struct h2_block *block, size_t head_max, size_t fields_max,
    struct h2_inbox *to, struct str name, struct str value);

/* A request's fields for nghttp2_submit_request(), borrowed from `head`, in an array to be freed:
 * the pseudo-fields first; without Host and those that end here (RFC 9113 8.2.2). NULL if there is
 * no memory, or a field could inject something. */
nghttp2_nv *h2_head_request(const struct head *head, bool secure, size_t *n);

/* The same of a response, for nghttp2_submit_response(). `status` has room for 4 characters; it and
 * `date`, which is the Date of a response without one (RFC 9110 6.6.1), must live as long as the
 * array. 101 begins a WebSocket: that is 200 here, and no accept is told
 * (RFC 8441 5). */
nghttp2_nv *h2_head_response(const struct head *head, char *status, struct str date, size_t *n);

#endif
