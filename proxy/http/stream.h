/* The one interface to a request and its response, over HTTP/1.1 and HTTP/2, server and client
 * side. Above it, nobody asks which version is spoken.
 *
 * Server side: the stream belongs to the connection that made it; the exchange that answers it is
 * its owner until stream_close(). Client side: the same, with the visit or call that asked for it
 * as the owner. After stream_close() no event follows, and the pointer must not be used again.
 *
 * Data that arrives is handed over in pieces that the owner takes whole (MESSAGE_DATA); an owner
 * that wants no more says stream_pause(), and the peer is held back through the socket or the
 * flow-control window.
 *
 * A WebSocket: the request's head has `websocket` set. The answer to it is a head with status 101,
 * which is the tunnel's beginning, or any other response, and then it was a request like others.
 * After 101 both sides send what they will, as it is: MESSAGE_DATA and stream_send_data() in both
 * directions, and each direction ends for itself (MESSAGE_END, stream_send_end()). What a client
 * has sent before the answer waits, and is never read as another request. */
#ifndef TARRY_HTTP_STREAM_H
#define TARRY_HTTP_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "http/head.h"
#include "net/addr.h"

struct stream;

enum stream_error {
    STREAM_FULL = -1,      /* result of sending only: taken, but send no more until on_drained */
    STREAM_E_RESOLVE = -2, /* the name has no address; nothing was sent */
    STREAM_E_CONNECT = -3, /* refused or unreachable; nothing was sent */
    STREAM_E_CONNECT_TIMEOUT = -4, /* nothing was sent */
    STREAM_E_CERTIFICATE = -5,     /* nothing was sent */
    STREAM_E_TLS = -6,             /* handshake failed otherwise; nothing was sent */
    STREAM_E_REFUSED =
        -7, /* the peer says that it did not process the request (REFUSED_STREAM, GOAWAY) */
    STREAM_E_STALE = -8, /* a kept connection ended before the peer can have received the request */
    STREAM_E_TERMINATED = -9, /* reset before a byte of the response; it may have been processed */
    STREAM_E_ENDED =
        -17, /* closed cleanly before a byte of the response; it may have been processed */
    STREAM_E_ALERT = -18,      /* the peer wants a certificate of ours, or another one; it has not
                                  looked at the request */
    STREAM_E_PROXY = -19,      /* the proxy on the way refuses the tunnel; nothing was sent */
    STREAM_E_NO_WAY = -20,     /* the proxy does not reach the peer; nothing was sent */
    STREAM_E_INCOMPLETE = -10, /* ended or reset within the response */
    STREAM_E_PROTOCOL = -11,   /* the peer's message is malformed */
    STREAM_E_HEAD_TOO_LARGE = -12, /* the response's header section is over the limit */
    STREAM_E_BAD_REQUEST = -13,    /* server side: the client's body is malformed; see `detail` */
    STREAM_E_GONE = -14,           /* server side: the client has closed or reset */
    STREAM_E_TIMEOUT = -15,        /* server side: the client did not send or take bytes in time */
    STREAM_E_MEMORY = -16,
};

/* A message from a peer comes in this order: HEAD, any number of DATA, END; or FAILED at any point,
 * and then nothing else. The same for a response and for a request, whose head comes with
 * stream_accept_fn. Spans borrow until the callback returns. */
enum message_kind {
    MESSAGE_HEAD, /* client side: the response's head (never 1xx, but 101 where a WebSocket was
                     asked for and agreed to) */
    MESSAGE_DATA, /* a piece of the body, never empty */
    MESSAGE_END,  /* the message is complete */
    /* `cause` says why. The owner still has to stream_close(). Server side, STREAM_E_BAD_REQUEST
     * and STREAM_E_TIMEOUT while the body was read: the client can still be answered; the
     * connection ends with that. */
    MESSAGE_FAILED,
};

struct message {
    enum message_kind kind;
    const struct head *head; /* of MESSAGE_HEAD */
    struct str data;         /* of MESSAGE_DATA */
    enum stream_error cause; /* of MESSAGE_FAILED */
    /* Of STREAM_E_BAD_REQUEST: an enum h1_error. Visits and calls, which pass messages on, say here
     * what the failure is for the client: an enum problem. */
    int detail;
    const char *why; /* of MESSAGE_FAILED, in words for the log; NULL: stream_strerror(cause) */
};

