/* The bounds of an HTTP/2 connection. */
#ifndef TARRY_HTTP_H2LIMITS_H
#define TARRY_HTTP_H2LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "http/h2guard.h"

/* What streams may hold unread beyond stream_window, all together: one whose owner keeps up gets a
 * wider window for as long as it lives, while there is some of it left. Shared by connections. */
struct h2_read_ahead {
    uint64_t used, max;
};

/* Of both sides. */
struct h2_limits {
    uint32_t stream_window;     /* unread data of one stream that its peer may send */
    uint32_t connection_window; /* the same of all its streams together; INT32_MAX: no more than
                                   their own windows bound them */
    uint32_t wide_window;       /* of a stream that reads ahead */
    struct h2_read_ahead *read_ahead; /* NULL: none does */
    size_t out_max;   /* data of one stream that is not framed yet: from there STREAM_FULL */
    size_t queue_max; /* frames that wait while the peer does not read: beyond, nothing is
                         read from it either; five times as many end it. 0: no limit */
    size_t head_max;  /* bytes of a header section, 32 more a field (RFC 9113 10.5.1) */
    size_t fields_max;
    size_t interim_max;        /* client side: 1xx responses before the real one */
    uint64_t ping_interval_ms; /* silence with streams open, after which the peer is asked whether
                                  it lives */
    uint64_t check_after_ms;   /* client side: an unused connection that was silent for so long must
                                  answer a ping before it is used again */
    uint64_t check_timeout_ms; /* for that answer */
    uint64_t ping_timeout_ms;  /* for its answer, and for its first SETTINGS */
    uint64_t finish_ms;        /* for the last bytes of a connection that is done */
    uint64_t calm_ms;          /* the same of a peer that is sent away (ENHANCE_YOUR_CALM) */
};

/* Of the server side alone. */
struct h2_server_limits {
    struct h2_limits common;
    uint32_t streams_max;          /* open at a time */
    uint32_t stalled_max;          /* responses of which the client takes nothing */
    uint64_t stalled_timeout_ms;   /* for so long: with more of them it is not served */
    uint64_t early_answer_wait_ms; /* before a request that was answered early is reset */
    uint64_t goaway_wait_ms;       /* for the answer to a notice of GOAWAY */
    uint64_t unread_timeout_ms;    /* for a client that reads none of what it makes us queue */
    size_t head_excess;            /* times the limits: a longer head is not even read to its end */
    struct h2_guard_limits abuse;
};

#endif
