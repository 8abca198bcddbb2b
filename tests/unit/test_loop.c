/* The loop: what is deferred, and the dead. */
#include "net/loop.h"

#include <signal.h>
#include <stdlib.h>

#include "conffile.h"
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

START_TEST(frees_the_dead_after_the_callbacks)
{
    struct thing *dead = calloc(1, sizeof(*dead)), b = { .name = "b" };

    dead->name = "x";
    loop_defer(&dead->deferred, on_last, dead);
    loop_defer(&b.deferred, on_deferred, &b);
    world_turn();
    ck_assert_str_eq(story, "xb+");
    dead = calloc(1, sizeof(*dead)); /* those of the end are freed with the loop */
    loop_free_later(&dead->deferred_free, dead, free_thing);
}
END_TEST

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
    tcase_add_test(t, frees_the_dead_after_the_callbacks);
    tcase_add_test_raise_signal(t, stops_on_a_bug, SIGABRT);
    return t;
}

UNIT_MAIN("loop")
