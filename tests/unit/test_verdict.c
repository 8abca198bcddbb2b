/* Verdicts: what each result of a call changes, which key they are about, and that they hold in all
 * processes. */
#include "upstream/verdict.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

static const struct upstream_conf policy = { .breaker_failures = 3,
    .breaker_rate = 50,
    .breaker_window_ms = 8000,
    .breaker_pause_ms = 500,
    .out_pause_ms = 60000 };
static struct header_conf key_a = { STR_INIT("authorization"), STR_INIT("Bearer a"), false };
static struct header_conf key_b = { STR_INIT("authorization"), STR_INIT("Bearer b"), false };
static struct endpoint_conf conf_a = {
    .name = STR_INIT("e"), .origin = STR_INIT("https://a"), .set_header = &key_a, .nset_header = 1
};
static struct endpoint_conf conf_b = {
    .name = STR_INIT("e"), .origin = STR_INIT("https://a"), .set_header = &key_b, .nset_header = 1
};
static uint64_t now = 1000000;
static struct verdict v;

static void open_table(void)
{
    ck_assert_int_eq(ledger_open(64, 1000000000), 0); /* a test's clocks are far apart */
    verdict_init(&v, STR("up"), &conf_a);
}

static enum verdict_change report(enum verdict_outcome o)
{
    struct verdict_report r = { .outcome = o, .began_ms = now };

    return verdict_report(&v, &policy, &r, now);
}

static enum verdict_change report_probe(enum verdict_outcome o)
{
    struct verdict_report r = { .outcome = o, .began_ms = now, .probe = true };

    return verdict_report(&v, &policy, &r, now);
}

static enum verdict_change rest(uint64_t ms)
{
    struct verdict_report r = { .outcome = VERDICT_NEUTRAL, .rest_ms = ms };

    return verdict_report(&v, &policy, &r, now);
}

static enum verdict_state state(void)
{
    return verdict_view(&v, &policy, now).state;
}

static void break_it(void)
{
    ck_assert_int_eq(report(VERDICT_FAILED), VERDICT_SAME);
    ck_assert_int_eq(report(VERDICT_FAILED), VERDICT_SAME);
    ck_assert_int_eq(report(VERDICT_FAILED), VERDICT_BROKE);
}

START_TEST(the_longest_rest_counts)
{
    rest(300);
    rest(1000);
    rest(200);
    ck_assert_int_eq(state(), VERDICT_RESTING);
    ck_assert_uint_eq(verdict_view(&v, &policy, now).wait_ms, 1000);
    report(VERDICT_SERVED); /* of a call that began before */
    now += 999;
    ck_assert_int_eq(state(), VERDICT_RESTING);
    now++;
    ck_assert_int_eq(state(), VERDICT_READY);
}
END_TEST

START_TEST(the_breaker_goes_by_rate)
{
    for (int i = 0; i < 10; i++)
        report(VERDICT_SERVED);
    for (int i = 0; i < 9; i++)
        ck_assert_int_eq(report(VERDICT_FAILED), VERDICT_SAME);
    ck_assert_int_eq(state(), VERDICT_READY);
    ck_assert_int_eq(report(VERDICT_FAILED), VERDICT_BROKE);
    ck_assert_int_eq(report(VERDICT_FAILED), VERDICT_SAME); /* it is told once */
    ck_assert_int_eq(state(), VERDICT_BROKEN);
    ck_assert_int_eq(verdict_admit(&v, now), VERDICT_REFUSED);
}
END_TEST

START_TEST(old_failures_do_not_count)
{
    report(VERDICT_FAILED);
    report(VERDICT_FAILED);
    now += policy.breaker_window_ms;
    ck_assert_int_eq(report(VERDICT_FAILED), VERDICT_SAME);
    ck_assert_int_eq(state(), VERDICT_READY);
}
END_TEST

START_TEST(neutral_results_do_not_count)
{
    report(VERDICT_FAILED);
    report(VERDICT_FAILED);
    for (int i = 0; i < 100; i++)
        report(VERDICT_NEUTRAL);
    ck_assert_uint_eq(verdict_calls(&v, &policy, now).all, 2);
    ck_assert_int_eq(report(VERDICT_FAILED), VERDICT_BROKE);
}
END_TEST

