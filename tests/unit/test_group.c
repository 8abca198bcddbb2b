/* The choice of an endpoint: by key, by load, by what is known of each. No call is made. */
#include "upstream/group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conffile.h"
#include "unit.h"
#include "world.h"

enum { KEYS = 4000, TURNS = 64 };

static struct conf *conf;
static struct endpoints *endpoints;
static struct endpoint_turn turns[TURNS];
static size_t nturns;

static void never(void *owner, struct stream *s, enum stream_error error, const char *why)
{
    ck_abort_msg("the loop does not run");
}

static void open_world(void)
{
    world_open();
}

static void close_world(void)
{
    while (nturns > 0)
        endpoint_leave(&turns[--nturns]);
    endpoints_close(endpoints);
    conf_unref(conf);
    world_close();
}

static void load(const char *sections)
{
    char text[2000];

    snprintf(text, sizeof(text),
        "listen \"127.0.0.1:8080\" { }\nupstream \"up\" {\n%s}\n"
        "route \"/\" { upstream = \"up\" }\n",
        sections);
    endpoints_close(endpoints);
    conf_unref(conf);
    conf = conffile_must_load(text);
    endpoints = endpoints_open(conf);
    ck_assert_ptr_nonnull(endpoints);
}

static struct group_ask ask(void)
{
    return (struct group_ask){ .upstream = &conf->upstreams[0], .only = -1, .left_ms = 60000 };
}

static unsigned pick_by_key(uint64_t key)
{
    struct group_ask a = ask();
    struct group_choice c;

    a.has_key = true;
    a.key = key * UINT64_C(0x9e3779b97f4a7c15);
    ck_assert(group_pick(endpoints, &a, &c));
    return c.index;
}

static struct endpoint *endpoint(unsigned i)
{
    return endpoints_find(endpoints, &conf->upstreams[0], &conf->upstreams[0].endpoints[i]);
}

static void add_load(unsigned i, size_t n)
{
    while (n-- > 0) {
        ck_assert_uint_lt(nturns, TURNS);
        turns[nturns].on_answer = never;
        endpoint_ask(endpoint(i), &turns[nturns++]);
    }
}

static void report(unsigned i, enum verdict_outcome o, uint64_t rest_ms)
{
    struct verdict_report r = { .outcome = o, .rest_ms = rest_ms };

    endpoint_report(endpoint(i), &conf->upstreams[0], &conf->upstreams[0].endpoints[i], &r);
}

#define E(name, more) "endpoint \"" name "\" { origin = \"http://127.0.0.1:1\" " more " }\n"

START_TEST(a_key_stays_where_it_is_when_others_come_and_go)
{
    static unsigned before[KEYS];
    unsigned moved = 0;

    load(E("a", "") E("b", "") E("c", ""));
    for (unsigned k = 0; k < KEYS; k++)
        before[k] = pick_by_key(k);
    load(E("a", "") E("b", "") E("c", "") E("d", ""));
    for (unsigned k = 0; k < KEYS; k++) {
        unsigned now = pick_by_key(k);

        ck_assert(now == before[k] || now == 3);
        moved += now == 3;
    }
    ck_assert_uint_gt(moved, KEYS / 5);
    ck_assert_uint_lt(moved, KEYS * 3 / 10);
}
END_TEST

static const struct {
    const char *conf;
    unsigned least, most; /* of a thousand keys at the first endpoint */
} weights[] = {
    { E("a", "weight = 3") E("b", "weight = 1"), 710, 790 },
    { E("a", "weight = 300") E("b", "weight = 100"), 710, 790 },
    { E("a", "weight = 10000") E("b", "weight = 100"), 980, 1000 },
};

START_TEST(keys_are_spread_by_weight)
{
    unsigned n = 0;

    load(weights[_i].conf);
    for (unsigned k = 0; k < KEYS; k++)
        n += pick_by_key(k) == 0;
    n = n * 1000 / KEYS;
    ck_assert_uint_ge(n, weights[_i].least);
    ck_assert_uint_le(n, weights[_i].most);
}
END_TEST

static uint64_t key_of(unsigned endpoint)
{
    uint64_t k = 0;

    while (pick_by_key(k) != endpoint)
        k++;
    return k;
}

START_TEST(a_key_leaves_an_endpoint_that_has_far_more_than_its_share)
{
    uint64_t k;

    load(E("a", "") E("b", ""));
    k = key_of(0);
    add_load(0, 8);
    add_load(1, 8);
    ck_assert_uint_eq(pick_by_key(k), 0);
    add_load(0, 24);
    ck_assert_uint_eq(pick_by_key(k), 1);
}
END_TEST

/* 12 and 6 of 18 are within a half above 9. */
START_TEST(the_share_is_that_of_the_tier)
{
    uint64_t k;

    load(E("a", "") E("b", "") E("c", "tier = 2") E("d", "tier = 2"));
    k = key_of(0);
    add_load(0, 12);
    add_load(1, 6);
    ck_assert_uint_eq(pick_by_key(k), 0);
}
END_TEST

