/* The report of a process that ends by a bug: the failed claim, the current object, and the last
 * moves of the state machines. The lines go to standard error and to the log. */
#ifndef TARRY_OBSERVE_PANIC_H
#define TARRY_OBSERVE_PANIC_H

#include <stddef.h>

/* Writes one line about `object`, without a newline, as x_describe(x, buf, n) does. It may be
 * called while memory is damaged, so it only reads and allocates nothing. */
typedef void panic_describe_fn(const void *object, char *out, size_t n);

/* The object that the code below works on, until the next call. `object` NULL: none. The loop
 * forgets it at the end of each turn; code that frees the object during the turn calls
 * panic_forget(). */
void panic_hold(const void *object, panic_describe_fn *describe);
void panic_forget(const void *object);

/* Notes a move of a state machine. `machine`, `from` and `to` are literals; the first characters of
 * `id` (may be NULL) are copied. Cheap enough for every move. */
void panic_move(const char *machine, const char *id, const char *from, const char *to);

/* Makes fatal signals print the report before they end the process. Does nothing in a build with
 * sanitizers, which print more. */
void panic_catch_signals(void);

/* Prints the report of a failed claim, and aborts. */
_Noreturn void panic_bug(const char *what, const char *file, int line);

/* The report's text: for tests and for the control socket. The length. */
size_t panic_report(char *out, size_t n);

#endif
