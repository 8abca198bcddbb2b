/* The log: one line per event, with a level, the exchange's id, and a text that readers understand
 * without the code. Secrets and bodies never appear. The process has one log.
 *
 * observe/ has everything that operators see: the log, the access log, the counters. */
#ifndef TARRY_OBSERVE_LOG_H
#define TARRY_OBSERVE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/snapshot.h"

/* The exchange of the event: named at the end of the line. NULL: an event of the process. */
struct log_context {
    const char *exchange; /* its id */
};

/* Opens the target in the conf. 0, or -1 with errno: the old target stays. Before the first call,
 * lines of info and above go to standard error. */
int log_open(enum log_level level, const struct log_target *target);

/* Reopens the file by its name (SIGUSR1, logrotate). 0, or -1 with errno: the old file is kept. */
int log_reopen(void);
void log_close(void);

/* How many bytes of lines may wait while the target accepts none. Further lines are dropped,
 * counted (tarry_log_dropped_total) and reported when the target accepts lines again. */
void log_set_buffer_max(size_t n);

/* Tries again to write waiting lines: true if none is left. See sink_on_waiting(). */
bool log_pump(void);

/* In a child that was just forked: waiting lines belong to its parent. */
void log_forget_waiting(void);

/* Writes a line to standard error whatever the level and the target are, and to the log too. */
void log_announce(const char *text);

/* Writes whole lines of a crashing process to standard error and to a file, unchanged and at once.
 * May be called from a signal handler. */
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
