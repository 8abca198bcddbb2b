/* The step in which the client's request comes in. */
#include "exchange/steps.h"

static void reading_enter(struct exchange *ex)
{
}

static void reading_on_message(struct exchange *ex, const struct message *m)
{
    struct body *b = &ex->request.body;

    if (m->kind == MESSAGE_END) {
        exchange_enter(ex, ex->gateway ? STEP_RELAY : STEP_VISIT);
        return;
    }
    if (body_size(b) + m->data.n > exchange_body_max(ex))
        exchange_fail(ex, PROBLEM_BODY_TOO_LARGE, 0, "the body is larger than body_max");
    else if (body_append(b, m->data.p, m->data.n) < 0)
        exchange_fail(ex, PROBLEM_STORAGE, 0, "cannot keep the body in temp_dir");
}

static void reading_on_client_gone(struct exchange *ex)
{
    exchange_end(ex, "client_gone");
}

const struct step step_read = {
    .enter = reading_enter,
    .on_message = reading_on_message,
    .on_client_gone = reading_on_client_gone,
};
