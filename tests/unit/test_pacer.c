/* The queue of an upstream: whose turn it is, whatever the tenants ask for; and that nothing stays
 * behind of a call that leaves, in any state. */
#include "upstream/pacer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/entropy.h"
#include "conffile.h"
#include "unit.h"
#include "world.h"

enum { CALLS_MAX = 4000 };

struct call {
    struct pacer_turn *turn;
    uint64_t tenant;
    size_t place;      /* among those that have begun; SIZE_MAX: it has not */
    struct call *drop; /* leaves when this one begins */
};

static struct conf *conf;
static struct pacer *pacer;
static const struct upstream_conf *up;
static struct call calls[CALLS_MAX];
static size_t ncalls, nbegun;
static uint64_t ready_in_ms;

static void use(const char *inside)
{
    struct arena a = { 0 };

    conf_unref(conf);
    conf = conffile_must_load(arena_printf(&a,
        "listen \"127.0.0.1:8080\" { }\nworkers \"app\" { server \"127.0.0.1:8001\" { } }\n"
        "upstream \"ai\" { origin = \"http://127.0.0.1:1\"\n%s }\nroute \"/\" { workers = "
        "\"app\" }\n",
        inside)
                                  .p);
    arena_release(&a);
    up = &conf->upstreams[0];
    pacer_update(pacer, conf);
}

static void set_up(void)
{
    world_open();
    pacer = pacer_open();
    ck_assert_ptr_nonnull(pacer);
    conf = NULL;
    ncalls = nbegun = 0;
    ready_in_ms = 0;
}

static void leave(struct call *c)
{
    if (!c->turn)
        return;
    pacer_leave(pacer, c->turn, true);
    free(c->turn);
    c->turn = NULL;
}

static void tear_down(void)
{
    for (size_t i = 0; i < ncalls; i++)
        leave(&calls[i]);
    ck_assert_uint_eq(pacer_counts(pacer, STR("ai")).waiting, 0);
    ck_assert_uint_eq(pacer_counts(pacer, STR("ai")).tenants, 0);
    pacer_close(pacer);
    conf_unref(conf);
    world_settle();
    world_close();
}

static void on_turn(void *owner)
{
    struct call *c = owner;

    ck_assert_uint_eq(c->place, SIZE_MAX);
    c->place = nbegun++;
    if (c->drop)
        leave(c->drop);
}

static uint64_t ready_in(void *owner)
{
    return ready_in_ms;
}

/* A call of `tenant` that is counted under each limit by its tenant. */
static enum pacer_result ask(uint64_t tenant, unsigned weight, bool again, uint32_t tokens)
{
    struct call *c = &calls[ncalls++];
    struct pacer_ask a = { up, tenant, weight, again };
    enum pacer_result r;

    ck_assert_uint_le(ncalls, CALLS_MAX);
    *c = (struct call){ .tenant = tenant, .place = SIZE_MAX };
    c->turn = calloc(1, sizeof(*c->turn) + up->nlimits * sizeof(struct pacer_key));
    ck_assert_ptr_nonnull(c->turn);
    c->turn->nkeys = (unsigned char)up->nlimits;
    for (size_t i = 0; i < up->nlimits; i++) {
        c->turn->keys[i].limit = pacer_limit_id(up, i);
        c->turn->keys[i].id = c->turn->keys[i].limit +
                              (up->limits[i].key.kind == SELECTOR_NONE ? 0 : tenant * 1000003);
    }
    c->turn->output = tokens;
    c->turn->on_turn = on_turn;
    c->turn->ready_in = ready_in;
    c->turn->owner = c;
    r = pacer_ask(pacer, c->turn, &a);
    if (r == PACER_GO)
        on_turn(c);
    return r;
}

static struct call *begun(size_t place)
{
    for (size_t i = 0; i < ncalls; i++)
        if (calls[i].place == place)
            return &calls[i];
    return NULL;
}

/* All that can begin has begun. */
static void serve(void)
{
    world_settle();
}

/* Each call ends as soon as it has begun, one at a time. */
static void run_down(size_t to)
{
    for (size_t i = 0; i < to; i++) {
        WORLD_UNTIL(nbegun > i);
        leave(begun(i));
    }
}

