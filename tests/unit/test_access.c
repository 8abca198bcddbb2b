/* The access log: one line an exchange in three formats, whatever a client has put into it. */
#include "observe/access.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "conffile.h"
#include "unit.h"

static struct access_entry entry(void)
{
    return (struct access_entry){
        .exchange = "the-id",
        .peer = "192.0.2.1",
        .client = "192.0.2.1",
        .host = STR("shop.example"),
        .request_id = STR("req-1"),
        .trace = "",
        .code = "--",
        .method = STR("POST"),
        .path = STR("/a?b=c"),
        .protocol = STR("HTTP/1.1"),
        .user_agent = STR("curl/8"),
        .referer = { 0 },
        .route = STR("app"),
        .upstream = STR("ai"),
        .end = STR("complete"),
        .started_wall_ms = 784111777042,
        .status = 200,
        .bytes_in = 10,
        .bytes_out = 20,
        .hops = 2,
        .calls = 1,
        .queue_us = 1,
        .worker_us = 1500,
        .parked_us = 2000000,
        .total_us = 2001999,
    };
}

static const char *read_file(const char *name)
{
    static char text[200000];
    FILE *f = fopen(conffile_path(name), "r");
    size_t n;

    ck_assert_ptr_nonnull(f);
    n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

static void open_at(enum access_format format, const char *name)
{
    struct log_target target = { LOG_TO_FILE, str_of(conffile_path(name)) };

    ck_assert_int_eq(access_open(&target, format), 0);
}

static const char *line_of(enum access_format format, const struct access_entry *e)
{
    open_at(format, "access");
    ck_assert(access_enabled());
    access_write(e);
    access_close();
    ck_assert(!access_enabled());
    return read_file("access");
}

START_TEST(writes_json)
{
    struct access_entry e = entry();

    ck_assert_str_eq(line_of(ACCESS_JSON, &e),
        "{\"time\":\"1994-11-06T08:49:37.042Z\",\"exchange\":\"the-id\",\"peer\":\"192.0.2.1\","
        "\"client\":\"192.0.2.1\",\"request_id\":\"req-1\",\"host\":\"shop.example\","
        "\"method\":\"POST\",\"path\":\"/a?b=c\",\"protocol\":\"HTTP/1.1\",\"status\":200,"
        "\"bytes_in\":10,\"bytes_out\":20,\"hops\":2,\"calls\":1,\"queue_ms\":0.001,"
        "\"worker_ms\":1.500,\"parked_ms\":2000.000,\"total_ms\":2001.999,\"route\":\"app\","
        "\"upstream\":\"ai\","
        "\"user_agent\":\"curl/8\",\"end\":\"complete\",\"code\":\"--\"}\n");
}
END_TEST

START_TEST(writes_combined)
{
    struct access_entry e = entry();

    ck_assert_str_eq(line_of(ACCESS_COMBINED, &e),
        "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"POST /a?b=c HTTP/1.1\" 200 20 \"-\" "
        "\"curl/8\"\n");
}
END_TEST

/* What the calls came to, where there were any. */
START_TEST(tells_of_calls)
{
    struct access_entry e = entry();
    const char *line;

    e.endpoint = STR("openai-a");
    e.attempts = 3;
    e.upstream_status = 200;
    e.service_id = STR("req_9");
    e.first_content_ms = 350;
    e.upstream_queue_ms = 1200;
    e.input_tokens = (struct access_tokens){ 9, true };
    e.output_tokens = (struct access_tokens){ 7, true };
    e.reasoning_tokens = (struct access_tokens){ 3, true };
    line = line_of(ACCESS_JSON, &e);
    ck_assert_ptr_nonnull(strstr(line,
        "\"endpoint\":\"openai-a\",\"attempts\":3,\"upstream_status\":200,\"first_content_ms\":350,"
        "\"upstream_request_id\":\"req_9\",\"upstream_queue_ms\":1200,"
        "\"input_tokens\":9,\"output_tokens\":7,\"reasoning_tokens\":3,"));
    line = line_of(ACCESS_LOGFMT, &e);
    ck_assert_ptr_nonnull(
        strstr(line, " endpoint=openai-a attempts=3 upstream_status=200 first_content_ms=350 "
                     "upstream_request_id=\"req_9\" upstream_queue_ms=1200 input_tokens=9 "
                     "output_tokens=7 reasoning_tokens=3 end="));
}
END_TEST

START_TEST(writes_logfmt)
{
    struct access_entry e = entry();

    ck_assert_str_eq(line_of(ACCESS_LOGFMT, &e),
        "time=1994-11-06T08:49:37.042Z exchange=the-id peer=192.0.2.1 client=192.0.2.1 "
        "request_id=\"req-1\" host=\"shop.example\" method=\"POST\" "
        "path=\"/a?b=c\" protocol=HTTP/1.1 status=200 bytes_in=10 bytes_out=20 hops=2 calls=1 "
        "queue_ms=0.001 worker_ms=1.500 parked_ms=2000.000 total_ms=2001.999 route=app upstream=ai "
        "end=complete code=--\n");
}
END_TEST

/* What only some exchanges have */
START_TEST(tells_of_traces_and_labels)
{
    struct access_entry e = entry();

    e.trace = "0af7651916cd43dd8448eb211c80319c";
    e.label = STR("tenant 7");
    ck_assert_ptr_nonnull(strstr(line_of(ACCESS_JSON, &e),
        ",\"trace\":\"0af7651916cd43dd8448eb211c80319c\",\"label\":\"tenant 7\","));
    remove(conffile_path("access"));
    ck_assert_ptr_nonnull(strstr(
        line_of(ACCESS_LOGFMT, &e), " trace=0af7651916cd43dd8448eb211c80319c label=\"tenant 7\" "));
}
END_TEST

static const struct {
    enum access_format format;
    const char *want;
} escaped[] = {
    { ACCESS_JSON, "\"user_agent\":\"a\\u0022,\\u000d\\u000a\\u005c\\u0000\\u00e4\\u007f" },
    { ACCESS_COMBINED, "\"a\\x22,\\x0d\\x0a\\x5c\\x00\\xe4\\x7f" },
};

START_TEST(escapes_what_a_client_sends)
{
    struct access_entry e = entry();
    const char *line;

    e.user_agent = STR("a\",\r\n\\\0\xe4\x7f");
    e.path = STR("/\" x=\"y\n");
    line = line_of(escaped[_i].format, &e);
    ck_assert_ptr_nonnull(strstr(line, escaped[_i].want));
    ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
}
END_TEST

/* A request of which nothing could be read */
START_TEST(writes_what_is_missing_as_empty)
{
    struct access_entry e = { .exchange = "x",
        .peer = "unix",
        .client = "unix",
        .trace = "",
        .code = "CR",
        .protocol = STR("HTTP/1.1") };

    ck_assert_ptr_nonnull(strstr(line_of(ACCESS_JSON, &e), "\"method\":\"\",\"path\":\"\""));
    remove(conffile_path("access"));
    ck_assert_ptr_nonnull(strstr(line_of(ACCESS_COMBINED, &e), "\"  HTTP/1.1\" 0 0 \"-\" \"-\"\n"));
    remove(conffile_path("access"));
    ck_assert_ptr_nonnull(strstr(line_of(ACCESS_LOGFMT, &e), "method=\"\" path=\"\""));
}
END_TEST

START_TEST(gathers_until_the_flush)
{
    struct access_entry e = entry();

    open_at(ACCESS_COMBINED, "access");
    access_write(&e);
    ck_assert_str_eq(read_file("access"), "");
    access_write(&e);
    access_flush();
    ck_assert_str_ne(read_file("access"), "");
    for (int i = 0; i < 1000; i++) /* but not without a bound */
        access_write(&e);
    ck_assert_uint_gt(strlen(read_file("access")), 20000);
    access_close();
}
END_TEST

START_TEST(opens_a_rotated_file_again)
{
    struct access_entry e = entry();

    open_at(ACCESS_LOGFMT, "access");
    access_write(&e);
    ck_assert_int_eq(rename(conffile_path("access"), conffile_path("access.1")), 0);
    ck_assert_int_eq(access_reopen(), 0);
    ck_assert_str_ne(read_file("access.1"), ""); /* what was gathered belongs to the old one */
    ck_assert_str_eq(read_file("access"), "");
    access_write(&e);
    access_close();
    ck_assert_str_ne(read_file("access"), "");
}
END_TEST

START_TEST(stays_where_it_was_if_it_cannot_open)
{
    struct log_target target = { LOG_TO_FILE, STR("/nonexistent/access") };
    struct access_entry e = entry();

    open_at(ACCESS_LOGFMT, "access");
    ck_assert_int_eq(access_open(&target, ACCESS_JSON), -1);
    ck_assert_int_eq(errno, ENOENT);
    access_write(&e);
    access_close();
    ck_assert_int_eq(strncmp(read_file("access"), "time=", 5), 0);
}
END_TEST

START_TEST(goes_on_when_the_disk_is_full)
{
    struct log_target target = { LOG_TO_FILE, STR("/dev/full") };
    struct access_entry e = entry();

    ck_assert_int_eq(access_open(&target, ACCESS_JSON), 0);
    for (int i = 0; i < 3; i++) {
        access_write(&e);
        access_flush();
    }
    access_close();
}
END_TEST

START_TEST(writes_nothing_without_a_target)
{
    struct access_entry e = entry();

    ck_assert(!access_enabled());
    access_write(&e);
    access_flush();
    ck_assert_int_eq(access_reopen(), 0);
    access_close();
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("access");

    tcase_add_checked_fixture(t, conffile_open, conffile_close);
    tcase_add_test(t, writes_json);
    tcase_add_test(t, writes_combined);
    tcase_add_test(t, writes_logfmt);
    tcase_add_test(t, tells_of_traces_and_labels);
    tcase_add_test(t, tells_of_calls);
    tcase_add_loop_test(t, escapes_what_a_client_sends, 0, COUNT_OF(escaped));
    tcase_add_test(t, writes_what_is_missing_as_empty);
    tcase_add_test(t, gathers_until_the_flush);
    tcase_add_test(t, opens_a_rotated_file_again);
    tcase_add_test(t, stays_where_it_was_if_it_cannot_open);
    tcase_add_test(t, goes_on_when_the_disk_is_full);
    tcase_add_test(t, writes_nothing_without_a_target);
    return t;
}

UNIT_MAIN("access")
