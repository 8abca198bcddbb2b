/* seccomp by libseccomp; Landlock by its three system calls, for which there is no library. */
#include "process/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <openssl/x509.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/build.h"
#include "net/castore.h"
#include "observe/log.h"

#define WHY(...) (snprintf(why, whylen, __VA_ARGS__), -1)

/* ---- seccomp ---- */

/* Calls that Tarry never makes: whoever makes one has taken the process over. Names that this
 * architecture or libseccomp does not know are skipped. */
static const char *const deadly[] = { "execve", "execveat", "ptrace", "process_vm_readv",
    "process_vm_writev", "pidfd_getfd", "init_module", "finit_module", "delete_module",
    "kexec_load", "kexec_file_load", "bpf", "perf_event_open", "userfaultfd", "mount", "umount2",
    "pivot_root", "chroot", "setns", "unshare", "open_tree", "move_mount", "fsopen", "fsmount",
    "fsconfig", "fspick", "mount_setattr", "swapon", "swapoff", "reboot", "sethostname",
    "setdomainname", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "stime",
    "add_key", "request_key", "keyctl", "open_by_handle_at", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "acct", "quotactl", "iopl", "ioperm", "modify_ldt", "personality",
    "vhangup", "syslog", "mknod", "mknodat", "lookup_dcookie", "process_madvise", "fanotify_init",
    NULL };

/* For every process: memory, time, signals to itself, descriptors that it has, files. */
static const char *const basics[] = {
    /* memory and the end */
    "brk", "munmap", "mremap", "madvise", "exit", "exit_group", "futex", "futex_time64",
    "futex_waitv", "sched_yield", "sched_getaffinity", "getcpu", "set_robust_list", "rseq",
    "restart_syscall", "membarrier", "getrandom",
    /* time */
    "clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "clock_nanosleep",
    "clock_nanosleep_time64", "nanosleep", "gettimeofday", "time", "times",
    /* who and where it is */
    "getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getresuid",
    "getresgid", "getgroups", "getpgrp", "getpgid", "getsid", "getcwd", "uname", "sysinfo",
    "getrlimit", "ugetrlimit", "getrusage", "capget", "umask",
    /* signals */
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigsuspend",
    "rt_sigtimedwait", "sigaltstack", "sigreturn",
    /* waiting */
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_wait", "epoll_pwait",
    "epoll_pwait2", "poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6",
    "pselect6_time64", "eventfd", "eventfd2", "timerfd_create", "timerfd_settime",
    "timerfd_settime64", "timerfd_gettime", "timerfd_gettime64", "signalfd", "signalfd4",
    /* descriptors */
    "close", "close_range", "dup", "dup2", "dup3", "fcntl", "fcntl64", "pipe", "pipe2", "read",
    "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2",
    "lseek", "_llseek", "sendfile", "sendfile64", "splice", "fsync", "fdatasync", "fallocate",
    "ftruncate", "ftruncate64", "fadvise64", "fadvise64_64", "flock",
    /* files: which ones, DAC and Landlock say */
    "open", "openat", "openat2", "creat", "stat", "stat64", "fstat", "fstat64", "lstat", "lstat64",
    "newfstatat", "fstatat64", "statx", "statfs", "statfs64", "fstatfs", "fstatfs64", "access",
    "faccessat", "faccessat2", "readlink", "readlinkat", "getdents", "getdents64", "unlink",
    "unlinkat", "inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch",
    /* sockets that it has */
    "sendmsg", "sendto", "send", "recvmsg", "recvfrom", "recv", "socketpair", "bind", NULL
};

/* Further ones for a serving process. */
static const char *const network[] = { "accept", "accept4", "connect", "listen", "getsockname",
    "getpeername", "getsockopt", "setsockopt", "shutdown", "sendmmsg", "recvmmsg", "socketcall",
    /* the group of a unix socket that a reload adds: one's own file, one's own groups */
    "lchown", "lchown32", "fchownat", NULL };

