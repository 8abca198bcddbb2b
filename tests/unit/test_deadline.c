/* Deadlines: they pass once, in time, and can be moved either way. */
#include "net/deadline.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"
#include "world.h"

struct watch {
    struct deadline deadline;
    unsigned passed;
    uint64_t at_ms;
    uint64_t again_ms; /* set again from within */
};

static void on_passed(void *owner)
{
    struct watch *w = owner;

    w->passed++;
    w->at_ms = loop_now_ms();
    ck_assert(!deadline_is_set(&w->deadline));
    if (w->again_ms)
        deadline_set(&w->deadline, w->again_ms);
}

static struct watch watch_of(void)
{
    return (struct watch){ 0 };
}

START_TEST(passes_once)
{
    struct watch w = watch_of();
    uint64_t from = loop_now_ms();

    deadline_init(&w.deadline, on_passed, &w);
    ck_assert(!deadline_is_set(&w.deadline));
    deadline_set(&w.deadline, 20);
    ck_assert(deadline_is_set(&w.deadline));
    WORLD_UNTIL(w.passed > 0);
    ck_assert_uint_ge(w.at_ms, from + 20);
    WORLD_UNTIL(loop_now_ms() > w.at_ms + 40);
    ck_assert_uint_eq(w.passed, 1);
    deadline_close(&w.deadline);
}
END_TEST

START_TEST(is_moved_back_and_forth)
{
    struct watch w = watch_of();
    uint64_t from = loop_now_ms();

    deadline_init(&w.deadline, on_passed, &w);
    deadline_set(&w.deadline, 10);
    deadline_set(&w.deadline, 60); /* later */
    WORLD_UNTIL(w.passed > 0);
    ck_assert_uint_ge(w.at_ms, from + 60);
    deadline_set(&w.deadline, 3600000);
    deadline_set(&w.deadline, 10); /* earlier */
    WORLD_UNTIL(w.passed > 1);
    deadline_close(&w.deadline);
}
END_TEST

START_TEST(does_not_pass_when_cleared)
{
    struct watch w = watch_of(), other = watch_of();

    deadline_init(&w.deadline, on_passed, &w);
    deadline_init(&other.deadline, on_passed, &other);
    deadline_set(&w.deadline, 5);
    deadline_clear(&w.deadline);
    deadline_set(&other.deadline, 30);
    WORLD_UNTIL(other.passed);
    ck_assert_uint_eq(w.passed, 0);
    deadline_set(&w.deadline, 1); /* and can be set again */
    WORLD_UNTIL(w.passed);
    deadline_close(&w.deadline);
    deadline_close(&w.deadline);
    deadline_close(&other.deadline);
}
END_TEST

START_TEST(can_be_set_from_within)
{
    struct watch w = watch_of();

    w.again_ms = 1;
    deadline_init(&w.deadline, on_passed, &w);
    deadline_set(&w.deadline, 0);
    WORLD_UNTIL(w.passed == 5);
    deadline_close(&w.deadline);
    world_settle();
    ck_assert_uint_eq(w.passed, 5);
}
END_TEST

struct socket_watch {
    ev_io io;
    const struct watch *watch;
    bool read, before; /* before the deadline passed */
};

static void on_readable(struct ev_loop *ev, ev_io *io, int revents)
{
    struct socket_watch *s = io->data;

    s->read = true;
    s->before = s->watch->passed == 0;
    ev_io_stop(ev, io);
}

/* The process was stopped, or the machine was busy: the answer lies in the socket, and the time for
 * it has passed since. */
START_TEST(a_late_turn_reads_before_it_times_out)
{
    struct watch w = watch_of();
    struct socket_watch s = { .watch = &w };
    int pair[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    deadline_init(&w.deadline, on_passed, &w);
    ev_io_init(&s.io, on_readable, pair[0], EV_READ);
    s.io.data = &s;
    ev_io_start(loop_ev(), &s.io);
    deadline_set(&w.deadline, 5);
    ck_assert_int_eq(write(pair[1], "x", 1), 1);
    ck_assert_int_eq(usleep(20000), 0);
    WORLD_UNTIL(w.passed > 0 && s.read);
    ck_assert(s.before);
    deadline_close(&w.deadline);
    close(pair[0]);
    close(pair[1]);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("deadline");

    tcase_add_checked_fixture(t, world_open, world_close);
    tcase_add_test(t, passes_once);
    tcase_add_test(t, is_moved_back_and_forth);
    tcase_add_test(t, does_not_pass_when_cleared);
    tcase_add_test(t, can_be_set_from_within);
    tcase_add_test(t, a_late_turn_reads_before_it_times_out);
    return t;
}

UNIT_MAIN("deadline")
