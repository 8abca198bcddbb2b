/* Lingering close: queued output is still sent, the peer is told that no more comes, and its
 * further input is read and dropped for a moment, so that the close does not destroy output that it
 * has not read yet (RFC 9112 9.6). Each such socket owns itself: it ends when the peer has closed
 * or takes too long, or when the process ends. */
#ifndef TARRY_NET_LINGER_H
#define TARRY_NET_LINGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "net/addrlimit.h"
#include "net/wire.h"

/* Of the process. */
struct linger_limits {
    uint64_t drop_ms;        /* how long is read and dropped */
    uint64_t send_rate_min;  /* a peer that takes its bytes more slowly is cut: bytes a second, */
    uint64_t rate_window_ms; /* on average over so long; 0: any rate will do */
};

void linger_set_limits(const struct linger_limits *l);

/* What it is made of: wire, queue and slot are taken over, and left empty. */
struct linger_from {
    struct wire *wire;
    struct buf *out;
    struct addrlimit_slot *slot;
    uint64_t send_timeout_ms; /* without a byte that the peer takes */
    bool accepted;            /* it counts among the clients' connections */
    bool eof;                 /* the peer will send no more */
};

/* Begins. 0, or -1 if there is no memory: nothing was taken. */
int linger_open(const struct linger_from *from);

/* How many there are of accepted connections. */
size_t linger_count_accepted(void);

/* Closes all: at exit. */
void linger_close_all(void);

#endif
