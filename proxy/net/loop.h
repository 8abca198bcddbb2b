/* The process's one event loop: its turns, its clock, calls deferred to the end of a turn, and the
 * memory of closed objects.
 *
 * A turn is: the callbacks of the watchers that are ready, then the deferred calls, then the memory
 * of all that was closed. An object that is closed within a callback is not freed there but handed
 * to loop_free_later(). Its memory stays readable until no deferred call is left: a call that is
 * still queued may point to it. Work over outside input is bounded per turn by the object that does
 * it (loop_defer_to_next_turn()), so the queue of deferred calls empties in nearly every turn.
 *
 * net/ is sockets: the loop, deadlines, addresses, connections with or without TLS, listeners and
 * the resolver. It knows nothing of HTTP. */
#ifndef TARRY_NET_LOOP_H
#define TARRY_NET_LOOP_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

/* Embedded in objects that are closed now and freed later. */
struct deferred_free {
    struct deferred_free *next;
    void (*free_fn)(void *);
    void *what;
#ifdef TARRY_CHECK_LIFETIMES
    struct deferred_free *same_bucket;
#endif
};

/* Embedded in objects that want to be called before the loop sleeps. A zeroed struct is a deferred
 * call that is not set. */
struct deferred {
    struct list_node node;
    void (*fn)(void *owner);
    void *owner;
};

/* Makes the loop. 0, or -1 if the kernel has no usable event interface. */
int loop_init(void);

/* Runs until loop_stop(). */
void loop_run(void);
void loop_stop(void);

/* Runs the deferred calls, frees all closed objects and the loop. */
void loop_release(void);

struct ev_loop *loop_ev(void);

/* Milliseconds of the monotonic clock, read once a turn. */
uint64_t loop_now_ms(void);

/* Microseconds of the monotonic clock, read now: for measuring. */
uint64_t loop_precise_us(void);

/* Microseconds of the longest turn since the last such call, the wait for events not included. */
uint64_t loop_take_longest_turn_us(void);

/* Milliseconds since 1970, read once a turn. */
uint64_t loop_wall_ms(void);

/* The number of the present turn: for bounds on the work of one turn. */
uint64_t loop_turn(void);

/* Calls fn(owner) after the callbacks of this turn, before the loop sleeps; never from within. Set
 * again: nothing changes. A call that is deferred while deferred calls run comes a round later,
 * still before sleeping; after many rounds the rest waits for the next turn. */
void loop_defer(struct deferred *d, void (*fn)(void *owner), void *owner);

/* The same in the next turn, which begins without sleeping: for an object that has done its share
 * of work in this one. */
void loop_defer_to_next_turn(struct deferred *d, void (*fn)(void *owner), void *owner);

void loop_undefer(struct deferred *d);

/* Calls free_fn(what) at the end of the first turn that leaves no deferred call. Once an object. */
void loop_free_later(struct deferred_free *g, void *what, void (*free_fn)(void *));

/* Stops the process if `what` has been handed to loop_free_later(): a closed object must not be
 * called. For the places that call back: deferred calls, deadlines, events, answers. Only builds
 * with --enable-sanitizers or --enable-debug check it. */
#ifdef TARRY_CHECK_LIFETIMES
void loop_assert_open(const void *what, const char *file, int line);
#define LOOP_ASSERT_OPEN(what) loop_assert_open(what, __FILE__, __LINE__)
#else
#define LOOP_ASSERT_OPEN(what) ((void)0)
#endif

/* Our own mistake, never the outside's: says where, and aborts. */
#define BUG_IF(cond)                                                                               \
    do {                                                                                           \
        if (__builtin_expect(!!(cond), 0))                                                         \
            loop_panic(#cond, __FILE__, __LINE__);                                                 \
    } while (0)
_Noreturn void loop_panic(const char *what, const char *file, int line);

#endif
