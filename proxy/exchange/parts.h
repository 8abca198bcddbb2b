/* Reads a worker's response in parts (docs/handoff.md): content that is chunked once more (RFC 9112
 * 7.1), a trailer section that says what follows, and behind it the enclosed requests that it
 * announces. Stops exactly behind the last octet. No I/O.
 *
 *     while ((rc = parts_next(&p, &in, &data)) > 0)
 *         switch (rc) ...          0: all of `in` is used, more is needed; negative: an error */
#ifndef TARRY_EXCHANGE_PARTS_H
#define TARRY_EXCHANGE_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "http/head.h"

enum parts_event {
    PARTS_NEED_MORE = 0,
    PARTS_DATA = 1,    /* `data`: for the client */
    PARTS_TRAILER = 2, /* p->trailer is there */
    PARTS_CONTENT = 3, /* `data`: of the enclosed requests */
    PARTS_END = 4,     /* the response is complete; what is left of `in` is not its own */
    PARTS_E_MALFORMED = -1,
    PARTS_E_TOO_LARGE = -2, /* the trailer section is over its limit */
    PARTS_E_MEMORY = -3,
};

struct parts {
    enum {
        PARTS_IN_SIZE,
        PARTS_IN_DATA,
        PARTS_BEHIND_DATA,
        PARTS_IN_TRAILER,
        PARTS_IN_CONTENT,
        PARTS_AT_END
    } state;
    uint64_t left;       /* of the chunk, or of the content */
    size_t trailer_max;  /* of the trailer section */
    struct buf line;     /* a line or a trailer section of which more is to come */
    struct arena arena;  /* of the trailer */
    struct head trailer; /* from PARTS_TRAILER on; good until parts_release() */
};

void parts_init(struct parts *p, size_t trailer_max);
int parts_next(struct parts *p, struct str *in, struct str *data);

/* Whether the trailer section has come: what the response means is known. */
static inline bool parts_has_trailer(const struct parts *p)
{
    return p->state >= PARTS_IN_CONTENT;
}

void parts_release(struct parts *p);

#endif
