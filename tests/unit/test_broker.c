/* The broker, asked from within the sandbox of Landlock: what the conf names is opened, and nothing
 * else. */
#include "process/broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/file.h"
#include "conffile.h"
#include "unit.h"

#define CONF                                                                                       \
    "seccomp = \"off\"\n"                                                                          \
    "temp_dir = \"temp\"\n"                                                                        \
    "log { target = \"logs/t.log\" }\n"                                                            \
    "listen \"127.0.0.1:8080\" { }\n"                                                              \
    "workers \"app\" { secret_file = \"secret\" server \"127.0.0.1:8001\" { } }\n"                 \
    "route \"/\" { workers = \"app\" }\n"

/* In the sandbox of a conf that names other folders: EACCES unless the broker helps. */
#define NARROW                                                                                     \
    "seccomp = \"off\"\nlandlock = \"required\"\ntemp_dir = \"/var/tmp\"\n"                        \
    "listen \"127.0.0.1:8080\" { }\n"                                                              \
    "workers \"app\" { server \"127.0.0.1:8001\" { } }\n"                                          \
    "route \"/\" { workers = \"app\" }\n"

static struct conf *narrow;
static struct sandbox_plan sandbox;
static bool usable; /* this kernel has Landlock */

static void set_up(void)
{
    struct privileges p;
    char why[256];

    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* whoever it is left to */
    conffile_open();
    conffile_put("secret", "s3cret\n");
    conffile_put("other", "not named\n");
    mkdir(conffile_path("temp"), 0700);
    mkdir(conffile_path("logs"), 0700);
    narrow = conffile_must_load(NARROW);
    usable = sandbox_plan(&sandbox, narrow, why, sizeof(why)) == 0;
    conf_unref(conffile_must_load(CONF)); /* that is what lies in the file now */
    ck_assert_int_eq(privileges_plan(&p, narrow, why, sizeof(why)), 0);
    ck_assert_int_eq(broker_start(conffile_path("t.conf"), &p, &sandbox, why, sizeof(why)), 0);
}

static void tear_down(void)
{
    broker_stop();
    ck_assert_int_gt(wait(NULL), 0); /* it ends when nobody holds its socket any more */
    conf_unref(narrow);
    conffile_close();
}

/* 0, or the errno with which `path` cannot be opened in the sandbox. */
static int open_sandboxed(const char *path, int flags)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        char why[256];

        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (sandbox_enter(&sandbox, narrow, why, sizeof(why)) < 0)
            _exit(255);
        _exit(file_open(path, flags) < 0 ? errno : 0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(opens_what_the_conf_names)
{
    if (!usable)
        return;
    ck_assert_int_eq(open_sandboxed(conffile_path("t.conf"), 0), 0);
    ck_assert_int_eq(open_sandboxed(conffile_path("secret"), O_NONBLOCK), 0);
    ck_assert_int_eq(open_sandboxed(conffile_path("logs/t.log"), FILE_APPEND), 0);
    ck_assert_int_eq(access(conffile_path("logs/t.log"), F_OK), 0);
    ck_assert_int_eq(open_sandboxed(conffile_path("temp"), FILE_NAMELESS), 0);
}
END_TEST

START_TEST(opens_nothing_else)
{
    if (!usable)
        return;
    ck_assert_int_eq(open_sandboxed(conffile_path("other"), 0), EACCES);
    ck_assert_int_eq(open_sandboxed(conffile_path("logs/../secret"), 0), EACCES);
    ck_assert_int_eq(open_sandboxed(conffile_path("secret"), FILE_APPEND), EACCES);
    ck_assert_int_eq(open_sandboxed(conffile_path("secret"), O_RDWR), EACCES);
    ck_assert_int_eq(open_sandboxed(conffile_path("secret"), O_TRUNC), EACCES);
    ck_assert_int_eq(open_sandboxed(conffile_path("logs"), FILE_NAMELESS), EACCES);
    ck_assert_int_eq(open_sandboxed(conffile_path("logs/u.log"), FILE_APPEND), EACCES);
}
END_TEST

START_TEST(says_why_a_file_cannot_be_opened)
{
    if (!usable)
        return;
    unlink(conffile_path("secret"));
    ck_assert_int_eq(open_sandboxed(conffile_path("secret"), 0), ENOENT);
}
END_TEST

START_TEST(knows_what_a_new_conf_names)
{
    char text[1024];

    if (!usable)
        return;
    ck_assert_int_eq(open_sandboxed(conffile_path("secret"), 0), 0); /* it has read the first one */
    snprintf(text, sizeof(text), "%s\ninclude(\"other\")\n", CONF);
    conffile_put("t.conf", text); /* and a broken one, as "other" is no conf */
    ck_assert_int_eq(open_sandboxed(conffile_path("other"), 0), EACCES);
    broker_refresh();
    ck_assert_int_eq(open_sandboxed(conffile_path("other"), 0), 0);
    conffile_put("t.conf", CONF);
    broker_refresh();
    ck_assert_int_eq(open_sandboxed(conffile_path("other"), 0), EACCES);
}
END_TEST

/* Its socket's end goes when all that can ask have ended; the one who asks is not held up. */
START_TEST(a_broker_that_has_died_denies)
{
    char path[64];
    FILE *f;
    int pid = 0;

    if (!usable)
        return;
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    f = fopen(path, "r");
    ck_assert(f && fscanf(f, "%d", &pid) == 1);
    fclose(f);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    while (waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT) < 0)
        ;
    ck_assert_int_eq(open_sandboxed(conffile_path("secret"), 0), EACCES);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("broker");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, opens_what_the_conf_names);
    tcase_add_test(t, opens_nothing_else);
    tcase_add_test(t, says_why_a_file_cannot_be_opened);
    tcase_add_test(t, knows_what_a_new_conf_names);
    tcase_add_test(t, a_broker_that_has_died_denies);
    return t;
}

UNIT_MAIN("broker")
