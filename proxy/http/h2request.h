/* A request of an HTTP/2 client, once nghttp2 has found its fields well formed: what HTTP/1.1 asks
 * of it too, and the checks that the library leaves out. */
#ifndef TARRY_HTTP_H2REQUEST_H
#define TARRY_HTTP_H2REQUEST_H

#include <stdbool.h>

#include "http/h1parse.h"
#include "http/h2head.h"

/* What becomes of a request. */
enum h2_verdict {
    H2_SERVE,
    H2_ANSWER, /* with the error: it is served nowhere, but its client is told why */
    H2_RESET,  /* no two servers would read it in the same way */
};

/* Checks the head and brings it into the form that HTTP/1.1 requests have: one Host field that is
 * the authority, one Cookie field (RFC 9113 8.2.3). `secure`: over TLS. `last`: no body follows.
 * An extended CONNECT for a WebSocket (RFC 8441) becomes a GET with head.websocket. With H2_ANSWER,
 * *error is an enum h1_error. */
enum h2_verdict h2_check_request(struct h2_inbox *inbox, const struct h1_limits *limits,
    bool secure, bool last, struct h1_message *out, int *error);

#endif
