/* What is changed in bodies as they pass, cut at every byte: include_usage and its chunk, URLs. */
#include "llm/askusage.h"
#include "llm/links.h"
#include "llm/sieve.h"

#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

/* ---- include_usage goes in ---- */

#define ADDED "\"stream_options\":{\"include_usage\":true},"

static const struct {
    const char *body, *edited; /* NULL: it stays */
} asks[] = {
    { "{\"model\":\"m\",\"stream\":true}", "{" ADDED "\"model\":\"m\",\"stream\":true}" },
    { " {\n \"stream\" : true }\n", " {" ADDED "\n \"stream\" : true }\n" },
    { "{\"stream\":true,\"stream_options\":null}",
        "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}" },
    { "{\"stream\":true,\"stream_options\":{}}",
        "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}" },
    { "{\"stream_options\": { \"include_obfuscation\":false }, \"stream\":true}",
        "{\"stream_options\": {\"include_usage\":true, \"include_obfuscation\":false }, "
        "\"stream\":true}" },
    { "{\"messages\":[{\"stream\":false,\"stream_options\":1}],\"stream\":true}",
        "{" ADDED "\"messages\":[{\"stream\":false,\"stream_options\":1}],\"stream\":true}" },
    { "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}", NULL },
    { "{\"stream\":true,\"stream_options\":{\"include_usage\":false}}", NULL },
    { "{\"stream\":true,\"stream_options\":{\"include_usage\":null}}", NULL },
    { "{\"stream\":true,\"stream_options\":[]}", NULL },
    { "{\"stream\":true,\"stream_options\":\"x\"}", NULL },
    { "{\"stream\":true,\"stream_options\":{},\"stream_options\":{}}", NULL },
    { "{\"stream\":true,\"stream\":true}", NULL },
    { "{\"stream\":false}", NULL },
    { "{\"stream\":\"true\"}", NULL },
    { "{\"stream\":1}", NULL },
    { "{}", NULL },
    { "[{\"stream\":true}]", NULL },
    { "{\"stream\":true", NULL },
    { "{\"stream\":true,}", NULL },
    { "stream=true", NULL },
    { "", NULL },
};

START_TEST(asks_for_usage_where_it_is_open)
{
    struct str body = str_of(asks[_i].body);

    for (size_t cut = 0; cut <= body.n; cut++) {
        struct askusage q;
        struct askusage_edit e;
        struct buf out = { 0 };
        bool edited;

        askusage_init(&q);
        askusage_feed(&q, str_make(body.p, cut));
        askusage_feed(&q, str_make(body.p + cut, body.n - cut));
        edited = askusage_edit(&q, &e);
        ck_assert_int_eq(edited, asks[_i].edited != NULL);
        if (!edited)
            continue;
        buf_append(&out, body.p, (size_t)e.start);
        buf_append_str(&out, e.text);
        buf_append(&out, body.p + e.end, body.n - (size_t)e.end);
        ck_assert_span_eq(buf_str(&out), asks[_i].edited);
        buf_release(&out);
    }
}
END_TEST

/* ---- its chunk comes out ---- */

#define DELTA(c) "data: {\"choices\":[{\"delta\":{\"content\":\"" c "\"}}],\"usage\":null}\n\n"
#define USAGE "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9}}\n\n"
#define DONE "data: [DONE]\n\n"

