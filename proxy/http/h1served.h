/* A client's HTTP/1.1 connection, as the server's files share it: h1server.c (requests, the end)
 * and h1reply.c (responses). Two stories run side by side: what the client has sent of its request
 * (enum h1served_in), and what we have sent of the response (enum h1served_out). */
#ifndef TARRY_HTTP_H1SERVED_H
#define TARRY_HTTP_H1SERVED_H

#include "http/acceptor.h"
#include "http/h1body.h"
#include "http/h1parse.h"
#include "net/conn.h"
#include "net/deadline.h"
#include "net/loop.h"
#include "net/pace.h"

enum h1served_in { IN_HEAD, IN_BODY, IN_DONE, IN_TUNNEL, IN_FAILED };
enum half_closed { HALF_CLOSED_NOT, HALF_CLOSED_SEEN, HALF_CLOSED_TOLD };
enum h1served_out {
    OUT_NOTHING,
    OUT_LENGTH,
    OUT_CHUNKED,
    OUT_UNTIL_CLOSE,
    OUT_NO_BODY,
    OUT_TUNNEL,
    OUT_DONE
};

struct h1_server {
    struct conn *conn;
    struct stream stream;
    struct acceptor *acceptor;
    struct accepted accepted;
    struct deadline deadline;
    struct deferred work; /* the next request, or an event that may not come from within */
    struct deferred_free deferred_free;
    struct h1_scan scan;
    struct h1_body body;
    uint64_t served;   /* requests so far, the one in hand included */
    uint64_t out_left; /* of OUT_LENGTH */
    struct pace pace;  /* of the body that comes, or of the output that the client has to take */
    unsigned char in;  /* enum h1served_in */
    unsigned char out; /* enum h1served_out */
    unsigned char minor;
    bool pace_sends; /* `pace` is of the output */
    bool streaming;  /* a stream is with an owner */
    bool keep_alive;
    bool expects_continue;
    bool head_method;
    bool websocket; /* the request asks for one */
    bool paused;
    unsigned char half_closed; /* enum half_closed */
    bool closed;
};

static inline struct h1_server *h1_server_of(struct stream *s)
{
    return LIST_OWNER(s, struct h1_server, stream);
}

#endif
