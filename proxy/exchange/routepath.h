/* The path of a gateway route's request: its prefix gives way to prefix_rewrite on the way to the
 * service, and comes back in the URLs that the service names. */
#ifndef TARRY_EXCHANGE_ROUTEPATH_H
#define TARRY_EXCHANGE_ROUTEPATH_H

#include <stdbool.h>

#include "base/arena.h"
#include "conf/snapshot.h"

/* Whether the prefix can be replaced: the target begins with it as it is written, and what follows
 * does not climb above it. True for routes without prefix_rewrite. */
bool routepath_fits(const struct route_conf *r, struct str target);

/* The target for the service, in `a`; of one that fits. p is NULL if there is no memory. */
struct str routepath_out(const struct route_conf *r, struct arena *a, struct str target);

/* The client's target that leads to the service's `target`, in `a`. p is NULL if there is none. */
struct str routepath_back(const struct route_conf *r, struct arena *a, struct str target);

#endif
