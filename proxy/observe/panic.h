/* What a process says when it ends by its own mistake: what was wrong, the object in hand, and the
 * last moves of the state machines. The lines go to standard error and to the log. */
#ifndef TARRY_OBSERVE_PANIC_H
#define TARRY_OBSERVE_PANIC_H

#include <stddef.h>

/* Writes one line about `object`, without its end, as x_describe(x, buf, n) does. It may be called
 * while memory is damaged: it reads, and allocates nothing. */
typedef void panic_describe_fn(const void *object, char *out, size_t n);

/* The object that the code below works on, until the next call. `object` NULL: none. The loop
 * forgets it at the end of each turn; whoever frees the object within the turn calls
 * panic_forget(). */
void panic_hold(const void *object, panic_describe_fn *describe);
void panic_forget(const void *object);

/* A move of a state machine. `machine`, `from` and `to` are literals; of `id` (may be NULL) the
 * first characters are copied. Cheap enough for every move. */
void panic_move(const char *machine, const char *id, const char *from, const char *to);

/* Fatal signals print the report too, and end the process as they would have. Not in a build with
 * sanitizers, which print more. */
void panic_catch_signals(void);

/* Prints the report of a claim that did not hold, and aborts. */
_Noreturn void panic_bug(const char *what, const char *file, int line);

/* The report's text: for tests and for the control socket. The length. */
size_t panic_report(char *out, size_t n);

#endif
