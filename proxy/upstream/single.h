/* A connection of HTTP/1.1 for one request alone: a WebSocket's. It is dialled for it, offers
 * http/1.1 only, and is never shared or kept. It belongs to its origin, on the origin's list. */
#ifndef TARRY_UPSTREAM_SINGLE_H
#define TARRY_UPSTREAM_SINGLE_H

#include "base/list.h"
#include "http/h1parse.h"
#include "http/stream.h"
#include "upstream/dial.h"

struct single;

/* Once, never from within single_open(). `s`: begin to send on it at once (set its owner first);
 * the connection ends by itself when that is closed. NULL: `error` and `why` say why there is none,
 * and the connection is gone. */
typedef void single_answer_fn(
    void *owner, struct stream *s, enum stream_error error, const char *why);

/* `limits` outlives it. NULL if there is no memory. */
struct single *single_open(struct list *list, struct resolver *r, const struct dial_target *t,
    const struct h1_limits *limits, single_answer_fn *on_answer, void *owner);

/* No answer follows; a stream gets MESSAGE_FAILED. NULL is allowed. */
void single_close(struct single *s);

/* Closes all of a list. Those without an answer are answered with STREAM_E_CONNECT. */
void single_close_all(struct list *list);

#endif
