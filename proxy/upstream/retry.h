/* Whether and when a call is tried again: pure decisions, no clock and no I/O. */
#ifndef TARRY_UPSTREAM_RETRY_H
#define TARRY_UPSTREAM_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/snapshot.h"
#include "http/head.h"
#include "http/stream.h"

struct retry_situation {
    unsigned retries_done, retries_max; /* so far; of this call (the conf's and Tarry-Retries) */
    uint64_t left_ms;                   /* until the call's deadline */
    uint64_t wall_ms;                   /* since 1970, for a Retry-After with a date */
    const struct upstream_conf *conf;   /* first and longest pause */
};

/* After a response whose head came and of which nothing was passed on: 408, 409, 429, 500, 502,
 * 503, 504, 529 are tried again; `x-should-retry: true` or `false` overrules that either way;
 * `retry-after-ms` and `retry-after` (seconds or date) set the pause. False: return the response as
 * it is. A pause that would pass the deadline is not begun. */
bool retry_after_response(
    const struct retry_situation *s, const struct head *response, uint64_t *pause_ms);

/* After a failure: only those that say that nothing was processed (resolve, connect, connect
 * timeout, refused, stale). TLS and certificate failures are not tried again. The refused and stale
 * ones are first tried again at once. */
bool retry_after_failure(const struct retry_situation *s, enum stream_error e, uint64_t *pause_ms);

/* Seconds or a date (RFC 9110 10.2.3) as milliseconds from wall_ms. False if it is neither. */
bool retry_parse_after(struct str value, uint64_t wall_ms, uint64_t *ms);

#endif
