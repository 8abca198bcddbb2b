/* Gives up privileges: from root to the conf's user, for good, and with memory that other processes
 * cannot read.
 *
 * As root the process binds, reads keys, and hands log files over. After startup, anything that
 * needs root (a renewed key on SIGHUP, a new port below 1024) is done by the broker, which is
 * forked before the privileges are given up. */
#ifndef TARRY_PROCESS_PRIVILEGES_H
#define TARRY_PROCESS_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/snapshot.h"

enum { PRIVILEGES_GROUPS_MAX = 64 };

/* Whom the process shall run as. Plain data. */
struct privileges {
    bool change;    /* it is root's now, and shall become another's */
    bool stay_root; /* it is root's, and the conf names nobody else */
    bool cores;     /* the conf wants core dumps */
    uid_t uid;
    gid_t gid;
    gid_t groups[PRIVILEGES_GROUPS_MAX]; /* supplementary ones */
    size_t ngroups;
    char user[64]; /* for messages; empty if the conf names none */
};

/* Looks the conf's user and group up. 0, or -1 with one line in `why`: it is not this process's own
 * account, and the process is not root. */
int privileges_plan(struct privileges *p, const struct conf *conf, char *why, size_t whylen);

/* As root: makes the log files that only root can make, and gives those to the user that are
 * root's, so that they can be opened anew later. Touches nothing in folders that others than root
 * can write to. 0, or -1 with one line in `why`. */
int privileges_hand_over_logs(
    const struct privileges *p, const struct conf *conf, char *why, size_t whylen);

/* Between these two, files are opened and made with the user's rights, as it is after the drop. 0,
 * or -1 with errno. Nothing happens if there is nothing to change. */
int privileges_borrow(const struct privileges *p);
void privileges_return(const struct privileges *p);

/* A capability's bit in a set of them. */
#define PRIVILEGES_CAP(cap) (UINT64_C(1) << (cap))

/* For good: becomes the user, without capabilities but those of `caps` that the process has, able
 * to get no new ones, not dumpable. Root that stays root keeps its capabilities. 0, or -1 with one
 * line in `why`; the process must end then. */
int privileges_drop(const struct privileges *p, uint64_t caps, char *why, size_t whylen);

/* Whether the process has this capability in its permitted set. */
bool privileges_has(int cap);

/* Before the drop: whether the user can write to temp_dir and to the logs that are there. 0, or -1
 * with one line in `why`. */
int privileges_check_folders(
    const struct privileges *p, const struct conf *conf, char *why, size_t whylen);

#endif
