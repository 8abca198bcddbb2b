/* A bond to the process that started Tarry. That process keeps the writing end of a pipe and passes
 * the reading end: end of file there says that it has died, however it died. PR_SET_PDEATHSIG does
 * not say so reliably: it is about the thread that forked, and a change of user clears it.
 *
 * A small process of its own watches. It ends with the last process of Tarry. If the starter dies
 * first, it stops Tarry and then removes a folder of the starter's, which may hold secrets. */
#ifndef TARRY_PROCESS_LIFELINE_H
#define TARRY_PROCESS_LIFELINE_H

#include <stddef.h>

#include "process/privileges.h"

/* Forks the watcher, to be called before any other process is forked and before privileges are
 * dropped. `fd` is the reading end, which this process closes; `folder` is an absolute path, or
 * NULL. 0, or -1 with one line in `why`. */
int lifeline_start(
    int fd, const char *folder, const struct privileges *p, char *why, size_t whylen);

#endif
