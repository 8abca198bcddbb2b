/* Both logs of a process, as its conf names them: opened together, and tried again while a target
 * does not take lines. */
#ifndef TARRY_PROCESS_LOGS_H
#define TARRY_PROCESS_LOGS_H

#include <stdbool.h>

#include "conf/snapshot.h"

/* 0, or -1 after a line in the log that is in force. `access`: the access log too, which only a
 * serving process has. */
int logs_open(const struct conf *conf, bool access);

/* SIGUSR1. A file that cannot be opened anew is kept, with a line in the log. */
void logs_reopen(void);

/* From now on a timer of the loop writes lines that a target has not taken. */
void logs_watch(void);
void logs_unwatch(void);

#endif
