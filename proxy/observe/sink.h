/* The target of a log's lines: standard error, standard output, a file, syslog, or nowhere.
 * Embedded in the log and the access log.
 *
 * A sink never blocks its process. Lines that the target does not accept now wait in memory, up to
 * a limit; further lines are dropped and counted. A target gets whole lines only: if a full disk
 * took a part of a line, the part is removed from the file or completed before anything else is
 * written. */
#ifndef TARRY_OBSERVE_SINK_H
#define TARRY_OBSERVE_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "conf/snapshot.h"

enum { SINK_BUFFER_MAX = 1 << 20 }; /* unless the conf says otherwise */

/* How bytes are written without blocking the process. */
enum sink_way {
    SINK_BLOCKING, /* standard error before a log is opened: there are no clients yet */
    SINK_FILE,
    SINK_PIPE,   /* with our own non-blocking open file description */
    SINK_POLLED, /* a shared pipe or terminal: polled for room first */
    SINK_SOCKET,
    SINK_SYSLOG /* one datagram a line */
};

struct sink {
    enum log_target_kind kind;
    enum sink_way way;
    int fd;            /* -1: none */
    char *path;        /* of a file */
    struct buf lines;  /* whole waiting lines */
    size_t written;    /* bytes of the first line that were already written */
    size_t buffer_max; /* 0: SINK_BUFFER_MAX */
    uint64_t dropped;  /* lines, since sink_take_dropped() */
};

/* Replaces the target of `s` by the one in the conf; lines that the old target does not accept at
 * once go to the new one. 0, or -1 with errno: `s` is unchanged. */
int sink_open(struct sink *s, const struct log_target *target);

/* Reopens a file by its name (logrotate). 0, or -1 with errno: the old file is kept. */
int sink_reopen(struct sink *s);

/* Closes the sink. Waits a moment for a target that accepts nothing, then gives up. */
void sink_close(struct sink *s);

/* Adds a line with its newline. `priority`: for syslog. It is not written yet. */
void sink_put(struct sink *s, int priority, const char *line, size_t n);

/* Counts a line that could not be formatted. */
void sink_drop(struct sink *s);

/* Writes as much as the target accepts now. True if nothing is left. */
bool sink_pump(struct sink *s);

/* The number of dropped lines that were not reported yet, if the target accepts lines again; resets
 * the count. Otherwise 0. */
uint64_t sink_take_dropped(struct sink *s);

/* Drops all waiting lines without counting them. */
void sink_forget(struct sink *s);

/* In a crashing process: writes waiting lines, then `text`, as far as the target accepts them now.
 * Allocates nothing, and may be called from a signal handler. Not for syslog. */
void sink_write_last(struct sink *s, const char *text, size_t n);

/* Sets a function that is called whenever a pump leaves lines behind, so that the caller can try
 * again later. NULL: none. */
void sink_on_waiting(void (*fn)(void));

#endif
