/* Limits that the kernel enforces, whatever the process is made to do: on system calls (seccomp)
 * and on files (Landlock). Each process enters its sandbox once, after the start, and never leaves
 * it.
 *
 * seccomp: the system calls that a serving process needs are on a list. Calls that Tarry never
 * makes (starting programs, tracing, mounting, loading modules) end the process; all others fail
 * with ENOSYS, as on an older kernel, so that libraries fall back.
 *
 * Landlock: reading is allowed in /etc and /usr, writing in temp_dir and in the folders of logs and
 * unix sockets that the conf named at the start; nothing can be executed. The broker does what lies
 * outside, if the conf names it. */
#ifndef TARRY_PROCESS_SANDBOX_H
#define TARRY_PROCESS_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/snapshot.h"

/* What the sandbox consists of. */
struct sandbox_plan {
    bool seccomp;
    unsigned landlock; /* the ABI that is used; 0: none */
};

/* From what the conf wants and the kernel offers. 0, or -1 with one line in `why`: one that is
 * required cannot be had. */
int sandbox_plan(struct sandbox_plan *plan, const struct conf *conf, char *why, size_t whylen);

/* Around this process, which serves. `plan` says afterwards what was raised: what is not required
 * and cannot be had after all is left out, with a line in the log. 0, or -1 with one line in `why`;
 * the process must end then. */
int sandbox_enter(struct sandbox_plan *plan, const struct conf *conf, char *why, size_t whylen);

/* Around the broker: no network, no programs, no folders or links made. 0, or -1 after a line in
 * the log. */
int sandbox_enter_broker(const struct sandbox_plan *plan);

#endif