static int sandbox_add_all(scmp_filter_ctx f, const char *const *names, uint32_t action)
{
    for (size_t i = 0; names[i]; i++) {
        int nr = seccomp_syscall_resolve_name(names[i]), err;

        if (nr == __NR_SCMP_ERROR)
            continue;
        err = seccomp_rule_add(f, action, nr, 0);
        if (err < 0 && err != -EDOM)
            return err;
    }
    return 0;
}

/* Some calls are good with some arguments only; each row is one way to be. */
static const struct bounded {
    const char *name;
    unsigned argument;
    uint64_t mask, value; /* (argument & mask) == value */
    bool serving;         /* not for the broker */
} bounded[] = {
    /* Memory is either written or run. Libraries may still be loaded (for the name service). */
    { "mprotect", 2, PROT_EXEC, 0, false }, { "mmap", 2, PROT_EXEC, 0, false },
    { "mmap", 2, PROT_WRITE, 0, false }, { "mmap2", 2, PROT_EXEC, 0, false },
    { "mmap2", 2, PROT_WRITE, 0, false },
    /* Limits are asked for, not set. */
    { "prlimit64", 2, UINT64_MAX, 0, false },
    /* A terminal must not be typed into (TIOCSTI). */
    { "ioctl", 1, UINT32_MAX, FIONREAD, false }, { "ioctl", 1, UINT32_MAX, FIONBIO, false },
    { "ioctl", 1, UINT32_MAX, TCGETS, false }, { "socket", 0, UINT32_MAX, AF_UNIX, true },
    { "socket", 0, UINT32_MAX, AF_INET, true }, { "socket", 0, UINT32_MAX, AF_INET6, true },
    { "socket", 0, UINT32_MAX, AF_NETLINK, true }, /* which addresses this machine has */
};

static int sandbox_add_bounded(scmp_filter_ctx f, bool serving)
{
    struct scmp_arg_cmp itself = SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0);
    int err;

    for (size_t i = 0; i < sizeof(bounded) / sizeof(*bounded); i++) {
        const struct bounded *b = &bounded[i];
        struct scmp_arg_cmp is = { b->argument, SCMP_CMP_MASKED_EQ, b->mask, b->value };
        int nr = seccomp_syscall_resolve_name(b->name);

        if (nr == __NR_SCMP_ERROR || (b->serving && !serving))
            continue;
        err = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, nr, 1, &is);
        if (err < 0 && err != -EDOM)
            return err;
    }
    /* abort() and raise(). */
    return seccomp_rule_add_array(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &itself);
}

/* 0, or a negative errno. */
static int sandbox_load_filter(bool serving)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int err;

    if (!f)
        return -ENOMEM;
    err = sandbox_add_all(f, deadly, SCMP_ACT_KILL_PROCESS);
    if (err == 0)
        err = sandbox_add_all(f, basics, SCMP_ACT_ALLOW);
    if (err == 0 && serving)
        err = sandbox_add_all(f, network, SCMP_ACT_ALLOW);
    if (err == 0)
        err = sandbox_add_bounded(f, serving);
    /* A binary tree: some dozens of calls a request should not each walk the whole list. */
    if (err == 0)
        seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (err == 0)
        err = seccomp_load(f);
    seccomp_release(f);
    return err;
}

/* ---- Landlock ---- */

/* Rights that came after the first version; Debian's header may be older than the kernel. */
#define RIGHT_REFER (UINT64_C(1) << 13)     /* 2: a file to another folder */
#define RIGHT_TRUNCATE (UINT64_C(1) << 14)  /* 3 */
#define RIGHT_IOCTL_DEV (UINT64_C(1) << 15) /* 5 */

#define RIGHTS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define RIGHTS_WRITE                                                                               \
    (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |  \
        LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE | RIGHT_TRUNCATE)
#define RIGHTS_OF_1 ((UINT64_C(1) << 13) - 1)

enum { ABI_MAX = 5 };

