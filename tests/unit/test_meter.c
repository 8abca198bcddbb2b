/* The meter: windows that are never exceeded, room that comes back, processes that share it and
 * take turns, and what services say is left. */
#include "upstream/meter.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

#define NOW UINT64_C(1000000000)

static struct meter_need need(uint64_t id)
{
    return (struct meter_need){ .id = id, .most = { .window_ms = 60000 } };
}

static bool take(uint64_t now_ms, const struct meter_need *n, struct meter_hold *h)
{
    struct meter_refusal no;

    return meter_take(now_ms, n, 1, h, &no);
}

static uint64_t wait_of(uint64_t now_ms, const struct meter_need *n)
{
    struct meter_refusal no;
    struct meter_hold h;

    if (!meter_take(now_ms, n, 1, &h, &no))
        return no.wait_ms;
    meter_refund(now_ms, &h, 1);
    return 0;
}

START_TEST(calls_in_flight_are_bounded)
{
    struct meter_need n = need(7), other = need(8);
    struct meter_hold h[3];

    n.most.in_flight = other.most.in_flight = 2;
    ck_assert(take(NOW, &n, &h[0]));
    ck_assert(take(NOW, &n, &h[1]));
    ck_assert(!take(NOW, &n, &h[2]));
    ck_assert(take(NOW, &other, &h[2])); /* a key of its own */
    meter_release(&h[0], 1);
    meter_release(&h[0], 1); /* once */
    ck_assert(take(NOW, &n, &h[0]));
    ck_assert_uint_gt(wait_of(NOW, &n), 0);
    ck_assert_uint_eq(meter_keys(), 2);
}
END_TEST

/* Calls that come whenever there is room: in no window are there more than the bound, and all of it
 * can be used. */
START_TEST(no_window_has_more_than_the_bound)
{
    static const uint32_t windows[] = { 60000, 1000, 30000, 1999, 1201 };
    static uint64_t begun[2000];
    struct meter_need n = need(7);
    uint64_t now = NOW + 137, end;
    size_t nbegun = 0;

    n.most.window_ms = windows[_i];
    n.most.requests = 10;
    end = now + 20 * (uint64_t)windows[_i];
    for (unsigned step = 1; now < end; step = step * 7919 % 104729) {
        struct meter_hold h;

        while (nbegun < 2000 && take(now, &n, &h)) {
            begun[nbegun++] = now;
            meter_release(&h, 1);
        }
        now += step % (windows[_i] / 7) + 1;
    }
    for (size_t i = 0; i + 10 < nbegun; i++)
        ck_assert_uint_ge(begun[i + 10] - begun[i], windows[_i]);
    ck_assert_uint_gt(nbegun, 10 * 14);
}
END_TEST

START_TEST(the_wait_is_as_long_as_it_must_be)
{
    struct meter_need n = need(7);
    struct meter_hold h;
    uint64_t wait;

    n.most.requests = 2;
    ck_assert(take(NOW, &n, &h));
    ck_assert(take(NOW + 30000, &n, &h));
    wait = wait_of(NOW + 31000, &n);
    ck_assert_uint_ge(wait, 29000);
    ck_assert_uint_le(wait, 30000);
    ck_assert_uint_gt(wait_of(NOW + 31000 + wait - 1, &n), 0);
    ck_assert_uint_eq(wait_of(NOW + 31000 + wait, &n), 0);
}
END_TEST

START_TEST(another_window_keeps_what_was_counted)
{
    struct meter_need n = need(7);
    struct meter_hold h;

    n.most.requests = 2;
    ck_assert(take(NOW, &n, &h));
    n.most.window_ms = 1000;
    ck_assert(take(NOW + 10, &n, &h));
    ck_assert(!take(NOW + 20, &n, &h));
    ck_assert(take(NOW + 1100, &n, &h));
}
END_TEST

