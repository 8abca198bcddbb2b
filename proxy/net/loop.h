/* The process's one event loop: its turn, its clock, what is to be done before it sleeps, and the
 * dead.
 *
 * An object that is closed within a callback is not freed there but buried: the loop frees the dead
 * once all callbacks of the turn have returned, and once more when it ends.
 *
 * net/ is sockets: the loop, deadlines, addresses, connections with or without TLS, listeners and
 * the resolver. It knows nothing of HTTP. */
#ifndef TARRY_NET_LOOP_H
#define TARRY_NET_LOOP_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

/* Embedded in what can be buried. */
struct deferred_free {
    struct deferred_free *next;
    void (*free_fn)(void *);
    void *what;
};

/* Embedded in what wants to be called before the loop sleeps. A zeroed struct is a deferred that is
 * not set. */
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

/* Runs what is deferred, frees the dead and the loop. */
void loop_release(void);

struct ev_loop *loop_ev(void);

/* Milliseconds of the monotonic clock, read once a turn. */
uint64_t loop_now_ms(void);

/* Microseconds of the monotonic clock, read now: for measuring. */
uint64_t loop_precise_us(void);

/* Milliseconds since 1970, read once a turn. */
uint64_t loop_wall_ms(void);

/* Calls fn(owner) after the callbacks of this turn, before the loop sleeps; never from within. Set
 * again: nothing changes. What is deferred while deferred calls run comes a round later, still
 * before sleeping. */
void loop_defer(struct deferred *d, void (*fn)(void *owner), void *owner);
void loop_undefer(struct deferred *d);

/* free_fn(what) once the turn is over. */
void loop_free_later(struct deferred_free *g, void *what, void (*free_fn)(void *));

/* Our own mistake, never the outside's: says where, and aborts. */
#define BUG_IF(cond)                                                                               \
    do {                                                                                           \
        if (__builtin_expect(!!(cond), 0))                                                         \
            loop_panic(#cond, __FILE__, __LINE__);                                                 \
    } while (0)
_Noreturn void loop_panic(const char *what, const char *file, int line);

#endif
