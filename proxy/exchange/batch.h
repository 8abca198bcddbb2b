/* The visits with pieces of one process: all its exchanges that are due go in one visit, and each
 * response takes effect as it comes. A batch is made when the first exchange is due, and ends by
 * itself when none has been for piece_interval.
 *
 *   IDLE --> DUE --> VISITING --> PAUSING --> DUE or gone
 *   DUE waits for the process; PAUSING for piece_interval. VISITING is followed by DUE
 *   where more were due than one visit takes, and the next one takes what is left of them. In
 *   VISITING some may become due for the next visit, and one that leaves stays in its place without
 *   an owner. */
#ifndef TARRY_EXCHANGE_BATCH_H
#define TARRY_EXCHANGE_BATCH_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/list.h"
#include "conf/snapshot.h"
#include "exchange/problem.h"
#include "http/body.h"
#include "http/head.h"
#include "workers/pool.h"

struct batch;
struct batch_member;

/* What a member puts into a visit, and what it hears of its response. From the loop. It may leave
 * from within. */
struct batch_ops {
    /* Its piece: the head of the enclosed request (Content-Length is added), in `a`, and the data,
     * which is copied. 0, or -1: it cannot be made, and on_failed() follows. */
    int (*make)(void *owner, struct arena *a, struct head *head, struct piece *data);
    void (*on_head)(void *owner, const struct head *head);
    void (*on_data)(void *owner, struct str data);
    void (*on_trailer)(void *owner, const struct head *trailer);
    void (*on_content)(void *owner, struct str data);
    void (*on_end)(void *owner);
    /* Before on_end: PROBLEM_WORKER_UNREACHABLE: the process is gone or was not free; another one:
     * it died or talks nonsense. Nothing else follows. */
    void (*on_failed)(void *owner, enum problem p, const char *why);
};

struct batch_member {
    struct list_node node;      /* on the batch's list of those that are due */
    struct batch *batch;        /* NULL: none */
    struct batch_member **seat; /* in a visit under way; NULL: none */
    const struct batch_ops *ops;
    void *owner;
};

/* The process: a server, as pool_want takes it. */
struct batch_process {
    struct pool *pool;
    struct conf *conf;
    struct str server, at;
};

/* The member is due: it takes part in the process's next visit. 0, or -1 without memory. */
int batch_join(struct list *batches, const struct batch_process *at, struct batch_member *m,
    const struct batch_ops *ops, void *owner);

/* It wants nothing more. The response to its piece in a visit under way is ignored. */
void batch_leave(struct batch_member *m);

/* Tells the process that the client of a run has gone: one piece, once, whatever comes of it. */
void batch_tell_cancelled(
    struct list *batches, const struct batch_process *at, const char *exchange, unsigned hop);

/* Ends all. */
void batches_close(struct list *batches);

#endif
