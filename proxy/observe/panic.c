/* The report is built in static memory, because the heap may be damaged when it is needed. */
#include "observe/panic.h"

#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/build.h"
#include "observe/log.h"

enum { MOVES = 32, ID_MAX = 40, LINE_MAX_BYTES = 1024 };

static struct {
    const void *object;
    panic_describe_fn *describe;
    struct panic_move {
        const char *machine, *from, *to;
        char id[ID_MAX];
    } moves[MOVES]; /* a ring */
    unsigned nmoves;
    bool reported;
} panic;

void panic_hold(const void *object, panic_describe_fn *describe)
{
    panic.object = object;
    panic.describe = describe;
}

void panic_forget(const void *object)
{
    if (panic.object == object)
        panic.object = NULL;
}

void panic_move(const char *machine, const char *id, const char *from, const char *to)
{
    struct panic_move *m = &panic.moves[panic.nmoves++ % MOVES];
    size_t n = id ? strnlen(id, ID_MAX - 1) : 0;

    m->machine = machine;
    m->from = from;
    m->to = to;
    if (n > 0)
        memcpy(m->id, id, n);
    m->id[n] = '\0';
}

static size_t panic_add(char *out, size_t n, size_t at, const char *fmt, ...)
{
    va_list ap;
    int added;

    if (at >= n)
        return at;
    va_start(ap, fmt);
    added = vsnprintf(out + at, n - at, fmt, ap);
    va_end(ap);
    if (added < 0)
        return at;
    return (size_t)added < n - at ? at + (size_t)added : n - 1;
}

static size_t panic_add_moves(char *out, size_t n, size_t at)
{
    unsigned first = panic.nmoves > MOVES ? panic.nmoves - MOVES : 0;

    for (unsigned i = first; i < panic.nmoves; i++) {
        const struct panic_move *m = &panic.moves[i % MOVES];

        at = panic_add(
            out, n, at, "tarry: bug: move: %s %s: %s -> %s\n", m->machine, m->id, m->from, m->to);
    }
    return at;
}

static size_t panic_add_object(char *out, size_t n, size_t at)
{
    char line[LINE_MAX_BYTES] = "";

    if (!panic.object)
        return panic_add(out, n, at, "tarry: bug: in hand: nothing\n");
    panic.describe(panic.object, line, sizeof(line));
    return panic_add(out, n, at, "tarry: bug: in hand: %s\n", line);
}

size_t panic_report(char *out, size_t n)
{
    return panic_add_object(out, n, panic_add_moves(out, n, 0));
}

/* The moves are written first: describing the object may fail if memory is damaged. */
static void panic_print(void)
{
    static char text[MOVES * 160 + LINE_MAX_BYTES];

    panic.reported = true;
    log_last_words(text, panic_add_moves(text, sizeof(text), 0));
    log_last_words(text, panic_add_object(text, sizeof(text), 0));
}

void panic_bug(const char *what, const char *file, int line)
{
    static char text[LINE_MAX_BYTES];

    log_last_words(
        text, panic_add(text, sizeof(text), 0, "tarry: bug: %s at %s:%d pid=%d; please report it\n",
                  what, file, line, (int)getpid()));
    panic_print();
    abort();
}

/* Signals that a fault raises. sigabbrev_np() is in newer C libraries only. */
static const char *panic_signal_name(int signo)
{
    switch (signo) {
    case SIGSEGV:
        return "SEGV";
    case SIGBUS:
        return "BUS";
    case SIGILL:
        return "ILL";
    case SIGFPE:
        return "FPE";
    case SIGABRT:
        return "ABRT";
    default:
        return "?";
    }
}

/* SA_RESETHAND: a second fault, during the report, ends the process. */
static void panic_on_signal(int signo)
{
    static char text[LINE_MAX_BYTES];

    if (!panic.reported) {
        log_last_words(text, panic_add(text, sizeof(text), 0,
                                 "tarry: bug: signal %d (%s) pid=%d; please report it\n", signo,
                                 panic_signal_name(signo), (int)getpid()));
        panic_print();
    }
    raise(signo);
}

void panic_catch_signals(void)
{
    static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
    static char stack[64 << 10];
    stack_t alternative = { .ss_sp = stack, .ss_size = sizeof(stack) };
    struct sigaction action = { .sa_handler = panic_on_signal,
        .sa_flags = SA_ONSTACK | SA_NODEFER };

    if (BUILD_SANITIZED)
        return;
    action.sa_flags |= (int)SA_RESETHAND;
    sigaltstack(&alternative, NULL);
    for (size_t i = 0; i < sizeof(fatal) / sizeof(*fatal); i++)
        sigaction(fatal[i], &action, NULL);
}
