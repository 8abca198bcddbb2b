/* Several processes that serve the same addresses (SO_REUSEPORT): starts them, passes signals on,
 * replaces one that died. */
#ifndef TARRY_PROCESS_MASTER_H
#define TARRY_PROCESS_MASTER_H

#include "conf/snapshot.h"
#include "process/sandbox.h"
#include "process/privileges.h"

struct tickets;

/* Binds unix sockets, drops `p`, and runs until SIGTERM or SIGINT; `conf` and `tickets` are taken
 * over. The children raise `fences`. The process's exit status. */
int master_run(const char *conf_path, struct conf *conf, struct tickets *tickets,
    const struct privileges *p, const struct sandbox_plan *fences);

#endif
