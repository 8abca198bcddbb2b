/* The log: one line an event, with a level, the exchange's id, and words that make sense to
 * somebody who has never seen the code. Secrets and bodies never appear. The process has one log.
 *
 * observe/ is what operators see: the log, the access log, the counters. */
#ifndef TARRY_OBSERVE_LOG_H
#define TARRY_OBSERVE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/snapshot.h"

/* Whose event it is: named at the line's end. NULL: the process's own. */
struct log_context {
    const char *exchange; /* its id */
};

/* Opens what the conf names. 0, or -1 with errno; the old target stays then. Before the first call,
 * lines of info and above go to standard error. */
int log_open(enum log_level level, const struct log_target *target);

/* Opens the file again under its name (SIGUSR1, logrotate). 0, or -1 with errno: the old file is
 * kept. */
int log_reopen(void);
void log_close(void);

/* How many bytes of lines may wait for a target that takes none; further lines are dropped, counted
 * (tarry_log_dropped_total) and reported once it takes lines again. */
void log_set_buffer_max(size_t n);

/* Tries again to write what waits: true if nothing does any more. See sink_on_waiting(). */
bool log_pump(void);

/* In a child that was just forked: lines that wait are its parent's. */
void log_forget_waiting(void);

/* One line that must be seen on standard error whatever the level and the target are; the log gets
 * it too. */
void log_announce(const char *text);

/* Whole lines of a process that is about to end by a fault, to standard error and to a file,
 * unchanged and at once. May be called from a signal handler. */
void log_last_words(const char *text, size_t n);

/* Sets the level by its name until the next log_open(). False if there is no such level. */
bool log_set_level(struct str name);
const char *log_level_name(void);

/* The last lines of level warn and error, oldest first, without their ends. */
void log_each_recent(void (*fn)(void *owner, const char *line), void *owner);

bool log_enabled(enum log_level level);

void log_write(enum log_level level, const struct log_context *ctx, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(ctx, ...) log_write(LEVEL_ERROR, (ctx), __VA_ARGS__)
#define log_warn(ctx, ...) log_write(LEVEL_WARN, (ctx), __VA_ARGS__)
#define log_info(ctx, ...) log_write(LEVEL_INFO, (ctx), __VA_ARGS__)
#define log_debug(ctx, ...)                                                                        \
    do {                                                                                           \
        if (log_enabled(LEVEL_DEBUG))                                                              \
            log_write(LEVEL_DEBUG, (ctx), __VA_ARGS__);                                            \
    } while (0)

#endif
