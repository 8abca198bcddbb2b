/* What calls have used, over all serving processes together: by key, how many are in flight, and
 * how many requests and tokens fall within the last window; by account, what the service itself has
 * said is left. It lives in memory that the processes share (base/sharedmem.h).
 *
 * One lock guards it. It is held for less than a microsecond and never waited for: a process that
 * does not get it is told to come again. The counts of calls in flight are kept by process, so that
 * those of a process that died can be given back. Its requests and tokens stay in their windows:
 * the service may have counted them. */
#ifndef TARRY_UPSTREAM_METER_H
#define TARRY_UPSTREAM_METER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/siphash.h"

/* Room for `keys_max` keys. The master calls it before it forks. 0, or -1 with errno. A process
 * that uses the meter without it has one of its own. */
int meter_open(size_t keys_max);

/* This process counts from now on. */
void meter_begin(void);

/* The calls of processes that have ended are in flight no longer, and the lock is taken from them.
 * Any process may call it at any time. */
void meter_forget_dead(void);

/* Corrections that came while another process had the lock are applied with the next change of this
 * process, and here: call it now and then. */
void meter_catch_up(void);

/* For ids: a hash that nobody outside can choose texts for. */
void meter_hash(struct siphash *h);

struct meter_bounds {
    uint64_t in_flight, requests, tokens; /* 0: no bound; the last two within a window */
    uint32_t window_ms;
};

/* One key that a call counts under, of METER_NEEDS_MAX at most. */
enum { METER_NEEDS_MAX = 16 };

struct meter_need {
    uint64_t id;
    struct meter_bounds most;
    uint32_t input, output; /* tokens that it is expected to use */
};

/* What a call holds under one key. Zeroed: nothing. */
struct meter_hold {
    uint64_t id, begun_ms;
    uint64_t tokens;
    uint32_t at, window_ms;
    uint32_t input, output; /* that the service may not have counted yet */
    bool in_flight, unheard;
};

/* Why there is no room. */
struct meter_refusal {
    size_t index;     /* of the need */
    uint32_t at;      /* for meter_await() */
    uint64_t wait_ms; /* look again then at the latest */
    uint64_t open_ms; /* a guess when there is room, for a client; 0: none can be made */
};

/* Takes room under all of the keys, or under none. `now_ms`: of the monotonic clock, read now. */
bool meter_take(uint64_t now_ms, const struct meter_need *needs, size_t n, struct meter_hold *holds,
    struct meter_refusal *no);

/* The same without taking it. */
bool meter_has_room(
    uint64_t now_ms, const struct meter_need *needs, size_t n, struct meter_refusal *no);

/* The call is in flight no longer. Idempotent, as all of these. */
void meter_release(struct meter_hold *holds, size_t n);

/* It did not begin: its request and its tokens count no longer. */
void meter_refund(uint64_t now_ms, struct meter_hold *holds, size_t n);

/* It used so many tokens, not what was expected. */
void meter_settle(uint64_t now_ms, struct meter_hold *holds, size_t n, uint64_t tokens);

/* Something under the key waits in this process: the processes take turns. Once for each
 * meter_unawait(). */
void meter_await(uint32_t at);
void meter_unawait(uint32_t at);

/* No other process counts. */
bool meter_is_alone(void);

/* Another number after each change that may make room. */
uint64_t meter_generation(void);

/* The keys that count something now; and how many places of calls in flight this process holds
 * under them. */
size_t meter_keys(void);
size_t meter_calls(void);

/* ---- what the service says is left ---- */

enum meter_kind { METER_REQUESTS, METER_TOKENS, METER_INPUT, METER_OUTPUT };
#define METER_NKINDS (METER_OUTPUT + 1)

struct meter_level {
    bool known;
    uint64_t limit; /* 0: not said */
    uint64_t remaining;
    uint64_t reset_ms; /* until it is full again */
};

/* An answer of the account `id` said so. */
void meter_note(uint64_t now_ms, uint64_t id, const struct meter_level levels[METER_NKINDS]);

/* The answer to this call has come, or will not: what the service says counts it. */
void meter_heard(struct meter_hold *h);

#endif