START_TEST(one_call_is_the_probe)
{
    break_it();
    now += policy.breaker_pause_ms;
    ck_assert_int_eq(state(), VERDICT_READY);
    ck_assert_int_eq(verdict_admit(&v, now), VERDICT_IS_PROBE);
    ck_assert_int_eq(verdict_admit(&v, now), VERDICT_REFUSED);
    ck_assert_int_eq(state(), VERDICT_PROBING);
    now += 10 * policy.breaker_pause_ms; /* however long it takes */
    ck_assert_int_eq(verdict_admit(&v, now), VERDICT_REFUSED);
    ck_assert_int_eq(report(VERDICT_SERVED), VERDICT_SAME); /* one that began long ago */
    ck_assert_int_eq(state(), VERDICT_PROBING);
    ck_assert_int_eq(report_probe(VERDICT_SERVED), VERDICT_RECOVERED);
    ck_assert_int_eq(state(), VERDICT_READY);
    ck_assert_int_eq(verdict_admit(&v, now), VERDICT_ADMITTED);
    ck_assert_int_eq(report(VERDICT_FAILED), VERDICT_SAME); /* what was before is forgotten */
}
END_TEST

START_TEST(a_probe_that_fails_is_followed_by_a_pause)
{
    break_it();
    now += policy.breaker_pause_ms;
    ck_assert_int_eq(verdict_admit(&v, now), VERDICT_IS_PROBE);
    ck_assert_int_eq(report_probe(VERDICT_FAILED), VERDICT_SAME);
    ck_assert_int_eq(state(), VERDICT_BROKEN);
    ck_assert_uint_eq(verdict_view(&v, &policy, now).wait_ms, policy.breaker_pause_ms);
    now += policy.breaker_pause_ms;
    ck_assert_int_eq(verdict_admit(&v, now), VERDICT_IS_PROBE);
}
END_TEST

START_TEST(a_probe_without_a_result_is_followed_by_another)
{
    break_it();
    now += policy.breaker_pause_ms;
    ck_assert_int_eq(verdict_admit(&v, now), VERDICT_IS_PROBE);
    report_probe(VERDICT_NEUTRAL);
    ck_assert_int_eq(verdict_admit(&v, now), VERDICT_IS_PROBE);
}
END_TEST

START_TEST(a_refused_key_is_out)
{
    ck_assert_int_eq(report(VERDICT_DENIED), VERDICT_WENT_OUT);
    ck_assert_int_eq(report(VERDICT_DENIED), VERDICT_SAME);
    ck_assert_int_eq(state(), VERDICT_OUT);
    now += policy.out_pause_ms;
    ck_assert_int_eq(state(), VERDICT_READY);
}
END_TEST

START_TEST(only_a_later_call_brings_a_key_back)
{
    struct verdict_report earlier = { .outcome = VERDICT_SERVED, .began_ms = now - 100 };

    report(VERDICT_DENIED);
    ck_assert_int_eq(verdict_report(&v, &policy, &earlier, now + 50), VERDICT_SAME);
    ck_assert_int_eq(state(), VERDICT_OUT);
    now += 10;
    ck_assert_int_eq(report(VERDICT_SERVED), VERDICT_CAME_BACK);
    ck_assert_int_eq(state(), VERDICT_READY);
}
END_TEST

START_TEST(another_key_has_its_own_verdict)
{
    report(VERDICT_DENIED);
    rest(1000);
    ck_assert(!verdict_is_of(&v, STR("up"), &conf_b));
    verdict_init(&v, STR("up"), &conf_b);
    ck_assert_int_eq(state(), VERDICT_READY);
    verdict_init(&v, STR("up"), &conf_a); /* the old one comes back */
    ck_assert_int_eq(state(), VERDICT_OUT);
    verdict_init(&v, STR("other"), &conf_a);
    ck_assert_int_eq(state(), VERDICT_READY);
}
END_TEST

START_TEST(an_operators_pause_holds_for_any_key)
{
    verdict_pause(&v, true, now);
    ck_assert_int_eq(state(), VERDICT_PAUSED);
    verdict_init(&v, STR("up"), &conf_b);
    ck_assert_int_eq(state(), VERDICT_PAUSED);
    verdict_pause(&v, false, now);
    ck_assert_int_eq(state(), VERDICT_READY);
}
END_TEST

