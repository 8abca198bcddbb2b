/* An HTTP/2 session's state, as its streams, the library's callbacks, the drive (h2.c) and the two
 * sides share it. */
#ifndef TARRY_HTTP_H2SESSION_H
#define TARRY_HTTP_H2SESSION_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "http/h2guard.h"
#include "http/h2head.h"
#include "http/h2limits.h"
#include "http/stream.h"
#include "net/conn.h"
#include "net/deadline.h"
#include "net/loop.h"

struct h2;
struct h2_stream;

/* The operations of a side. Those that may be NULL say so. */
struct h2_role {
    bool server;

    /* Called from within the library: these only record and submit. */

    /* A header block begins: the stream that it belongs to, or NULL to ignore it (trailers, a
     * stream that is gone). */
    struct h2_stream *(*begin_head)(struct h2 *h, const nghttp2_frame *f);
    /* It is complete and within the limits, in s->inbox. 0, or the error to end the stream with. */
    enum stream_error (*take_head)(struct h2_stream *s, bool last);
    /* The error of a stream that was closed before the peer's message was complete: by the peer
     * with RST_STREAM or GOAWAY, or (by_peer false) by the library because the message is
     * malformed. */
    enum stream_error (*close_error)(const struct h2_stream *s, uint32_t code, bool by_peer);
    /* A field of the head goes beyond the limits. Whether the block is read on (without keeping
     * more of it): the side answers. NULL: the stream is reset. */
    bool (*head_too_large)(struct h2_stream *s, const struct h2_block *block);
    /* A frame was received whole. May be NULL. */
    void (*on_frame)(struct h2 *h, const nghttp2_frame *f);
    /* The peer did something that costs more than it is worth. May be NULL. */
    void (*on_abuse)(struct h2 *h, enum h2_abuse what);
    /* A DATA frame was sent. May be NULL. */
    void (*on_wrote)(struct h2 *h, size_t n);
    /* The peer's windows let only `n` bytes of more leave. May be NULL. */
    void (*on_short_write)(struct h2 *h, size_t n);
    /* Our message is complete, the peer's is not, and its owner has let go. May be NULL. */
    void (*on_answered_early)(struct h2_stream *s);

    /* Called from the loop. */

    /* The error of a stream when the connection ends; `sent`: how much of h->written has left. */
    enum stream_error (*end_error)(
        const struct h2_stream *s, uint64_t sent, enum stream_error error);
    /* Finds an owner for the stream (s->owned) by its head. May close it. NULL: it has one. */
    void (*give_head)(struct h2_stream *s, const struct h2_inbox *inbox);
    /* At the end of each turn in which something happened. May h2_die(). */
    void (*on_turn)(struct h2 *h);
    /* The last thing that happens, unless the holder closed it. */
    void (*on_dead)(struct h2 *h);
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
    void (*on_turn)(void *owner); /* what h2_wake() defers */
    struct deadline probe;
    struct deferred_free deferred_free;
    void (*free_role)(void *what); /* frees the role's struct */
    struct addr peer;
    uint64_t written;             /* bytes given to conn */
    uint64_t out_bytes;           /* data framed, of all streams */
    uint64_t heard_ms;            /* when something came last */
    bool checking;                /* an unused connection is asked whether it can be used again */
    uint64_t asked_ms, asked_out; /* the ping that is out: when, and what conn had sent then */
    struct h2_block block;        /* the header block that is being received */
    struct h2_stream *block_stream;
    char why[128];                     /* it died, for logs */
    const char *fault;                 /* not NULL: a connection error that the library lets pass */
    const char *abuse;                 /* not NULL: the peer is to be refused, and why */
    uint64_t block_ms;                 /* when the header block began */
    uint64_t read_paused_ms;           /* since when nothing is read */
    uint32_t goaway_code, goaway_last; /* of the peer's GOAWAY: why, and the last stream it took */
    bool goaway_heard;
    bool inside;       /* the library is on the stack */
    bool block_open;   /* a header block has begun and not ended */
    bool read_paused;  /* too much waits for the peer: nothing is read */
    bool settled;      /* the peer's first SETTINGS are here */
    bool settings_due; /* `probe` runs until they come */
    bool asked;
    bool broken;       /* the peer broke the protocol, and the library says so */
    bool draining;     /* GOAWAY was received or is to be sent: no new streams */
    bool peer_stalled; /* the peer takes nothing of what is queued for it */
    bool sent_calm;    /* we have asked the peer to calm down, and left */
    bool dead, freed;
};

/* Schedules the turn, which sends all that was submitted and delivers all that is ready. */
void h2_wake(struct h2 *h);

/* A stream has been closed by its owner: a dead session's memory goes with the last one. */
void h2_forget_stream(struct h2 *h);

/* Frees a dead session that has no streams any more. */
void h2_free_if_over(struct h2 *h);

/* Asks an unused connection that was silent for check_after with a ping: `checking` is set until it
 * answers. */
void h2_check(struct h2 *h);

#endif
