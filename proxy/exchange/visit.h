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
#include "http/stream.h"
#include "workers/pool.h"

struct visit;

/* What a visit's owner hears; each may close the visit from within. The worker's response comes as
 * messages: HEAD, DATA, END, or FAILED (`detail` is the problem that it is, `why` says it in
 * words), after which nothing else follows. A HEAD with status 101: the WebSocket that was asked
 * for stands, and bytes go both ways. After END and FAILED the slot has been given back, or will
 * be. */
struct visit_handler {
    void (*on_message)(void *owner, struct visit *v, const struct message *m);
    void (*on_started)(void *owner, struct visit *v);  /* a worker has it: the queue is behind */
    void (*on_requeued)(void *owner, struct visit *v); /* the worker had closed the connection
                                                          before: back in the queue */
    void (*on_drained)(void *owner, struct visit *v);  /* after STREAM_FULL from visit_send(): room
                                                          again. NULL: it is not of interest */
};

struct visit_request {
    const struct head *head; /* these borrow until the visit is closed, or stands as a tunnel */
    const struct piece *pieces;
    size_t npieces;
    struct pool_want want;
    /* A field of `head` that is `single` instead if the server is one process; NULL: none. */
    struct field *features;
    struct str single;
};

/* Starts it; events follow from the loop. NULL if there is no memory. */
struct visit *visit_open(struct pool *pool, const struct visit_request *r,
    const struct visit_handler *handler, void *owner);

/* Of a visit that has a slot: its server, as pool_want takes it (good until the next reload), and
 * whether that process may be at `at` too. */
struct str visit_server(const struct visit *v);
bool visit_may_be_at(const struct visit *v, struct str at);

/* Another handler, as the same visit serves another purpose: a tunnel. */
void visit_set_handler(struct visit *v, const struct visit_handler *handler);

/* Through the tunnel, to the worker: as stream_send_data() and stream_send_end(). */
int visit_send(struct visit *v, struct str data);
void visit_send_end(struct visit *v);

/* Holds the worker's response back; nothing happens if that is so already. */
void visit_pause(struct visit *v, bool paused);

/* Ends it, wherever it stands. NULL is allowed. */
void visit_close(struct visit *v);

/* One line for logs and the panic: "visit receiving, paused". NULL is allowed. */
void visit_describe(const struct visit *v, char *buf, size_t n);

#endif
