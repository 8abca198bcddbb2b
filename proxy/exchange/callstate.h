/* A call from inside: for call.c and callanswer.c alone. */
#ifndef TARRY_EXCHANGE_CALLSTATE_H
#define TARRY_EXCHANGE_CALLSTATE_H

#include "exchange/attempt.h"
#include "exchange/call.h"
#include "exchange/callplace.h"
#include "exchange/pacing.h"
#include "llm/sieve.h"
#include "net/deadline.h"
#include "net/loop.h"
#include "upstream/group.h"
#include "upstream/retry.h"
#include "upstream/rewrite.h"

/*   PAUSING <-> TRYING -> PASSING -> OVER       from anywhere to OVER: failure, call_close()
 *
 *   PAUSING    before each attempt, the first too: owns nothing.
 *   TRYING     owns an attempt whose answer is not decided about.
 *   PASSING    owns the attempt whose answer is passed on: it is never made again.
 *   OVER       has told how it ended, or was closed. */
enum call_state { CALL_IS_PAUSING, CALL_IS_TRYING, CALL_IS_PASSING, CALL_IS_OVER };
#define CALL_NSTATES (CALL_IS_OVER + 1)

/* Ten thousand of them wait at a time: each byte counts. */
struct call {
    struct call_request request;
    struct endpoints *endpoints;
    struct attempt *attempt;
    struct attempt *kept;  /* of a lower tier: its answer counts if the others fail too */
    struct pacing *pacing; /* NULL: nothing may have to wait, so far */
    struct rewritten_body *rewritten;     /* for the present endpoint; NULL: the body as it is */
    struct sieve *sieve;                  /* for the chunk that was asked for; NULL: all passes */
    const struct endpoint_conf *endpoint; /* of the last attempt */
    union {
        struct deadline timer;              /* of the pause, or the attempt's while there is one */
        struct deferred_free deferred_free; /* once it is closed */
    } part;
    uint64_t started_ms, total_at_ms;
    call_make_head_fn *make_head;
    const struct attempt_events *events;
    call_event_fn *on_event;
    void *owner;
    const struct log_context *log;
    uint64_t tried; /* endpoints, as bits by their place in the conf */
    struct callplace place;
    uint16_t attempts; /* in all */
    uint16_t status;   /* of the answer that is passed on; 0: none */
    unsigned char retries, retries_max, frees, least_tier, endpoint_index;
    unsigned char state; /* enum call_state */
    signed char phase;   /* of the attempt: its place in the trail, or -1 */
    bool probing;        /* its attempt is the probe of an endpoint */
    bool counted;        /* it has had a first result */
    bool quota_is_out;   /* the last answer said so: no try helps, an SDK's neither */
    bool retry_denied;   /* the budget of retries was used up */
    bool no_terminal;    /* the answer that was passed on ended without its terminal event */
    bool placed;         /* its place has been looked for */
    bool paced;          /* the attempt has its turn */
    bool refused;        /* it waited too long, or too many did */
    bool resting;        /* in the queue it waits for an endpoint that rests, not for a limit */
    bool closed;
};

/* call_open(), for which callanswer.c has what attempts tell. */
struct call *call_start(const struct attempt_events *events, struct endpoints *endpoints,
    const struct call_request *r, call_make_head_fn *make_head, call_event_fn *on_event,
    void *owner, const struct log_context *log);

/* Moves it. */
void call_set_state(struct call *c, enum call_state to);

/* Tells its owner, unless it is closed. */
void call_emit(struct call *c, struct call_event ev);

/* The call is over without an answer. Last thing that a function does. */
void call_fail(struct call *c, enum problem problem, const char *why);

/* Until its deadline. */
uint64_t call_left_ms(const struct call *c);

/* For the decisions of retry.h. */
struct retry_situation call_situation(const struct call *c);

/* For the choice of an endpoint. */
struct group_ask call_ask(const struct call *c);

/* Whether there is an endpoint of a higher tier; then only those count from here on. */
bool call_climb(struct call *c);

/* What came of its attempt, to the endpoint. */
void call_report(struct call *c, enum verdict_outcome o, uint64_t rest_ms);

/* Ends the attempt in hand. */
void call_drop_attempt(struct call *c);

/* Ends the attempt; another begins after the pause. */
void call_pause_before_retry(struct call *c, uint64_t ms, const char *why);

/* Its place among the limits, made when it is needed. NULL if there is no memory. */
struct pacing *call_make_pacing(struct call *c);

/* The attempt is over: it has no place in any limit any more. Its usage is known as long as it is
 * open. */
void call_leave_pace(struct call *c, enum pacing_end end);

#endif