static unsigned sandbox_landlock_abi(void)
{
    long abi =
        syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);

    return abi < 0 ? 0 : abi > ABI_MAX ? ABI_MAX : (unsigned)abi;
}

/* All rights that the ruleset handles. */
static uint64_t sandbox_rights_of(unsigned abi)
{
    return RIGHTS_OF_1 | (abi >= 2 ? RIGHT_REFER : 0) | (abi >= 3 ? RIGHT_TRUNCATE : 0) |
           (abi >= 5 ? RIGHT_IOCTL_DEV : 0);
}

struct ruleset {
    int fd;
    uint64_t handled;
};

static int sandbox_open_ruleset(struct ruleset *r, unsigned abi)
{
    struct landlock_ruleset_attr attr = { .handled_access_fs = sandbox_rights_of(abi) };

    r->handled = attr.handled_access_fs;
    r->fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
    return r->fd < 0 ? -1 : 0;
}

/* A path that does not exist needs no right. */
static int sandbox_allow(struct ruleset *r, const char *path, uint64_t rights)
{
    struct landlock_path_beneath_attr attr = { .allowed_access = rights & r->handled };
    int err, saved;

    attr.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (attr.parent_fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -1;
    err = (int)syscall(SYS_landlock_add_rule, r->fd, LANDLOCK_RULE_PATH_BENEATH, &attr, 0);
    saved = errno;
    close(attr.parent_fd);
    errno = saved;
    return err;
}

static int sandbox_allow_folder_of(struct ruleset *r, const char *path, uint64_t rights)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];

    if (!slash)
        return sandbox_allow(r, ".", rights);
    snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    return sandbox_allow(r, folder, rights);
}

/* The folder in which a file really lies, be there links to it. */
static int sandbox_allow_home_of(struct ruleset *r, const char *path)
{
    char *real = realpath(path, NULL);
    int err = real ? sandbox_allow_folder_of(r, real, RIGHTS_READ) : 0;

    free(real);
    return err;
}

static int sandbox_close_in(struct ruleset *r)
{
    int err = (int)syscall(SYS_landlock_restrict_self, r->fd, 0), saved = errno;

    close(r->fd);
    errno = saved;
    return err;
}

/* Libraries read names and their servers, authorities, zones, and parts of the name service. */
static int sandbox_allow_system(struct ruleset *r)
{
    static const char *const folders[] = { "/etc", "/usr", "/lib", "/lib64", NULL };
    static const char *const variables[] = { "SSL_CERT_FILE", "SSL_CERT_DIR", NULL };
    int err = sandbox_allow_home_of(r, "/etc/resolv.conf"); /* often kept elsewhere, and replaced */

    err |= sandbox_allow_home_of(r, X509_get_default_cert_file());
    err |= sandbox_allow(r, X509_get_default_cert_dir(), RIGHTS_READ);
    if (castore_find().file)
        err |= sandbox_allow_home_of(r, castore_find().file);
    for (size_t i = 0; folders[i]; i++)
        err |= sandbox_allow(r, folders[i], RIGHTS_READ);
    for (size_t i = 0; variables[i]; i++)
        if (getenv(variables[i]))
            err |= sandbox_allow(
                r, getenv(variables[i]), i == 0 ? LANDLOCK_ACCESS_FS_READ_FILE : RIGHTS_READ);
    err |= sandbox_allow(r, "/dev/urandom", LANDLOCK_ACCESS_FS_READ_FILE);
    err |=
        sandbox_allow(r, "/dev/null", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE);
    return err;
}

static int sandbox_allow_log(struct ruleset *r, const struct log_target *t)
{
    return t->kind == LOG_TO_FILE ? sandbox_allow_folder_of(r, t->path.p, RIGHTS_WRITE) : 0;
}

static int sandbox_allow_socket(struct ruleset *r, const struct addr_conf *a)
{
    const struct sockaddr_un *un = (const void *)&a->sa;

    return a->sa.ss_family == AF_UNIX ? sandbox_allow_folder_of(r, un->sun_path, RIGHTS_WRITE) : 0;
}

