/* A process that serves: one loop, one front, until it is told to stop.
 *
 * process/ is the outermost room: the command line, the master that keeps several of these running,
 * signals, reload and drain. */
#ifndef TARRY_PROCESS_CHILD_H
#define TARRY_PROCESS_CHILD_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/snapshot.h"
#include "process/sandbox.h"
#include "process/privileges.h"

struct tickets;

/* SIGTERM within so many milliseconds after the first one is the same one: a service manager or a
 * terminal signals all processes of a group, and the master passes it on. */
enum { SAME_SIGNAL_MS = 1000 };

#define CHILD_USR2_IGNORED                                                                         \
    "SIGUSR2 ignored: another binary is started by the master, which needs master_process = true " \
    "or several processes"

struct child_setup {
    const char *conf_path;
    const char *version, *commit; /* for the metrics */
    struct conf *conf;            /* taken over */
    struct tickets *tickets;      /* made before the first fork; taken over */
    /* To be dropped once everything is bound; NULL: the master has done it. */
    const struct privileges *privileges;
    const struct sandbox_plan *sandbox;
    size_t slot;                /* which of the master's processes it is */
    bool has_master;            /* which replaces this process, and speaks to the service manager */
    uint64_t alive_interval_ms; /* how often on_alive is called; 0: never */
    void *owner;                /* of the callbacks, each of which may be NULL */
    void (*on_ready)(void *owner); /* every listener accepts */
    void (*on_reload_begun)(void *owner);
    void (*on_reload_ended)(void *owner, bool taken);
    void (*on_stopping)(void *owner);
    void (*on_alive)(void *owner);
    /* Asked to drain over the control socket. NULL: it drains by itself. */
    void (*on_drain)(void *owner);
};

/* Serves until SIGTERM, SIGINT or SIGQUIT. The process's exit status. */
int child_run(const struct child_setup *setup);

#endif
