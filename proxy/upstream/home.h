/* Which endpoint has what a request names: an account's files, batches and stored responses are
 * found there and nowhere else. Responses are remembered by their ids, which stand in answers, in a
 * table that all processes share (bounded; the oldest are not told apart, some id makes room);
 * everything else is at the upstream's `home`, as is a response that is not remembered. */
#ifndef TARRY_UPSTREAM_HOME_H
#define TARRY_UPSTREAM_HOME_H

#include <stdbool.h>

#include "conf/snapshot.h"
#include "http/body.h"
#include "http/head.h"

/* Before the first fork. Without it the process has a small table for itself. 0, or -1 with errno.
 */
int home_open(size_t ids);

/* That endpoint has given a response this id. */
void home_note(const struct upstream_conf *u, const struct endpoint_conf *e, struct str id);

enum home_found {
    HOME_ANYWHERE, /* the request names nothing of the kind */
    HOME_AT,
    HOME_GONE, /* the endpoint that has it is no longer in the conf */
};

/* `place`: of the endpoint in the conf. Reads the body to its end. */
enum home_found home_find(const struct upstream_conf *u, const struct head *head,
    const struct piece *body, unsigned *place);

#endif
