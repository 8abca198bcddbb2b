/* A process that watches those that serve: starts them, passes signals on, replaces one that died.
 * There is one where several processes serve the same addresses (SO_REUSEPORT), or where the conf
 * wants it. */
#ifndef TARRY_PROCESS_MASTER_H
#define TARRY_PROCESS_MASTER_H

#include <stdbool.h>

#include "conf/snapshot.h"
#include "process/privileges.h"
#include "process/sandbox.h"

struct tickets;

struct master_setup {
    const char *conf_path;
    const char *version, *commit;
    struct conf *conf;                   /* taken over */
    struct tickets *tickets;             /* taken over */
    const struct privileges *privileges; /* dropped once unix sockets are bound */
    bool may_upgrade; /* the command line is one that another binary can be started with */
    const struct sandbox_plan *sandbox; /* entered by the children */
};

/* Runs until SIGTERM, SIGINT or SIGQUIT. The process's exit status. */
int master_run(const struct master_setup *setup);

#endif
