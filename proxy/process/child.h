/* A process that serves: one loop, one front, until it is told to stop.
 *
 * process/ is the outermost room: the command line, the master that keeps several of these running,
 * signals, reload and drain. */
#ifndef TARRY_PROCESS_CHILD_H
#define TARRY_PROCESS_CHILD_H

#include <stdbool.h>

#include "conf/snapshot.h"

struct child_setup {
    const char *conf_path;
    struct conf *conf;      /* taken over */
    bool reuse_port;        /* other processes serve the same addresses */
    void (*on_ready)(void); /* every listener accepts */
};

/* Serves until SIGTERM or SIGINT. The process's exit status. */
int child_run(const struct child_setup *setup);

#endif
