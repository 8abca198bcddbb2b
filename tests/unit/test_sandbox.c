/* The sandbox, from within: a child enters it, tries one thing, and tells what came of it. */
#include "process/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "conffile.h"
#include "unit.h"

#define CONF                                                                                       \
    "listen \"127.0.0.1:8080\" { }\n"                                                              \
    "workers \"app\" { server \"127.0.0.1:8001\" { } }\n"                                          \
    "route \"/\" { workers = \"app\" }\n"

enum { KILLED = -1 };

/* A child's exit status (an errno), or KILLED by SIGSYS. */
static int result_of(pid_t pid)
{
    int status;

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status))
        ck_assert_int_eq(WTERMSIG(status), SIGSYS);
    return WIFSIGNALED(status) ? KILLED : WEXITSTATUS(status);
}

/* What `try` gives (0, or an errno) within the sandbox of the conf. */
static int within(const char *options, int (*try)(void))
{
    struct sandbox_plan plan;
    char text[1024], why[256];
    struct conf *conf;
    pid_t pid;

    snprintf(text, sizeof(text), "%s\n%s", options, CONF);
    ck_assert_int_eq(mkdir(conffile_path("temp"), 0700), 0);
    conf = conffile_must_load(text);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (sandbox_plan(&plan, conf, why, sizeof(why)) < 0 ||
            sandbox_enter(&plan, conf, why, sizeof(why)) < 0) {
            fprintf(stderr, "%s\n", why);
            _exit(255);
        }
        _exit(try());
    }
    conf_unref(conf);
    return result_of(pid);
}

/* ---- seccomp ---- */

static int starts_a_program(void)
{
    char name[] = "true", *argv[] = { name, NULL };

    execv("/bin/true", argv);
    return errno;
}

static int traces(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ? errno : 0;
}

static int opens_raw_packets(void)
{
    return socket(AF_PACKET, SOCK_RAW, 0) < 0 ? errno : 0;
}

static int opens_tcp(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0;
}

static int types_into_the_terminal(void)
{
    return ioctl(0, TIOCSTI, "x") < 0 ? errno : 0;
}

static int makes_code(void)
{
    return mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                   MAP_FAILED
               ? errno
               : 0;
}

static int makes_data_code(void)
{
    void *p = mmap(NULL, 4096, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return mprotect(p, 4096, PROT_EXEC) < 0 ? errno : 0;
}

static int signals_others(void)
{
    return kill(getppid(), 0) < 0 ? errno : 0;
}

static int forks(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid < 0 ? errno : 0;
}

static int changes_mode(void)
{
    return chmod(conffile_path("t.conf"), 0777) < 0 ? errno : 0;
}

static int allocates(void)
{
    volatile char *p = malloc(32 << 20);

    if (!p)
        return ENOMEM;
    p[0] = 1;
    free((void *)(uintptr_t)p);
    return 0;
}

static const struct {
    int (*try)(void);
    int want;
} calls[] = {
    { starts_a_program, KILLED },
    { traces, KILLED },
    { opens_raw_packets, ENOSYS },
    { opens_tcp, 0 },
    { types_into_the_terminal, ENOSYS },
    { makes_code, ENOSYS },
    { makes_data_code, ENOSYS },
    { signals_others, ENOSYS },
    { forks, ENOSYS },
    { changes_mode, ENOSYS },
    { allocates, 0 },
};

START_TEST(seccomp_lets_pass_what_serving_needs)
{
    ck_assert_int_eq(
        within("seccomp = \"required\"\nlandlock = \"off\"", calls[_i].try), calls[_i].want);
}
END_TEST

START_TEST(without_seccomp_nothing_is_denied)
{
    ck_assert_int_eq(within("seccomp = \"off\"\nlandlock = \"off\"", forks), 0);
    ck_assert_int_eq(rmdir(conffile_path("temp")), 0);
    ck_assert_int_eq(within("seccomp = \"off\"\nlandlock = \"off\"", changes_mode), 0);
}
END_TEST

/* ---- Landlock ---- */

static int open_it(const char *path, int flags)
{
    return open(path, flags, 0600) < 0 ? errno : 0;
}

static int reads_a_key(void)
{
    return open_it(conffile_path("t.conf"), O_RDONLY);
}

static int reads_names(void)
{
    return open_it("/etc/hosts", O_RDONLY);
}

static int writes_names(void)
{
    return open_it("/etc/tarry-test", O_WRONLY | O_CREAT);
}

static int writes_beside(void)
{
    return open_it(conffile_path("new"), O_WRONLY | O_CREAT);
}

static int makes_a_temporary_file(void)
{
    return open_it(conffile_path("temp"), O_RDWR | O_TMPFILE);
}

static int makes_a_link(void)
{
    return symlink("/etc/passwd", conffile_path("temp/link")) < 0 ? errno : 0;
}

static int makes_a_folder(void)
{
    return mkdir(conffile_path("temp/folder"), 0700) < 0 ? errno : 0;
}

static const struct {
    int (*try)(void);
    int want;
} files[] = {
    { reads_a_key, EACCES },
    { reads_names, 0 },
    { writes_names, EACCES },
    { writes_beside, EACCES },
    { makes_a_temporary_file, 0 },
    { makes_a_link, EACCES },
    { makes_a_folder, EACCES },
    { starts_a_program, EACCES },
};

/* Whether this kernel has Landlock; a test of it is nothing without. */
static bool has_landlock(void)
{
    struct sandbox_plan plan;
    char why[256];
    struct conf *conf = conffile_must_load("landlock = \"required\"\n" CONF);
    bool has = sandbox_plan(&plan, conf, why, sizeof(why)) == 0;

    conf_unref(conf);
    return has;
}

START_TEST(landlock_opens_only_what_lies_within)
{
    if (!has_landlock())
        return;
    ck_assert_int_eq(
        within("seccomp = \"off\"\nlandlock = \"required\"\ntemp_dir = \"temp\"", files[_i].try),
        files[_i].want);
}
END_TEST

START_TEST(without_landlock_nothing_is_denied)
{
    ck_assert_int_eq(within("seccomp = \"off\"\nlandlock = \"off\"", reads_a_key), 0);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("sandbox");

    tcase_add_checked_fixture(t, conffile_open, conffile_close);
    tcase_add_loop_test(t, seccomp_lets_pass_what_serving_needs, 0, COUNT_OF(calls));
    tcase_add_test(t, without_seccomp_nothing_is_denied);
    tcase_add_loop_test(t, landlock_opens_only_what_lies_within, 0, COUNT_OF(files));
    tcase_add_test(t, without_landlock_nothing_is_denied);
    return t;
}

UNIT_MAIN("sandbox")
