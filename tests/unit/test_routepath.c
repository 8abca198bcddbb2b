/* The path of a gateway route, there and back. */
#include "exchange/routepath.h"

#include "unit.h"

static struct arena arena;

static void tear_down(void)
{
    arena_release(&arena);
}

static const struct route_conf plain = { .prefix = STR_INIT("/v1/") };
static const struct route_conf stripped = { .prefix = STR_INIT("/openai/"),
    .prefix_rewrite = STR_INIT("/") };
static const struct route_conf replaced = { .prefix = STR_INIT("/ai/"),
    .prefix_rewrite = STR_INIT("/v1/") };

static const struct {
    const struct route_conf *route;
    const char *client, *service; /* NULL: it does not fit, or there is none */
} rows[] = {
    { &plain, "/v1/x?a", "/v1/x?a" },
    { &stripped, "/openai/v1/x?a=/openai/", "/v1/x?a=/openai/" },
    { &stripped, "/openai/", "/" },
    { &stripped, "/openai/a/../b", "/a/../b" },
    { &stripped, "/openai/%2e%2e%2fx", NULL },
    { &stripped, "/openai/../x", NULL },
    { &stripped, "/openai/a/../../openai/x", NULL },
    { &stripped, "/%6fpenai/x", NULL },
    { &stripped, "//openai/x", NULL },
    { &stripped, "/openai", NULL },
    { &stripped, "", NULL },
    { &replaced, "/ai/models", "/v1/models" },
    { NULL, NULL, "/v2/models" },
};

START_TEST(goes_there_and_back)
{
    const struct route_conf *r = rows[_i].route ? rows[_i].route : &replaced;
    struct str client = str_of(rows[_i].client ? rows[_i].client : ""), back;

    ck_assert_int_eq(routepath_fits(r, client), rows[_i].client && rows[_i].service);
    if (!rows[_i].service)
        return;
    if (rows[_i].client)
        ck_assert_span_eq(routepath_out(r, &arena, client), rows[_i].service);
    back = routepath_back(r, &arena, str_of(rows[_i].service));
    if (rows[_i].client)
        ck_assert_span_eq(back, rows[_i].client);
    else
        ck_assert_ptr_null(back.p);
}
END_TEST

START_TEST(leaves_the_asterisk)
{
    ck_assert(routepath_fits(&stripped, STR("*")));
    ck_assert_span_eq(routepath_out(&stripped, &arena, STR("*")), "*");
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("routepath");

    tcase_add_checked_fixture(t, NULL, tear_down);
    tcase_add_loop_test(t, goes_there_and_back, 0, COUNT_OF(rows));
    tcase_add_test(t, leaves_the_asterisk);
    return t;
}

UNIT_MAIN("routepath")
