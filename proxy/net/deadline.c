/* Lazy timers over libev's. */
#include "net/deadline.h"

#include "net/loop.h"

enum {
    LATE_MS = 20, /* no turn takes that long, unless the process was stopped or starved */
};

static void deadline_arm(struct deadline *d, uint64_t ms)
{
    ev_timer_stop(loop_ev(), &d->timer);
    ev_timer_set(&d->timer, (double)ms / 1e3, 0.);
    ev_timer_start(loop_ev(), &d->timer);
}

static void deadline_on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct deadline *d = w->data;

    if (d->at_ms == 0)
        return;
    if (d->at_ms > loop_now_ms()) {
        deadline_arm(d, d->at_ms - loop_now_ms());
        return;
    }
    if (!d->late && loop_now_ms() - d->at_ms > LATE_MS) {
        d->late = true; /* sockets may not have been looked at since */
        deadline_arm(d, 0);
        return;
    }
    d->at_ms = 0;
    d->late = false;
    LOOP_ASSERT_OPEN(d->owner);
    d->on_passed(d->owner);
}

void deadline_init(struct deadline *d, void (*on_passed)(void *owner), void *owner)
{
    ev_timer_init(&d->timer, deadline_on_timer, 0., 0.);
    /* Below that of sockets: after a turn that came late, what has arrived in time is read first.
     */
    ev_set_priority(&d->timer, EV_MINPRI + 1);
    d->timer.data = d;
    d->at_ms = 0;
    d->late = false;
    d->on_passed = on_passed;
    d->owner = owner;
}

void deadline_set(struct deadline *d, uint64_t ms)
{
    uint64_t at = loop_now_ms() + ms;

    LOOP_ASSERT_OPEN(d->owner);
    d->at_ms = at ? at : 1;
    d->late = false;
    if (ev_is_active(&d->timer)) {
        double due = ev_timer_remaining(loop_ev(), &d->timer);

        if (due * 1e3 <= (double)ms)
            return; /* the timer fires before that, and is moved then */
    }
    deadline_arm(d, ms);
}

void deadline_clear(struct deadline *d)
{
    d->at_ms = 0;
}

void deadline_close(struct deadline *d)
{
    d->at_ms = 0;
    ev_timer_stop(loop_ev(), &d->timer);
}