START_TEST(tokens_are_corrected)
{
    struct meter_need n = need(7);
    struct meter_hold h, more;

    n.most.tokens = 1000;
    n.input = 300;
    n.output = 400;
    ck_assert(take(NOW, &n, &h));
    ck_assert(!take(NOW, &n, &more));
    meter_settle(NOW, &h, 1, 100);
    ck_assert(take(NOW, &n, &more)); /* 800 */
    meter_settle(NOW, &h, 1, 900);   /* it was settled before */
    meter_settle(NOW, &more, 1, 950);
    n.input = 0;
    n.output = 1;
    ck_assert(!take(NOW, &n, &h)); /* 1050: more than was expected */
    ck_assert(take(NOW + 62000, &n, &h));
}
END_TEST

/* A long answer ends when its beginning counts no longer: what was not expected counts then. */
START_TEST(late_tokens_count_when_they_are_known)
{
    struct meter_need n = need(7);
    struct meter_hold h, other;

    n.most.tokens = 1000;
    n.output = 100;
    ck_assert(take(NOW, &n, &h));
    meter_settle(NOW + 300000, &h, 1, 1050);
    ck_assert(take(NOW + 300000, &n, &other) == false);
    ck_assert(take(NOW + 362000, &n, &other));
}
END_TEST

/* The sum of what is expected, and what a service says was used, is beyond 32 bits. */
START_TEST(sums_of_tokens_do_not_wrap)
{
    struct meter_need n = need(7);
    struct meter_hold h[4];

    n.most.tokens = 10000000000;
    n.input = n.output = UINT32_MAX / 2;
    ck_assert(take(NOW, &n, &h[0]));
    ck_assert(take(NOW, &n, &h[1]));
    ck_assert(!take(NOW, &n, &h[2]));
    meter_settle(NOW, &h[0], 1, UINT64_MAX);
    meter_settle(NOW, &h[1], 1, UINT64_MAX);
    n.input = n.output = 1;
    ck_assert(!take(NOW, &n, &h[2]));
    ck_assert(take(NOW + 62000, &n, &h[2]));
}
END_TEST

START_TEST(a_call_over_the_bound_gets_an_empty_window)
{
    struct meter_need n = need(7);
    struct meter_hold h;

    n.most.tokens = 10;
    n.input = 500;
    ck_assert(take(NOW, &n, &h));
    ck_assert(!take(NOW + 30000, &n, &h));
    ck_assert(take(NOW + 62000, &n, &h));
}
END_TEST

START_TEST(a_refund_undoes_all)
{
    struct meter_need n = need(7);
    struct meter_hold h;

    n.most = (struct meter_bounds){ 1, 1, 10, 60000 };
    n.input = 10;
    for (int i = 0; i < 5; i++) {
        ck_assert(take(NOW + (uint64_t)i, &n, &h));
        meter_refund(NOW + (uint64_t)i, &h, 1);
    }
    ck_assert(take(NOW + 10, &n, &h));
    meter_release(&h, 1);
    meter_refund(NOW + 10, &h, 1); /* too late is as good: it was made */
}
END_TEST

START_TEST(takes_all_keys_or_none)
{
    struct meter_need n[2] = { need(7), need(8) };
    struct meter_hold h[2], one;
    struct meter_refusal no;

    n[0].most.in_flight = n[1].most.in_flight = 1;
    ck_assert(take(NOW, &n[1], &one));
    ck_assert(!meter_take(NOW, n, 2, h, &no));
    ck_assert_uint_eq(no.index, 1);
    ck_assert(take(NOW, &n[0], &h[0]));
}
END_TEST

/* More keys than there is room for share a bound: none is without. */
START_TEST(keys_beyond_the_room_share)
{
    struct meter_hold h;
    size_t taken = 0;

    for (uint64_t id = 1; id <= 20000; id++) {
        struct meter_need n = need(id * 0x9e3779b97f4a7c15u);

        n.most.in_flight = 1;
        taken += take(NOW, &n, &h);
    }
    ck_assert_uint_ge(taken, 4096 * 9 / 10);
    ck_assert_uint_le(taken, 4096 + 64);
    ck_assert_uint_le(meter_keys(), 4096 + 64);
}
END_TEST

