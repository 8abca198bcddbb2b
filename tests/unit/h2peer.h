/* The other end of an HTTP/2 connection, for tests: an nghttp2 server over a struct conn on the
 * test's own loop. It answers when and as the test says; what the test wants beyond that it does
 * with `library` and h2peer_flush(). */
#ifndef TARRY_TESTS_H2PEER_H
#define TARRY_TESTS_H2PEER_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/conn.h"

struct h2peer {
    nghttp2_session *library;
    struct conn *conn;
    void (*on_request)(struct h2peer *p, int32_t id); /* a request is complete; may be NULL */
    void *owner;
    struct h2peer *next;         /* for who keeps several */
    bool mute;                   /* reads, and neither sends nor answers anything */
    bool ended;                  /* the connection has */
    size_t requests, open, peak; /* complete ones so far; streams now and at most */
    size_t resets;               /* RST_STREAM received */
    uint32_t reset_code;         /* the last one's */
    size_t body_bytes;           /* received, of all requests */
    int32_t last_id;
    char fields[8192];       /* of the last request: "name: value\n" each, in order */
    int32_t complete[20000]; /* ids of requests that on_request has not been told of */
    size_t ncomplete;
};

struct h2peer_options {
    uint32_t max_streams; /* 0: says nothing */
    uint32_t window;      /* 0: the default */
    bool lax;             /* sends and takes what breaks the rules of HTTP */
};

/* Takes over `conn`, which may still be in its handshake. */
struct h2peer *h2peer_open(struct conn *conn, const struct h2peer_options *o);

/* Ends the connection too, if it has not ended. */
void h2peer_close(struct h2peer *p);
void h2peer_flush(struct h2peer *p);

/* Closes the connection cleanly, or with a reset; the peer stays readable. */
void h2peer_end(struct h2peer *p, bool reset);

/* Head and `n` bytes of body ('x'), then the end, unless `hold`: then the stream stays open.
 * `fields` are further ones, or NULL. */
void h2peer_respond(struct h2peer *p, int32_t id, const char *status, const nghttp2_nv *fields,
    size_t nfields, size_t n, bool hold);

#define H2PEER_NV(n, v)                                                                            \
    {                                                                                              \
        (uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, sizeof(v) - 1, NGHTTP2_NV_FLAG_NONE         \
    }

#endif
