/* One visit to a worker: waits for a slot, sends the request from the pieces that it is made of,
 * and tells of the response. The slot is held from its answer until the response is complete; if
 * the visit ends before, until the worker is done with what nobody waits for any more
 * (pool_release()). Belongs to its exchange. */
#ifndef TARRY_EXCHANGE_VISIT_H
#define TARRY_EXCHANGE_VISIT_H

#include <stdbool.h>
#include <stdint.h>

#include "http/body.h"
#include "http/head.h"
#include "workers/pool.h"

struct visit;

enum visit_failure {
    VISIT_QUEUE_FULL,
    VISIT_QUEUE_TIMEOUT,
    VISIT_UNREACHABLE,
    VISIT_DIED, /* the connection ended before a byte of the response; the request may have been
                   processed */
    VISIT_INCOMPLETE, /* it ended within the response */
    VISIT_PROTOCOL,   /* the response is malformed */
    VISIT_TIMEOUT,    /* response_timeout */
    VISIT_RESOURCES,  /* our memory or disk */
};

enum visit_event_kind {
    VISIT_STARTED, /* a worker has it: the queue is behind */
    VISIT_QUEUED,  /* the worker had closed the connection before: back in the queue */
    VISIT_HEAD,    /* status 101: the WebSocket that was asked for stands, and bytes go both ways */
    VISIT_DATA,
    VISIT_DRAINED, /* after STREAM_FULL from visit_send(): room again */
    VISIT_END,     /* the slot has been given back, or will be */
    VISIT_FAILED,  /* likewise; nothing else follows */
};

struct visit_event {
    enum visit_event_kind kind;
    const struct head *head;
    struct str data;
    enum visit_failure failure;
    const char *why;
};

/* May close the visit from within. */
typedef void visit_event_fn(void *owner, struct visit *v, const struct visit_event *ev);

struct visit_request {
    const struct head *head; /* these borrow until the visit is closed, or stands as a tunnel */
    const struct piece *pieces;
    size_t npieces;
    const struct addr *client; /* of whose requests only so many may wait; NULL: any number */
    bool ahead;                /* goes before new requests in the queue */
    uint64_t queue_timeout_ms; /* 0: the pool's */
};

/* Starts it; events follow from the loop. NULL if there is no memory. */
struct visit *visit_open(
    struct pool *pool, const struct visit_request *r, visit_event_fn *on_event, void *owner);

/* Through the tunnel, to the worker: as stream_send_data() and stream_send_end(). */
int visit_send(struct visit *v, struct str data);
void visit_send_end(struct visit *v);

/* Holds the worker's response back. */
void visit_pause(struct visit *v, bool paused);

/* Ends it, wherever it stands. NULL is allowed. */
void visit_close(struct visit *v);

#endif
