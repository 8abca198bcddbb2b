/* A live endpoint: the calls that wait for their turn, the calls that use it, and its connections.
 * Endpoints belong to the registry (endpoints.h) and outlive reloads as long as their identity
 * stays the same; a new snapshot changes their limits in place. */
#ifndef TARRY_UPSTREAM_ENDPOINT_H
#define TARRY_UPSTREAM_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "conf/snapshot.h"
#include "http/stream.h"
#include "upstream/budget.h"
#include "upstream/origin.h"
#include "upstream/verdict.h"

struct endpoint;

/* One call's turn at an endpoint: it waits for a stream, then it uses one. Embedded in the attempt
 * that has it; zeroed at first. It is answered exactly once, never from within endpoint_ask(),
 * unless it has left. */
struct endpoint_turn {
    struct list_node node;     /* among those that wait, or those that use it */
    struct endpoint *endpoint; /* NULL: not asked, or it is over */
    struct single *single;     /* of a WebSocket, while its connection is being made */
    bool fresh;     /* it needs a connection that carried no request, see origin_take() */
    bool websocket; /* it needs a connection of HTTP/1.1 for itself */
    /* `s`: begin to send on it at once (set its owner first). NULL: `error` says why there is none,
     * one of the STREAM_E_... that say that nothing was sent, and the turn is over; `why` says it
     * in words for the log, good until the callback returns. */
    void (*on_answer)(void *owner, struct stream *s, enum stream_error error, const char *why);
    void *owner;
};

void endpoint_ask(struct endpoint *e, struct endpoint_turn *t);

/* Whether another WebSocket may be opened (websockets_max). */
bool endpoint_has_websocket_room(const struct endpoint *e);

/* The call needs the turn no longer, or the stream has been closed. Idempotent. */
void endpoint_leave(struct endpoint_turn *t);

/* Whether calls may go there now. `u` is the policy of the one who asks. */
struct verdict_view endpoint_view(struct endpoint *e, const struct upstream_conf *u);

/* A call is about to ask for a turn. Each call that gets VERDICT_IS_PROBE reports that it was. */
enum verdict_admission endpoint_admit(struct endpoint *e);

/* The result of a call to `conf`, which may be that of an older snapshot with another key. Logs
 * what has changed by it. */
void endpoint_report(struct endpoint *e, const struct upstream_conf *u,
    const struct endpoint_conf *conf, const struct verdict_report *r);

/* Whether its service has said what is left of its limits (ratelimit.h): then calls are counted
 * against it. */
bool endpoint_says_limits(const struct endpoint *e);
void endpoint_set_says_limits(struct endpoint *e);

/* By an operator. */
void endpoint_pause(struct endpoint *e, bool paused);

/* Of all calls to its upstream. */
struct budget *endpoint_budget(struct endpoint *e);

/* Calls within the breaker's window, and those of them that failed. */
struct tally_sum endpoint_calls(struct endpoint *e, const struct upstream_conf *u);

/* The calls that wait for it or use it. */
size_t endpoint_load(const struct endpoint *e);

struct endpoint_counts {
    size_t connections, streams, waiting, in_use;
    size_t share; /* calls that may share an HTTP/2 connection now; of one endpoint, not a sum */
};
struct endpoint_counts endpoint_counts(const struct endpoint *e);
void endpoint_counts_add(struct endpoint_counts *sum, const struct endpoint *e);

/* For the registry. */

/* On `list` until it is closed. NULL if there is no memory. */
struct endpoint *endpoint_open(struct list *list, struct resolver *r, const struct origin_terms *t);

/* Whether it is the one that `u` and `e` mean: the same names, scheme, host, port, files
 * of TLS, proxy and protocols. */
bool endpoint_is_for(
    const struct endpoint *ep, const struct upstream_conf *u, const struct endpoint_conf *e);

/* New terms, by a reload: its connections finish what they have and close. */
void endpoint_update(struct endpoint *e, const struct origin_terms *t);

/* Moves it to `list`: it is in use. */
void endpoint_enlist(struct endpoint *e, struct list *list);

/* Moves it to `list`; it closes itself once nobody uses it. */
void endpoint_retire(struct endpoint *e, struct list *list);

/* Those that wait are answered with STREAM_E_CONNECT, streams get MESSAGE_FAILED. */
void endpoint_close(struct endpoint *e);

/* The endpoint by its place on the registry's list. */
struct endpoint *endpoint_on(struct list_node *n);

#endif