/* A request as it reaches the server side. Good until the callback returns. */
struct stream_request {
    const struct head *head; /* `error_status` set: as far as it could be read, or NULL */
    bool body;               /* one follows */
    bool length_known;
    uint64_t length;
    bool expects_continue;
    bool websocket_only; /* RFC 8441: it asks for a WebSocket, and any 2xx would be taken for one */
    unsigned error_status; /* not 0: the request is refused with it; `error` says why */
    const char *error;
};

/* A client's request: the callee sets the stream's owner, or answers and closes it. After an error
 * the connection ends with the answer. */
typedef void stream_accept_fn(void *owner, struct stream *s, const struct stream_request *r);

/* The callbacks of a stream's owner. Each may stream_close() or reset the stream from within. */
struct stream_handler {
    void (*on_message)(void *owner, struct stream *s, const struct message *m);
    /* After STREAM_FULL: room again. NULL: it is not of interest. */
    void (*on_drained)(void *owner, struct stream *s);
    /* Server side: the client sent FIN after its request (HTTP/1.1). It may still read, or be
     * gone. NULL: it is not of interest. */
    void (*on_half_closed)(void *owner, struct stream *s);
};

enum stream_reset {
    STREAM_CANCEL, /* we no longer want the answer (RST_STREAM CANCEL) */
    STREAM_ABORT,  /* what we sent is not complete and must not look so */
};

struct stream_ops {
    /* Each: 0, STREAM_FULL, or a negative error (then MESSAGE_FAILED follows, from the loop).
     * `end`: no body follows. The fields are copied. Framing fields (Content-Length,
     * Transfer-Encoding, Connection, Upgrade …) are the stream's to set: a Content-Length field in
     * `head` is believed and must be right; without one the body is framed as the version has it.
     * Server side, "Connection: close" ends an HTTP/1.1 connection with this response. */
    int (*send_head)(struct stream *s, const struct head *head, bool end);
    int (*send_data)(struct stream *s, const void *p, size_t n);
    int (*send_end)(struct stream *s);
    /* Server side: 100 Continue, if the client waits for it; before the head. */
    void (*send_continue)(struct stream *s);
    void (*pause)(struct stream *s, bool paused);
    void (*reset)(struct stream *s, enum stream_reset why);
    /* The owner is done with it. If request and response are complete the connection lives on;
     * otherwise it is as reset(STREAM_CANCEL). */
    void (*close)(struct stream *s);
    /* Server side: the TLS connection, for net/sni.h; NULL in the clear. May be missing. */
    const struct ssl_st *(*tls)(struct stream *s);
};

/* Embedded in what h1 and h2 keep for a stream. */
struct stream {
    const struct stream_ops *ops;
    const struct stream_handler *handler; /* NULL: nobody listens (any more) */
    void *owner;
    const struct addr *peer; /* lives as long as the stream */
    bool secure;             /* over TLS */
    bool http2;
    bool reused; /* client side: not the first request on its connection */
    bool broken; /* HTTP/2: it failed with its connection, about which the peer had said nothing */
};

static inline int stream_send_head(struct stream *s, const struct head *head, bool end)
{
    return s->ops->send_head(s, head, end);
}

static inline int stream_send_data(struct stream *s, const void *p, size_t n)
{
    return s->ops->send_data(s, p, n);
}

static inline int stream_send_end(struct stream *s)
{
    return s->ops->send_end(s);
}

static inline void stream_send_continue(struct stream *s)
{
    s->ops->send_continue(s);
}

static inline void stream_pause(struct stream *s, bool paused)
{
    s->ops->pause(s, paused);
}

static inline void stream_reset(struct stream *s, enum stream_reset why)
{
    s->ops->reset(s, why);
}

static inline void stream_close(struct stream *s)
{
    s->ops->close(s);
}

static inline const struct ssl_st *stream_tls(struct stream *s)
{
    return s->ops->tls ? s->ops->tls(s) : NULL;
}

static inline void stream_set_owner(
    struct stream *s, const struct stream_handler *handler, void *owner)
{
    s->handler = handler;
    s->owner = owner;
}

/* For a stream's implementation: tells the owner, if there is one. The stream may be closed
 * afterwards. */
static inline void stream_emit(struct stream *s, struct message m)
{
    if (s->handler)
        s->handler->on_message(s->owner, s, &m);
}

static inline void stream_emit_drained(struct stream *s)
{
    if (s->handler && s->handler->on_drained)
        s->handler->on_drained(s->owner, s);
}

static inline void stream_emit_half_closed(struct stream *s)
{
    if (s->handler && s->handler->on_half_closed)
        s->handler->on_half_closed(s->owner, s);
}

/* For logs: "connection refused". */
const char *stream_strerror(enum stream_error e);

#endif