START_TEST(a_call_within_the_limit_begins_at_once)
{
    use("limit { in_flight = 2 }");
    ck_assert_int_eq(ask(1, 1, false, 0), PACER_GO);
    ck_assert_int_eq(ask(1, 1, false, 0), PACER_GO);
    ck_assert_int_eq(ask(1, 1, false, 0), PACER_WAITS);
    serve();
    ck_assert_uint_eq(nbegun, 2);
    leave(&calls[0]);
    serve();
    ck_assert_uint_eq(nbegun, 3);
}
END_TEST

/* Whatever mixture of calls waits: between two turns of one tenant, each other one with calls has
 * at most its weight. */
START_TEST(nobody_is_held_up_by_others)
{
    size_t many, seen[8] = { 0 }, left[8] = { 0 }, at = 0;

    use("limit { in_flight = 1 }");
    ask(99, 1, false, 0);
    many = 100 + entropy_below(200);
    for (size_t i = 0; i < many; i++)
        ask(1, 1, false, 0);
    for (size_t i = 0; i < 150; i++) {
        uint64_t tenant = 1 + entropy_below(7);

        ask(tenant, 1, false, 0);
    }
    for (size_t i = 1; i < ncalls; i++)
        left[calls[i].tenant]++;
    run_down(ncalls);
    for (at = 1; at < ncalls; at++) {
        uint64_t tenant = begun(at)->tenant;

        seen[tenant]++;
        left[tenant]--;
        /* Nobody who still waits is more than a turn behind. */
        for (size_t other = 1; other < 8; other++)
            ck_assert(left[other] == 0 || seen[other] + 1 >= seen[tenant]);
    }
}
END_TEST

START_TEST(a_tenants_calls_begin_in_their_order)
{
    size_t last[4] = { 0 };

    use("limit { in_flight = 1 }");
    for (int i = 0; i < 60; i++)
        ask(1 + entropy_below(3), 1, false, 0);
    run_down(ncalls);
    for (size_t i = 0; i < ncalls; i++) {
        ck_assert(calls[i].place >= last[calls[i].tenant]);
        last[calls[i].tenant] = calls[i].place;
    }
}
END_TEST

START_TEST(weights_are_shares)
{
    size_t share[4] = { 0 };

    use("limit { in_flight = 1 }");
    ask(99, 1, false, 0);
    for (int i = 0; i < 120; i++) {
        ask(1, 1, false, 0);
        ask(2, 2, false, 0);
        ask(3, 3, false, 0);
    }
    run_down(61);
    for (size_t i = 1; i <= 60; i++)
        share[begun(i)->tenant]++;
    ck_assert_uint_eq(share[1], 10);
    ck_assert_uint_eq(share[2], 20);
    ck_assert_uint_eq(share[3], 30);
}
END_TEST

/* Where tokens are limited, a tenant with large calls has fewer of them. */
START_TEST(large_calls_cost_more_turns)
{
    size_t share[3] = { 0 };

    use("limit { in_flight = 1 }\nlimit { tokens_per_minute = 4000000000 }");
    ask(99, 1, false, 0);
    for (int i = 0; i < 60; i++) {
        ask(1, 1, false, 8000);
        ask(2, 1, false, 1000);
    }
    run_down(46);
    for (size_t i = 1; i <= 45; i++)
        share[begun(i)->tenant]++;
    ck_assert_uint_le(share[1], 6);
    ck_assert_uint_ge(share[1], 4);
}
END_TEST

START_TEST(a_retry_goes_ahead_of_its_tenants_calls_only)
{
    use("limit { in_flight = 1 }");
    ask(99, 1, false, 0);
    for (int i = 0; i < 5; i++)
        ask(1, 1, false, 0);
    ask(2, 1, false, 0);
    ask(1, 1, true, 0);
    ask(1, 1, true, 0);
    run_down(4);
    ck_assert_ptr_eq(begun(1), &calls[7]); /* the first retry */
    ck_assert_uint_eq(begun(2)->tenant, 2);
    ck_assert_ptr_eq(begun(3), &calls[8]);
    run_down(ncalls);
}
END_TEST

START_TEST(a_tenant_at_its_own_limit_holds_up_nobody)
{
    use("limit { in_flight = 5 }\nlimit { key = \"tenant\" in_flight = 1 }");
    for (int i = 0; i < 20; i++)
        ask(1, 1, false, 0);
    for (uint64_t tenant = 2; tenant <= 5; tenant++)
        ask(tenant, 1, false, 0);
    serve();
    ck_assert_uint_eq(nbegun, 5);
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < i; k++)
            ck_assert_uint_ne(begun(i)->tenant, begun(k)->tenant);
}
END_TEST