static int sandbox_enclose(unsigned abi, const struct conf *c)
{
    struct ruleset r;
    int err;

    if (sandbox_open_ruleset(&r, abi) < 0)
        return -1;
    err = sandbox_allow_system(&r);
    err |= sandbox_allow(&r, c->temp_dir.p, RIGHTS_WRITE);
    err |= sandbox_allow_log(&r, &c->log);
    err |= sandbox_allow_log(&r, &c->access_log);
    for (size_t i = 0; i < c->nlistens; i++)
        err |= sandbox_allow_socket(&r, &c->listens[i].addr);
    for (size_t i = 0; i < c->nadmins; i++)
        err |= sandbox_allow_socket(&r, &c->admins[i].addr);
    if (err) {
        close(r.fd);
        return -1;
    }
    return sandbox_close_in(&r);
}

/* The broker may read and write anywhere, by the rights of its user; but nothing else. */
static int sandbox_enclose_broker(unsigned abi)
{
    struct ruleset r;

    if (sandbox_open_ruleset(&r, abi) < 0)
        return -1;
    if (sandbox_allow(&r, "/", RIGHTS_WRITE | LANDLOCK_ACCESS_FS_READ_DIR) < 0) {
        close(r.fd);
        return -1;
    }
    return sandbox_close_in(&r);
}

/* ---- both ---- */

int sandbox_plan(struct sandbox_plan *plan, const struct conf *conf, char *why, size_t whylen)
{
    unsigned abi = sandbox_landlock_abi();

    *plan = (struct sandbox_plan){ .seccomp = conf->seccomp != SANDBOX_OFF,
        .landlock = conf->landlock != SANDBOX_OFF ? abi : 0 };
    if (conf->seccomp == SANDBOX_REQUIRED && seccomp_api_get() == 0)
        return WHY("the kernel offers no seccomp, and the conf requires it");
    if (conf->landlock == SANDBOX_REQUIRED && abi == 0)
        return WHY("the kernel offers no Landlock, and the conf requires it; it is in Linux 5.13 "
                   "and later, and must be among the modules of the boot parameter lsm");
    if (seccomp_api_get() == 0)
        plan->seccomp = false;
    if (BUILD_SANITIZED) {
        plan->seccomp = conf->seccomp == SANDBOX_REQUIRED;
        plan->landlock = conf->landlock == SANDBOX_REQUIRED ? abi : 0;
    }
    return 0;
}

int sandbox_enter(struct sandbox_plan *plan, const struct conf *conf, char *why, size_t whylen)
{
    int err;

    if (plan->landlock > 0 && sandbox_enclose(plan->landlock, conf) < 0) {
        snprintf(why, whylen, "cannot enter the sandbox of Landlock: %s", strerror(errno));
        if (conf->landlock == SANDBOX_REQUIRED)
            return -1;
        log_warn(NULL, "%s", why);
        plan->landlock = 0;
    }
    err = plan->seccomp ? sandbox_load_filter(true) : 0;
    if (err < 0) {
        snprintf(why, whylen, "cannot enter the sandbox of seccomp: %s", strerror(-err));
        if (conf->seccomp == SANDBOX_REQUIRED)
            return -1;
        log_warn(NULL, "%s", why);
        plan->seccomp = false;
    }
    return 0;
}

int sandbox_enter_broker(const struct sandbox_plan *plan)
{
    int err;

    if (plan->landlock > 0 && sandbox_enclose_broker(plan->landlock) < 0) {
        log_error(NULL, "the broker cannot enter the sandbox of Landlock: %s", strerror(errno));
        return -1;
    }
    err = plan->seccomp ? sandbox_load_filter(false) : 0;
    if (err < 0)
        log_error(NULL, "the broker cannot enter the sandbox of seccomp: %s", strerror(-err));
    return err < 0 ? -1 : 0;
}
