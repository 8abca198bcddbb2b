/* A process that serves: one loop, one front, until it is told to stop.
 *
 * process/ is the outermost room: the command line, the master that keeps several of these running,
 * signals, reload and drain. */
#ifndef TARRY_PROCESS_CHILD_H
#define TARRY_PROCESS_CHILD_H

#include <stdbool.h>

#include "conf/snapshot.h"
#include "process/sandbox.h"
#include "process/privileges.h"

struct tickets;

struct child_setup {
    const char *conf_path;
    struct conf *conf;       /* taken over */
    struct tickets *tickets; /* made before the first fork; taken over */
    /* To be dropped once everything is bound; NULL: the master has done it. */
    const struct privileges *privileges;
    const struct sandbox_plan *fences;
    bool reuse_port;        /* other processes serve the same addresses */
    void (*on_ready)(void); /* every listener accepts */
    void (*on_reload_begun)(void);
    void (*on_reload_ended)(bool taken);
    void (*on_stopping)(void);
    uint64_t alive_interval_ms; /* how often on_alive is called; 0: never */
    void (*on_alive)(void);
};

/* Serves until SIGTERM or SIGINT. The process's exit status. */
int child_run(const struct child_setup *setup);

#endif
