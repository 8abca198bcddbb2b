/* The report of a process that ends by its own mistake. */
#include "observe/panic.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/build.h"
#include "conffile.h"
#include "net/loop.h"
#include "observe/log.h"
#include "unit.h"

struct thing {
    const char *name;
    int state;
};

static void thing_describe(const void *object, char *out, size_t n)
{
    const struct thing *t = object;

    snprintf(out, n, "thing %s in state %d", t->name, t->state);
}

static struct thing thing = { "the-id", 7 };

static const char *report(void)
{
    static char text[16384];

    panic_report(text, sizeof(text));
    return text;
}

START_TEST(names_the_object_in_hand)
{
    panic_hold(&thing, thing_describe);
    ck_assert_ptr_nonnull(strstr(report(), "in hand: thing the-id in state 7\n"));
    panic_forget(&thing + 1);
    ck_assert_ptr_nonnull(strstr(report(), "in hand: thing"));
    panic_forget(&thing);
    ck_assert_ptr_nonnull(strstr(report(), "in hand: nothing\n"));
}
END_TEST

START_TEST(keeps_the_last_moves)
{
    char id[100], last[160];

    memset(id, 'x', sizeof(id));
    id[sizeof(id) - 1] = '\0';
    for (int i = 0; i < 100; i++)
        panic_move("exchange", id, i == 99 ? "parked" : "reading", "done");
    panic_move("loop", NULL, "a", "b");
    snprintf(last, sizeof(last),
        "move: exchange %.39s: parked -> done\ntarry: bug: move: loop : a -> b\n", id);
    ck_assert_ptr_nonnull(strstr(report(), last));
    ck_assert_uint_lt(strlen(report()), 8192);
}
END_TEST

/* Runs `fn` in a process whose standard error and log go to files; the signal that ended it. */
static int dies(void (*fn)(void))
{
    struct log_target target = { LOG_TO_FILE, str_of(conffile_path("log")) };
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (!freopen(conffile_path("stderr"), "w", stderr) || log_open(LEVEL_INFO, &target) < 0)
            _exit(1);
        panic_catch_signals();
        panic_hold(&thing, thing_describe);
        panic_move("exchange", "the-id", "reading", "queued");
        fn();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status));
    return WTERMSIG(status);
}

static void said(const char *file, const char *text)
{
    static char all[16384];
    FILE *f = fopen(conffile_path(file), "r");

    ck_assert_ptr_nonnull(f);
    all[fread(all, 1, sizeof(all) - 1, f)] = '\0';
    fclose(f);
    ck_assert_msg(strstr(all, text), "no \"%s\" in %s:\n%s", text, file, all);
}

static void break_a_claim(void)
{
    BUG_IF(thing.state == 7);
}

START_TEST(a_claim_that_does_not_hold_says_why)
{
    ck_assert_int_eq(dies(break_a_claim), SIGABRT);
    for (int i = 0; i < 2; i++) {
        const char *file = i ? "log" : "stderr";

        said(file, "tarry: bug: thing.state == 7 at ");
        said(file, "tarry: bug: move: exchange the-id: reading -> queued\n");
        said(file, "tarry: bug: in hand: thing the-id in state 7\n");
    }
}
END_TEST

static void fault(void)
{
    raise(SIGSEGV);
}

START_TEST(a_fatal_signal_says_why)
{
    if (BUILD_SANITIZED)
        return;
    ck_assert_int_eq(dies(fault), SIGSEGV);
    said("log", "tarry: bug: signal 11 (SEGV) pid=");
    said("log", "tarry: bug: in hand: thing the-id in state 7\n");
    said("stderr", "tarry: bug: move: exchange the-id: reading -> queued\n");
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("panic");

    tcase_add_checked_fixture(t, conffile_open, conffile_close);
    tcase_add_test(t, names_the_object_in_hand);
    tcase_add_test(t, keeps_the_last_moves);
    tcase_add_test(t, a_claim_that_does_not_hold_says_why);
    tcase_add_test(t, a_fatal_signal_says_why);
    return t;
}

UNIT_MAIN("panic")
