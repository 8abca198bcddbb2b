/* Where a call belongs among the endpoints of its upstream, by what its request says. */
#ifndef TARRY_EXCHANGE_CALLPLACE_H
#define TARRY_EXCHANGE_CALLPLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/snapshot.h"
#include "http/body.h"
#include "http/head.h"
#include "net/addr.h"

struct callplace {
    uint64_t key; /* calls of one key stay together */
    bool has_key;
    bool gone;        /* it names what an endpoint has that is no longer in the conf */
    signed char only; /* the place of the one endpoint that has what it names; -1: any will do */
};

/* Whether the request has to be looked at. */
bool callplace_matters(const struct upstream_conf *u);

/* `client`: the address that it came from; NULL: none is known. */
void callplace_find(struct callplace *p, const struct upstream_conf *u, const struct head *head,
    const struct piece *body, const struct addr *client);

#endif