static struct group_choice choose(struct group_ask a)
{
    struct group_choice c;

    ck_assert(group_pick(endpoints, &a, &c));
    return c;
}

START_TEST(of_those_that_rest_the_first_to_come_back_is_waited_for)
{
    struct group_ask a;

    load(E("a", "") E("b", "tier = 2"));
    report(0, VERDICT_NEUTRAL, 900);
    ck_assert_uint_eq(choose(ask()).index, 1);
    report(1, VERDICT_NEUTRAL, 5000);
    a = ask();
    a.tried = 1;
    ck_assert_uint_eq(choose(a).index, 0);
    ck_assert_uint_eq(choose(a).wait_ms, 900);
    ck_assert_int_eq(choose(a).state, VERDICT_RESTING);
    ck_assert(!group_has_other(endpoints, &a));
}
END_TEST

START_TEST(a_key_that_is_out_is_asked_if_there_is_no_other)
{
    struct group_ask a;

    load(E("a", "") E("b", ""));
    report(0, VERDICT_DENIED, 0);
    a = ask();
    a.tried = 2;
    ck_assert_uint_eq(choose(a).index, 1); /* again */
    ck_assert(!group_has_other(endpoints, &a));
    report(1, VERDICT_NEUTRAL, 900);
    ck_assert_uint_eq(choose(ask()).index, 1);
    ck_assert_uint_eq(choose(ask()).wait_ms, 900);
    report(1, VERDICT_DENIED, 0);
    ck_assert_uint_eq(choose(ask()).wait_ms, 0);
}
END_TEST

START_TEST(an_endpoint_that_an_operator_has_paused_is_never_asked)
{
    load(E("a", "") E("b", ""));
    endpoint_pause(endpoint(0), true);
    for (unsigned k = 0; k < 20; k++)
        ck_assert_uint_eq(pick_by_key(k), 1);
    endpoint_pause(endpoint(1), true);
    ck_assert_int_eq(choose(ask()).state, VERDICT_PAUSED);
    ck_assert_uint_gt(choose(ask()).wait_ms, 0);
    endpoint_pause(endpoint(0), false);
    ck_assert_uint_eq(choose(ask()).wait_ms, 0);
    ck_assert_uint_eq(choose(ask()).index, 0);
}
END_TEST

START_TEST(the_only_endpoint_is_asked_whatever_is_known_of_it)
{
    struct group_ask a;

    load("origin = \"http://127.0.0.1:1\"\nretry_after_max = \"10s\"\n");
    for (int i = 0; i < 50; i++)
        report(0, VERDICT_FAILED, 0);
    report(0, VERDICT_DENIED, 0);
    ck_assert_uint_eq(choose(ask()).wait_ms, 0);
    ck_assert(choose(ask()).insist);
    endpoint_pause(endpoint(0), true);
    ck_assert_uint_gt(choose(ask()).wait_ms, 0);
    endpoint_pause(endpoint(0), false);

    load("origin = \"http://127.0.0.1:2\"\nretry_after_max = \"10s\"\n");
    report(0, VERDICT_NEUTRAL, 5000);
    ck_assert_uint_eq(choose(ask()).wait_ms, 5000);
    a = ask();
    a.left_ms = 4000; /* the service says itself how long */
    ck_assert_uint_eq(choose(a).wait_ms, 0);
    report(0, VERDICT_NEUTRAL, 11000);
    ck_assert_uint_eq(choose(ask()).wait_ms, 0);
}
END_TEST

START_TEST(one_place_can_be_asked_for)
{
    struct group_ask a;

    load(E("a", "") E("b", "tier = 2"));
    a = ask();
    a.only = 1;
    ck_assert_uint_eq(choose(a).index, 1);
    ck_assert(!group_has_other(endpoints,
        &(struct group_ask){ .upstream = a.upstream, .only = 1, .tried = 2, .left_ms = 1000 }));
    report(1, VERDICT_NEUTRAL, 700);
    ck_assert_uint_eq(choose(a).wait_ms, 700);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("group");

    tcase_add_checked_fixture(t, open_world, close_world);
    tcase_add_test(t, a_key_stays_where_it_is_when_others_come_and_go);
    tcase_add_loop_test(t, keys_are_spread_by_weight, 0, COUNT_OF(weights));
    tcase_add_test(t, a_key_leaves_an_endpoint_that_has_far_more_than_its_share);
    tcase_add_test(t, the_share_is_that_of_the_tier);
    tcase_add_test(t, of_those_that_rest_the_first_to_come_back_is_waited_for);
    tcase_add_test(t, a_key_that_is_out_is_asked_if_there_is_no_other);
    tcase_add_test(t, an_endpoint_that_an_operator_has_paused_is_never_asked);
    tcase_add_test(t, the_only_endpoint_is_asked_whatever_is_known_of_it);
    tcase_add_test(t, one_place_can_be_asked_for);
    return t;
}

UNIT_MAIN("group")
