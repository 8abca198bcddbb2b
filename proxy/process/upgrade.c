/* The environment tells the other one which descriptors it has been given. */
#include "process/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "base/sharedmem.h"
#include "base/str.h"
#include "net/activation.h"
#include "net/listener.h"
#include "observe/log.h"
#include "process/supervisor.h"

enum { FIRST_FD = 3, FDS_MAX = 1024 };

#define ENV_SOCKETS "TARRY_UPGRADE_SOCKETS" /* "FIRST COUNT" */
#define ENV_MEMORY "TARRY_UPGRADE_MEMORY"   /* the same, of base/sharedmem.h */
#define ENV_READY "TARRY_UPGRADE_READY"     /* a descriptor */

static struct {
    char binary[PATH_MAX]; /* "": it could not be found out */
    int ready_fd;          /* -1: nobody waits for this process */
} upgrade_state = { .ready_fd = -1 };

void upgrade_note_binary(void)
{
    ssize_t n = readlink("/proc/self/exe", upgrade_state.binary, sizeof(upgrade_state.binary) - 1);

    upgrade_state.binary[n > 0 ? n : 0] = '\0';
}

/* Descriptors that are passed on. */
struct upgrade_fds {
    int fds[FDS_MAX];
    size_t n;
};

static void upgrade_collect(void *owner, int fd)
{
    struct upgrade_fds *f = owner;

    if (f->n < FDS_MAX)
        f->fds[f->n++] = fd;
}

/* Moves them to FIRST_FD and above, open over exec(). False: there are too many. */
static bool upgrade_place(struct upgrade_fds *f)
{
    for (size_t i = 0; i < f->n; i++) {
        f->fds[i] = fcntl(f->fds[i], F_DUPFD_CLOEXEC, FIRST_FD + (int)f->n);
        if (f->fds[i] < 0)
            return false;
    }
    for (size_t i = 0; i < f->n; i++)
        if (dup2(f->fds[i], FIRST_FD + (int)i) < 0)
            return false;
    return true;
}

/* In the forked process. */
static _Noreturn void upgrade_exec(const char *conf_path, int ready, const sigset_t *mask)
{
    struct upgrade_fds f = { .n = 0 };
    char text[64];
    size_t given, sockets;

    activation_each(upgrade_collect, &f);
    given = f.n;
    listener_each_shared(upgrade_collect, &f);
    sockets = f.n;
    sharedmem_each(upgrade_collect, &f);
    upgrade_collect(&f, ready);
    if (!upgrade_place(&f))
        _exit(1);
    snprintf(text, sizeof(text), "%zu %zu", FIRST_FD + given, sockets - given);
    setenv(ENV_SOCKETS, text, 1);
    snprintf(text, sizeof(text), "%zu %zu", FIRST_FD + sockets, f.n - 1 - sockets);
    setenv(ENV_MEMORY, text, 1);
    snprintf(text, sizeof(text), "%zu", FIRST_FD + f.n - 1);
    setenv(ENV_READY, text, 1);
    supervisor_pass_on(given);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execl(upgrade_state.binary, upgrade_state.binary, "-c", conf_path, (char *)NULL);
    _exit(1);
}

int upgrade_begin(struct upgrade *u, const char *conf_path, uint64_t until_ms, const sigset_t *mask,
    char *why, size_t whylen)
{
    int ends[2];

    if (!upgrade_state.binary[0] || access(upgrade_state.binary, X_OK) < 0) {
        snprintf(why, whylen, "the binary \"%s\" cannot be started: %s", upgrade_state.binary,
            strerror(errno));
        return -1;
    }
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        snprintf(why, whylen, "%s", strerror(errno));
        return -1;
    }
    u->pid = fork();
    if (u->pid == 0)
        upgrade_exec(conf_path, ends[1], mask);
    close(ends[1]);
    if (u->pid < 0) {
        snprintf(why, whylen, "%s", strerror(errno));
        close(ends[0]);
        u->pid = 0;
        return -1;
    }
    u->fd = ends[0];
    u->until_ms = until_ms;
    return 0;
}

enum upgrade_state upgrade_check(struct upgrade *u, uint64_t now_ms)
{
    enum upgrade_state state = UPGRADE_STARTING;
    char byte;
    ssize_t n;

    if (u->pid == 0)
        return UPGRADE_NONE;
    n = read(u->fd, &byte, 1);
    if (n == 1)
        state = UPGRADE_READY;
    else if (n == 0)
        state = UPGRADE_FAILED;
    else if (now_ms >= u->until_ms) {
        kill(u->pid, SIGKILL); /* its children end with it */
        state = UPGRADE_FAILED;
    }
    if (state != UPGRADE_STARTING) {
        close(u->fd);
        u->pid = 0;
    }
    return state;
}

void upgrade_abandon(struct upgrade *u)
{
    if (u->pid == 0)
        return;
    kill(u->pid, SIGKILL);
    close(u->fd);
    u->pid = 0;
}

/* "FIRST COUNT" */
static bool upgrade_read_range(const char *text, int *first, int *count)
{
    struct str left, right;
    uint64_t a, n;

    if (!text || !str_cut(str_of(text), ' ', &left, &right) || !num_parse_u64(left, &a) ||
        !num_parse_u64(right, &n) || a < FIRST_FD || a > INT_MAX - FDS_MAX || n > FDS_MAX)
        return false;
    *first = (int)a;
    *count = (int)n;
    return true;
}

void upgrade_inherit(void)
{
    const char *ready = getenv(ENV_READY);
    int first, count;
    uint64_t fd;

    if (upgrade_read_range(getenv(ENV_SOCKETS), &first, &count))
        activation_take_over(first, count);
    if (upgrade_read_range(getenv(ENV_MEMORY), &first, &count))
        for (int i = 0; i < count; i++)
            sharedmem_take_over(first + i);
    if (ready && num_parse_u64(str_of(ready), &fd) && fd >= FIRST_FD && fd < INT_MAX) {
        upgrade_state.ready_fd = (int)fd;
        fcntl(upgrade_state.ready_fd, F_SETFD, FD_CLOEXEC);
    }
    unsetenv(ENV_SOCKETS);
    unsetenv(ENV_MEMORY);
    unsetenv(ENV_READY);
}

void upgrade_tell_ready(void)
{
    char byte = 'r';

    if (upgrade_state.ready_fd < 0)
        return;
    while (write(upgrade_state.ready_fd, &byte, 1) < 0 && errno == EINTR)
        ;
    close(upgrade_state.ready_fd);
    upgrade_state.ready_fd = -1;
}

void upgrade_forget(struct upgrade *u)
{
    if (upgrade_state.ready_fd >= 0)
        close(upgrade_state.ready_fd);
    upgrade_state.ready_fd = -1;
    if (u->pid != 0)
        close(u->fd);
    u->pid = 0;
}