/* A large call is not passed for ever by small ones that would still fit. */
START_TEST(a_large_call_is_not_passed_by_small_ones)
{
    use("limit { tokens_per_minute = 1000 }");
    ck_assert_int_eq(ask(1, 1, false, 600), PACER_GO);
    ck_assert_int_eq(ask(2, 1, false, 900), PACER_WAITS);
    for (uint64_t i = 3; i < 20; i++)
        ck_assert_int_eq(ask(i, 1, false, 10), PACER_WAITS);
    serve();
    ck_assert_uint_eq(nbegun, 1);
    pacer_settle(calls[0].turn, 10);
    leave(&calls[0]);
    serve();
    ck_assert_uint_eq(begun(1)->tenant, 2);
    ck_assert_uint_eq(nbegun, 11); /* 10 + 900 + 9 times 10 */
}
END_TEST

START_TEST(waits_for_an_endpoint_and_holds_nothing)
{
    use("limit { in_flight = 1 }");
    ready_in_ms = 20;
    ask(1, 1, false, 0);
    ask(2, 1, false, 0);
    serve();
    ck_assert_uint_eq(nbegun, 0);
    ck_assert_uint_eq(calls[0].turn->open_ms, 20);
    ready_in_ms = 0;
    WORLD_UNTIL(nbegun == 1); /* from the timer */
    leave(&calls[0]);
    ready_in_ms = 100000;
    ask(3, 1, false, 0);
    serve();
    ready_in_ms = 0;
    pacer_stir(pacer, up);
    WORLD_UNTIL(nbegun >= 2);
}
END_TEST

START_TEST(the_queue_is_bounded)
{
    use("limit { in_flight = 1 }\nqueue_max = 10 queue_tenant_max = 6 queue_tenants_max = 3");
    ask(1, 1, false, 0);
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(ask(1, 1, false, 0), PACER_WAITS);
    ck_assert_int_eq(ask(1, 1, false, 0), PACER_SHARE);
    ck_assert_int_eq(ask(1, 1, true, 0), PACER_WAITS); /* it was admitted before */
    for (uint64_t tenant = 2; tenant < 5; tenant++)
        ck_assert_int_eq(ask(tenant, 1, false, 0), PACER_WAITS);
    ck_assert_int_eq(ask(5, 1, false, 0), PACER_FULL);
    ck_assert_uint_eq(pacer_counts(pacer, STR("ai")).waiting, 10);
    ck_assert_uint_le(pacer_counts(pacer, STR("ai")).tenants, 4);
}
END_TEST

/* Thousands of calls of a gateway that tells no tenants apart are no single tenant's. */
START_TEST(calls_without_a_tenant_have_the_whole_queue)
{
    use("limit { in_flight = 1 }\nqueue_max = 10 queue_tenant_max = 6");
    ask(0, 1, false, 0);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(ask(0, 1, false, 0), PACER_WAITS);
    ck_assert_int_eq(ask(0, 1, false, 0), PACER_FULL);
}
END_TEST

/* The states: refused, waiting first, waiting in the middle, waiting as the last of its tenant,
 * begun, over; each left twice. */
/* Of a call that is refused nothing stays behind: neither to serve nor to close. */
START_TEST(a_tenant_that_may_not_wait_at_all)
{
    use("limit { in_flight = 1 }\nqueue_tenant_max = 0");
    ck_assert_int_eq(ask(1, 1, false, 0), PACER_GO);
    for (uint64_t i = 0; i < 5; i++)
        ck_assert_int_eq(ask(1 + i, 1, false, 0), PACER_SHARE);
    ck_assert_uint_eq(pacer_counts(pacer, STR("ai")).tenants, 0);
    ck_assert_int_eq(ask(0, 1, false, 0), PACER_WAITS);
    leave(&calls[0]);
    world_settle();
    ck_assert_uint_eq(nbegun, 2);
}
END_TEST

