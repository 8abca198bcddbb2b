/* One HTTP/2 connection as both sides share it: bytes in and out of an nghttp2 session, streams
 * with their queues, flow control, pings, and how all of it ends. What only a client does is in
 * h2client; it is the only user so far.
 *
 * Inside nghttp2's callbacks only records are made; streams' owners hear of them from h2_deliver(),
 * after the library has returned. The library is driven from three places: on_conn (bytes came),
 * the deferred turn (something was submitted) and the probe.
 *
 * A session lives until it is dead (h2_die) and the last of its streams was closed by its owner. */
#ifndef TARRY_HTTP_H2_H
#define TARRY_HTTP_H2_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "http/h2head.h"
#include "http/stream.h"
#include "net/conn.h"
#include "net/deadline.h"
#include "net/loop.h"

struct h2;

/* What of the peer's message the owner has been given. */
enum h2_in { H2_IN_HEAD, H2_IN_BODY, H2_IN_DONE, H2_IN_FAILED };

/* What of our message the owner has given. H2_OUT_NOTHING: the stream has no id yet. */
enum h2_out { H2_OUT_NOTHING, H2_OUT_BODY, H2_OUT_DONE };

/* Thousands of these wait for an answer at once: small, and nothing hangs on them but what is on
 * its way. */
struct h2_stream {
    struct stream stream;
    struct h2 *session;
    union {
        struct list_node node; /* on the session's `quiet` or `ready` */
        struct grave grave;    /* once closed */
    };
    struct h2_inbox *inbox; /* the peer's head, from its first field until it is delivered */
    struct buf in, out;     /* data not yet delivered; not yet framed */
    uint64_t begins_at;     /* place of our head in the session's output; H2_NOT_SENT */
    uint64_t in_left;       /* of a declared length; UINT64_MAX if there is none */
    int32_t id;
    signed char error;       /* enum stream_error: what is to be told once the data is */
    unsigned char given_in;  /* enum h2_in */
    unsigned char given_out; /* enum h2_out */
    unsigned char interim;   /* 1xx responses so far */
    bool head_complete;      /* in `inbox`, or delivered */
    bool in_ended;           /* the peer's message is complete */
    bool in_too_long;        /* more data than declared */
    bool full, drained_due;
    bool paused;
    bool wire_closed; /* the library has forgotten it */
    bool closed;
};

#define H2_NOT_SENT UINT64_MAX

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
    void (*on_turn)(
        struct h2 *h); /* at the end of each turn in which something happened; may h2_die() */
    void (*on_dead)(struct h2 *h); /* the last thing that happens, unless the holder closed it */
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
    bool going; /* GOAWAY was received or is to be sent: no new streams */
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

/* A stream without an id. NULL if there is no memory. */
struct h2_stream *h2_stream_new(struct h2 *h);

/* To be told to its owner before the loop sleeps. */
void h2_stream_ready(struct h2_stream *s);

/* Records what it ended with, unless its message is complete or it has failed before. */
void h2_stream_set_error(struct h2_stream *s, enum stream_error error);

/* Schedules the turn: what was submitted is sent, what is ready is delivered. */
void h2_wake(struct h2 *h);

/* Ends the session and its connection: streams fail with `error` (0: by what is known of each), and
 * on_dead follows unless `quietly`. Not from within the library. `why` is static. */
void h2_die(struct h2 *h, enum stream_error error, const char *why, bool quietly);

/* Says GOAWAY, sends what is queued and ends. For a session without streams. on_dead follows. */
void h2_say_goodbye(struct h2 *h);

/* The stream_ops that do not depend on the side. */
int h2_op_send_data(struct stream *s, const void *p, size_t n);
int h2_op_send_end(struct stream *s);
void h2_op_pause(struct stream *s, bool paused);
void h2_op_reset(struct stream *s, enum stream_reset why);
void h2_op_close(struct stream *s);

/* For nghttp2_data_provider: takes from s->out. */
ssize_t h2_read_body(nghttp2_session *library, int32_t id, uint8_t *to, size_t n, uint32_t *flags,
    nghttp2_data_source *source, void *user_data);

static inline struct h2_stream *h2_stream_of(struct stream *s)
{
    return LIST_OWNER(s, struct h2_stream, stream);
}

#endif
