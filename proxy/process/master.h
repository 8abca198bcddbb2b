/* Several processes that serve the same addresses (SO_REUSEPORT): starts them, passes signals on,
 * replaces one that died. */
#ifndef TARRY_PROCESS_MASTER_H
#define TARRY_PROCESS_MASTER_H

#include "conf/snapshot.h"

/* Runs until SIGTERM or SIGINT; `conf` is taken over. The process's exit status. */
int master_run(const char *conf_path, struct conf *conf);

#endif
