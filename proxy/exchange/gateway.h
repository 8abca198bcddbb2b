/* What a gateway route changes in the service's answers: URLs of the service lead back through
 * Tarry, and a silent event stream gets comment lines. */
#ifndef TARRY_EXCHANGE_GATEWAY_H
#define TARRY_EXCHANGE_GATEWAY_H

#include "exchange/exchange.h"

/* The request's head for the service, in `a`. 0, or -1 if there is no memory. */
int gateway_make_request(struct exchange *ex, struct arena *a, struct head *out);

/* The answer's head for the client, in `a`; decides what follows in its body. 0, or -1 if there is
 * no memory. */
int gateway_make_response(
    struct exchange *ex, struct arena *a, const struct head *in, struct head *out);

/* A piece of the body for the client, and what is left at its end: a result of the reply. */
int gateway_data(struct exchange *ex, struct str data);
int gateway_end(struct exchange *ex);

/* The client has heard something: the silence begins anew. */
void gateway_arm(struct exchange *ex);

/* It was silent for keep_alive_interval. */
void gateway_on_silence(struct exchange *ex);

/* Frees what the route has made for the answer. */
void gateway_release(struct exchange *ex);

#endif
