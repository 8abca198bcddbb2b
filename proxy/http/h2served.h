/* A client's HTTP/2 connection, as the server's files share it: h2server.c (requests, the end),
 * h2watch.c (the time that runs for them) and h2reply.c (responses).
 *
 *   DRAIN_NOT -> DRAIN_NOTICED -> DRAIN_LAST -> (dead)
 *
 * RFC 9113 6.8: a draining server says so first (DRAIN_NOTICED: GOAWAY with the largest id),
 * because requests may be on their way; a round trip later it names the last one that it serves
 * (DRAIN_LAST), and ends when that is answered. */
#ifndef TARRY_HTTP_H2SERVED_H
#define TARRY_HTTP_H2SERVED_H

#include "http/acceptor.h"
#include "http/h2guard.h"
#include "http/h2session.h"
#include "http/h2stream.h"
#include "net/deadline.h"
#include "net/pace.h"

enum drain { DRAIN_NOT, DRAIN_NOTICED, DRAIN_LAST };

struct h2_server {
    struct h2 h2;
    struct accepted accepted;
    struct acceptor *acceptor;
    struct deadline early; /* for requests that were answered before they were complete */
    struct deadline watch; /* idle: its end; else the next look at what is slow */
    struct h2_guard guard;
    uint64_t opened_ms, noticed_ms;
    struct pace taken;   /* of what the connection has queued */
    struct pace framing; /* of all data that waits in streams */
    size_t requests;
    unsigned char drain; /* enum drain */
    bool watching;       /* time runs for something: the paces have begun */
    bool acknowledged;   /* our SETTINGS are */
    bool heard_back;     /* the notice's ping is answered */
};

static inline struct h2_server *h2_server_of(const struct h2 *h)
{
    return LIST_OWNER(h, struct h2_server, h2);
}

#endif
