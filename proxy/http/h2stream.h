/* One stream of an HTTP/2 connection, as both sides share it: bytes that are not delivered yet,
 * bytes that are not framed yet, and the operations that do not depend on the side. Belongs to its
 * owner from the time it is given out; ends with h2_stream_close(). One without an owner (a request
 * that is not complete yet; a response that is on its way) is the session's, and ends when the
 * library has forgotten it. */
#ifndef TARRY_HTTP_H2STREAM_H
#define TARRY_HTTP_H2STREAM_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "http/h2head.h"
#include "http/stream.h"
#include "net/loop.h"
#include "net/pace.h"

struct h2;

/* How much of the peer's message the owner has been given. */
enum h2_in { H2_IN_HEAD, H2_IN_BODY, H2_IN_DONE, H2_IN_FAILED };

/* How much of our message the owner has given. H2_OUT_CUT: it will give no more, and the message
 * must not look complete. */
enum h2_out { H2_OUT_NOTHING, H2_OUT_BODY, H2_OUT_DONE, H2_OUT_CUT };

/* The part that only the server side needs. */
struct h2_serving {
    uint64_t in_bytes, out_bytes; /* data received, and framed */
    struct pace pace;             /* of what waits to be framed, else of what is to come */
    uint64_t ended_ms;            /* when a response left before its request was complete */
    uint64_t out_left;            /* of the length that we have declared; UINT64_MAX: none */
    signed char refusal;          /* enum h1_error to answer with, or 0 */
    bool bodiless;                /* the response has no body (HEAD, 204, 304) */
    bool expects_continue;
    bool websocket; /* the request asks for one, */
    bool tunnel;    /* and it stands */
};

/* Thousands of these wait for an answer at once, so they are small and own only bytes in transit.
 */
struct h2_stream {
    struct stream stream;
    struct h2 *session;
    union {
        struct list_node node;              /* on the session's `quiet` or `ready` */
        struct deferred_free deferred_free; /* once closed */
    };
    struct h2_serving *serving;   /* server side only: lies behind it */
    struct h2_inbox *inbox;       /* the peer's head, from its first field until it is delivered */
    struct buf in, out;           /* data not yet delivered; not yet framed */
    uint64_t begins_at;           /* place of our head in the session's output; H2_NOT_SENT */
    uint64_t in_left;             /* of a declared length; UINT64_MAX if there is none */
    int32_t id;                   /* 0: none yet */
    signed char error;            /* enum stream_error: what is to be told once the data is */
    unsigned char given_in;       /* enum h2_in */
    unsigned char given_out;      /* enum h2_out */
    uint32_t delivered;           /* up to half a stream_window */
    uint32_t wider_by;            /* what it has of the session's read_ahead */
    unsigned interim;             /* 1xx responses so far */
    bool head_complete;           /* in `inbox`, or delivered */
    bool in_ended;                /* the peer's message is complete */
    bool in_too_long;             /* more data than declared */
    bool full, drained_due, told; /* told: MESSAGE_FAILED was */
    bool paused;
    bool owned;       /* given out, and not closed yet */
    bool end_sent;    /* our END_STREAM has been framed */
    bool glitched;    /* has been counted as abuse */
    bool wire_closed; /* the library has forgotten it */
    bool closed;
};

#define H2_NOT_SENT UINT64_MAX

/* A stream without an id. NULL if there is no memory. */
struct h2_stream *h2_stream_new(struct h2 *h);

/* To be told to its owner before the loop sleeps. */
void h2_stream_ready(struct h2_stream *s);

/* Records what it ended with, unless its message is complete or it has failed before. */
void h2_stream_set_error(struct h2_stream *s, enum stream_error error);

/* Delivers head, data and end in order. May close the stream. */
void h2_stream_deliver(struct h2_stream *s);

/* The library has forgotten it. */
void h2_stream_cut(struct h2_stream *s);

/* Gives back what it has of the session's read_ahead: at its end, or the session's, whose limits
 * may go before the stream does. */
void h2_stream_narrow(struct h2_stream *s);

/* Whether it still waits for something from its peer, so that it can fail. */
bool h2_stream_may_fail(const struct h2_stream *s);

/* Its owner lets go of it: queued bytes are still sent if our message is complete; else it is
 * reset, with `code`, once the owner's data has gone (H2_OUT_CUT) or at once. Server side. */
void h2_stream_let_go(struct h2_stream *s, uint32_t code);

/* The peer is told with RST_STREAM `code`, and the library forgets whose stream it is. */
void h2_stream_detach(struct h2_stream *s, uint32_t code);

/* Whether something is to be sent that the peer does not take. */
static inline bool h2_stream_waits(const struct h2_stream *s)
{
    return !s->wire_closed && !s->end_sent && (buf_len(&s->out) > 0 || s->given_out == H2_OUT_DONE);
}

/* The stream_ops that do not depend on the side. */
int h2_stream_send_data(struct stream *s, const void *p, size_t n);
int h2_stream_send_end(struct stream *s);
void h2_stream_pause(struct stream *s, bool paused);
void h2_stream_reset(struct stream *s, enum stream_reset why);
void h2_stream_close(struct stream *s);

/* For nghttp2_data_provider: takes from s->out. */
ssize_t h2_stream_read(nghttp2_session *library, int32_t id, uint8_t *to, size_t n, uint32_t *flags,
    nghttp2_data_source *source, void *user_data);

static inline struct h2_stream *h2_stream_of(struct stream *s)
{
    return LIST_OWNER(s, struct h2_stream, stream);
}

#endif
