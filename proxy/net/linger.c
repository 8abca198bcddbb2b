/* Sends, shuts down, drains. One timer sweeps over all of them to find those whose time is up. */
#include "net/linger.h"

#include <errno.h>
#include <ev.h>
#include <stdlib.h>

#include "base/list.h"
#include "net/loop.h"
#include "net/pace.h"

/*   SENDING -> DROPPING -> closed
 *   SENDING has bytes for the peer; DROPPING has told it that no more comes. */
struct linger_conn {
    struct list_node node; /* on the list of its state; on none: closed */
    ev_io io;
    struct wire wire;
    struct buf out;
    struct addrlimit_slot slot;
    struct deferred work;
    struct deferred_free deferred_free;
    struct pace pace;
    uint64_t send_timeout_ms;
    uint64_t look_ms; /* when the sweep has to look */
    uint64_t sent;    /* given to the kernel */
    uint64_t before;  /* bytes that the peer had not taken when we began */
    bool accepted;
    bool eof;
};

enum {
    SWEEP_MS = 250,
    SWEEP_BATCH = 256, /* looked at, or closed, in one turn: the rest comes in the next */
    SCRATCH = 16 << 10,
    DROP_ROUNDS = 16,
};

static struct {
    struct list sending, dropping;
    size_t unseen; /* of `sending`, in the sweep under way */
    struct deferred more;
    struct linger_limits limits;
    ev_timer sweep;
    size_t naccepted;
    bool begun;
} lingering = { .limits = { .drop_ms = 2000 } };

static void linger_free_conn(void *what)
{
    struct linger_conn *l = what;

    SSL_free(l->wire.ssl);
    buf_release(&l->out);
    free(l);
}

static void linger_end(struct linger_conn *l)
{
    if (!list_on(&l->node))
        return;
    ev_io_stop(loop_ev(), &l->io);
    loop_undefer(&l->work);
    list_remove(&l->node);
    addrlimit_remove(&l->slot);
    lingering.naccepted -= l->accepted;
    wire_close(&l->wire, false);
    loop_free_later(&l->deferred_free, l, linger_free_conn);
}

static bool linger_is_sending(const struct linger_conn *l)
{
    return l->node.on == &lingering.sending;
}

/* The one place that starts and stops the watcher. `blocked`: the socket takes no more for now. */
static void linger_update_interest(struct linger_conn *l, bool blocked)
{
    int want = (l->eof ? 0 : EV_READ) | (blocked ? EV_WRITE : 0);

    if (!list_on(&l->node) ||
        ((l->io.events & (EV_READ | EV_WRITE)) == want && (want == 0) == !ev_is_active(&l->io)))
        return;
    ev_io_stop(loop_ev(), &l->io);
    ev_io_set(&l->io, l->wire.fd, want);
    if (want)
        ev_io_start(loop_ev(), &l->io);
}

static void linger_begin_dropping(struct linger_conn *l)
{
    wire_shutdown(&l->wire, true);
    l->look_ms = loop_now_ms() + lingering.limits.drop_ms;
    list_push(&lingering.dropping, &l->node);
    if (l->eof)
        linger_end(l);
}

static void linger_flush(struct linger_conn *l)
{
    bool blocked = false;

    while (!blocked && buf_len(&l->out) > 0) {
        struct str s = buf_str(&l->out);
        ssize_t n = wire_write(&l->wire, s.p, s.n);

        if (n < 0) {
            linger_end(l);
            return;
        }
        blocked = n == 0;
        l->sent += (uint64_t)n;
        buf_consume(&l->out, (size_t)n);
    }
    if (!blocked)
        linger_begin_dropping(l);
    linger_update_interest(l, blocked);
}

static void linger_drop_input(struct linger_conn *l)
{
    char scratch[SCRATCH];
    ssize_t n;
    int rounds = 0;

    do
        n = recv(l->wire.fd, scratch, sizeof(scratch), 0);
    while (n > 0 && ++rounds < DROP_ROUNDS);
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)))
        return;
    l->eof = true;
    if (n < 0 || !linger_is_sending(l))
        linger_end(l);
    else
        linger_update_interest(l, (l->io.events & EV_WRITE) != 0);
}

static void linger_on_io(struct ev_loop *ev, ev_io *w, int revents)
{
    struct linger_conn *l = w->data;

    if (revents & EV_WRITE)
        linger_flush(l);
    if (list_on(&l->node) && revents & EV_READ)
        linger_drop_input(l);
}

