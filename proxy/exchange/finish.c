/* The step in which a client takes the rest of a response whose source is done. */
#include "exchange/steps.h"

static void finish_enter(struct exchange *ex)
{
    exchange_set_state(ex, EX_ANSWERING);
}

static void finish_on_client_gone(struct exchange *ex)
{
    exchange_cut(ex, "client_gone");
}

const struct step step_finish = {
    .enter = finish_enter,
    .on_client_gone = finish_on_client_gone,
};
