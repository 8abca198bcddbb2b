/* What an endpoint changes in a request: where it goes, the conf's fields, and credentials. */
#ifndef TARRY_UPSTREAM_REWRITE_H
#define TARRY_UPSTREAM_REWRITE_H

#include <stdbool.h>

#include "base/arena.h"
#include "conf/snapshot.h"
#include "http/head.h"

/* Sets the authority, puts the path prefix before the target, and adds the conf's fields, which win
 * over the request's. If the conf sets a credential, every other one goes: the fields that services
 * take keys from, and the key in the query. What is new lives in `a`. 0, or -1 if there is no
 * memory. */
int rewrite_head(struct arena *a, const struct endpoint_conf *e, struct head *h);

/* host[:port] as the Host field of a request to the endpoint has it. */
struct str rewrite_authority(const struct endpoint_conf *e);

#endif
