/* One HTTP/2 connection as both sides share it: bytes in and out of an nghttp2 session, streams
 * with their queues, flow control, pings, and how all of it ends. What only one side does is in
 * h2client and h2server.
 *
 * Inside nghttp2's callbacks only records are made; streams' owners hear of them after
 * the library has returned (h2_stream_deliver). The library is driven from three places: on_conn
 * (bytes came), the deferred turn (something was submitted) and the probe.
 *
 * A session lives until it is dead (h2_die) and the last of its streams was closed by its owner. */
#ifndef TARRY_HTTP_H2_H
#define TARRY_HTTP_H2_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/h2limits.h"
#include "http/h2session.h"
#include "http/h2stream.h"
#include "http/stream.h"
#include "net/conn.h"

/* Fills an embedded, zeroed `h` and takes over the connected `conn`; `library` is made by the role,
 * with user data `h`. */
void h2_init(struct h2 *h, struct conn *conn, nghttp2_session *library, const struct h2_role *role,
    const struct stream_ops *ops, const struct h2_limits *limits, void (*free_role)(void *what));

/* Our SETTINGS, `own` (at most 4) among them, and the connection's window: before anything else. 0,
 * or -1 if there is no memory. */
int h2_greet(struct h2 *h, const nghttp2_settings_entry *own, size_t n);

/* Reads what lies in the connection's input: for a conn that was taken over with some. */
void h2_receive(struct h2 *h);

/* Ends the session and its connection: streams fail with `error`, or with a more exact error
 * where one is known; on_dead follows unless `quietly`. Not from within the library. */
void h2_die(struct h2 *h, enum stream_error error, const char *why, bool quietly);

/* The process stops: what the peer takes at once still goes, what is left is lost. Streams fail,
 * on_dead follows. */
void h2_cut(struct h2 *h, enum stream_error error, const char *why);

/* Ends the session at once, with a GOAWAY that goes before all that the library has queued; the
 * rest of its bytes are sent, the peer's are no longer looked at. A peer that is known to read
 * nothing (h->peer_stalled) is cut instead. Streams fail, on_dead follows.
 * Not from within the library. */
void h2_refuse(struct h2 *h, uint32_t code, const char *why);

/* Sends GOAWAY and all that is queued, and ends. For a session without streams. on_dead follows. */
void h2_finish(struct h2 *h);

#endif
