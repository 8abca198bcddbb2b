/* Both ends of the broker's socket. */
#include "process/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/closefrom.h"
#include "conf/file.h"
#include "conf/load.h"
#include "net/listener.h"
#include "observe/log.h"
#include "process/sandbox.h"

enum { ANSWER_TIMEOUT_MS = 10000, FDS_MAX = 2, KEPT_FD = 3 };

enum question_kind { ASK_REFRESH, ASK_FILE, ASK_BIND };

/* Both ends are one program: the layout is no matter. */
struct question {
    enum question_kind kind;
    int flags;                  /* ASK_FILE */
    socklen_t salen;            /* ASK_BIND */
    mode_t mask;                /* ASK_BIND: the asker's, which makes a unix socket's mode */
    struct sockaddr_storage sa; /* ASK_BIND */
    char path[4096];            /* ASK_FILE */
};

static struct {
    int fd; /* -1: not started */
    bool complained;
} broker = { .fd = -1 };

/* ---- datagrams with descriptors ---- */

static int broker_send_with(int sock, const void *p, size_t n, const int *fds, size_t nfds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    } control;
    struct iovec io = { .iov_base = (void *)(uintptr_t)p, .iov_len = n };
    struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
    ssize_t sent;

    if (nfds > 0) {
        struct cmsghdr *c;

        memset(&control, 0, sizeof(control));
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
    }
    do
        sent = sendmsg(sock, &m, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)n ? 0 : -1;
}

/* Bytes received, 0 at the end, or -1. Descriptors that did not come are -1. */
static ssize_t broker_receive_with(int sock, void *p, size_t n, int fds[FDS_MAX])
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    } control;
    struct iovec io = { .iov_base = p, .iov_len = n };
    struct msghdr m = { .msg_iov = &io,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes) };
    ssize_t got;

    for (int i = 0; i < FDS_MAX; i++)
        fds[i] = -1;
    do
        got = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        return got;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
    return got;
}

/* ---- the broker's own end ---- */

/* What the conf on disk names: nothing else is opened. */
struct broker_named {
    char **files;
    size_t nfiles;
    char **temp_dirs; /* of every conf that was in force: exchanges finish under the old ones */
    size_t ntemp_dirs;
    struct conf *conf; /* the last one that was sound; NULL: none yet */
};

static struct broker_named named;

static bool broker_is_in(char *const *list, size_t n, const char *s)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], s) == 0)
            return true;
    return false;
}

static void broker_add_to(char ***list, size_t *n, const char *s)
{
    char **p, *copy;

    if (broker_is_in(*list, *n, s) || !(copy = strdup(s)))
        return;
    p = realloc(*list, (*n + 1) * sizeof(*p));
    if (!p) {
        free(copy);
        return;
    }
    *list = p;
    p[(*n)++] = copy;
}

/* While the conf is loaded here: every file that is opened is one that it names, be it sound or
 * not. */
