/* Another binary takes over (SIGUSR2): the master starts it with the listening sockets that it
 * holds, and waits until it is ready. Then this one drains. No connection is handed over, and none
 * is refused. If the other one does not become ready, nothing changes. */
#ifndef TARRY_PROCESS_UPGRADE_H
#define TARRY_PROCESS_UPGRADE_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct upgrade {
    pid_t pid; /* of the other master; 0: none */
    int fd;    /* its readiness comes here; good while pid is set */
    uint64_t until_ms;
};

enum upgrade_state { UPGRADE_NONE, UPGRADE_STARTING, UPGRADE_READY, UPGRADE_FAILED };

/* In main, before anything changes the process: notes where the binary lies, which may be another
 * one later. */
void upgrade_note_binary(void);

/* Starts the binary of that place with `tarry -c conf_path`. It has until `until_ms` of the
 * monotonic clock to become ready. `mask`: the signal mask that it begins with. 0, or -1 with one
 * line in `why`. */
int upgrade_begin(struct upgrade *u, const char *conf_path, uint64_t until_ms, const sigset_t *mask,
    char *why, size_t whylen);

/* What has become of it. READY and FAILED are told once; a process that is late is killed. */
enum upgrade_state upgrade_check(struct upgrade *u, uint64_t now_ms);

/* This process ends: one that is still starting ends too. */
void upgrade_abandon(struct upgrade *u);

/* In the other one: takes the sockets over that the first one passes on. To be called first of
 * all. */
void upgrade_inherit(void);

/* It is ready. */
void upgrade_tell_ready(void);

/* In a process that the master has forked: it tells nobody. */
void upgrade_forget(struct upgrade *u);

#endif
