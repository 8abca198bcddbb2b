/* The loop: deferred calls, and the memory of closed objects. */
#include "net/loop.h"

#include <signal.h>
#include <stdlib.h>

#include "conffile.h"
#include "net/deadline.h"
#include "unit.h"
#include "world.h"

static char story[64];

static void note(const char *what)
{
    strncat(story, what, sizeof(story) - strlen(story) - 1);
}

struct thing {
    struct deferred deferred;
    struct deferred_free deferred_free;
    const char *name;
    struct thing *other;
    unsigned rounds;
};

static void on_deferred(void *owner)
{
    struct thing *t = owner;

    note(t->name);
    if (t->rounds-- > 1)
        loop_defer(&t->deferred, on_deferred, t);
}

static void free_thing(void *what)
{
    note("+");
    free(what);
}

static void on_last(void *owner)
{
    struct thing *t = owner;

    loop_free_later(&t->deferred_free, t, free_thing);
    note(t->name);
}

static void on_cancels(void *owner)
{
    struct thing *t = owner;

    note(t->name);
    loop_undefer(&t->other->deferred);
}

START_TEST(defers_in_order_and_once)
{
    struct thing a = { .name = "a" }, b = { .name = "b" };

    loop_defer(&a.deferred, on_deferred, &a);
    loop_defer(&b.deferred, on_deferred, &b);
    loop_defer(&a.deferred, on_deferred, &a);
    ck_assert_str_eq(story, "");
    world_turn();
    ck_assert_str_eq(story, "ab");
    world_turn();
    ck_assert_str_eq(story, "ab");
}
END_TEST

START_TEST(defers_from_within_a_round_later)
{
    struct thing a = { .name = "a", .rounds = 3 }, b = { .name = "b" };

    loop_defer(&a.deferred, on_deferred, &a);
    loop_defer(&b.deferred, on_deferred, &b);
    world_turn();
    ck_assert_str_eq(story, "abaa"); /* all before the loop sleeps */
}
END_TEST

START_TEST(does_not_starve_the_sockets)
{
    struct thing a = { .name = "", .rounds = 1000000 };
    uint64_t from = loop_now_ms();

    loop_defer(&a.deferred, on_deferred, &a);
    WORLD_UNTIL(loop_now_ms() > from + 20); /* turns come to an end, and time goes on */
    ck_assert_uint_gt(a.rounds, 0);
    loop_undefer(&a.deferred);
}
END_TEST

START_TEST(takes_back_what_was_deferred)
{
    struct thing b = { .name = "b" }, a = { .name = "a", .other = &b };

    loop_undefer(&a.deferred); /* not set: nothing */
    loop_defer(&a.deferred, on_cancels, &a);
    loop_defer(&b.deferred, on_deferred, &b);
    world_turn();
    ck_assert_str_eq(story, "a");
}
END_TEST

START_TEST(frees_closed_objects_after_the_callbacks)
{
    struct thing *closed = calloc(1, sizeof(*closed)), b = { .name = "b" };

    closed->name = "x";
    loop_defer(&closed->deferred, on_last, closed);
    loop_defer(&b.deferred, on_deferred, &b);
    world_turn();
    ck_assert_str_eq(story, "xb+");
    closed = calloc(1, sizeof(*closed)); /* those of the end are freed with the loop */
    loop_free_later(&closed->deferred_free, closed, free_thing);
}
END_TEST

static void on_close_and_repeat(void *owner)
{
    struct thing *t = owner;

    note(t->name);
    if (t->other)
        loop_free_later(&t->other->deferred_free, t->other, free_thing);
    t->other = NULL;
    if (t->rounds-- > 1)
        loop_defer(&t->deferred, on_close_and_repeat, t);
}

/* Issue 8, fault t14: the bound on a turn's deferred calls was reached, the closed objects were
 * freed all the same, and a call that was left pointed to one. */
START_TEST(frees_nothing_while_a_deferred_call_is_left)
{
    struct thing *closed = calloc(1, sizeof(*closed)), a = { .name = "a", .rounds = 40 };

    a.other = closed;
    loop_defer(&a.deferred, on_close_and_repeat, &a);
    world_turn();
    ck_assert_uint_gt(a.rounds, 0); /* the bound was reached */
    ck_assert_ptr_null(strchr(story, '+'));
    WORLD_UNTIL(strchr(story, '+'));
    ck_assert_uint_eq(a.rounds, 0);
    ck_assert_uint_eq(strlen(story), 41);
}
END_TEST

static void on_next_turn(void *owner)
{
    struct thing *t = owner;

    note(t->name);
    if (t->rounds-- > 1)
        loop_defer_to_next_turn(&t->deferred, on_next_turn, t);
}

START_TEST(defers_to_the_next_turn_without_sleeping)
{
    struct thing *closed = calloc(1, sizeof(*closed)), a = { .name = "a", .rounds = 2 };

    closed->name = "x";
    loop_defer_to_next_turn(&a.deferred, on_next_turn, &a);
    loop_defer(&closed->deferred, on_last, closed);
    world_turn();
    ck_assert_str_eq(story, "x+"); /* the next turn's calls do not keep closed objects */
    ev_run(loop_ev(), EVRUN_ONCE);
    ck_assert_str_eq(story, "x+a");
    loop_undefer(&a.deferred);
    world_turn();
    ck_assert_str_eq(story, "x+a");
}
END_TEST

#ifdef TARRY_CHECK_LIFETIMES
static void on_closed_object(void *owner)
{
}

START_TEST(stops_when_a_closed_object_is_called)
{
    static struct thing t;
    static struct deadline d;

    conffile_close(); /* nothing more is cleaned up */
    loop_free_later(&t.deferred_free, &t, on_closed_object);
    if (_i == 0) {
        loop_defer(&t.deferred, on_closed_object, &t);
    } else if (_i == 1) {
        deadline_init(&d, on_closed_object, &t);
        deadline_set(&d, 0);
        deadline_clear(&d);
        deadline_set(&d, 0);
        ev_invoke(loop_ev(), &d.timer, 0);
    } else {
        loop_free_later(&t.deferred_free, &t, on_closed_object);
    }
    world_turn();
}
END_TEST
#endif

START_TEST(stops_on_a_bug)
{
    conffile_close(); /* nothing more is cleaned up */
    BUG_IF(1 == 2);
    BUG_IF(1 == 1);
}
END_TEST

static void begin(void)
{
    story[0] = '\0';
    world_open();
}

static TCase *cases(void)
{
    TCase *t = tcase_create("loop");

    tcase_add_checked_fixture(t, begin, world_close);
    tcase_add_test(t, defers_in_order_and_once);
    tcase_add_test(t, defers_from_within_a_round_later);
    tcase_add_test(t, does_not_starve_the_sockets);
    tcase_add_test(t, takes_back_what_was_deferred);
    tcase_add_test(t, frees_closed_objects_after_the_callbacks);
    tcase_add_test(t, frees_nothing_while_a_deferred_call_is_left);
    tcase_add_test(t, defers_to_the_next_turn_without_sleeping);
#ifdef TARRY_CHECK_LIFETIMES
    tcase_add_loop_test_raise_signal(t, stops_when_a_closed_object_is_called, SIGABRT, 0, 3);
#endif
    tcase_add_test_raise_signal(t, stops_on_a_bug, SIGABRT);
    return t;
}

UNIT_MAIN("loop")
