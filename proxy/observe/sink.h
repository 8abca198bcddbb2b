/* Where log lines go: standard error, standard output, a file, syslog, or nowhere. Embedded in the
 * log and the access log. */
#ifndef TARRY_OBSERVE_SINK_H
#define TARRY_OBSERVE_SINK_H

#include "conf/snapshot.h"

struct sink {
    enum log_target_kind kind;
    int fd;     /* -1: none */
    char *path; /* of a file */
};

/* Replaces what `s` is by what the conf names. 0, or -1 with errno: `s` is as it was then. */
int sink_open(struct sink *s, const struct log_target *target);

/* Opens a file again under its name (logrotate). 0, or -1 with errno: the old file is kept. */
int sink_reopen(struct sink *s);
void sink_close(struct sink *s);

#endif
