/* Where the lines of a log go: standard error, standard output, a file, syslog, or nowhere.
 * Embedded in the log and the access log.
 *
 * A sink never blocks its process. Lines that the target does not take now wait in memory up to a
 * bound; further ones are dropped and counted. A target gets whole lines only: where a full disk
 * has taken a part of one, the part is removed from the file again, or completed before anything
 * else is written. */
#ifndef TARRY_OBSERVE_SINK_H
#define TARRY_OBSERVE_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "conf/snapshot.h"

enum { SINK_BUFFER_MAX = 1 << 20 }; /* unless the conf says otherwise */

/* How bytes are written so that the process does not wait. */
enum sink_way {
    SINK_BLOCKING, /* standard error before a log is opened: the process serves nobody yet */
    SINK_FILE,
    SINK_PIPE,   /* of which we have an open file description of our own that does not block */
    SINK_POLLED, /* somebody else's pipe or terminal: asked for room first */
    SINK_SOCKET,
    SINK_SYSLOG /* one datagram a line */
};

struct sink {
    enum log_target_kind kind;
    enum sink_way way;
    int fd;            /* -1: none */
    char *path;        /* of a file */
    struct buf lines;  /* whole lines that wait */
    size_t written;    /* bytes of the first line that are out already */
    size_t buffer_max; /* 0: SINK_BUFFER_MAX */
    uint64_t dropped;  /* lines, since sink_take_dropped() */
};

/* Replaces what `s` is by what the conf names; lines that the old target does not take at once go
 * to the new one. 0, or -1 with errno: `s` is as it was then. */
int sink_open(struct sink *s, const struct log_target *target);

/* Opens a file again under its name (logrotate). 0, or -1 with errno: the old file is kept. */
int sink_reopen(struct sink *s);

/* Waits a moment for a target that takes nothing, then gives up. */
void sink_close(struct sink *s);

/* Adds a line, its end included. `priority`: for syslog. It is not written yet. */
void sink_put(struct sink *s, int priority, const char *line, size_t n);

/* Counts a line that could not even be made. */
void sink_drop(struct sink *s);

/* Writes what the target takes now. True if nothing waits any more. */
bool sink_pump(struct sink *s);

/* Lines dropped and not reported yet, once the target takes lines again: then the count begins
 * anew. Otherwise 0. */
uint64_t sink_take_dropped(struct sink *s);

/* Drops what waits without counting it. */
void sink_forget(struct sink *s);

/* In a process that is about to end by a fault: what waits, then `text`, as far as the target takes
 * it now. Allocates nothing, and may be called from a signal handler. Not for syslog. */
void sink_write_last(struct sink *s, const char *text, size_t n);

/* Calls `fn` each time that a pump has left lines behind, so that it is tried again some time
 * later. NULL: nobody. */
void sink_on_waiting(void (*fn)(void));

#endif
