/* The verdict about an endpoint with its key: whether calls may go there now. All processes share
 * it (ledger.h), so a service that asks one of them for a pause gets one from all. Another key is
 * another verdict.
 *
 *   resting   the service has asked for a pause; the longest one counts
 *   broken    too many calls of the window failed: nobody calls until the pause is over
 *   probing   the pause is over, and one call is there to try
 *   out       its key is refused, or the quota is used up
 *   paused    by an operator (tarryctl): whatever the key is
 *
 * Functions log nothing; they return what the caller has to tell. */
#ifndef TARRY_UPSTREAM_VERDICT_H
#define TARRY_UPSTREAM_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/snapshot.h"
#include "upstream/ledger.h"
#include "upstream/tally.h"

enum verdict_state {
    VERDICT_READY,
    VERDICT_RESTING,
    VERDICT_BROKEN,
    VERDICT_PROBING,
    VERDICT_OUT,
    VERDICT_PAUSED,
};
#define VERDICT_NSTATES (VERDICT_PAUSED + 1)

const char *verdict_state_name(enum verdict_state s);

/* Belongs to the endpoint; stays where it is. */
struct verdict {
    struct ledger_place place; /* of the endpoint with its key */
    struct ledger_place hand;  /* of the endpoint with any key */
};

/* Also when the key may have changed. */
void verdict_init(struct verdict *v, struct str upstream, const struct endpoint_conf *e);

/* Whether it is that of the endpoint with this key. */
bool verdict_is_of(const struct verdict *v, struct str upstream, const struct endpoint_conf *e);

struct verdict_view {
    enum verdict_state state;
    uint64_t wait_ms; /* until it may be another one; of a probe or an operator's pause that is not
                         known, and this is when to look again */
};
struct verdict_view verdict_view(
    struct verdict *v, const struct upstream_conf *policy, uint64_t now_ms);

/* A call is about to go there. */
enum verdict_admission {
    VERDICT_ADMITTED,
    VERDICT_IS_PROBE, /* it is the one probe, until verdict_report() */
    VERDICT_REFUSED,  /* another call has just become the probe, or the breaker is open */
};
enum verdict_admission verdict_admit(struct verdict *v, uint64_t now_ms);

/* The result of a call. */
enum verdict_outcome {
    VERDICT_SERVED,  /* an answer that is no failure of the service */
    VERDICT_NEUTRAL, /* a rate limit, or a client that left: neither good nor bad */
    VERDICT_FAILED,  /* not reached, broke off, too slow, or 5xx */
    VERDICT_DENIED,  /* its key or quota is out */
};

struct verdict_report {
    enum verdict_outcome outcome;
    uint64_t began_ms; /* the call's; 0: unknown */
    uint64_t rest_ms;  /* the pause that the service asks for; 0: none */
    bool probe;        /* the call was the probe */
};

/* What has changed by this report; of all processes one gets it. */
enum verdict_change {
    VERDICT_SAME,
    VERDICT_BROKE,     /* the breaker has opened */
    VERDICT_RECOVERED, /* the probe was served */
    VERDICT_WENT_OUT,  /* its key is refused, or the quota used up */
    VERDICT_CAME_BACK, /* a key that was out has served */
};
enum verdict_change verdict_report(struct verdict *v, const struct upstream_conf *policy,
    const struct verdict_report *r, uint64_t now_ms);

/* By an operator. */
void verdict_pause(struct verdict *v, bool paused, uint64_t now_ms);

/* Calls of the window, and those that failed. */
struct tally_sum verdict_calls(
    struct verdict *v, const struct upstream_conf *policy, uint64_t now_ms);

/* The probes of processes that have ended are nobody's. Any process may call it at any time. */
void verdict_forget_dead(void);

#endif
