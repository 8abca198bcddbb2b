/* The watcher reads nothing but two pipes: it needs no sandbox. */
#include "process/lifeline.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/closefrom.h"
#include "observe/log.h"

enum {
    PARENT_FD = 3,    /* end of file: the starter has died */
    TARRY_FD = 4,     /* end of file: no process of Tarry is left */
    FINISH_MS = 3000, /* the workers die with their starter: there is little left to wait for */
    KILL_MS = 2000,
    DEPTH_MAX = 8,
};

static bool lifeline_ended(int fd, int timeout_ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char bytes[64];
    int n;

    do
        n = poll(&p, 1, timeout_ms);
    while (n < 0 && errno == EINTR);
    return n > 0 && read(fd, bytes, sizeof(bytes)) == 0;
}

/* True when the starter has died, false when Tarry has ended before it. */
static bool lifeline_wait(void)
{
    struct pollfd p[] = { { .fd = PARENT_FD, .events = POLLIN },
        { .fd = TARRY_FD, .events = POLLIN } };

    for (;;) {
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[0].revents && lifeline_ended(PARENT_FD, 0))
            return true;
        if (p[1].revents && lifeline_ended(TARRY_FD, 0))
            return lifeline_ended(PARENT_FD, 0);
    }
}

static void lifeline_stop(pid_t tarry)
{
    static const struct {
        int signo, timeout_ms;
    } steps[] = { { SIGTERM, FINISH_MS }, { SIGTERM, KILL_MS }, { SIGKILL, KILL_MS } };

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (lifeline_ended(TARRY_FD, 0))
            return;
        kill(tarry, steps[i].signo);
        lifeline_ended(TARRY_FD, steps[i].timeout_ms);
    }
}

/* Removes what is in the folder behind `fd`, which it closes. By descriptors and without following
 * links: the workers' account can write further inside, and could put a link in a folder's place.
 */
static int lifeline_empty(int fd, unsigned depth)
{
    DIR *folder = fdopendir(fd);
    struct dirent *entry;
    int err = 0;

    if (!folder) {
        close(fd);
        return -1;
    }
    while ((entry = readdir(folder))) {
        const char *name = entry->d_name;
        int inner;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || unlinkat(fd, name, 0) == 0)
            continue;
        inner = depth > 0 ? openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (inner < 0 || lifeline_empty(inner, depth - 1) < 0 ||
            unlinkat(fd, name, AT_REMOVEDIR) < 0)
            err = -1;
    }
    closedir(folder);
    return err;
}

/* Only a folder that nobody else can write to. */
static void lifeline_remove(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0 && errno == ENOENT)
        return;
    if (fd < 0 || fstat(fd, &st) < 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        log_error(NULL, "cannot remove \"%s\": it is no folder, or others can write to it", path);
        if (fd >= 0)
            close(fd);
        return;
    }
    if (lifeline_empty(fd, DEPTH_MAX) < 0 || rmdir(path) < 0)
        log_error(NULL, "cannot remove \"%s\": %s", path, strerror(errno));
}

/* Whether the folder is another account's than the one that Tarry becomes. */
static bool lifeline_is_foreign(const char *path, const struct privileges *p)
{
    struct stat st;

    return path && p->change && lstat(path, &st) == 0 && st.st_uid != p->uid;
}

/* Moves the two descriptors to their places and closes all others: a copy of a listening socket
 * would keep its port open. */
static void lifeline_keep(int parent, int tarry)
{
    int above = fcntl(tarry, F_DUPFD, TARRY_FD + 1);

    if (parent != PARENT_FD)
        dup2(parent, PARENT_FD);
    dup2(above, TARRY_FD);
    close_from(TARRY_FD + 1);
}

static _Noreturn void lifeline_watch(
    int parent, int pipe, pid_t tarry, const char *folder, const struct privileges *p)
{
    static const int ignored[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE };
    char why[512];

    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i],
            SIG_IGN); /* signals that a terminal or a service manager sends to all processes */
    prctl(PR_SET_NAME, "tarry-lifeline");
    lifeline_keep(parent, pipe);
    /* To remove root's folder it stays root. It reads nothing but the ends of two pipes. */
    if (!lifeline_is_foreign(folder, p) && privileges_drop(p, 0, why, sizeof(why)) < 0) {
        log_error(NULL, "%s", why);
        _exit(1);
    }
    if (!lifeline_wait())
        _exit(0);
    log_error(NULL, "the process that started this one has died: stopping");
    lifeline_stop(tarry);
    if (folder)
        lifeline_remove(folder);
    _exit(0);
}

int lifeline_start(int fd, const char *folder, const struct privileges *p, char *why, size_t whylen)
{
    pid_t tarry = getpid(), pid;
    int ends[2];

    if (folder && folder[0] != '/') {
        snprintf(why, whylen, "\"%s\" is no absolute path; write one behind -r", folder);
        return -1;
    }
    if (fcntl(fd, F_GETFD) < 0) {
        snprintf(why, whylen, "descriptor %d is not open; pass the reading end of a pipe", fd);
        return -1;
    }
    /* Every process of Tarry inherits the writing end, and none ever closes it. */
    if (pipe2(ends, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
        snprintf(
            why, whylen, "cannot watch the process that started this one: %s", strerror(errno));
        return -1;
    }
    if (pid == 0) {
        /* Forked twice: nobody here has to wait for it. */
        if (fork() == 0) {
            close(ends[1]);
            lifeline_watch(fd, ends[0], tarry, folder, p);
        }
        _exit(0);
    }
    close(fd);
    close(ends[0]);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return 0;
}
