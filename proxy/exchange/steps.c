/* The table of steps. */
#include "exchange/steps.h"

/* Over: nothing is to be done any more. */
const struct step step_end;

const struct step *const steps[STEP_COUNT] = {
    [STEP_READ] = &step_read,
    [STEP_VISIT] = &step_visit,
    [STEP_CALLS] = &step_calls,
    [STEP_RELAY] = &step_relay,
    [STEP_TUNNEL] = &step_tunnel,
    [STEP_FINISH] = &step_finish,
    [STEP_PIECES] = &step_pieces,
    [STEP_NOTIFY] = &step_notify,
    [STEP_END] = &step_end,
};