static const struct {
    const char *in, *out;
} streams[] = {
    { DELTA("a") DELTA("b") USAGE DONE, DELTA("a") DELTA("b") DONE },
    { USAGE, "" },
    { ": hi\n\n" USAGE ": ho\n" DONE, ": hi\n\n: ho\n" DONE },
    { "data: {\"usage\":{},\"choices\":[]}\r\n\r\ndata: [DONE]\r\n\r\n", "data: [DONE]\r\n\r\n" },
    { "data: {\"usage\":{},\"choices\":[]}\r\rdata: x\r\r", "data: x\r\r" },
    { "data:{\"usage\":{},\ndata:\"choices\":[]}\n\n" DONE, DONE },
    /* The first chunk of Azure has no choice, and no usage. */
    { "data: {\"choices\":[],\"prompt_filter_results\":[{}]}\n\n" USAGE,
        "data: {\"choices\":[],\"prompt_filter_results\":[{}]}\n\n" },
    { "data: {\"choices\":[],\"usage\":null}\n\n", "data: {\"choices\":[],\"usage\":null}\n\n" },
    { "data: {\"choices\":[{}],\"usage\":{\"a\":1}}\n\n",
        "data: {\"choices\":[{}],\"usage\":{\"a\":1}}\n\n" },
    { "data: {\"usage\":{}}\n\n", "data: {\"usage\":{}}\n\n" },
    { "event: x\n" USAGE, "event: x\n" USAGE },
    { "data: {\"error\":{\"message\":\"x\"}}\n\n", "data: {\"error\":{\"message\":\"x\"}}\n\n" },
    { "data: {\"choices\":[],\"usage\":{\"a\":1}}", "data: {\"choices\":[],\"usage\":{\"a\":1}}" },
    { "data: {\"choices\":[],\"usage\":{\"a\":1}\n\n",
        "data: {\"choices\":[],\"usage\":{\"a\":1}\n\n" },
    { "\n\n\n" DONE "\n", "\n\n\n" DONE "\n" },
    { "", "" },
};

START_TEST(takes_the_chunk_out)
{
    struct str in = str_of(streams[_i].in);

    for (size_t cut = 0; cut <= in.n + 1; cut++) {
        size_t first = cut <= in.n ? cut : 0, step = cut <= in.n ? in.n + 1 : 1;
        struct sieve *s = sieve_new();
        struct buf out = { 0 };

        ck_assert_int_eq(sieve_feed(s, str_make(in.p, first), &out), 0);
        for (size_t at = first; at < in.n; at += step)
            ck_assert_int_eq(
                sieve_feed(s, str_make(in.p + at, step < in.n - at ? step : in.n - at), &out), 0);
        ck_assert_int_eq(sieve_end(s, &out), 0);
        ck_assert_span_eq(buf_str(&out), streams[_i].out);
        sieve_free(s);
        buf_release(&out);
    }
}
END_TEST

START_TEST(passes_events_without_waiting_for_their_end)
{
    struct sieve *s = sieve_new();
    struct buf out = { 0 };

    sieve_feed(s, STR("data: {\"choices\":[{"), &out);
    ck_assert_span_eq(buf_str(&out), "data: {\"choices\":[{");
    sieve_feed(s, STR("}]}\n\n: ping\n"), &out);
    ck_assert_span_eq(buf_str(&out), "data: {\"choices\":[{}]}\n\n: ping\n");
    sieve_free(s);
    buf_release(&out);
}
END_TEST

START_TEST(holds_no_more_than_its_bound)
{
    struct sieve *s = sieve_new();
    struct buf out = { 0 };
    char spaces[4096];

    memset(spaces, ' ', sizeof(spaces));
    sieve_feed(s, STR("data: {"), &out);
    for (size_t n = 0; n <= SIEVE_HELD_MAX; n += sizeof(spaces))
        sieve_feed(s, str_make(spaces, sizeof(spaces)), &out);
    ck_assert_uint_gt(buf_len(&out), SIEVE_HELD_MAX);
    sieve_free(s);
    buf_release(&out);
}
END_TEST

/* ---- URLs ---- */

static bool map(void *owner, struct str url, struct buf *out)
{
    static const struct str from = STR_INIT("https://a.b/");

    if (!str_starts_with(url, from))
        return false;
    return buf_append_str(out, STR("http://localhost:8080/longer/")) == 0 &&
           buf_append(out, url.p + from.n, url.n - from.n) == 0;
}

