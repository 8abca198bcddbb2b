/* The time that runs for an HTTP/2 client: for a body that must come, for a response that must be
 * taken, for a connection that must be read, and for a request that was answered early. */
#ifndef TARRY_HTTP_H2WATCH_H
#define TARRY_HTTP_H2WATCH_H

#include "http/h2served.h"

/* Whether there is anything whose time runs, and how long until the next look. */
bool h2_watch_is_needed(const struct h2_server *v);
uint64_t h2_watch_tick_ms(const struct acceptor *a);

/* For the deadlines `watch` and `early`; `owner` is the struct h2_server. Each may end it. */
void h2_watch_on_deadline(void *owner);
void h2_watch_on_early(void *owner);

/* For struct h2_role. */
void h2_watch_on_answered_early(struct h2_stream *s);

#endif