START_TEST(idle_keys_make_room)
{
    struct meter_hold h;

    for (uint64_t round = 0; round < 5; round++)
        for (uint64_t id = 1; id <= 3000; id++) {
            struct meter_need n = need((id + round * 10000) * 0x9e3779b97f4a7c15u);

            n.most.requests = 1;
            ck_assert(take(NOW + round * 70000, &n, &h));
            meter_release(&h, 1);
        }
}
END_TEST

/* ---- processes ---- */

/* Each of `n` processes takes and gives back as often as it can; never are there more than 3. */
static void use_it(uint32_t *most)
{
    struct meter_need n = need(7);
    static uint32_t *now;
    struct meter_hold h;

    now = most + 1;
    n.most.in_flight = 3;
    for (int i = 0; i < 20000; i++) {
        uint32_t in;

        if (!take(NOW, &n, &h))
            continue;
        in = __atomic_add_fetch(now, 1, __ATOMIC_SEQ_CST);
        for (uint32_t m = __atomic_load_n(most, __ATOMIC_SEQ_CST); m < in;)
            if (__atomic_compare_exchange_n(
                    most, &m, in, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
                break;
        __atomic_sub_fetch(now, 1, __ATOMIC_SEQ_CST);
        meter_release(&h, 1);
    }
}

static uint32_t *shared_words(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    ck_assert(p != MAP_FAILED);
    return p;
}

START_TEST(processes_are_never_over_the_bound_together)
{
    uint32_t *words = shared_words();
    pid_t pids[4];
    int status;

    ck_assert_int_eq(meter_open(100), 0);
    for (int i = 0; i < 4; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            meter_begin();
            use_it(words);
            _exit(0);
        }
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(status, 0);
        meter_forget_dead();
    }
    ck_assert_uint_ge(words[0], 1);
    ck_assert_uint_le(words[0], 3);
}
END_TEST

/* Killed anywhere, the lock in its hand or not. */
START_TEST(a_killed_process_leaves_nothing_behind)
{
    struct meter_need n = need(7);
    struct meter_hold h[3];
    uint32_t *words = shared_words();

    n.most.in_flight = 3;
    ck_assert_int_eq(meter_open(100), 0);
    meter_begin();
    for (int i = 0; i < 30; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            meter_begin();
            for (;;)
                use_it(words);
        }
        usleep((unsigned)(i * 100));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        meter_forget_dead();
        for (int k = 0; k < 3; k++)
            ck_assert(take(NOW, &n, &h[k]));
        ck_assert_uint_gt(wait_of(NOW, &n), 0);
        meter_release(h, 3);
    }
}
END_TEST

static void wait_in(int fd, uint64_t id)
{
    struct meter_need n = need(id);
    struct meter_refusal no;
    struct meter_hold h;

    meter_begin();
    n.most.in_flight = 1;
    ck_assert(!meter_take(NOW, &n, 1, &h, &no));
    meter_await(no.at);
    ck_assert_int_eq(write(fd, "w", 1), 1);
    for (;;)
        pause();
}

START_TEST(a_process_that_waits_has_its_turn)
{
    struct meter_need n = need(7);
    struct meter_refusal no;
    struct meter_hold h;
    int fds[2];
    char byte;
    pid_t pid;

    n.most.in_flight = 1;
    ck_assert_int_eq(meter_open(100), 0);
    meter_begin();
    ck_assert(take(NOW, &n, &h));
    ck_assert_int_eq(pipe(fds), 0);
    pid = fork();
    if (pid == 0)
        wait_in(fds[1], 7);
    ck_assert_int_eq(read(fds[0], &byte, 1), 1);
    meter_release(&h, 1);
    ck_assert(!meter_take(NOW, &n, 1, &h, &no)); /* there is room, for the other */
    ck_assert_uint_lt(no.wait_ms, 1000);
    ck_assert(!take(NOW + 10, &n, &h));
    ck_assert(take(NOW + 60, &n, &h)); /* it does not take it */
    meter_release(&h, 1);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ck_assert(!take(NOW + 61, &n, &h));
    meter_forget_dead();
    ck_assert(take(NOW + 62, &n, &h));
}
END_TEST

