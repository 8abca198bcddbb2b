/* A call's place in the pace of its upstream: whose it is, what it counts under, and what it is
 * expected to use (upstream/pacer.h), and then what the account of the endpoint allows that it goes
 * to (upstream/meter.h). Belongs to the call; made only where something may have to wait. */
#ifndef TARRY_EXCHANGE_PACING_H
#define TARRY_EXCHANGE_PACING_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/snapshot.h"
#include "http/body.h"
#include "http/head.h"
#include "llm/reader.h"
#include "net/addr.h"
#include "upstream/endpoints.h"

struct pacing;

struct pacing_request {
    const struct upstream_conf *upstream; /* of a snapshot that outlives it */
    struct endpoints *endpoints;
    const struct piece *body;  /* outlives it */
    const struct head *head;   /* of the request, without what the endpoint sets; only borrowed */
    struct str tenant;         /* Tarry-Limit-Key; p NULL: none */
    const struct addr *client; /* NULL: unknown */
    void (*on_turn)(void *owner);
    uint64_t (*ready_in)(void *owner); /* in how many ms an endpoint can take it */
    void *owner;
};

/* Whether calls of the upstream may have to wait: it has limits, or an endpoint with limits, or a
 * service that says what is left. */
bool pacing_is_needed(struct endpoints *es, const struct upstream_conf *u);

/* NULL without memory. */
struct pacing *pacing_new(const struct pacing_request *r);

/* After pacing_leave(). NULL is allowed. */
void pacing_free(struct pacing *p);

/* Asks for an attempt's turn; `again`: for another one than the first. */
enum pacer_result pacing_ask(struct pacing *p, bool again);

/* In how many milliseconds the account of an endpoint has room for it. */
uint64_t pacing_account_wait(void *pacing, const struct endpoint_conf *e);

/* The attempt goes to this endpoint. 0, or in how many milliseconds it may: others were first. */
uint64_t pacing_begin(struct pacing *p, const struct endpoint_conf *e);

/* An answer has come. */
void pacing_answered(struct pacing *p, const struct endpoint_conf *e, const struct head *head);

/* The attempt is over, or waits no longer. */
enum pacing_end {
    PACING_UNBEGUN, /* it was not made, or never started: it does not count */
    PACING_FREE,    /* it used no tokens */
    PACING_USED     /* as `usage` says, or as was expected */
};
void pacing_leave(struct pacing *p, enum pacing_end end, const struct llm_usage *usage);

/* Until when it waits at most, in ms of loop_now_ms(). */
uint64_t pacing_until_ms(const struct pacing *p);

/* A guess when there is room, in seconds, for a client that is refused. */
unsigned pacing_retry_after_s(const struct pacing *p);

/* How long it has waited so far. */
uint64_t pacing_queued_ms(const struct pacing *p);

#endif
