/* What an endpoint changes in a request: whose key goes along, fields unless present, the path. */
#include "upstream/rewrite.h"

#include "conffile.h"
#include "unit.h"

static struct arena arena;

static void tear_down(void)
{
    arena_release(&arena);
}

/* "A=b|C=d" */
static struct head parse(const char *text, const char *target)
{
    struct head h = { .method = STR("POST"), .target = str_of(target) };
    struct str rest = str_of(text), one, name, value;

    while (rest.n > 0) {
        str_cut(rest, '|', &one, &rest);
        str_cut(one, '=', &name, &value);
        ck_assert_int_eq(head_add(&h, &arena, name, value), 0);
    }
    return h;
}

static const char *text_of(const struct head *h)
{
    struct str s = STR("");

    for (size_t i = 0; i < h->nfields; i++)
        s = arena_printf(&arena, STR_FMT "%s" STR_FMT "=" STR_FMT, STR_ARG(s), i ? "|" : "",
            STR_ARG(h->fields[i].name), STR_ARG(h->fields[i].value));
    return s.p;
}

static const struct {
    const char *options, *in, *target, *out, *sent_to;
} rows[] = {
    /* A credential of the conf is the only one that goes along. */
    { "set_header = { \"x-api-key: conf\" }", "Authorization=Bearer theirs|X=y", "/a",
        "X=y|x-api-key=conf", "/a" },
    { "set_header = { \"Authorization: Bearer conf\" }",
        "api-key=a|X-Goog-Api-Key=b|x-api-key=c|Ocp-Apim-Subscription-Key=d|"
        "cf-aig-authorization=e|X-Goog-IAM-Authorization-Token=f",
        "/a", "Authorization=Bearer conf", "/a" },
    { "set_header = { \"x-goog-api-key: conf\" }", "", "/a?key=theirs&alt=sse",
        "x-goog-api-key=conf", "/a?alt=sse" },
    { "set_header = { \"x-goog-api-key: conf\" }", "", "/a?alt=sse&key=theirs&b",
        "x-goog-api-key=conf", "/a?alt=sse&b" },
    { "set_header = { \"x-goog-api-key: conf\" }", "", "/a?key=theirs", "x-goog-api-key=conf",
        "/a" },
    { "set_header = { \"Authorization: Bearer conf\" }",
        "Sec-WebSocket-Protocol=realtime,openai-insecure-api-key.a,x", "/",
        "Sec-WebSocket-Protocol=realtime, x|Authorization=Bearer conf", "/" },
    { "set_header = { \"Authorization: Bearer conf\" }",
        "Sec-WebSocket-Protocol=OpenAI-Insecure-Api-Key.a", "/", "Authorization=Bearer conf", "/" },
    { "set_header = { \"?Authorization: Bearer conf\" }",
        "Sec-WebSocket-Protocol=realtime, openai-insecure-api-key.a", "/",
        "Sec-WebSocket-Protocol=realtime, openai-insecure-api-key.a", "/" },
    /* Without one the request's own stays, wherever it stands. */
    { "set_header = { \"X-Extra: 1\" }", "Authorization=theirs", "/a?key=theirs",
        "Authorization=theirs|X-Extra=1", "/a?key=theirs" },
    /* Unless present */
    { "set_header = { \"?anthropic-version: 2023-06-01\" }", "X=y", "/",
        "X=y|anthropic-version=2023-06-01", "/" },
    { "set_header = { \"?anthropic-version: 2023-06-01\" }", "Anthropic-Version=2026-10-21", "/",
        "Anthropic-Version=2026-10-21", "/" },
    { "set_header = { \"?x-api-key: conf\" }", "Authorization=Bearer theirs", "/",
        "Authorization=Bearer theirs", "/" },
    { "set_header = { \"?x-api-key: conf\" }", "A=b", "/?key=1", "A=b|x-api-key=conf", "/" },
};

START_TEST(sets_fields_and_one_credential)
{
    struct arena a = { 0 };
    struct conf *conf = conffile_must_load(arena_printf(&a,
        "listen \"127.0.0.1:8080\" { }\nupstream \"ai\" { origin = \"https://a.example:444\" %s }\n"
        "route \"/\" { upstream = \"ai\" }\n",
        rows[_i].options)
                                               .p);
    struct head h = parse(rows[_i].in, rows[_i].target);

    ck_assert_int_eq(rewrite_head(&arena, &conf->upstreams[0].endpoints[0], &h), 0);
    ck_assert_str_eq(text_of(&h), rows[_i].out);
    ck_assert_span_eq(h.target, rows[_i].sent_to);
    ck_assert_span_eq(h.authority, "a.example:444");
    conf_unref(conf);
    arena_release(&a);
}
END_TEST

START_TEST(an_endpoint_has_its_own_way)
{
    struct conf *conf = conffile_must_load(
        "listen \"127.0.0.1:8080\" { }\n"
        "upstream \"ai\" { set_header = { \"Authorization: Bearer all\", \"A: 1\" } \n"
        "endpoint \"x\" { origin = \"https://x.example\" path_prefix = \"/openai\" }\n"
        "endpoint \"y\" { origin = \"https://y.example\" set_header = { \"a: 2\", \"api-key: y\" } "
        "} }\n"
        "route \"/\" { upstream = \"ai\" }\n");
    struct head x = parse("", "/v1/chat?b"), y = parse("B=3", "/v1");

    ck_assert_uint_eq(conf->upstreams[0].nendpoints, 2);
    ck_assert_int_eq(rewrite_head(&arena, &conf->upstreams[0].endpoints[0], &x), 0);
    ck_assert_str_eq(text_of(&x), "Authorization=Bearer all|A=1");
    ck_assert_span_eq(x.target, "/openai/v1/chat?b");
    ck_assert_int_eq(rewrite_head(&arena, &conf->upstreams[0].endpoints[1], &y), 0);
    ck_assert_str_eq(text_of(&y), "B=3|a=2|api-key=y");
    conf_unref(conf);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("rewrite");

    tcase_add_checked_fixture(t, NULL, tear_down);
    tcase_add_loop_test(t, sets_fields_and_one_credential, 0, COUNT_OF(rows));
    tcase_add_test(t, an_endpoint_has_its_own_way);
    return t;
}

UNIT_MAIN("rewrite")