/* A process that has been stopped with the lock in its hand. */
static pid_t stopped_with_the_lock(void)
{
    uint32_t *words = shared_words();

    for (;;) {
        pid_t pid = fork();
        struct meter_need n = need(7);
        struct meter_refusal no;
        int status;

        if (pid == 0) {
            meter_begin();
            for (;;)
                use_it(words);
        }
        usleep(300);
        kill(pid, SIGSTOP);
        ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
        /* It is not known whether there is room, by no need: the lock was not to be had. */
        if (!meter_has_room(NOW, &n, 1, &no) && no.index == 1)
            return pid;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        meter_forget_dead();
    }
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    meter_forget_dead();
}

START_TEST(a_correction_waits_for_the_lock)
{
    struct meter_need n = need(8);
    struct meter_hold h, more;
    pid_t pid;

    n.most.tokens = 1000;
    n.output = 700;
    ck_assert_int_eq(meter_open(100), 0);
    meter_begin();
    ck_assert(take(NOW, &n, &h));
    pid = stopped_with_the_lock();
    meter_settle(NOW, &h, 1, 100);
    meter_settle(NOW, &h, 1, 5000); /* once */
    meter_catch_up();
    end(pid);
    ck_assert(take(NOW, &n, &more)); /* 800 */
    pid = stopped_with_the_lock();
    meter_refund(NOW, &more, 1);
    meter_refund(NOW, &more, 1);
    end(pid);
    meter_catch_up();
    n.output = 900;
    ck_assert(take(NOW, &n, &h)); /* 1000 */
    n.output = 1;
    ck_assert(!take(NOW, &n, &more));
}
END_TEST

/* An earlier binary's: nobody but a look at the processes tells of its end. It is a zombie here, as
 * one is whose parent does not wait. */
START_TEST(a_process_that_nobody_waits_for_is_found)
{
    struct meter_need n = need(7);
    struct meter_hold h;
    siginfo_t info;
    pid_t pid;

    n.most.in_flight = 1;
    ck_assert_int_eq(meter_open(100), 0);
    meter_begin();
    pid = fork();
    if (pid == 0) {
        meter_begin();
        _exit(take(NOW, &n, &h) ? 0 : 1);
    }
    ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    ck_assert_int_eq(info.si_status, 0);
    ck_assert(!take(NOW, &n, &h));
    meter_forget_dead();
    ck_assert(take(NOW, &n, &h));
    meter_forget_dead(); /* this one lives */
    ck_assert_uint_eq(meter_calls(), 1);
    waitpid(pid, NULL, 0);
}
END_TEST

/* ---- what services say ---- */

#define ACCOUNT UINT64_C(99)

static void says(uint64_t now_ms, enum meter_kind k, uint64_t limit, uint64_t left, uint64_t reset)
{
    struct meter_level levels[METER_NKINDS] = { 0 };

    levels[k] = (struct meter_level){ true, limit, left, reset };
    meter_note(now_ms, ACCOUNT, levels);
}

static struct meter_need account(uint32_t input, uint32_t output)
{
    return (struct meter_need){ .id = ACCOUNT, .input = input, .output = output };
}

START_TEST(nothing_is_held_back_before_something_is_known)
{
    struct meter_need n = account(1000000, 1000000);
    struct meter_hold h;

    for (int i = 0; i < 100; i++)
        ck_assert(take(NOW, &n, &h));
}
END_TEST

START_TEST(what_is_left_is_given_out_once)
{
    struct meter_need n = account(100, 0);
    struct meter_hold h[3];

    says(NOW, METER_INPUT, 0, 250, 10000);
    ck_assert(take(NOW, &n, &h[0]));
    ck_assert(take(NOW, &n, &h[1]));
    ck_assert(!take(NOW, &n, &h[2]));
    meter_heard(&h[0]); /* its answer says what is left now */
    says(NOW, METER_INPUT, 0, 150, 10000);
    ck_assert(!take(NOW + 1, &n, &h[2]));
    meter_heard(&h[1]);
    says(NOW, METER_INPUT, 0, 150, 10000);
    ck_assert(take(NOW + 1, &n, &h[2]));
}
END_TEST

