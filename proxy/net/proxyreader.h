/* Reads the PROXY protocol's header of an accepted connection, and not a byte more, so that the
 * rest is there for TLS or HTTP. Then gives the descriptor back.
 *
 * Embedded in its owner's struct, which is not freed before the turn ends. */
#ifndef TARRY_NET_PROXYREADER_H
#define TARRY_NET_PROXYREADER_H

#include <ev.h>
#include <stdint.h>

#include "net/deadline.h"
#include "net/proxyproto.h"

/* Either the header has come, and `fd` is the callee's now; or `header` is NULL, `why` says what
 * came instead, and `fd` has been closed. The reader has ended in both cases. */
typedef void proxyreader_fn(void *owner, int fd, const struct proxyproto *header, const char *why);

struct proxyreader {
    ev_io io;
    struct deadline deadline;
    proxyreader_fn *on_end;
    void *owner;
    unsigned char *seen; /* what has been read; PROXYPROTO_MAX octets, from the first on */
    size_t nseen;
    int fd; /* -1: it has ended */
};

/* Takes over `fd`. on_end is never called from within. */
void proxyreader_open(
    struct proxyreader *p, int fd, uint64_t timeout_ms, proxyreader_fn *on_end, void *owner);

/* Closes the descriptor, and tells nobody. Idempotent. */
void proxyreader_close(struct proxyreader *p);

#endif
