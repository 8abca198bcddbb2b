/* What a worker hands off, wherever it says so: in a response's head and body, or in the trailer of
 * a response in parts. Checked, and taken. */
#ifndef TARRY_EXCHANGE_HANDED_H
#define TARRY_EXCHANGE_HANDED_H

#include "exchange/exchange.h"

/* An enum handoff_error ends the exchange. */
void handed_refuse(struct exchange *ex, int error, const char *why);

/* Whether one hop more would be too many: that ends the exchange. */
bool handed_over_max_hops(struct exchange *ex);

/* Where the run is, as the handoff says that it can be come back to. `server` and `own`: the
 * visit's; 0, or an error with `why`. */
int handed_note_run(struct exchange *ex, struct str server, bool at_is_good, char *why, size_t n);

/* The handoff's body is there, plain: its calls are made. Last thing that a function does. */
void handed_take(struct exchange *ex);

/* The exchange's place for a handoff: empty, and the last one gone, unless an open call's request
 * lies in it. NULL without memory. */
struct handoff *handed_next(struct exchange *ex);

#endif