START_TEST(unheard_tokens_do_not_wrap)
{
    struct meter_need n = account(0, UINT32_MAX / 2);
    struct meter_hold h[8];
    size_t taken = 0;

    says(NOW, METER_OUTPUT, 0, 5000000000, 10000);
    while (taken < 8 && take(NOW, &n, &h[taken]))
        taken++;
    ck_assert_uint_eq(taken, 2);
}
END_TEST

START_TEST(a_service_may_say_any_number)
{
    struct meter_need n = account(1000, 1000);
    struct meter_hold h;

    says(NOW, METER_INPUT, UINT64_MAX, UINT64_MAX - 1, 86400000);
    says(NOW, METER_OUTPUT, UINT64_MAX, 10000, 86400000);
    ck_assert(take(NOW, &n, &h));
    ck_assert(take(NOW + 86399999, &n, &h));
}
END_TEST

START_TEST(it_fills_up_evenly)
{
    struct meter_need n = account(0, 500);
    uint64_t wait;

    says(NOW, METER_OUTPUT, 1000, 0, 10000);
    wait = wait_of(NOW, &n);
    ck_assert_uint_ge(wait, 5000);
    ck_assert_uint_le(wait, 5010);
    ck_assert_uint_eq(wait_of(NOW + wait, &n), 0);
}
END_TEST

START_TEST(a_call_larger_than_the_limit_gets_a_full_one)
{
    struct meter_need n = account(0, 5000);

    says(NOW, METER_OUTPUT, 1000, 500, 10000);
    ck_assert_uint_gt(wait_of(NOW, &n), 5000);
    /* The service counts from some moment of the millisecond NOW: not before its end. */
    ck_assert_uint_eq(wait_of(NOW + 10000, &n), 1);
    ck_assert_uint_eq(wait_of(NOW + 10001, &n), 0);
}
END_TEST

/* After a reset of which nothing more is known, or a minute, one call asks. */
START_TEST(old_words_hold_back_all_but_one)
{
    struct meter_need n = account(0, 0);
    struct meter_hold h, second;

    says(NOW, METER_REQUESTS, 0, 0, 86000000);
    ck_assert(!take(NOW + 59000, &n, &h));
    ck_assert(take(NOW + 60000, &n, &h));
    ck_assert(!take(NOW + 60001, &n, &second));
    meter_heard(&h);
    ck_assert(take(NOW + 60002, &n, &second));
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("meter");

    tcase_add_test(t, calls_in_flight_are_bounded);
    tcase_add_loop_test(t, no_window_has_more_than_the_bound, 0, 5);
    tcase_add_test(t, the_wait_is_as_long_as_it_must_be);
    tcase_add_test(t, another_window_keeps_what_was_counted);
    tcase_add_test(t, tokens_are_corrected);
    tcase_add_test(t, a_service_may_say_any_number);
    tcase_add_test(t, unheard_tokens_do_not_wrap);
    tcase_add_test(t, sums_of_tokens_do_not_wrap);
    tcase_add_test(t, late_tokens_count_when_they_are_known);
    tcase_add_test(t, a_call_over_the_bound_gets_an_empty_window);
    tcase_add_test(t, a_refund_undoes_all);
    tcase_add_test(t, takes_all_keys_or_none);
    tcase_add_test(t, keys_beyond_the_room_share);
    tcase_add_test(t, idle_keys_make_room);
    tcase_add_test(t, processes_are_never_over_the_bound_together);
    tcase_add_test(t, a_killed_process_leaves_nothing_behind);
    tcase_add_test(t, a_process_that_nobody_waits_for_is_found);
    tcase_add_test(t, a_correction_waits_for_the_lock);
    tcase_add_test(t, a_process_that_waits_has_its_turn);
    tcase_add_test(t, nothing_is_held_back_before_something_is_known);
    tcase_add_test(t, what_is_left_is_given_out_once);
    tcase_add_test(t, it_fills_up_evenly);
    tcase_add_test(t, a_call_larger_than_the_limit_gets_a_full_one);
    tcase_add_test(t, old_words_hold_back_all_but_one);
    return t;
}

UNIT_MAIN("meter")
