/* Giving up root. Where the tests do not run as root there is nothing to give up, and most of them
 * have nothing to do. */
#include "process/privileges.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/build.h"
#include "conffile.h"
#include "unit.h"

#define REST                                                                                       \
    "\nlisten \"127.0.0.1:8080\" { }\n"                                                            \
    "workers \"app\" { server \"127.0.0.1:8001\" { } }\n"                                          \
    "route \"/\" { workers = \"app\" }\n"

static bool is_root(void)
{
    return geteuid() == 0;
}

/* In a child: 0 if check() is true once the conf's privileges are dropped. */
static int after_drop(const char *options, uint64_t caps, bool (*check)(void))
{
    struct privileges p;
    char text[1024], why[256];
    int status;
    struct conf *conf;
    pid_t pid;

    snprintf(text, sizeof(text), "%s%s", options, REST);
    conf = conffile_must_load(text);
    ck_assert_int_eq(privileges_plan(&p, conf, why, sizeof(why)), 0);
    pid = fork();
    if (pid == 0) {
        if (privileges_drop(&p, caps, why, sizeof(why)) < 0) {
            fprintf(stderr, "%s\n", why);
            _exit(2);
        }
        _exit(check() ? 0 : 1);
    }
    conf_unref(conf);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static bool is_nobody(void)
{
    const struct passwd *pw = getpwnam("nobody");
    uid_t r, e, s;
    gid_t rg, eg, sg, groups[4];

    return getresuid(&r, &e, &s) == 0 && r == pw->pw_uid && e == r && s == r &&
           getresgid(&rg, &eg, &sg) == 0 && rg == pw->pw_gid && eg == rg && sg == rg &&
           getgroups(4, groups) == 1 && groups[0] == rg;
}

static bool has_nothing_left(void)
{
    for (int cap = 0; cap < 64; cap++)
        if (privileges_has(cap))
            return false;
    return setuid(0) < 0 && setgid(0) < 0 && open("/etc/shadow", O_RDONLY) < 0;
}

static bool has_one_capability(void)
{
    for (int cap = 0; cap < 64; cap++)
        if (privileges_has(cap) != (cap == CAP_NET_BIND_SERVICE))
            return false;
    return prctl(PR_CAPBSET_READ, CAP_NET_BIND_SERVICE, 0, 0, 0) == 1 &&
           prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) == 0;
}

static bool is_hidden(void)
{
    struct rlimit r;

    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 &&
           (BUILD_SANITIZED || (prctl(PR_GET_DUMPABLE) == 0 && getrlimit(RLIMIT_CORE, &r) == 0 &&
                                   r.rlim_cur == 0 && r.rlim_max == 0));
}

static bool is_dumpable(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && prctl(PR_GET_DUMPABLE) == 1;
}

static bool is_in_tty(void)
{
    const struct group *gr = getgrnam("tty");

    return getegid() == gr->gr_gid;
}

START_TEST(root_becomes_the_user)
{
    if (!is_root())
        return;
    ck_assert_int_eq(after_drop("user = \"nobody\"", 0, is_nobody), 0);
    ck_assert_int_eq(after_drop("user = \"nobody\"", 0, has_nothing_left), 0);
    ck_assert_int_eq(after_drop("user = \"nobody\"", 0, is_hidden), 0);
    ck_assert_int_eq(after_drop("user = \"nobody\"\ngroup = \"tty\"", 0, is_in_tty), 0);
}
END_TEST

START_TEST(one_capability_may_stay)
{
    if (!is_root())
        return;
    ck_assert_int_eq(
        after_drop("user = \"nobody\"", PRIVILEGES_CAP(CAP_NET_BIND_SERVICE), has_one_capability),
        0);
}
END_TEST

START_TEST(memory_is_hidden_whoever_it_is)
{
    ck_assert_int_eq(after_drop("", 0, is_hidden), 0);
    ck_assert_int_eq(after_drop("core_dumps = true", 0, is_dumpable), 0);
    if (is_root())
        ck_assert_int_eq(after_drop("user = \"nobody\"\ncore_dumps = true", 0, is_dumpable), 0);
}
END_TEST

