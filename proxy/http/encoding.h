/* Content codings (RFC 9110 8.4.1) of responses: which one a client takes, which responses are
 * worth one, and what their heads say then. Pure: encoder.h does the work. */
#ifndef TARRY_HTTP_ENCODING_H
#define TARRY_HTTP_ENCODING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/str.h"
#include "conf/snapshot.h"
#include "http/head.h"

/* As Content-Encoding has it: "gzip". */
struct str encoding_name(enum encoding e);

/* What the request's Accept-Encoding likes best of `offered` (most wanted first; that decides
 * between equals), or ENCODING_IDENTITY: where it likes that better, or has no such field (RFC 9110
 * 12.5.3 would allow any then, but who says nothing may not be able to read it). */
enum encoding encoding_choose(
    const struct head *request, const enum encoding *offered, size_t noffered);

/* Whether a response may be encoded on its way, were there a client that takes it: a whole
 * representation of one of `types` (lower case; "text/" stands for all of its kind), not encoded,
 * at least `min_size` bytes long if it says how long it is, and not forbidden by Cache-Control:
 * no-transform (RFC 9111 5.2.2.6). Event streams never: each of their small pieces has to leave at
 * once. */
bool encoding_suits(
    const struct head *response, const struct str *types, size_t ntypes, size_t min_size);

/* Adds Accept-Encoding to Vary, unless it says so already. 0, or -1 without memory. */
int encoding_add_vary(struct head *response, struct arena *a);

/* Makes `out` the head of the encoded response, in `a`: with Content-Encoding, without the fields
 * that tell of the bytes (lengths, digests, ranges), and with a weak ETag for a strong one (RFC
 * 9110 8.8.1: the bytes are not the same). 0, or -1 without memory. */
int encoding_make_head(
    struct arena *a, const struct head *response, enum encoding e, struct head *out);

#endif
