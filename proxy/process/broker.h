/* A small process that opens what the serving processes may not: keys that only root can read,
 * files in folders outside of their sandbox, ports below 1024.
 *
 * It is forked before privileges are given up, and has a sandbox too: the conf's user with nothing
 * but the capabilities to read any file and to bind any port, without a network of its own. It
 * knows what the conf names because it loads the conf itself, and opens nothing else: files for
 * reading, the two logs for appending, files without a name in temp_dir, and the addresses of
 * listeners. So an attacker who takes over a serving process gains no file by it.
 *
 * Any number of processes ask it, by one datagram a question, which brings the socket for the
 * answer. It ends when the last of them has ended. */
#ifndef TARRY_PROCESS_BROKER_H
#define TARRY_PROCESS_BROKER_H

#include <stdbool.h>
#include <stddef.h>

#include "process/sandbox.h"
#include "process/privileges.h"

/* Forks it, and has conf/file and net/listener ask it for what this process is denied. 0, or -1
 * with one line in `why`. */
int broker_start(const char *conf_path, const struct privileges *p, const struct sandbox_plan *plan,
    char *why, size_t whylen);

/* Whether it was started. */
bool broker_running(void);

/* The conf is about to be loaded again: so does the broker, to know what it names now. */
void broker_refresh(void);

/* Lets go of it. */
void broker_stop(void);

#endif
