/* An HTTP/2 connection to an upstream: many requests at a time. Belongs to the origin that opened
 * it. The shape is h1client's. */
#ifndef TARRY_HTTP_H2CLIENT_H
#define TARRY_HTTP_H2CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/h2.h"
#include "http/stream.h"
#include "net/conn.h"

struct h2_client;

/* For h2_limits: the buffer of a paused response, at first and if it reads ahead; the connection
 * window, which lets no paused stream hold up the others; and the queue of a request. */
enum {
    H2_CLIENT_STREAM_WINDOW = 64 << 10,
    H2_CLIENT_WIDE_WINDOW = 1 << 20,
    H2_CLIENT_CONNECTION_WINDOW = INT32_MAX,
    H2_CLIENT_OUT_MAX = 64 << 10,
};

enum h2_client_event {
    H2_CLIENT_CHANGED, /* h2_client_room() or h2_client_draining() may say something else now */
    H2_CLIENT_CLOSED,  /* it is gone: forget it. Comes exactly once, unless h2_client_close() came
                          first */
};

/* From the loop, never from within a call. */
typedef void h2_client_event_fn(void *owner, struct h2_client *c, enum h2_client_event ev);

/* Takes over a connected `conn`. `limits` are borrowed and may change under way. NULL if there is
 * no memory (`conn` is closed then). */
struct h2_client *h2_client_open(
    struct conn *conn, const struct h2_limits *limits, h2_client_event_fn *on_event, void *owner);

/* How many more streams may be begun now: what the peer's MAX_CONCURRENT_STREAMS leaves. One until
 * the peer's SETTINGS are here. */
size_t h2_client_room(const struct h2_client *c);

/* Before an unused connection gets a stream: whether it must answer a ping first, because it was
 * silent for long. H2_CLIENT_CHANGED follows, or H2_CLIENT_CLOSED. */
bool h2_client_must_answer(struct h2_client *c);

/* How many streams the peer allows in all; 0 until its SETTINGS are here. */
size_t h2_client_limit(const struct h2_client *c);
bool h2_client_settled(const struct h2_client *c); /* they are here */

/* Streams that are open or have been given out. */
size_t h2_client_streams(const struct h2_client *c);

/* No new streams: the peer said GOAWAY, or h2_client_drain(). It closes itself after the last one.
 */
bool h2_client_draining(const struct h2_client *c);
void h2_client_drain(struct h2_client *c);

/* How many requests the peer has taken in the connection's life, by its GOAWAY without an error.
 * SIZE_MAX: it has said none. */
size_t h2_client_taken(const struct h2_client *c);

/* How many requests were under way when the connection ended, and may have been worked on. For
 * H2_CLIENT_CLOSED. */
size_t h2_client_lost(const struct h2_client *c);

/* Begins a request; there must be room. The stream's owner and callback must be set before anything
 * is sent. NULL if there is no memory. */
struct stream *h2_client_begin(struct h2_client *c);

/* Closes it, with MESSAGE_FAILED to the streams' owners. No event follows. */
void h2_client_close(struct h2_client *c);

/* What it ended with, for logs. */
const char *h2_client_describe_error(const struct h2_client *c);

#endif