START_TEST(who_is_not_root_cannot_become_another)
{
    struct conf *conf = conffile_must_load("user = \"root\"" REST);
    struct privileges p;
    char why[256];
    int status;
    pid_t pid;

    pid = fork();
    if (pid == 0) {
        if (is_root() && setresuid(65534, 65534, 65534) < 0)
            _exit(2);
        _exit(privileges_plan(&p, conf, why, sizeof(why)) < 0 &&
                      strstr(why, "cannot become user \"root\"") && strstr(why, "start as root")
                  ? 0
                  : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    conf_unref(conf);
}
END_TEST

START_TEST(log_files_go_to_the_user)
{
    const struct passwd *pw = getpwnam("nobody");
    struct conf *conf = conffile_must_load("user = \"nobody\"\nlog { target = \"./t.log\" "
                                           "}\naccess_log { target = \"./a.log\" }" REST);
    struct privileges p;
    struct stat st;
    char why[256];

    if (is_root()) {
        conffile_put("a.log", "root's, from before\n");
        ck_assert_int_eq(privileges_plan(&p, conf, why, sizeof(why)), 0);
        ck_assert_int_eq(privileges_hand_over_logs(&p, conf, why, sizeof(why)), 0);
        ck_assert_int_eq(stat(conffile_path("t.log"), &st), 0);
        ck_assert_uint_eq(st.st_uid, pw->pw_uid);
        ck_assert_uint_eq(st.st_gid, pw->pw_gid);
        ck_assert_uint_eq(st.st_mode & 07777, 0640);
        ck_assert_int_eq(stat(conffile_path("a.log"), &st), 0);
        ck_assert_uint_eq(st.st_uid, pw->pw_uid);
        ck_assert_uint_eq(st.st_gid, 0); /* an administrators' group stays */
    }
    conf_unref(conf);
}
END_TEST

/* Who can write to the folder could have put a link to any file into the log's place. */
START_TEST(root_follows_no_link_and_works_in_nobodys_folder)
{
    struct conf *conf;
    struct privileges p;
    struct stat st;
    char why[256];

    ck_assert_int_eq(mkdir(conffile_path("logs"), 0700), 0);
    conf = conffile_must_load("user = \"nobody\"\nlog { target = \"logs/t.log\" }\n"
                              "access_log { target = \"./a.log\" }" REST);
    if (is_root()) {
        ck_assert_int_eq(privileges_plan(&p, conf, why, sizeof(why)), 0);
        conffile_put("victim", "precious\n");
        ck_assert_int_eq(chown(conffile_path("logs"), p.uid, p.gid), 0);
        ck_assert_int_eq(symlink("../victim", conffile_path("logs/t.log")), 0);
        ck_assert_int_eq(privileges_hand_over_logs(&p, conf, why, sizeof(why)), 0);
        ck_assert_int_eq(unlink(conffile_path("a.log")), 0);
        ck_assert_int_eq(symlink("victim", conffile_path("a.log")), 0);
        ck_assert_int_eq(privileges_hand_over_logs(&p, conf, why, sizeof(why)), -1);
        ck_assert_ptr_nonnull(strstr(why, "a.log"));
        ck_assert_int_eq(stat(conffile_path("victim"), &st), 0);
        ck_assert_uint_eq(st.st_uid, 0);
    }
    conf_unref(conf);
}
END_TEST

START_TEST(borrowed_rights_are_the_user_s)
{
    struct conf *conf = conffile_must_load("user = \"nobody\"" REST);
    struct privileges p;
    char why[256];

    if (is_root()) {
        ck_assert_int_eq(privileges_plan(&p, conf, why, sizeof(why)), 0);
        ck_assert_int_eq(privileges_borrow(&p), 0);
        ck_assert_int_lt(open("/etc/shadow", O_RDONLY), 0);
        privileges_return(&p);
        ck_assert_int_ge(open("/etc/shadow", O_RDONLY), 0);
    }
    conf_unref(conf);
}
END_TEST

static void root_s_folder(void)
{
    conffile_open();
    ck_assert_int_eq(chmod(conffile_path("."), 0755), 0);
}

static TCase *cases(void)
{
    TCase *t = tcase_create("privileges");

    tcase_add_checked_fixture(t, root_s_folder, conffile_close);
    tcase_add_test(t, root_becomes_the_user);
    tcase_add_test(t, one_capability_may_stay);
    tcase_add_test(t, memory_is_hidden_whoever_it_is);
    tcase_add_test(t, who_is_not_root_cannot_become_another);
    tcase_add_test(t, log_files_go_to_the_user);
    tcase_add_test(t, root_follows_no_link_and_works_in_nobodys_folder);
    tcase_add_test(t, borrowed_rights_are_the_user_s);
    return t;
}

UNIT_MAIN("privileges")
