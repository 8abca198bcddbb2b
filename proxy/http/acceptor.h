/* The state that the client connections of one listener share, whatever version they speak: limits,
 * timeouts, the callback for requests, and the lists of the connections themselves.
 *
 * A connection belongs to itself: a server (h1server, h2server) that embeds struct accepted, is on
 * one of the lists, and ends when the client, a deadline or the drain ends it.
 */
#ifndef TARRY_HTTP_ACCEPTOR_H
#define TARRY_HTTP_ACCEPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "http/date.h"
#include "http/h1parse.h"
#include "http/h2limits.h"
#include "http/stream.h"
#include "net/conn.h"
#include "net/loop.h"
#include "net/pace.h"

/* The front owns it and may change limits in place: they hold from the next request. */
struct acceptor {
    struct h1_limits limits;
    struct h2_server_limits http2;
    uint64_t handshake_timeout_ms;  /* for TLS, from the accept */
    uint64_t header_timeout_ms;     /* for a whole head, from its first byte (or from the accept) */
    uint64_t body_timeout_ms;       /* between two reads of a body */
    uint64_t send_timeout_ms;       /* a client that takes nothing */
    uint64_t body_rate_min;         /* bytes a second that a body has to come with, */
    uint64_t send_rate_min;         /* and that a client has to take while some wait for it, */
    uint64_t rate_window_ms;        /* both on average over so long; 0: any rate will do */
    uint64_t keep_alive_timeout_ms; /* between requests */
    size_t requests_max;            /* of one connection, which ends with the last; 0: no bound */
    stream_accept_fn *on_request;
    void *owner;
    bool websockets; /* may be asked for over HTTP/2 (RFC 8441); for connections that begin */
    bool draining;   /* each connection ends with the requests that it is at */
    struct date_cache date;
    struct list idle; /* connections between requests, longest idle first */
    struct list busy;
    struct list arriving; /* connections whose version is not known yet */
    struct deferred drain_work;
    size_t drain_left[2]; /* connections on `idle` and `busy` that have yet to be told */
};

struct accepted;

/* The operations of a server for its acceptor. Each may end the connection. */
struct accepted_ops {
    /* The acceptor begins to drain. */
    void (*drain)(struct accepted *c);
    /* Cuts it; its streams' owners get MESSAGE_FAILED. It must be off the lists afterwards. */
    void (*cut)(struct accepted *c);
    /* Ends a connection on the idle list at once, if nothing has come and nothing waits to leave on
     * it. False: it goes on. */
    bool (*retire)(struct accepted *c);
};

/* Embedded in a server. */
struct accepted {
    struct list_node node; /* on one of the acceptor's lists */
    const struct accepted_ops *ops;
};

void acceptor_init(struct acceptor *a);

/* Ends idle connections, a batch a turn, and busy ones with their responses. */
void acceptor_drain(struct acceptor *a);

/* Cuts all connections. */
void acceptor_close(struct acceptor *a);

/* Ends up to `n` connections between requests, those that have been idle longest, to make room for
 * others. How many it has ended. */
size_t acceptor_make_room(struct acceptor *a, size_t n);

/* How slow a client may be that sends its body, and one that has output waiting for it. */
struct pace_limits acceptor_body_pace(const struct acceptor *a);
struct pace_limits acceptor_send_pace(const struct acceptor *a);

/* How many connections there are. */
size_t acceptor_count(const struct acceptor *a);

#endif
