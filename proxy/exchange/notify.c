/* Notifies: a worker is told of a relayed response when that has ended. The client is gone or
 * answered by then; the exchange lives until a worker has said 2xx, or none did in notify_attempts
 * deliveries. */
#include <inttypes.h>

#include "exchange/exchange.h"
#include "observe/counter.h"

bool notify_wanted(const struct exchange *ex)
{
    return ex->handoff && ex->handoff->notify.p && ex->outcome.p && ex->state != EX_NOTIFYING &&
           ex->state != EX_DONE;
}

static void notify_on_visit(void *owner, struct visit *v, const struct visit_event *ev);

static void notify_lost(struct exchange *ex, const char *why)
{
    counter_add(COUNTER_NOTIFIES_LOST, 1);
    log_error(&ex->log, "the notify to " STR_FMT " is lost: %s", STR_ARG(ex->handoff->notify), why);
}

static void notify_deliver(struct exchange *ex)
{
    if (hop_visit(ex, ex->handoff->notify, notify_on_visit) < 0) {
        notify_lost(ex, "out of memory");
        exchange_end(ex, "notify_lost");
    }
}

void notify_begin(struct exchange *ex)
{
    if (!ex->end)
        ex->end = "complete";
    exchange_set_state(ex, EX_NOTIFYING);
    exchange_log(ex);
    ex->kind = HOP_NOTIFY;
    ex->hop++;
    ex->attempt = 1;
    ex->pause_ms = ex->pool_conf->notify_first_pause_ms;
    notify_deliver(ex);
}

void notify_on_timer(struct exchange *ex)
{
    ex->attempt++;
    counter_add(COUNTER_REDELIVERIES, 1);
    notify_deliver(ex);
}

void notify_on_shutdown(struct exchange *ex)
{
    bool owed = ex->state == EX_PARKED || ex->state == EX_ANSWERING || ex->state == EX_NOTIFYING;

    if (owed && ex->handoff && ex->handoff->notify.p)
        notify_lost(ex, "Tarry stopped before it was delivered");
}

static void notify_again(struct exchange *ex, const char *why)
{
    const struct pool_conf *pc = ex->pool_conf;

    visit_close(ex->visit);
    ex->visit = NULL;
    if (ex->attempt >= pc->notify_attempts) {
        counter_add(COUNTER_NOTIFIES_LOST, 1);
        log_error(&ex->log, "the notify to " STR_FMT " is lost after %u deliveries: %s",
            STR_ARG(ex->handoff->notify), ex->attempt, why);
        exchange_end(ex, "notify_lost");
        return;
    }
    log_warn(&ex->log, "the notify to " STR_FMT " was not accepted (%s), again in %" PRIu64 " ms",
        STR_ARG(ex->handoff->notify), why, ex->pause_ms);
    deadline_set(&ex->timer, ex->pause_ms);
    ex->pause_ms *= 2;
    if (ex->pause_ms > pc->notify_max_pause_ms)
        ex->pause_ms = pc->notify_max_pause_ms;
}

static void notify_on_visit(void *owner, struct visit *v, const struct visit_event *ev)
{
    struct exchange *ex = owner;

    switch (ev->kind) {
    case VISIT_STARTED:
        counter_add(COUNTER_VISITS, 1);
        break;
    case VISIT_QUEUED:
        break;
    case VISIT_HEAD:
        ex->notify_status = ev->head->status;
        break;
    case VISIT_DATA:
    case VISIT_DRAINED:
        break;
    case VISIT_END:
        if (ex->notify_status >= 200 && ex->notify_status < 300)
            exchange_end(ex, "complete");
        else
            notify_again(ex, "the worker's status was not 2xx");
        break;
    case VISIT_FAILED:
        notify_again(ex, ev->why);
        break;
    }
}
