/* Accounts, capabilities (by system calls of their own: no library is needed for two of them), and
 * what keeps memory from others. */
#include "process/privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/build.h"

#define WHY(...) (snprintf(why, whylen, __VA_ARGS__), -1)

/* ---- who ---- */

static bool privileges_is_member(gid_t gid)
{
    gid_t groups[PRIVILEGES_GROUPS_MAX];
    int n = getgroups(PRIVILEGES_GROUPS_MAX, groups);

    for (int i = 0; i < n; i++)
        if (groups[i] == gid)
            return true;
    return getegid() == gid;
}

int privileges_plan(struct privileges *p, const struct conf *conf, char *why, size_t whylen)
{
    char group[64];
    struct passwd *pw;
    struct group *gr = NULL;
    int n = PRIVILEGES_GROUPS_MAX;

    *p = (struct privileges){
        .uid = geteuid(), .gid = getegid(), .stay_root = geteuid() == 0, .cores = conf->core_dumps
    };
    if (conf->user.n == 0)
        return 0;
    /* verify has seen that both exist. */
    snprintf(p->user, sizeof(p->user), STR_FMT, STR_ARG(conf->user));
    snprintf(group, sizeof(group), STR_FMT, STR_ARG(conf->group));
    pw = getpwnam(p->user);
    if (pw && *group)
        gr = getgrnam(group);
    if (!pw || (*group && !gr))
        return WHY("there is no %s \"%s\" any more", pw ? "group" : "user", pw ? group : p->user);
    p->uid = pw->pw_uid;
    p->gid = gr ? gr->gr_gid : pw->pw_gid;
    if (geteuid() != 0) {
        if (p->uid != geteuid())
            return WHY("cannot become user \"%s\": only root can; start as root, or leave user out",
                p->user);
        if (gr && !privileges_is_member(p->gid))
            return WHY("cannot take group \"%s\": only root can; start as root, or leave group out",
                group);
        return 0;
    }
    p->change = p->uid != 0;
    p->stay_root = !p->change;
    if (getgrouplist(p->user, p->gid, p->groups, &n) < 0)
        return WHY("user \"%s\" is in more than %d groups; take one with fewer", p->user,
            PRIVILEGES_GROUPS_MAX);
    p->ngroups = (size_t)n;
    return 0;
}

/* ---- files ---- */

/* The folder of a file, in `buf`. */
static const char *privileges_folder_of(struct str path, char *buf, size_t n)
{
    snprintf(buf, n, STR_FMT, STR_ARG(path));
    for (size_t i = strlen(buf); i > 0; i--) {
        if (buf[i - 1] != '/')
            continue;
        buf[i > 1 ? i - 1 : i] = 0;
        return buf;
    }
    return ".";
}

static int privileges_hand_over_log(
    const struct privileges *p, const struct log_target *target, char *why, size_t whylen)
{
    char buf[4096], path[4096];
    struct stat st;
    int fd, err = 0;
    bool absent;

    if (target->kind != LOG_TO_FILE)
        return 0;
    snprintf(path, sizeof(path), STR_FMT, STR_ARG(target->path));
    /* Where somebody else can write, a symbolic link may lie in the file's place: there the user
     * makes the file itself. */
    if (stat(privileges_folder_of(target->path, buf, sizeof(buf)), &st) < 0 || st.st_uid != 0 ||
        (st.st_mode & 022))
        return 0;
    absent = lstat(path, &st) < 0;
    if (!absent && st.st_uid != 0)
        return 0;
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0640);
    if (fd < 0)
        return WHY("cannot open \"%s\": %s", path, strerror(errno));
    if (fstat(fd, &st) < 0 || (S_ISREG(st.st_mode) && st.st_uid == 0 &&
                                  fchown(fd, p->uid, absent ? p->gid : (gid_t)-1) < 0))
        err = errno;
    close(fd);
    return err ? WHY("cannot give \"%s\" to user %s: %s", path, p->user, strerror(err)) : 0;
}

int privileges_hand_over_logs(
    const struct privileges *p, const struct conf *conf, char *why, size_t whylen)
{
    if (!p->change)
        return 0;
    return privileges_hand_over_log(p, &conf->log, why, whylen) < 0 ||
                   privileges_hand_over_log(p, &conf->access_log, why, whylen) < 0
               ? -1
               : 0;
}

int privileges_borrow(const struct privileges *p)
{
    if (!p->change)
        return 0;
    /* Root's own groups are not missed: its rights come from elsewhere. */
    if (setgroups(p->ngroups, p->groups) < 0 || setegid(p->gid) < 0)
        return -1;
    return seteuid(p->uid);
}

void privileges_return(const struct privileges *p)
{
    int saved = errno;

    if (p->change && (seteuid(0) < 0 || setegid(getgid()) < 0))
        abort(); /* the saved ids let a process become root again */
    errno = saved;
}

