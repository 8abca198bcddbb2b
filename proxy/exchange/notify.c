/* The step in which a worker is told of a relayed response that has ended. The client is gone or
 * answered by then; the exchange lives until a worker has said 2xx, or none did in notify_attempts
 * deliveries. */
#include <inttypes.h>

#include "exchange/hop.h"
#include "exchange/steps.h"
#include "observe/counter.h"
#include "observe/panic.h"

/* What the worker has said: ex->phase. */
enum notify_phase { NOTIFY_NOT_ACCEPTED, NOTIFY_ACCEPTED };

static const struct visit_handler notify_visit_handler;

static void notify_lost(struct exchange *ex, const char *why)
{
    counter_add(COUNTER_NOTIFIES_LOST, 1);
    log_error(&ex->log, "the notify to " STR_FMT " is lost after %u deliveries: %s",
        STR_ARG(ex->handoff->notify), ex->hop.attempt, why);
    exchange_end(ex, "notify_lost");
}

static void notify_deliver(struct exchange *ex)
{
    ex->phase = NOTIFY_NOT_ACCEPTED;
    if (!ex->pool)
        notify_lost(ex, "the pool is no longer there");
    else if (hop_open(ex, &notify_visit_handler) < 0)
        notify_lost(ex, "out of memory");
}

static void notify_enter(struct exchange *ex)
{
    exchange_set_state(ex, EX_NOTIFYING);
    hop_prepare(ex, HOP_NOTIFY, ex->handoff->notify);
    ex->hop.pause_ms = ex->pool_conf->notify_first_pause_ms;
    notify_deliver(ex);
}

static void notify_on_timer(struct exchange *ex)
{
    ex->hop.attempt++;
    counter_add(COUNTER_REDELIVERIES, 1);
    notify_deliver(ex);
}

static void notify_again(struct exchange *ex, const char *why)
{
    const struct pool_conf *pc = ex->pool_conf;

    if (ex->hop.attempt >= pc->notify_attempts) {
        notify_lost(ex, why);
        return;
    }
    log_warn(&ex->log, "the notify to " STR_FMT " was not accepted (%s), again in %" PRIu64 " ms",
        STR_ARG(ex->handoff->notify), why, ex->hop.pause_ms);
    hop_close(ex);
    exchange_set_timer(ex, ex->hop.pause_ms);
    ex->hop.pause_ms *= 2;
    if (ex->hop.pause_ms > pc->notify_max_pause_ms)
        ex->hop.pause_ms = pc->notify_max_pause_ms;
}

static void notify_on_visit(void *owner, struct visit *v, const struct message *m)
{
    struct exchange *ex = owner;
    bool accepted = ex->phase == NOTIFY_ACCEPTED;

    panic_hold(ex, exchange_describe);
    switch (m->kind) {
    case MESSAGE_HEAD:
        if (m->head->status >= 200 && m->head->status < 300)
            ex->phase = NOTIFY_ACCEPTED;
        break;
    case MESSAGE_DATA:
        break;
    case MESSAGE_END:
        if (accepted)
            exchange_end(ex, "complete");
        else
            notify_again(ex, "the worker's status was not 2xx");
        break;
    case MESSAGE_FAILED:
        /* A 2xx head that breaks off later has been said: the worker has taken it. */
        if (accepted)
            exchange_end(ex, "complete");
        else
            notify_again(ex, m->why);
        break;
    }
}

static void notify_on_started(void *owner, struct visit *v)
{
    counter_add(COUNTER_VISITS, 1);
}

static void notify_on_requeued(void *owner, struct visit *v)
{
}

static const struct visit_handler notify_visit_handler = {
    .on_message = notify_on_visit,
    .on_started = notify_on_started,
    .on_requeued = notify_on_requeued,
};

static void notify_on_client_gone(struct exchange *ex)
{
}

const struct step step_notify = {
    .enter = notify_enter,
    .on_client_gone = notify_on_client_gone,
    .on_timer = notify_on_timer,
};