/* In a child, which ends at once. */
static int in_child(int (*fn)(void))
{
    int status;

    if (fork() == 0) {
        struct verdict mine;

        verdict_init(&mine, STR("up"), &conf_a);
        v = mine;
        v.place.words = v.hand.words = NULL;
        _exit(fn());
    }
    ck_assert_int_gt(wait(&status), 0);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int child_denied(void)
{
    return (int)report(VERDICT_DENIED);
}

static int child_state(void)
{
    return (int)state();
}

static int child_admit(void)
{
    return (int)verdict_admit(&v, now);
}

START_TEST(it_holds_in_all_processes)
{
    ck_assert_int_eq(in_child(child_denied), VERDICT_WENT_OUT);
    ck_assert_int_eq(state(), VERDICT_OUT);
    ck_assert_int_eq(in_child(child_state), VERDICT_OUT);
    ck_assert_int_eq(in_child(child_denied), VERDICT_SAME);
}
END_TEST

START_TEST(a_probe_dies_with_its_process)
{
    pid_t pid;

    break_it();
    now += policy.breaker_pause_ms;
    pid = fork();
    if (pid == 0)
        _exit((int)verdict_admit(&v, now));
    waitpid(pid, NULL, 0);
    ck_assert_int_eq(state(), VERDICT_PROBING);
    ck_assert_int_eq(in_child(child_admit), VERDICT_REFUSED);
    verdict_forget_dead();
    ck_assert_int_eq(in_child(child_admit), VERDICT_IS_PROBE);
}
END_TEST

/* The breaker opens and closes again and again in many processes, of which some are killed while
 * they hold the probe: at no time are there two. */
struct seen {
    uint64_t probes, at_once, opened;
};

static _Noreturn void hammer(struct seen *seen, unsigned turns)
{
    uint64_t at = now;

    for (unsigned i = 0; i < turns; i++, at += 100) {
        enum verdict_admission a = verdict_admit(&v, at);
        struct verdict_report r = { .outcome = i % 3 ? VERDICT_FAILED : VERDICT_SERVED,
            .probe = a == VERDICT_IS_PROBE };

        if (a == VERDICT_REFUSED)
            continue;
        if (r.probe && __atomic_fetch_add(&seen->at_once, 1, __ATOMIC_SEQ_CST) != 0)
            _exit(1);
        if (r.probe) {
            __atomic_fetch_add(&seen->probes, 1, __ATOMIC_SEQ_CST);
            __atomic_fetch_sub(&seen->at_once, 1, __ATOMIC_SEQ_CST);
        }
        if (verdict_report(&v, &policy, &r, at) == VERDICT_BROKE)
            __atomic_fetch_add(&seen->opened, 1, __ATOMIC_SEQ_CST);
    }
    _exit(0);
}

START_TEST(many_processes_have_one_probe)
{
    enum { PROCESSES = 8, TURNS = 20000 };
    struct ledger_place p = { .id = 3 };
    struct seen *seen = (struct seen *)(void *)ledger_words(&p, now);
    int status;

    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0)
            hammer(seen, TURNS);
    for (int i = 0; i < PROCESSES; i++) {
        ck_assert_int_gt(wait(&status), 0);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_uint_gt(seen->probes, 0);
    ck_assert_uint_gt(seen->opened, 0);
    now += (uint64_t)TURNS * 100 + policy.breaker_window_ms;
    ck_assert_int_ne(state(), VERDICT_PROBING);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("verdict");

    tcase_add_checked_fixture(t, open_table, NULL);
    tcase_add_test(t, the_longest_rest_counts);
    tcase_add_test(t, the_breaker_goes_by_rate);
    tcase_add_test(t, old_failures_do_not_count);
    tcase_add_test(t, neutral_results_do_not_count);
    tcase_add_test(t, one_call_is_the_probe);
    tcase_add_test(t, a_probe_that_fails_is_followed_by_a_pause);
    tcase_add_test(t, a_probe_without_a_result_is_followed_by_another);
    tcase_add_test(t, a_refused_key_is_out);
    tcase_add_test(t, only_a_later_call_brings_a_key_back);
    tcase_add_test(t, another_key_has_its_own_verdict);
    tcase_add_test(t, an_operators_pause_holds_for_any_key);
    tcase_add_test(t, it_holds_in_all_processes);
    tcase_add_test(t, a_probe_dies_with_its_process);
    tcase_add_test(t, many_processes_have_one_probe);
    return t;
}

UNIT_MAIN("verdict")
