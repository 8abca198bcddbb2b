/* An HTTP/1.1 connection to a worker or an upstream: one request at a time, kept for the next where
 * the peer allows it. Belongs to the server or origin that opened it. */
#ifndef TARRY_HTTP_H1CLIENT_H
#define TARRY_HTTP_H1CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "http/h1parse.h"
#include "http/stream.h"
#include "net/conn.h"

struct h1_client;

enum h1_client_event {
    H1_CLIENT_IDLE, /* the exchange of messages is complete and the connection can be used again */
    H1_CLIENT_CLOSED, /* it is gone, or its last stream is: forget it. Comes exactly once, unless
                         h1_client_close() came first */
};

typedef void h1_client_event_fn(void *owner, struct h1_client *c, enum h1_client_event ev);

/* Takes over a connected `conn`. `limits` bound the responses' heads. NULL if there is no memory
 * (`conn` is closed then). */
struct h1_client *h1_client_open(
    struct conn *conn, const struct h1_limits *limits, h1_client_event_fn *on_event, void *owner);

/* Whether it is idle and the peer has neither closed it nor sent bytes unasked: looks at the
 * socket. */
bool h1_client_usable(struct h1_client *c);

/* How long the peer keeps the connection while it is idle, by what it last said (Keep-Alive:
 * timeout=N, RFC 2068 19.7.1), less a second for the way. UINT64_MAX: it did not say. */
uint64_t h1_client_kept_ms(const struct h1_client *c);

/* The peer closed or reset the kept connection without a byte of a response to its last request,
 * which may have arrived. */
bool h1_client_went_unheard(const struct h1_client *c);

/* Begins a request on an idle connection. The stream's owner and callback must be set before
 * anything is sent. */
struct stream *h1_client_begin(struct h1_client *c);

/* The owner of the stream wants no more of it, but the peer may still work on the request: what
 * comes is read and dropped until the response is complete or the connection ends, and then
 * H1_CLIENT_IDLE or H1_CLIENT_CLOSED follows. A response of unknown length, or of which more
 * than CONN_READ_MAX bytes are to come, is cut with its next bytes: it may have no end, and only so
 * does the peer learn that nobody listens. A request that
 * was not all sent ends early. False: nothing is under way (any more): the stream is still the
 * owner's to close. */
bool h1_client_abandon(struct h1_client *c);

/* Closes it, with MESSAGE_FAILED to the stream's owner if there is one. No H1_CLIENT_CLOSED
 * follows.
 */
void h1_client_close(struct h1_client *c);

#endif
