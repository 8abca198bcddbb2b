/* What the access log, metrics, traces and the dashboard say of an exchange. */
#ifndef TARRY_EXCHANGE_ACCOUNT_H
#define TARRY_EXCHANGE_ACCOUNT_H

#include "exchange/exchange.h"

/* The state that it is in, as a phase that goes on. */
struct phase account_phase(const struct exchange *ex);

/* That state ends now: its phase is kept in the trail. */
void account_keep_phase(struct exchange *ex, uint64_t now);

/* Its end in two letters, as the access log has it: who ended it (the client C, a worker W, an
 * upstream U, Tarry T; "-" if it is complete), and in which state (R, Q, V, P, A, T, N). */
void account_end_code(const struct exchange *ex, char out[3]);

/* The name of its pool, or (gateway) of its upstream; empty: neither. */
struct str account_route(const struct exchange *ex);

/* The upstream of its last call; empty: it made none. */
struct str account_upstream(const struct exchange *ex);

/* The client's part is over: counts it, and writes the access log's line. */
void account_write(struct exchange *ex);

#endif
