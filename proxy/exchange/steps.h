/* All steps, for `struct exchanges`. */
#ifndef TARRY_EXCHANGE_STEPS_H
#define TARRY_EXCHANGE_STEPS_H

#include "exchange/exchange.h"

extern const struct step step_read, step_visit, step_calls, step_relay, step_tunnel, step_finish,
    step_pieces, step_notify, step_end;

extern const struct step *const steps[STEP_COUNT];

#endif