static void linger_on_work(void *owner)
{
    linger_flush(owner);
}

/* How many of our bytes the peer's kernel or process has taken since we began. */
static uint64_t linger_taken(const struct linger_conn *l)
{
    uint64_t total = l->before + l->sent, waiting = wire_waiting(&l->wire);

    return waiting < total ? total - waiting : 0;
}

static void linger_look_at_sending(struct linger_conn *l, uint64_t now)
{
    struct pace_limits limits = {
        l->send_timeout_ms,
        lingering.limits.send_rate_min,
        lingering.limits.rate_window_ms,
    };

    if (l->look_ms > now)
        return;
    if (!pace_keeps_up(&l->pace, &limits, now, linger_taken(l)))
        linger_end(l);
    else
        l->look_ms = now + pace_next_ms(&l->pace, &limits, now);
}

/* Looks at each that sends, and ends those that have dropped for long enough. */
static void linger_go_on_sweeping(void *owner)
{
    uint64_t now = loop_now_ms();
    int seen = 0;

    for (; seen < SWEEP_BATCH && lingering.unseen > 0; seen++, lingering.unseen--) {
        struct list_node *first = list_first(&lingering.sending);

        if (!first) {
            lingering.unseen = 0;
            break;
        }
        list_push(&lingering.sending, first);
        linger_look_at_sending(LIST_OWNER(first, struct linger_conn, node), now);
    }
    /* The list is in the order of their ends: the first that may go on is the last to look at. */
    for (; seen < SWEEP_BATCH && list_first(&lingering.dropping); seen++) {
        struct linger_conn *l =
            LIST_OWNER(list_first(&lingering.dropping), struct linger_conn, node);

        if (l->look_ms > now)
            break;
        linger_end(l);
    }
    if (seen == SWEEP_BATCH)
        loop_defer_to_next_turn(&lingering.more, linger_go_on_sweeping, NULL);
}

static void linger_on_sweep(struct ev_loop *ev, ev_timer *w, int revents)
{
    lingering.unseen = lingering.sending.count;
    linger_go_on_sweeping(NULL);
    if (!list_first(&lingering.sending) && !list_first(&lingering.dropping))
        ev_timer_stop(ev, w);
}

void linger_set_limits(const struct linger_limits *l)
{
    lingering.limits = *l;
}

static void linger_begin(void)
{
    if (!lingering.begun) {
        list_init(&lingering.sending);
        list_init(&lingering.dropping);
        ev_timer_init(&lingering.sweep, linger_on_sweep, SWEEP_MS / 1e3, SWEEP_MS / 1e3);
        lingering.begun = true;
    }
    if (!ev_is_active(&lingering.sweep))
        ev_timer_again(loop_ev(), &lingering.sweep);
}

int linger_open(const struct linger_from *from)
{
    struct linger_conn *l = calloc(1, sizeof(*l));

    if (!l)
        return -1;
    linger_begin();
    l->wire = *from->wire;
    *from->wire = (struct wire){ .fd = -1 };
    l->out = *from->out;
    *from->out = (struct buf){ 0 };
    l->slot = *from->slot;
    *from->slot = (struct addrlimit_slot){ 0 };
    l->accepted = from->accepted;
    lingering.naccepted += l->accepted;
    l->eof = from->eof;
    l->send_timeout_ms = from->send_timeout_ms;
    l->look_ms = loop_now_ms();
    if (buf_len(&l->out) > 0)
        l->before = wire_waiting(&l->wire);
    pace_begin(&l->pace, loop_now_ms(), 0);
    ev_io_init(&l->io, linger_on_io, l->wire.fd, 0);
    l->io.data = l;
    list_push(&lingering.sending, &l->node);
    loop_defer(&l->work, linger_on_work, l);
    return 0;
}

size_t linger_count_accepted(void)
{
    return lingering.naccepted;
}

void linger_close_all(void)
{
    if (!lingering.begun)
        return;
    while (list_first(&lingering.sending)) {
        struct linger_conn *l =
            LIST_OWNER(list_first(&lingering.sending), struct linger_conn, node);

        linger_flush(l); /* what the kernel takes at once still goes */
        if (list_on(&l->node) && linger_is_sending(l))
            linger_end(l);
    }
    while (list_first(&lingering.dropping))
        linger_end(LIST_OWNER(list_first(&lingering.dropping), struct linger_conn, node));
    loop_undefer(&lingering.more);
    ev_timer_stop(loop_ev(), &lingering.sweep);
}
