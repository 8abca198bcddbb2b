/* The budget of retries of an upstream, shared by all processes (ledger.h): retries are at most a
 * share of the calls that have got a first result within the window, so that an outage is not
 * multiplied. A few are always allowed. */
#ifndef TARRY_UPSTREAM_BUDGET_H
#define TARRY_UPSTREAM_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/snapshot.h"
#include "upstream/ledger.h"

struct budget {
    struct ledger_place place;
};

void budget_init(struct budget *b, struct str upstream);

/* A call has its first result, good or bad. */
void budget_note_call(struct budget *b, const struct upstream_conf *policy, uint64_t now_ms);

/* Takes one retry. False: it is used up. Processes that ask at the same instant may take one each
 * too many. */
bool budget_take(struct budget *b, const struct upstream_conf *policy, uint64_t now_ms);

/* The retries that are left now. */
uint64_t budget_left(struct budget *b, const struct upstream_conf *policy, uint64_t now_ms);

#endif
