/* Whether and when a call is made again: pure decisions, no clock and no I/O. */
#ifndef TARRY_UPSTREAM_RETRY_H
#define TARRY_UPSTREAM_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/snapshot.h"
#include "http/head.h"
#include "http/stream.h"
#include "llm/api.h"

enum retry_decision {
    RETRY_NO,
    RETRY_AGAIN,     /* after the pause, or at once at another endpoint */
    RETRY_ELSEWHERE, /* only at another endpoint: this one would refuse again */
    RETRY_NEXT_TIER, /* only at an endpoint of the next tier: another model, another service */
    RETRY_FREE,      /* it was never started: again, and it does not count as a retry */
};

struct retry_situation {
    unsigned retries_done, retries_max; /* so far; of this call (the conf's and Tarry-Retries) */
    unsigned free_done;                 /* times that it was never started */
    uint64_t left_ms;                   /* until the call's deadline */
    uint64_t wall_ms;                   /* since 1970, for a Retry-After with a date */
    const struct upstream_conf *conf;
};

/* An answer that was not passed on, not even in part. */
struct retry_answer {
    unsigned status;
    const struct head *head;
    enum llm_error kind;
    bool asks_to_wait; /* the body does */
    uint64_t wait_ms;
};

struct retry_plan {
    uint64_t pause_ms; /* before the same endpoint is asked again */
    uint64_t rest_ms;  /* the pause that the service asks for; 0: none */
};

/* The statuses of retry_on are tried again; `x-should-retry: true` or `false` overrules that either
 * way; `retry-after-ms`, `retry-after` (seconds or a date) or the body's hint set the pause, which
 * is never less than our own. A hint that is longer than retry_after_max, or would pass the
 * deadline, is not waited for. A quota that is used up and a key that is refused are not tried
 * again here. */
enum retry_decision retry_after_answer(
    const struct retry_situation *s, const struct retry_answer *a, struct retry_plan *plan);

struct retry_failure {
    enum stream_error error;
    bool sent;     /* the whole request was sent */
    bool answered; /* the head of a response came */
    bool reused;   /* the connection had carried others */
    bool alone;    /* HTTP/2: not its connection failed, or the peer had said that it has seen it */
    uint64_t took_ms;
};

/* A call that was never started is free, RETRY_FREE_MAX times: the peer said so, the request had
 * not gone out whole, or the connection ended within retry_unstarted_within. A service that cannot
 * be reached is tried again. Any other failure may have been processed, and billed: it is tried
 * again only within retry_unsure_within. */
enum { RETRY_FREE_MAX = 3 };
enum retry_decision retry_after_failure(
    const struct retry_situation *s, const struct retry_failure *f, uint64_t *pause_ms);

/* Seconds or a date (RFC 9110 10.2.3) as milliseconds from wall_ms. False if it is neither. */
bool retry_parse_after(struct str value, uint64_t wall_ms, uint64_t *ms);

#endif
