/* The two heads by which an HTTP proxy is asked for a tunnel (CONNECT, RFC 9110 9.3.6). */
#ifndef TARRY_UPSTREAM_CONNECTHEAD_H
#define TARRY_UPSTREAM_CONNECTHEAD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/str.h"
#include "http/stream.h"

enum { CONNECTHEAD_WHY_MAX = 200 };

/* Appends the request for a tunnel to host and port (the host without brackets). `authorization`
 * empty: no Proxy-Authorization. Nothing of the upstream's request is in it. 0, or -1 if there is
 * no memory. */
int connecthead_write(struct buf *out, struct str host, uint16_t port, struct str authorization);

struct connecthead_refusal {
    enum stream_error error;
    char why[CONNECTHEAD_WHY_MAX]; /* with the remedy */
};

/* Reads the proxy's answer at the beginning of `in`. The length of its head if the tunnel stands;
 * 0: more is to come; -1: it does not stand, `out` says why. */
ssize_t connecthead_read(struct str in, struct connecthead_refusal *out);

#endif
