/* One HTTP/2 connection as both sides share it: bytes in and out of an nghttp2 session, streams
 * with their queues, flow control, pings, and how all of it ends. What only a client does is in
 * h2client; it is the only user so far.
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

#include "base/list.h"
#include "http/h2stream.h"
#include "http/stream.h"
#include "net/conn.h"
#include "net/deadline.h"
#include "net/loop.h"

/* What a side adds. All but on_turn and on_dead are called from within the library and only record.
 */
struct h2_role {
    /* A header block begins: the stream that it belongs to, or NULL to ignore it (trailers, a
     * stream that is gone). */
    struct h2_stream *(*begin_head)(struct h2 *h, const nghttp2_frame *f);
    /* It is complete and within the limits, in s->inbox. 0, or the error to end the stream with. */
    enum stream_error (*take_head)(struct h2_stream *s, bool last);
    /* What it means that the stream was closed before the peer's message was complete: by the peer
     * with RST_STREAM or GOAWAY, or (by_peer false) by the library because the message is
     * malformed. */
    enum stream_error (*close_error)(const struct h2_stream *s, uint32_t code, bool by_peer);
    /* At the end of each turn in which something happened. May h2_die(). */
    void (*on_turn)(struct h2 *h);
    /* The last thing that happens, unless the holder closed it. */
    void (*on_dead)(struct h2 *h);
};

struct h2_limits {
    size_t head_max; /* bytes of a header section, 32 more a field (RFC 9113 10.5.1) */
    size_t fields_max;
    uint64_t ping_interval_ms; /* silence with streams open, after which the peer is asked whether
                                  it lives */
    uint64_t ping_timeout_ms;  /* for its answer, and for its first SETTINGS */
};

/* Embedded in a role's struct. */
struct h2 {
    nghttp2_session *library;
    struct conn *conn;
    const struct h2_role *role;
    const struct h2_limits *limits; /* the holder's; may change under way */
    const struct stream_ops *ops;
    struct list quiet, ready; /* streams; those with something to tell their owner */
    size_t open; /* streams that the library knows, cancelled ones included until that is sent */
    struct deferred turn;
    struct deadline probe;
    struct grave grave;
    void (*free_role)(void *what); /* frees the role's struct */
    struct addr peer;
    uint64_t written;             /* bytes given to conn */
    uint64_t heard_ms;            /* when something came last */
    uint64_t asked_ms, asked_out; /* the ping that is out: when, and what conn had sent then */
    struct h2_block block;        /* the header block that is being received */
    struct h2_stream *block_stream;
    char why[128]; /* it died, for logs */
    uint32_t goaway_code;
    bool inside;  /* the library is on the stack */
    bool settled; /* the peer's first SETTINGS are here */
    bool asked;
    bool broken; /* the peer broke the protocol, and the library says so */
    bool going;  /* GOAWAY was received or is to be sent: no new streams */
    bool dead, buried;
};

/* Fills an embedded, zeroed `h` and takes over the connected `conn`; `library` is made by the role,
 * with user data `h`. */
void h2_init(struct h2 *h, struct conn *conn, nghttp2_session *library, const struct h2_role *role,
    const struct stream_ops *ops, const struct h2_limits *limits, void (*free_role)(void *what));

/* The callbacks and options that both sides use; the caller deletes them. 0, or -1 if there is no
 * memory. */
int h2_library_setup(nghttp2_session_callbacks **cbs, nghttp2_option **options);

/* Our SETTINGS and the connection's window: before anything else. 0, or -1 if there is no memory.
 */
int h2_greet(struct h2 *h);

/* Schedules the turn: what was submitted is sent, what is ready is delivered. */
void h2_wake(struct h2 *h);

/* Ends the session and its connection: streams fail with `error`, or with what is known of each to
 * be nearer the truth; on_dead follows unless `quietly`. Not from within the library. */
void h2_die(struct h2 *h, enum stream_error error, const char *why, bool quietly);

/* A stream has been closed by its owner: a dead session's memory goes with the last one. */
void h2_forget_stream(struct h2 *h);

/* Says GOAWAY, sends what is queued and ends. For a session without streams. on_dead follows. */
void h2_say_goodbye(struct h2 *h);

#endif
