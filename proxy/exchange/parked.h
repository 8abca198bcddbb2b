/* What the two steps with calls share: the head of an enclosed request, and keep-alive bytes. */
#ifndef TARRY_EXCHANGE_PARKED_H
#define TARRY_EXCHANGE_PARKED_H

#include "exchange/exchange.h"

/* Opens the `i`th call of the handoff; its answer is *answer. Events go to `on_event`
 * with the answer as the owner. NULL without memory. */
struct call *parked_open_call(
    struct exchange *ex, size_t i, struct answer **answer, call_event_fn *on_event);

/* Forgets what the last handoff left: the answers from here on are this one's. */
void parked_begin(struct exchange *ex);

/* For a timer while parked: sends keep-alive bytes, if they are wanted. False: that was the end of
 * the exchange. */
bool parked_keep_alive(struct exchange *ex);

#endif
