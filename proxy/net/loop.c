/* One libev loop. Deferred calls run, and closed objects are freed, in a prepare watcher of the
 * lowest priority: after all callbacks of the turn, before the loop sleeps. */
#include "net/loop.h"

#include <stdlib.h>
#include <time.h>

#include "base/reserve.h"
#include "observe/counter.h"
#include "observe/log.h"
#include "observe/panic.h"

static struct {
    struct ev_loop *ev;
    struct ev_prepare prepare;
    struct ev_check check;
    struct ev_idle idle;   /* runs while deferred calls are left: the loop must not sleep then */
    struct list deferred;  /* calls of this turn */
    struct list next_turn; /* calls of the next one */
    struct deferred_free *closed;
    uint64_t now_ms, wall_ms;
    uint64_t turn_began_us, longest_turn_us;
    uint64_t turn;
    uint64_t complained_ms; /* of memory */
} loop;

enum { DEFER_ROUNDS = 16, COMPLAIN_EVERY_MS = 10000 };

static uint64_t loop_clock_us(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void loop_read_clocks(void)
{
    loop.turn_began_us = loop_clock_us(CLOCK_MONOTONIC);
    loop.now_ms = loop.turn_began_us / 1000;
    loop.wall_ms = loop_clock_us(CLOCK_REALTIME) / 1000;
}

#ifdef TARRY_CHECK_LIFETIMES
enum { CLOSED_BUCKETS = 1024 };

static struct deferred_free *loop_closed_objects[CLOSED_BUCKETS];

static struct deferred_free **loop_closed_bucket(const void *what)
{
    return &loop_closed_objects[((uintptr_t)what >> 4) % CLOSED_BUCKETS];
}

void loop_assert_open(const void *what, const char *file, int line)
{
    for (const struct deferred_free *g = *loop_closed_bucket(what); g; g = g->same_bucket)
        if (g->what == what)
            loop_panic("a closed object is called, or closed twice", file, line);
}

static void loop_note_closed(struct deferred_free *g)
{
    struct deferred_free **bucket = loop_closed_bucket(g->what);

    g->same_bucket = *bucket;
    *bucket = g;
}

static void loop_note_freed(struct deferred_free *g)
{
    struct deferred_free **at = loop_closed_bucket(g->what);

    while (*at != g)
        at = &(*at)->same_bucket;
    *at = g->same_bucket;
}
#else
static void loop_note_closed(struct deferred_free *g)
{
}

static void loop_note_freed(struct deferred_free *g)
{
}
#endif

static void loop_run_deferred(void)
{
    for (int round = 0; round < DEFER_ROUNDS && list_first(&loop.deferred); round++) {
        for (size_t n = loop.deferred.count; n > 0 && list_first(&loop.deferred); n--) {
            struct list_node *first = list_take_first(&loop.deferred);
            struct deferred *d = LIST_OWNER(first, struct deferred, node);

            LOOP_ASSERT_OPEN(d->owner);
            d->fn(d->owner);
        }
    }
}

static void loop_free_closed(void)
{
    while (loop.closed) {
        struct deferred_free *g = loop.closed;

        loop.closed = g->next;
        loop_note_freed(g);
        g->free_fn(g->what);
    }
}

/* libev has no way to say that it got no memory, and aborts. */
static void *loop_on_allocate(void *p, long n)
{
    return reserve_realloc(p, (size_t)n);
}

/* Memory ran out in this turn, and a library had to be helped. It is tried again each turn. */
static void loop_refill_reserve(void)
{
    if (!reserve_fill())
        return;
    counter_add(COUNTER_MEMORY_SHORT, 1);
    if (loop.complained_ms && loop.now_ms - loop.complained_ms < COMPLAIN_EVERY_MS)
        return;
    loop.complained_ms = loop.now_ms;
    log_error(NULL, "memory ran out for a moment: bring max_connections and the limits of bodies "
                    "down, or give Tarry more");
}

static void loop_measure_turn(void)
{
    uint64_t us = loop_clock_us(CLOCK_MONOTONIC) - loop.turn_began_us;

    if (us > loop.longest_turn_us)
        loop.longest_turn_us = us;
}

static void loop_on_prepare(struct ev_loop *ev, ev_prepare *w, int revents)
{
    loop_run_deferred();
    panic_hold(NULL, NULL);
    /* A call that is still queued may hold a pointer to an object that was closed meanwhile. */
    if (!list_first(&loop.deferred))
        loop_free_closed();
    if (reserve_is_spent())
        loop_refill_reserve();
    while (list_first(&loop.next_turn))
        list_push(&loop.deferred, list_first(&loop.next_turn));
    if (list_first(&loop.deferred))
        ev_idle_start(ev, &loop.idle);
    loop.turn++;
    loop_measure_turn();
}

static void loop_on_check(struct ev_loop *ev, ev_check *w, int revents)
{
    loop_read_clocks();
}

static void loop_on_idle(struct ev_loop *ev, ev_idle *w, int revents)
{
    ev_idle_stop(ev, w);
}

int loop_init(void)
{
    ev_set_allocator(loop_on_allocate);
    reserve_fill();
    loop.ev = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
    if (!loop.ev)
        return -1;
    list_init(&loop.deferred);
    list_init(&loop.next_turn);
    ev_prepare_init(&loop.prepare, loop_on_prepare);
    ev_set_priority(&loop.prepare, EV_MINPRI);
    ev_prepare_start(loop.ev, &loop.prepare);
    ev_check_init(&loop.check, loop_on_check);
    ev_set_priority(&loop.check, EV_MAXPRI);
    ev_check_start(loop.ev, &loop.check);
    ev_idle_init(&loop.idle, loop_on_idle);
    loop_read_clocks();
    return 0;
}

void loop_run(void)
{
    ev_run(loop.ev, 0);
}

void loop_stop(void)
{
    ev_break(loop.ev, EVBREAK_ALL);
}

void loop_release(void)
{
    if (!loop.ev)
        return;
    loop_run_deferred();
    loop_free_closed(); /* no deferred call runs any more */
    ev_loop_destroy(loop.ev);
    loop.ev = NULL;
    reserve_release();
}

struct ev_loop *loop_ev(void)
{
    return loop.ev;
}

uint64_t loop_now_ms(void)
{
    return loop.now_ms;
}

uint64_t loop_precise_us(void)
{
    return loop_clock_us(CLOCK_MONOTONIC);
}

uint64_t loop_take_longest_turn_us(void)
{
    uint64_t us = loop.longest_turn_us;

    loop.longest_turn_us = 0;
    return us;
}

uint64_t loop_wall_ms(void)
{
    return loop.wall_ms;
}

uint64_t loop_turn(void)
{
    return loop.turn;
}

static void loop_queue(struct list *l, struct deferred *d, void (*fn)(void *), void *owner)
{
    LOOP_ASSERT_OPEN(owner);
    if (list_on(&d->node))
        return;
    d->fn = fn;
    d->owner = owner;
    list_push(l, &d->node);
}

void loop_defer(struct deferred *d, void (*fn)(void *owner), void *owner)
{
    loop_queue(&loop.deferred, d, fn, owner);
}

void loop_defer_to_next_turn(struct deferred *d, void (*fn)(void *owner), void *owner)
{
    loop_queue(&loop.next_turn, d, fn, owner);
}

void loop_undefer(struct deferred *d)
{
    list_remove(&d->node);
}

void loop_free_later(struct deferred_free *g, void *what, void (*free_fn)(void *))
{
    LOOP_ASSERT_OPEN(what);
    g->what = what;
    g->free_fn = free_fn;
    g->next = loop.closed;
    loop.closed = g;
    loop_note_closed(g);
}

_Noreturn void loop_panic(const char *what, const char *file, int line)
{
    panic_bug(what, file, line);
}