static const struct {
    const char *in, *out;
} documents[] = {
    { "{\"id\":\"x\",\"results_url\":\"https://a.b/v1/x\",\"y\":1}",
        "{\"id\":\"x\",\"results_url\":\"http://localhost:8080/longer/v1/x\",\"y\":1}" },
    { "{\"data\":[{\"results_url\":\"https://a.b/1\"},{\"results_url\":null},"
      "{\"results_url\":\"https:\\/\\/a.b\\/2\"}]}",
        "{\"data\":[{\"results_url\":\"http://localhost:8080/longer/1\"},{\"results_url\":null},"
        "{\"results_url\":\"http://localhost:8080/longer/2\"}]}" },
    { "{\"next\":\"https://a.b/?p=2\",\"nextLink\":\"https://a.b/\"}",
        "{\"next\":\"http://localhost:8080/longer/?p=2\",\"nextLink\":\"http://localhost:8080/"
        "longer/\"}" },
    { "{\"next\":\"https://c.d/\",\"url\":\"https://a.b/\",\"x\":{\"next\":\"https://a.b/\"}}",
        "{\"next\":\"https://c.d/\",\"url\":\"https://a.b/\",\"x\":{\"next\":\"https://a.b/\"}}" },
    { "{\"next\":\"https://a.b/\\u0041\"}", "{\"next\":\"https://a.b/\\u0041\"}" },
    { "{\"next\":\"https://a.b/x\\\\\"}", "{\"next\":\"https://a.b/x\\\\\"}" },
    { "{\"next\":\"https://a.b", "{\"next\":\"https://a.b" },
    { "{\"next\":{\"next\":1}} trailing", "{\"next\":{\"next\":1}} trailing" },
    { "no JSON \"next\":\"https://a.b/\"", "no JSON \"next\":\"https://a.b/\"" },
    { "{\"next\":\"https://a.b/1\",}\"next\":\"https://a.b/2\"",
        "{\"next\":\"http://localhost:8080/longer/1\",}\"next\":\"https://a.b/2\"" },
    { "", "" },
};

START_TEST(maps_urls_at_known_places)
{
    struct str in = str_of(documents[_i].in);

    for (size_t cut = 0; cut <= in.n + 1; cut++) {
        size_t first = cut <= in.n ? cut : 0, step = cut <= in.n ? in.n + 1 : 1;
        struct links *l = links_new(map, NULL);
        struct buf out = { 0 };

        ck_assert_int_eq(links_feed(l, str_make(in.p, first), &out), 0);
        for (size_t at = first; at < in.n; at += step)
            ck_assert_int_eq(
                links_feed(l, str_make(in.p + at, step < in.n - at ? step : in.n - at), &out), 0);
        ck_assert_int_eq(links_end(l, &out), 0);
        ck_assert_span_eq(buf_str(&out), documents[_i].out);
        links_free(l);
        buf_release(&out);
    }
}
END_TEST

START_TEST(passes_a_url_that_is_too_long)
{
    struct links *l = links_new(map, NULL);
    struct buf in = { 0 }, out = { 0 };

    buf_append_str(&in, STR("{\"next\":\"https://a.b/"));
    for (size_t i = 0; i < LINKS_URL_MAX; i++)
        buf_append(&in, "x", 1);
    buf_append_str(&in, STR("\",\"results_url\":\"https://a.b/\"}"));
    for (size_t i = 0; i < buf_len(&in); i++)
        links_feed(l, str_make(buf_str(&in).p + i, 1), &out);
    links_end(l, &out);
    ck_assert_uint_eq(buf_len(&out),
        buf_len(&in) + strlen("http://localhost:8080/longer/") - strlen("https://a.b/"));
    links_free(l);
    buf_release(&in);
    buf_release(&out);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("edits");

    tcase_add_loop_test(t, asks_for_usage_where_it_is_open, 0, COUNT_OF(asks));
    tcase_add_loop_test(t, takes_the_chunk_out, 0, COUNT_OF(streams));
    tcase_add_test(t, passes_events_without_waiting_for_their_end);
    tcase_add_test(t, holds_no_more_than_its_bound);
    tcase_add_loop_test(t, maps_urls_at_known_places, 0, COUNT_OF(documents));
    tcase_add_test(t, passes_a_url_that_is_too_long);
    return t;
}

UNIT_MAIN("edits")