static int privileges_check_folder(
    const struct privileges *p, const char *what, const char *path, char *why, size_t whylen)
{
    char probe[4200];
    int fd;

    /* access() asks for the real user, and knows nothing of borrowed rights. */
    fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        snprintf(probe, sizeof(probe), "%s/tarry-XXXXXX", path);
        fd = mkostemp(probe, O_CLOEXEC);
        if (fd >= 0)
            unlink(probe);
    }
    if (fd < 0)
        return WHY("%s: user \"%s\" cannot make files in \"%s\": %s", what, p->user, path,
            strerror(errno));
    close(fd);
    return 0;
}

static int privileges_check_log(const struct privileges *p, const char *what,
    const struct log_target *target, char *why, size_t whylen)
{
    char path[4096];
    int fd;

    if (target->kind != LOG_TO_FILE)
        return 0;
    snprintf(path, sizeof(path), STR_FMT, STR_ARG(target->path));
    fd = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        close(fd);
        return 0;
    }
    if (errno == ENOENT)
        return 0;
    return WHY("%s: user \"%s\" cannot write to \"%s\": %s", what, p->user, path, strerror(errno));
}

int privileges_check_folders(
    const struct privileges *p, const struct conf *conf, char *why, size_t whylen)
{
    char path[4096];
    int err = 0;

    if (!p->change)
        return 0;
    snprintf(path, sizeof(path), STR_FMT, STR_ARG(conf->temp_dir));
    if (privileges_borrow(p) < 0)
        err = WHY("cannot act as user \"%s\": %s", p->user, strerror(errno));
    else if (privileges_check_folder(p, "temp_dir", path, why, whylen) < 0 ||
             privileges_check_log(p, "log", &conf->log, why, whylen) < 0 ||
             privileges_check_log(p, "access_log", &conf->access_log, why, whylen) < 0)
        err = -1;
    privileges_return(p);
    return err;
}

/* ---- capabilities ---- */

static int privileges_get_caps(uint64_t *permitted)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &head, data) < 0)
        return -1;
    *permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    return 0;
}

/* Permitted and effective become `caps`; nothing is inherited. */
static int privileges_set_caps(uint64_t caps)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = {
        { .permitted = (uint32_t)caps, .effective = (uint32_t)caps },
        { .permitted = (uint32_t)(caps >> 32), .effective = (uint32_t)(caps >> 32) },
    };

    return (int)syscall(SYS_capset, &head, data);
}

bool privileges_has(int cap)
{
    uint64_t permitted;

    return privileges_get_caps(&permitted) == 0 && (permitted & PRIVILEGES_CAP(cap));
}

/* Capabilities that no program started from here can ever have again. Needs CAP_SETPCAP; a process
 * that has not even
 * that cannot gain by it either. */
static void privileges_bound_caps(uint64_t caps)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (!(caps & PRIVILEGES_CAP(cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return;
}

/* ---- the drop ---- */

static int privileges_become(const struct privileges *p, char *why, size_t whylen)
{
    uid_t r, e, s;

    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(p->ngroups, p->groups) < 0 ||
        setresgid(p->gid, p->gid, p->gid) < 0 || setresuid(p->uid, p->uid, p->uid) < 0)
        return WHY("cannot become user \"%s\": %s", p->user, strerror(errno));
    if (getresuid(&r, &e, &s) < 0 || r != p->uid || e != p->uid || s != p->uid)
        return WHY("cannot become user \"%s\": the kernel has not done it", p->user);
    return 0;
}

/* A core would hold keys, prompts and answers, and so does what ptrace and /proc/PID/mem show. */
static int privileges_hide_memory(char *why, size_t whylen)
{
    struct rlimit none = { 0, 0 };

    if (BUILD_SANITIZED) /* the leak checker looks into its own process */
        return 0;
    if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return WHY("cannot forbid core dumps: %s", strerror(errno));
    return 0;
}

int privileges_drop(const struct privileges *p, uint64_t caps, char *why, size_t whylen)
{
    uint64_t had;

    if (privileges_get_caps(&had) < 0)
        return WHY("cannot read capabilities: %s", strerror(errno));
    caps &= had;
    if (p->change) {
        privileges_bound_caps(caps);
        if (privileges_become(p, why, whylen) < 0)
            return -1;
    }
    if (!p->stay_root) {
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        /* A service manager's own filter may forbid it: then what it left is what there is. */
        if (privileges_set_caps(caps) < 0 && p->change)
            return WHY("cannot give up capabilities: %s", strerror(errno));
        if (p->uid != 0 && setuid(0) == 0)
            return WHY("root's rights were not given up for good");
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return WHY("cannot forbid new privileges: %s", strerror(errno));
    if (!p->cores)
        return privileges_hide_memory(why, whylen);
    /* The change of user has switched it off. */
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    return 0;
}