START_TEST(leaving_is_right_in_every_state)
{
    static const size_t leaves[] = { 0, 1, 3, 6, 7, 8 };

    use("limit { in_flight = 1 }\nqueue_max = 7");
    ask(1, 1, false, 0);
    for (uint64_t i = 0; i < 6; i++)
        ask(1 + i % 2, 1, false, 0);
    ask(3, 1, false, 0);
    ck_assert_int_eq(ask(4, 1, false, 0), PACER_FULL);
    for (int k = 0; k < 2; k++)
        pacer_leave(pacer, calls[leaves[_i]].turn, _i % 2 == 0);
    serve();
    ck_assert_uint_eq(nbegun, leaves[_i] == 0 ? 2 : 1);
    if (leaves[_i] > 0)
        leave(&calls[0]);
    serve();
    ck_assert_uint_eq(nbegun, 2);
    for (size_t i = 0; i < ncalls; i++)
        leave(&calls[i]);
    serve();
    ck_assert_uint_eq(nbegun, 2);
}
END_TEST

/* A call that begins may end others that wait, also those that would be the next. */
START_TEST(others_may_leave_when_one_begins)
{
    use("limit { in_flight = 2 }");
    ask(9, 1, false, 0);
    ask(9, 1, false, 0);
    for (uint64_t i = 0; i < 6; i++)
        ask(i < 3 ? 1 : i, 1, false, 0);
    calls[2].drop = &calls[3 + _i];
    leave(&calls[0]);
    leave(&calls[1]);
    serve();
    ck_assert_uint_eq(nbegun, 4);
    ck_assert_uint_eq(calls[3 + _i].place, SIZE_MAX);
}
END_TEST

START_TEST(a_reload_holds_for_calls_that_wait)
{
    struct conf *old;

    use("limit { in_flight = 1 }");
    old = conf_ref(conf);
    for (int i = 0; i < 6; i++)
        ask(1, 1, false, 0);
    serve();
    ck_assert_uint_eq(nbegun, 1);
    use("limit { in_flight = 3 }");
    serve();
    ck_assert_uint_eq(nbegun, 3);
    use(_i == 0 ? "" : "limit { key = \"header:x-y\" in_flight = 1 }");
    serve();
    ck_assert_uint_eq(nbegun, 6);
    conf_unref(old);
}
END_TEST

START_TEST(an_upstream_that_goes_lets_its_calls_go)
{
    use("limit { in_flight = 1 }");
    for (int i = 0; i < 3; i++)
        ask(1, 1, false, 0);
    pacer_update(pacer, &(struct conf){ 0 });
    serve();
    ck_assert_uint_eq(nbegun, 3);
    pacer_update(pacer, &(struct conf){ 0 });
    ck_assert_uint_eq(pacer_counts(pacer, STR("ai")).tenants, 0);
}
END_TEST

START_TEST(closing_with_calls_that_wait)
{
    use("limit { in_flight = 1 }");
    for (uint64_t i = 0; i < 20; i++)
        ask(i % 5, 1, false, 0);
    pacer_close(pacer);
    for (size_t i = 0; i < ncalls; i++)
        ck_assert_ptr_null(calls[i].turn->flow);
    world_settle();
    pacer = pacer_open();
    ck_assert_uint_eq(nbegun, 1);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("pacer");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, a_call_within_the_limit_begins_at_once);
    tcase_add_loop_test(t, nobody_is_held_up_by_others, 0, 10);
    tcase_add_test(t, a_tenants_calls_begin_in_their_order);
    tcase_add_test(t, weights_are_shares);
    tcase_add_test(t, large_calls_cost_more_turns);
    tcase_add_test(t, a_retry_goes_ahead_of_its_tenants_calls_only);
    tcase_add_test(t, a_tenant_at_its_own_limit_holds_up_nobody);
    tcase_add_test(t, a_large_call_is_not_passed_by_small_ones);
    tcase_add_test(t, waits_for_an_endpoint_and_holds_nothing);
    tcase_add_test(t, the_queue_is_bounded);
    tcase_add_test(t, calls_without_a_tenant_have_the_whole_queue);
    tcase_add_test(t, a_tenant_that_may_not_wait_at_all);
    tcase_add_loop_test(t, leaving_is_right_in_every_state, 0, 6);
    tcase_add_loop_test(t, others_may_leave_when_one_begins, 0, 5);
    tcase_add_loop_test(t, a_reload_holds_for_calls_that_wait, 0, 2);
    tcase_add_test(t, an_upstream_that_goes_lets_its_calls_go);
    tcase_add_test(t, closing_with_calls_that_wait);
    return t;
}

UNIT_MAIN("pacer")