static int broker_note_and_open(void *owner, const char *path, int flags)
{
    broker_add_to(&named.files, &named.nfiles, path);
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

static void broker_read_again(const char *conf_path)
{
    struct conf_errors errors;
    struct conf *next;

    while (named.nfiles > 0)
        free(named.files[--named.nfiles]);
    file_set_opener(broker_note_and_open, NULL);
    next = conf_load(conf_path, &errors);
    conf_errors_release(&errors);
    if (!next)
        return;
    conf_unref(named.conf);
    named.conf = next;
    broker_add_to(&named.temp_dirs, &named.ntemp_dirs, next->temp_dir.p);
}

static bool broker_is_log(const struct log_target *t, const char *path)
{
    return t->kind == LOG_TO_FILE && str_eq(t->path, str_of(path));
}

/* The descriptor, or -1 with errno. */
static int broker_open_named(const struct question *q)
{
    if (q->flags == FILE_APPEND && named.conf &&
        (broker_is_log(&named.conf->log, q->path) ||
            broker_is_log(&named.conf->access_log, q->path)))
        return open(q->path, FILE_APPEND | O_CLOEXEC, 0640);
    if (q->flags == FILE_NAMELESS && broker_is_in(named.temp_dirs, named.ntemp_dirs, q->path))
        return open(q->path, FILE_NAMELESS | O_CLOEXEC, 0600);
    if ((q->flags & ~O_NONBLOCK) == 0 && broker_is_in(named.files, named.nfiles, q->path))
        return open(q->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    errno = EACCES;
    return -1;
}

static bool broker_is_listener(const struct question *q)
{
    const struct conf *c = named.conf;

    for (size_t i = 0; c && i < c->nlistens + c->nadmins; i++) {
        const struct addr_conf *a =
            i < c->nlistens ? &c->listens[i].addr : &c->admins[i - c->nlistens].addr;

        if (a->salen == q->salen && memcmp(&a->sa, &q->sa, a->salen) == 0)
            return true;
    }
    return false;
}

/* 0, or an errno. */
static int broker_bind_named(const struct question *q, int fd)
{
    if (fd < 0 || !broker_is_listener(q))
        return EACCES;
    umask(q->mask); /* see listener.c */
    return bind(fd, (const struct sockaddr *)&q->sa, q->salen) < 0 ? errno : 0;
}

static void broker_answer(const char *conf_path, const struct question *q, const int fds[FDS_MAX])
{
    int err = 0, fd = -1;

    switch (q->kind) {
    case ASK_REFRESH:
        broker_read_again(conf_path);
        break;
    case ASK_FILE:
        fd = broker_open_named(q);
        err = fd < 0 ? errno : 0;
        break;
    case ASK_BIND:
        err = broker_bind_named(q, fds[1]);
        break;
    }
    broker_send_with(fds[0], &err, sizeof(err), &fd, fd >= 0);
    if (fd >= 0)
        close(fd);
}

/* Keeps only the rights that it needs. In a container without the capability to read everything it
 * stays root, who can read root's files, without any other capability. */
static int broker_sandbox_itself(const struct privileges *p, const struct sandbox_plan *plan)
{
    struct privileges mine = *p;
    struct rlimit none = { 0, 0 };
    char why[512];

    mine.cores = false;
    if (!privileges_has(CAP_DAC_READ_SEARCH) && mine.change) {
        mine.change = false;
        mine.uid = 0;
    }
    if (privileges_drop(&mine,
            PRIVILEGES_CAP(CAP_DAC_READ_SEARCH) | PRIVILEGES_CAP(CAP_NET_BIND_SERVICE), why,
            sizeof(why)) < 0) {
        log_error(NULL, "%s", why);
        return -1;
    }
    setrlimit(RLIMIT_NPROC, &none);
    return sandbox_enter_broker(plan);
}

static _Noreturn void broker_serve(
    int sock, const char *conf_path, const struct privileges *p, const struct sandbox_plan *plan)
{
    static const int ignored[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE };
    static struct question q;
    int fds[FDS_MAX];
    ssize_t n;

    /* It ends when those that it serves have ended, whatever a terminal or a service manager sends
     * to all at once. */
    for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
        signal(ignored[i], SIG_IGN);
    prctl(PR_SET_NAME, "tarry-broker");
    /* The broker needs no other descriptor. */
    if (sock != KEPT_FD)
        sock = dup2(sock, KEPT_FD);
    close_from(KEPT_FD + 1);
    if (broker_sandbox_itself(p, plan) < 0)
        _exit(1);
    broker_read_again(conf_path);
    while ((n = broker_receive_with(sock, &q, sizeof(q), fds)) > 0) {
        q.path[sizeof(q.path) - 1] = 0;
        if (n == sizeof(q) && fds[0] >= 0 && q.salen <= sizeof(q.sa))
            broker_answer(conf_path, &q, fds);
        for (int i = 0; i < FDS_MAX; i++)
            if (fds[i] >= 0)
                close(fds[i]);
    }
    _exit(0);
}

/* ---- the askers' end ---- */

/* Asks and waits. The errno of the answer and (*fd) what came with it; -1: there was no answer. */
static int broker_ask(const struct question *q, int with, int *fd)
{
    int pair[2], fds[FDS_MAX] = { -1, -1 }, err = -1;
    struct pollfd wait = { .events = POLLIN };
    bool answered = false;

    *fd = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return errno;
    fds[0] = pair[1];
    fds[1] = with;
    if (broker_send_with(broker.fd, q, sizeof(*q), fds, with >= 0 ? 2 : 1) == 0) {
        close(pair[1]);
        wait.fd = pair[0];
        answered = poll(&wait, 1, ANSWER_TIMEOUT_MS) > 0 &&
                   broker_receive_with(pair[0], &err, sizeof(err), fds) == sizeof(err);
        if (answered)
            *fd = fds[0];
    } else {
        close(pair[1]);
    }
    close(pair[0]);
    if (!answered && !broker.complained) {
        broker.complained = true;
        log_error(NULL, "the broker has ended: files and ports that this process may not open by "
                        "itself need a restart");
    }
    return answered ? err : -1;
}

/* The process opens by itself what it may, and asks for the rest. */
static int broker_open_or_ask(void *owner, const char *path, int flags)
{
    struct question q = { .kind = ASK_FILE, .flags = flags };
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags, flags == FILE_NAMELESS ? 0600 : 0640);
    int denied = errno, err;
    size_t n = strlen(path) + 1;

    if (fd >= 0 || (denied != EACCES && denied != EPERM) || n > sizeof(q.path))
        return fd;
    memcpy(q.path, path, n);
    err = broker_ask(&q, -1, &fd);
    if (fd < 0)
        errno = err > 0 ? err : denied;
    return fd;
}

static int broker_bind_or_ask(int fd, const struct sockaddr *sa, socklen_t salen)
{
    struct question q = { .kind = ASK_BIND, .salen = salen };
    int denied, err, none;

    if (bind(fd, sa, salen) == 0)
        return 0;
    denied = errno;
    if ((denied == EACCES || denied == EPERM) && salen <= sizeof(q.sa)) {
        memcpy(&q.sa, sa, salen);
        q.mask = umask(0);
        umask(q.mask);
        err = broker_ask(&q, fd, &none);
        if (err == 0)
            return 0;
        denied = err > 0 ? err : denied;
    }
    errno = denied;
    return -1;
}

/* Between two forks: nobody has to wait for the broker as a child. */
static _Noreturn void broker_detach(
    int sock, const char *conf_path, const struct privileges *p, const struct sandbox_plan *plan)
{
    pid_t pid = fork();

    if (pid == 0)
        broker_serve(sock, conf_path, p, plan);
    _exit(pid < 0);
}

int broker_start(const char *conf_path, const struct privileges *p, const struct sandbox_plan *plan,
    char *why, size_t whylen)
{
    int pair[2], status = 1;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 || (pid = fork()) < 0) {
        snprintf(why, whylen, "cannot start the broker: %s", strerror(errno));
        return -1;
    }
    if (pid == 0) {
        close(pair[0]);
        broker_detach(pair[1], conf_path, p, plan);
    }
    close(pair[1]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0) {
        snprintf(why, whylen, "cannot start the broker: too many processes");
        close(pair[0]);
        return -1;
    }
    broker.fd = pair[0];
    file_set_opener(broker_open_or_ask, NULL);
    listener_set_bind(broker_bind_or_ask);
    return 0;
}

bool broker_running(void)
{
    return broker.fd >= 0;
}

void broker_refresh(void)
{
    static const struct question q = { .kind = ASK_REFRESH };
    int none;

    if (broker.fd >= 0)
        broker_ask(&q, -1, &none);
}

void broker_stop(void)
{
    if (broker.fd >= 0)
        close(broker.fd);
    broker.fd = -1;
    file_set_opener(NULL, NULL);
    listener_set_bind(NULL);
}
