/* What the kernel keeps from a process whatever it is made to do: system calls that it never needs
 * (seccomp), and files outside of a few folders (Landlock). Raised once, after start, by each
 * process for itself; never taken down again.
 *
 * seccomp: what a serving process needs is on a list. What no honest path leads to (starting
 * programs, tracing, mounting, loading modules) ends the process; everything else fails with
 * ENOSYS, as on an older kernel, so that libraries fall back.
 *
 * Landlock: reading is allowed in /etc and /usr, writing in temp_dir and in the folders of logs and
 * unix sockets that the conf named at the start; nothing can be executed. The opener does what lies
 * outside, if the conf names it. */
#ifndef TARRY_PROCESS_SANDBOX_H
#define TARRY_PROCESS_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/snapshot.h"

/* What is there to be raised. */
struct sandbox_plan {
    bool seccomp;
    unsigned landlock; /* the ABI that is used; 0: none */
};

/* What the conf wants and the kernel offers. 0, or -1 with one line in `why`: one that is required
 * cannot be had. */
int sandbox_plan(struct sandbox_plan *plan, const struct conf *conf, char *why, size_t whylen);

/* Around this process, which serves. `plan` says afterwards what was raised: what is not required
 * and cannot be had after all is left out, with a line in the log. 0, or -1 with one line in `why`;
 * the process must end then. */
int sandbox_enter(struct sandbox_plan *plan, const struct conf *conf, char *why, size_t whylen);

/* Around the opener: no network, no programs, no folders or links made. 0, or -1 after a line in
 * the log. */
int sandbox_enter_broker(const struct sandbox_plan *plan);

#endif
