/* Which endpoint has what a request names. */
#include "upstream/home.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"
#include "upstream/ledger.h"

static struct endpoint_conf endpoints[3] = { { .name = STR_INIT("a") }, { .name = STR_INIT("b") },
    { .name = STR_INIT("c") } };
static struct upstream_conf up = {
    .name = STR_INIT("up"), .endpoints = endpoints, .nendpoints = 3, .home_place = 1
};
static unsigned place;

static void open_table(void)
{
    ck_assert_int_eq(ledger_open(64, 1000000), 0); /* the hash's key */
    ck_assert_int_eq(home_open(4096), 0);
}

static enum home_found find(const char *method, const char *target, const char *json)
{
    struct head head = { .method = str_of(method), .target = str_of(target) };
    struct piece body = { .mem = json, .len = strlen(json) };

    place = 99;
    return home_find(&up, &head, &body, &place);
}

static void response_is_at(const char *id, unsigned at)
{
    char text[200];

    snprintf(text, sizeof(text), "/v1/responses/%s", id);
    ck_assert_int_eq(find("GET", text, ""), HOME_AT);
    ck_assert_uint_eq(place, at);
    snprintf(text, sizeof(text), "{\"input\":\"x\",\"previous_response_id\":\"%s\"}", id);
    ck_assert_int_eq(find("POST", "/v1/responses", text), HOME_AT);
    ck_assert_uint_eq(place, at);
}

START_TEST(a_response_is_where_it_was_made)
{
    char longer[160];

    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    home_note(&up, &endpoints[2], STR("resp_1"));
    home_note(&up, &endpoints[0], STR("resp_2"));
    home_note(&up, &endpoints[0], str_of(longer));
    response_is_at("resp_1", 2);
    response_is_at("resp_2", 0);
    response_is_at(longer, 0);
    response_is_at("resp_3", 1); /* not remembered: at home */
    home_note(&up, &endpoints[1], STR("resp_1"));
    response_is_at("resp_1", 1);
}
END_TEST

START_TEST(what_names_nothing_is_free)
{
    ck_assert_int_eq(find("POST", "/v1/responses", "{\"input\":\"x\"}"), HOME_ANYWHERE);
    ck_assert_int_eq(find("POST", "/v1/chat/completions", "no JSON"), HOME_ANYWHERE);
    ck_assert_int_eq(find("GET", "/v1/models", ""), HOME_ANYWHERE);
}
END_TEST

START_TEST(other_things_are_at_home)
{
    ck_assert_int_eq(find("POST", "/v1/files", "a file"), HOME_AT);
    ck_assert_uint_eq(place, 1);
    ck_assert_int_eq(find("POST", "/v1/responses", "{\"conversation\":\"conv_1\"}"), HOME_AT);
    ck_assert_uint_eq(place, 1);
}
END_TEST

/* A response says more than a file beside it. */
START_TEST(a_response_wins)
{
    home_note(&up, &endpoints[2], STR("resp_1"));
    find("POST", "/v1/responses", "{\"previous_response_id\":\"resp_1\",\"conversation\":\"c\"}");
    ck_assert_uint_eq(place, 2);
    find("POST", "/v1/responses", "{\"conversation\":\"c\",\"previous_response_id\":\"resp_1\"}");
    ck_assert_uint_eq(place, 2);
}
END_TEST

START_TEST(an_endpoint_that_has_gone_is_told)
{
    home_note(&up, &endpoints[2], STR("resp_1"));
    up.nendpoints = 2;
    ck_assert_int_eq(find("GET", "/v1/responses/resp_1", ""), HOME_GONE);
    up.nendpoints = 3;
}
END_TEST

START_TEST(upstreams_and_processes)
{
    struct upstream_conf other = up;
    struct head head = { .method = STR("GET"), .target = STR("/v1/responses/resp_1") };
    struct piece none = { .len = 0 };

    if (fork() == 0) {
        home_note(&up, &endpoints[2], STR("resp_1"));
        _exit(0);
    }
    wait(NULL);
    response_is_at("resp_1", 2);
    other.name = STR("other");
    ck_assert_int_eq(home_find(&other, &head, &none, &place), HOME_AT);
    ck_assert_uint_eq(place, 1);
}
END_TEST

/* Half of the table's ids: nearly all have their place. Four times as many: the last ones do. */
START_TEST(the_table_is_bounded)
{
    char id[32];
    unsigned right = 0;

    for (int i = 0; i < 16384; i++)
        home_note(&up, &endpoints[2], str_make(id, (size_t)snprintf(id, sizeof(id), "r%d", i)));
    for (int i = 16384 - 500; i < 16384; i++) {
        char text[64];

        snprintf(text, sizeof(text), "/v1/responses/r%d", i);
        find("GET", text, "");
        right += place == 2;
    }
    ck_assert_uint_gt(right, 400);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("home");

    tcase_add_checked_fixture(t, open_table, NULL);
    tcase_add_test(t, a_response_is_where_it_was_made);
    tcase_add_test(t, what_names_nothing_is_free);
    tcase_add_test(t, other_things_are_at_home);
    tcase_add_test(t, a_response_wins);
    tcase_add_test(t, an_endpoint_that_has_gone_is_told);
    tcase_add_test(t, upstreams_and_processes);
    tcase_add_test(t, the_table_is_bounded);
    return t;
}

UNIT_MAIN("home")
