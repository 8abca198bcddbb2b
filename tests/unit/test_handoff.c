/* Handoffs: each rule of the protocol as a row, wherever the body lies, and what the enclosed
 * requests become. */
#include "exchange/handoff.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "conffile.h"
#include "http/h1parse.h"
#include "unit.h"
#include "upstream/rewrite.h"

#define CONF                                                                                       \
    "temp_dir = \"/tmp\"\n"                                                                        \
    "header_max = \"1K\" header_fields_max = 8 target_max = 64\n"                                  \
    "listen \"127.0.0.1:8080\" { }\n"                                                              \
    "workers \"app\" { server \"127.0.0.1:8001\" { }\n"                                            \
    "    max_calls = 3 call_max = 2000 handoff_max = 6000 state_max = 10 }\n"                      \
    "upstream \"ai\" { origin = \"https://api.example.com\"\n"                                     \
    "    set_header = { \"Authorization: Bearer conf\", \"X-Extra: 1\" } }\n"                      \
    "upstream \"local\" { origin = \"http://127.0.0.1:8002\" }\n"                                  \
    "upstream \"six\" { origin = \"http://[::1]:8003\" }\n"                                        \
    "route \"/\" { workers = \"app\" }\n"

#define TYPE "Content-Type: application/http; msgtype=request\r\n"
#define CALL "GET https://api.example.com/a HTTP/1.1\r\n\r\n"

static struct conf *conf;
static struct pool_conf *pool;
static struct arena arena;
static struct handoff handoff;
static char why[256];

static void set_up(void)
{
    conffile_open();
    conf = conffile_must_load(CONF);
    pool = &conf->pools[0];
}

static void tear_down(void)
{
    handoff_release(&handoff);
    arena_release(&arena);
    conf_unref(conf);
    conffile_close();
}

/* A response's head from its fields' lines. */
static struct head response(const char *lines)
{
    struct h1_limits limits = { .head_max = 65536,
        .fields_max = 100,
        .target_max = 100,
        .interim_max = 16,
        .chunk_line_max = 4096,
        .chunk_overhead_max = 65536 };
    struct str text = arena_printf(&arena, "HTTP/1.1 200 OK\r\n%s\r\n", lines);
    struct head h = { .fields = arena_alloc(&arena, 100 * sizeof(struct field)) };
    struct h1_scan scan = { 0 };

    ck_assert_int_eq(h1_parse_head(&scan, H1_RESPONSE, &limits, text, &h), text.n);
    return h;
}

static int read_head(const char *lines)
{
    struct head h = response(lines);

    why[0] = '\0';
    handoff_release(&handoff);
    return handoff_read_head(&handoff, &arena, conf, pool, &h, why, sizeof(why));
}

static int read_body(const void *p, size_t n)
{
    int rc = handoff_take_data(&handoff, str_make(p, n), why, sizeof(why));

    if (rc == 0)
        rc = handoff_end_data(&handoff, why, sizeof(why));
    if (rc < 0)
        return rc;
    ck_assert_int_eq(rc, 0); /* all of it fits into a slice */
    return handoff_read_body(&handoff, &arena, conf, pool, why, sizeof(why));
}

/* A handoff with these fields beside the type, and this body. */
static int read_all(const char *then, const char *body)
{
    int rc = read_head(arena_printf(&arena, "%s" TYPE, then).p);

    return rc < 0 ? rc : read_body(body, strlen(body));
}

static const struct {
    unsigned status;
    const char *lines;
    bool is;
} recognised[] = {
    { 200, "Tarry-Then: relay\r\n", true },
    { 202, "tarry-then: nonsense\r\n", true },
    { 299, "TARRY-THEN:\r\n", true },
    { 200, "Tarry-Thens: relay\r\n", false },
    { 200, "", false },
    { 301, "Tarry-Then: relay\r\n", false },
    { 404, "Tarry-Then: relay\r\n", false },
    { 500, "Tarry-Then: relay\r\n", false },
};

START_TEST(is_a_2xx_with_tarry_then)
{
    struct head h = response(recognised[_i].lines);

    h.status = recognised[_i].status;
    ck_assert_int_eq(handoff_is(&h), recognised[_i].is);
}
END_TEST

enum { OK = 0, MALFORMED = HANDOFF_E_MALFORMED, LIMIT = HANDOFF_E_LIMIT };

static const struct {
    const char *lines;
    int rc;
    const char *why; /* a part of it */
} heads[] = {
    /* Tarry-Then */
    { "Tarry-Then: relay\r\n" TYPE, OK, "" },
    { "Tarry-Then: replay\r\n" TYPE, OK, "" },
    { "Tarry-Then: resume /a/b?c=d\r\n" TYPE, OK, "" },
    { TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then:\r\n" TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then: Relay\r\n" TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then: relay /a\r\n" TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then: replay /a\r\n" TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then: relay, resume /a\r\n" TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then: resume\r\n" TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then: resume a\r\n" TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then: resume  /a\r\n" TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then: resume /a b\r\n" TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then: resume /a#b\r\n" TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then: resume http://a/b\r\n" TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then: resume *\r\n" TYPE, MALFORMED, "Tarry-Then" },
    { "Tarry-Then: relay\r\nTarry-Then: relay\r\n" TYPE, MALFORMED, "more than once" },
    { "Tarry-Then: resume /"
      "0123456789012345678901234567890123456789012345678901234567890123\r\n" TYPE,
        LIMIT, "target_max" },
    /* Tarry-State: visible ASCII, up to state_max */
    { "Tarry-Then: relay\r\nTarry-State: !~\"abc,;=\r\n" TYPE, OK, "" },
    { "Tarry-Then: relay\r\nTarry-State: 0123456789\r\n" TYPE, OK, "" },
    { "Tarry-Then: relay\r\nTarry-State: 01234567890\r\n" TYPE, LIMIT, "state_max" },
    { "Tarry-Then: relay\r\nTarry-State: a b\r\n" TYPE, MALFORMED, "Tarry-State" },
    { "Tarry-Then: relay\r\nTarry-State: a\tb\r\n" TYPE, MALFORMED, "Tarry-State" },
    { "Tarry-Then: relay\r\nTarry-State: \xc3\xa4\r\n" TYPE, MALFORMED, "Tarry-State" },
    { "Tarry-Then: relay\r\nTarry-State: a\r\nTarry-State: a\r\n" TYPE, MALFORMED, "more than" },
    /* Tarry-Notify and Tarry-On-Error: a path, with relay only */
    { "Tarry-Then: relay\r\nTarry-Notify: /n?a\r\nTarry-On-Error: /e\r\n" TYPE, OK, "" },
    { "Tarry-Then: resume /a\r\nTarry-Notify: /n\r\n" TYPE, MALFORMED, "relay only" },
    { "Tarry-Then: replay\r\nTarry-Notify: /n\r\n" TYPE, MALFORMED, "relay only" },
    { "Tarry-Then: resume /a\r\nTarry-On-Error: /e\r\n" TYPE, MALFORMED, "relay only" },
    { "Tarry-Then: replay\r\nTarry-On-Error: /e\r\n" TYPE, MALFORMED, "relay only" },
    { "Tarry-Then: relay\r\nTarry-Notify: n\r\n" TYPE, MALFORMED, "Tarry-Notify" },
    { "Tarry-Then: relay\r\nTarry-Notify:\r\n" TYPE, MALFORMED, "Tarry-Notify" },
    { "Tarry-Then: relay\r\nTarry-On-Error: https://a/\r\n" TYPE, MALFORMED, "Tarry-On-Error" },
    { "Tarry-Then: relay\r\nTarry-Notify: /a\r\nTarry-Notify: /b\r\n" TYPE, MALFORMED, "once" },
    { "Tarry-Then: relay\r\nTarry-Notify: /"
      "0123456789012345678901234567890123456789012345678901234567890123\r\n" TYPE,
        LIMIT, "target_max" },
    /* Tarry-Keep-Alive and Tarry-On-Disconnect: one of two words */
    { "Tarry-Then: relay\r\nTarry-Keep-Alive: sse\r\n" TYPE, OK, "" },
    { "Tarry-Then: relay\r\nTarry-Keep-Alive: space\r\n" TYPE, OK, "" },
    { "Tarry-Then: relay\r\nTarry-Keep-Alive: SSE\r\n" TYPE, MALFORMED, "Tarry-Keep-Alive" },
    { "Tarry-Then: relay\r\nTarry-Keep-Alive: off\r\n" TYPE, MALFORMED, "Tarry-Keep-Alive" },
    { "Tarry-Then: relay\r\nTarry-Keep-Alive:\r\n" TYPE, MALFORMED, "Tarry-Keep-Alive" },
    { "Tarry-Then: relay\r\nTarry-On-Disconnect: cancel\r\n" TYPE, OK, "" },
    { "Tarry-Then: relay\r\nTarry-On-Disconnect: finish\r\n" TYPE, OK, "" },
    { "Tarry-Then: relay\r\nTarry-On-Disconnect: Finish\r\n" TYPE, MALFORMED, "On-Disconnect" },
    { "Tarry-Then: relay\r\nTarry-On-Disconnect: cancel\r\nTarry-On-Disconnect: cancel\r\n" TYPE,
        MALFORMED, "more than once" },
    /* The media type */
    { "Tarry-Then: relay\r\nContent-Type: application/http\r\n", OK, "" },
    { "Tarry-Then: relay\r\nContent-Type: Application/HTTP;msgtype=REQUEST\r\n", OK, "" },
    { "Tarry-Then: relay\r\nContent-Type: application/http ; MsgType=\"request\"\r\n", OK, "" },
    { "Tarry-Then: relay\r\nContent-Type: application/http; charset=utf-8\r\n", OK, "" },
    { "Tarry-Then: relay\r\nContent-Type: application/http; charset=utf-8; msgtype=request\r\n", OK,
        "" },
    { "Tarry-Then: relay\r\nContent-Type: application/http; msgtype=response\r\n", MALFORMED,
        "application/http" },
    { "Tarry-Then: relay\r\n", MALFORMED, "application/http" },
    { "Tarry-Then: relay\r\nContent-Type:\r\n", MALFORMED, "application/http" },
    { "Tarry-Then: relay\r\nContent-Type: application/https\r\n", MALFORMED, "application/http" },
    { "Tarry-Then: relay\r\nContent-Type: text/html\r\n", MALFORMED, "application/http" },
    { "Tarry-Then: relay\r\nContent-Type: message/http\r\n", MALFORMED, "application/http" },
    { "Tarry-Then: relay\r\n" TYPE TYPE, MALFORMED, "more than once" },
    /* The coding */
    { "Tarry-Then: relay\r\nContent-Encoding: gzip\r\n" TYPE, OK, "" },
    { "Tarry-Then: relay\r\nContent-Encoding: X-GZIP\r\n" TYPE, OK, "" },
    { "Tarry-Then: relay\r\nContent-Encoding: identity\r\n" TYPE, OK, "" },
    { "Tarry-Then: relay\r\nContent-Encoding: br\r\n" TYPE, OK, "" },
    { "Tarry-Then: relay\r\nContent-Encoding: zstd\r\n" TYPE, OK, "" },
    { "Tarry-Then: relay\r\nContent-Encoding: deflate\r\n" TYPE, OK, "" },
    { "Tarry-Then: relay\r\nContent-Encoding: compress\r\n" TYPE, MALFORMED, "gzip" },
    { "Tarry-Then: relay\r\nContent-Encoding: gzip, gzip\r\n" TYPE, MALFORMED, "gzip" },
    { "Tarry-Then: relay\r\nContent-Encoding: gzip\r\nContent-Encoding: gzip\r\n" TYPE, MALFORMED,
        "Content-Encoding" },
    /* Others are not its concern */
    { "Tarry-Then: relay\r\nSet-Cookie: a=b\r\nX: y\r\nTarry-Unknown: 1\r\n" TYPE, OK, "" },
};

START_TEST(checks_the_head)
{
    int rc = read_head(heads[_i].lines);

    ck_assert_msg(rc == heads[_i].rc, "%d (%s) for %s", rc, why, heads[_i].lines);
    ck_assert_msg(strstr(why, heads[_i].why) != NULL, "\"%s\" for %s", why, heads[_i].lines);
    ck_assert_int_eq(why[0] == '\0', rc == 0);
}
END_TEST

START_TEST(tells_no_value_of_a_field)
{
    ck_assert_int_eq(read_head("Tarry-Then: se-cret\r\n" TYPE), MALFORMED);
    ck_assert_ptr_null(strstr(why, "se-cret"));
    ck_assert_int_eq(read_head("Tarry-Then: relay\r\nTarry-State: se cret\r\n" TYPE), MALFORMED);
    ck_assert_ptr_null(strstr(why, "cret"));
    ck_assert_int_eq(read_all("Tarry-Then: relay\r\n",
                         "GET https://api.example.com/ HTTP/1.1\r\nAuthorization: cret\nX\r\n\r\n"),
        MALFORMED);
    ck_assert_ptr_null(strstr(why, "cret"));
}
END_TEST

START_TEST(keeps_what_the_head_says)
{
    ck_assert_int_eq(read_head("Tarry-Then: resume /a?b\r\nTarry-State: s\r\nTarry-Keep-Alive: "
                               "space\r\nTarry-On-Disconnect: cancel\r\n" TYPE),
        0);
    ck_assert_int_eq(handoff.then, THEN_RESUME);
    ck_assert_span_eq(handoff.path, "/a?b");
    ck_assert_span_eq(handoff.state, "s");
    ck_assert_int_eq(handoff.keep_alive, KEEP_ALIVE_SPACE);
    ck_assert_int_eq(handoff.on_disconnect, DISCONNECT_CANCEL);
    ck_assert_ptr_null(handoff.notify.p);
    ck_assert_int_eq(read_head("Tarry-Then: relay\r\nTarry-Notify: /n\r\nTarry-On-Error: /e\r\n"
                               "Tarry-On-Disconnect: finish\r\nTarry-Keep-Alive: sse\r\n" TYPE),
        0);
    ck_assert_int_eq(handoff.then, THEN_RELAY);
    ck_assert_span_eq(handoff.notify, "/n");
    ck_assert_span_eq(handoff.on_error, "/e");
    ck_assert_ptr_null(handoff.state.p);
    ck_assert_int_eq(handoff.keep_alive, KEEP_ALIVE_SSE);
    ck_assert_int_eq(handoff.on_disconnect, DISCONNECT_FINISH);
    ck_assert_int_eq(read_head("Tarry-Then: replay\r\n" TYPE), 0);
    ck_assert_int_eq(handoff.then, THEN_REPLAY);
    ck_assert_int_eq(handoff.keep_alive, KEEP_ALIVE_OFF);
    ck_assert_int_eq(handoff.on_disconnect, DISCONNECT_DEFAULT);
}
END_TEST

#define GET(fields) "GET https://api.example.com/a HTTP/1.1\r\n" fields "\r\n"
#define TO(target) "GET " target " HTTP/1.1\r\n\r\n"
#define FORBIDDEN HANDOFF_E_FORBIDDEN

static const struct {
    const char *body;
    int rc;
    const char *why;
} bodies[] = {
    { CALL, OK, "" },
    { "POST https://api.example.com/a?b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", OK, "" },
    { "POST https://api.example.com/ HTTP/1.1\r\nContent-Length: 0\r\n\r\n", OK, "" },
    { "PATCH https://api.example.com/ HTTP/1.1\r\n\r\n", OK, "" },
    { "", MALFORMED, "no request" },
    { "\r\n", MALFORMED, "malformed" },
    { "\r\n" CALL, MALFORMED, "malformed" },
    { CALL "\r\n", MALFORMED, "" },
    { CALL "x", MALFORMED, "" },
    { CALL "\r\n" CALL, MALFORMED, "" },
    { "GET https://api.example.com/a HTTP/1.1\r\n", MALFORMED, "early" },
    { "GET https://api.example.com/a HTTP/1.1\n\n", MALFORMED, "malformed" },
    { "GET https://api.example.com/a HTTP/1.0\r\n\r\n", MALFORMED, "malformed" },
    { "GET https://api.example.com/a HTTP/2\r\n\r\n", MALFORMED, "malformed" },
    { "GET https://api.example.com/a\r\n\r\n", MALFORMED, "malformed" },
    { "GET  https://api.example.com/a HTTP/1.1\r\n\r\n", MALFORMED, "malformed" },
    { "G(T https://api.example.com/a HTTP/1.1\r\n\r\n", MALFORMED, "malformed" },
    { "HTTP/1.1 200 OK\r\n\r\n", MALFORMED, "malformed" },
    /* Field lines */
    { GET("X: a\r\n b\r\n"), MALFORMED, "malformed" },
    { GET("X : a\r\n"), MALFORMED, "malformed" },
    { GET(" X: a\r\n"), MALFORMED, "malformed" },
    { GET("X\r\n"), MALFORMED, "malformed" },
    { GET("X: a\nY: b\r\n"), MALFORMED, "malformed" },
    { GET("X: a\rY: b\r\n"), MALFORMED, "malformed" },
    { GET("X: \x01\r\n"), MALFORMED, "malformed" },
    /* Framing */
    { GET("Transfer-Encoding: chunked\r\n") "0\r\n\r\n", MALFORMED, "malformed" },
    { GET("Transfer-Encoding: identity\r\n"), MALFORMED, "malformed" },
    { GET("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), MALFORMED, "malformed" },
    { GET("Content-Length: 1\r\n") "", MALFORMED, "early" },
    { GET("Content-Length: 5\r\n") "abcd", MALFORMED, "early" },
    { GET("Content-Length: 3\r\n") "abcd", MALFORMED, "malformed" },
    { GET("Content-Length: -1\r\n"), MALFORMED, "malformed" },
    { GET("Content-Length: 0x1\r\n") "a", MALFORMED, "malformed" },
    { GET("Content-Length: 1, 1\r\n") "a", MALFORMED, "malformed" },
    { GET("Content-Length: 1\r\nContent-Length: 1\r\n") "a", MALFORMED, "malformed" },
    { GET("Content_Length: 1\r\n") "a", MALFORMED, "malformed" },
    { GET("Content-Length: 999999999999999999\r\n") "a", LIMIT, "call_max" },
    { GET("Content-Length: 9999999999999999999999\r\n") "a", MALFORMED, "malformed" },
    /* The target */
    { TO("/a"), MALFORMED, "malformed" },
    { TO("*"), MALFORMED, "malformed" },
    { TO("api.example.com/a"), MALFORMED, "malformed" },
    { TO("api.example.com:443"), MALFORMED, "" },
    { TO("https:///a"), MALFORMED, "malformed" },
    { TO("https://api.example.com/a#b"), MALFORMED, "malformed" },
    { TO("https://user@api.example.com/a"), MALFORMED, "malformed" },
    { TO("https://user:password@api.example.com/a"), MALFORMED, "malformed" },
    { TO("https://api.example.com:0/a"), MALFORMED, "malformed" },
    { TO("https://api.example.com:65536/a"), MALFORMED, "malformed" },
    { TO("https://api.example.com:/a"), MALFORMED, "malformed" },
    { TO("https://api.example.com"), OK, "" },
    { TO("https://api.example.com?a=b"), OK, "" },
    { TO("https://api.example.com:443/"), OK, "" },
    { TO("HTTPS://API.Example.COM/A"), OK, "" },
    { TO("http://127.0.0.1:8002/"), OK, "" },
    { TO("http://[::1]:8003/"), OK, "" },
    { TO("http://[0:0::0001]:8003/"), OK, "" },
    { TO("tarry://ai/a"), OK, "" },
    { TO("tarry://local"), OK, "" },
    { TO("TARRY://six/"), OK, "" },
    /* Origins that nobody declared */
    { TO("http://api.example.com/"), FORBIDDEN, "http://api.example.com" },
    { TO("https://api.example.com:444/"), FORBIDDEN, "not declared" },
    { TO("https://api.example.com./"), FORBIDDEN, "not declared" },
    { TO("https://example.com/"), FORBIDDEN, "not declared" },
    { TO("https://api.example.com.evil.com/"), FORBIDDEN, "not declared" },
    { TO("http://127.0.0.1/"), FORBIDDEN, "not declared" },
    { TO("https://127.0.0.1:8002/"), FORBIDDEN, "not declared" },
    { TO("http://localhost:8002/"), FORBIDDEN, "not declared" },
    { TO("http://[::ffff:127.0.0.1]:8002/"), FORBIDDEN, "not declared" },
    { TO("ftp://api.example.com/"), FORBIDDEN, "not declared" },
    { TO("file:///etc/passwd"), MALFORMED, "malformed" },
    { TO("tarry://nobody/a"), FORBIDDEN, "no upstream is called" },
    { TO("tarry://Ai/a"), FORBIDDEN, "no upstream is called" },
    { TO("tarry://ai:443/a"), FORBIDDEN, "no upstream is called" },
    /* Tarry's own fields */
    { GET("Tarry-Call-Id: a/b~!\r\nTarry-Timeout: 2.5\r\nTarry-Retries: 0\r\n"), OK, "" },
    { GET("Tarry-Call-Id: a b\r\n"), MALFORMED, "Tarry-Call-Id" },
    { GET("Tarry-Call-Id:\r\n"), MALFORMED, "Tarry-Call-Id" },
    { GET("Tarry-Call-Id: \xc3\xa4\r\n"), MALFORMED, "Tarry-Call-Id" },
    { GET("Tarry-Call-Id: a\r\nTarry-Call-Id: a\r\n"), MALFORMED, "Tarry-Call-Id" },
    { GET("Tarry-Timeout: 0\r\n"), MALFORMED, "Tarry-Timeout" },
    { GET("Tarry-Timeout: -1\r\n"), MALFORMED, "Tarry-Timeout" },
    { GET("Tarry-Timeout: 1s\r\n"), MALFORMED, "Tarry-Timeout" },
    { GET("Tarry-Timeout: 1e3\r\n"), MALFORMED, "Tarry-Timeout" },
    { GET("Tarry-Timeout:\r\n"), MALFORMED, "Tarry-Timeout" },
    { GET("Tarry-Timeout: 1\r\nTarry-Timeout: 1\r\n"), MALFORMED, "Tarry-Timeout" },
    { GET("Tarry-Retries: -1\r\n"), MALFORMED, "Tarry-Retries" },
    { GET("Tarry-Retries: 1.5\r\n"), MALFORMED, "Tarry-Retries" },
    { GET("Tarry-Retries:\r\n"), MALFORMED, "Tarry-Retries" },
    { GET("Tarry-Retries: 1\r\nTarry-Retries: 1\r\n"), MALFORMED, "Tarry-Retries" },
    /* Limits */
    { GET("A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\nF: 1\r\nG: 1\r\nH: 1\r\n"), OK, "" },
    { GET("A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\nF: 1\r\nG: 1\r\nH: 1\r\nI: 1\r\n"), LIMIT,
        "header_fields_max" },
    { TO("https://api.example.com/"
         "0123456789012345678901234567890123456789"),
        OK, "" },
    { TO("https://api.example.com/"
         "01234567890123456789012345678901234567890"),
        LIMIT, "target_max" },
    { CALL CALL CALL, OK, "" },
    { CALL CALL CALL CALL, LIMIT, "max_calls" },
    { CALL CALL CALL "x", LIMIT, "max_calls" },
    /* The last one counts as much as the first */
    { CALL CALL TO("https://evil.example.com/"), FORBIDDEN, "not declared" },
    { CALL GET("Content-Length: 2\r\n") "a", MALFORMED, "early" },
};

/* Where the bodies of handoffs lie: in memory, in a file, over the border at different places. */
static const size_t borders[] = { 65536, 0, 1, 40, 57, 80, 100 };

START_TEST(checks_the_enclosed_requests)
{
    for (int i = 0; i < COUNT_OF(borders); i++) {
        int rc;

        conf->body_memory_max = borders[i];
        rc = read_all("Tarry-Then: resume /r\r\n", bodies[_i].body);
        ck_assert_msg(rc == bodies[_i].rc, "%d (%s) with a border at %zu for %s", rc, why,
            borders[i], bodies[_i].body);
        ck_assert_msg(strstr(why, bodies[_i].why), "\"%s\" for %s", why, bodies[_i].body);
        ck_assert_int_eq(why[0] == '\0', rc == 0);
    }
}
END_TEST

START_TEST(takes_one_call_with_relay)
{
    ck_assert_int_eq(read_all("Tarry-Then: relay\r\n", CALL), 0);
    ck_assert_uint_eq(handoff.ncalls, 1);
    ck_assert_int_eq(read_all("Tarry-Then: relay\r\n", CALL CALL), MALFORMED);
    ck_assert_int_eq(read_all("Tarry-Then: relay\r\n", CALL "x"), MALFORMED);
    ck_assert_int_eq(read_all("Tarry-Then: relay\r\n", ""), MALFORMED);
    ck_assert_int_eq(read_all("Tarry-Then: replay\r\n", CALL CALL CALL), 0);
    ck_assert_uint_eq(handoff.ncalls, 3);
}
END_TEST

START_TEST(bounds_a_call_with_its_head)
{
    static const char head[] =
        "POST https://api.example.com/ HTTP/1.1\r\nContent-Length: %zu\r\n\r\n";

    for (size_t over = 0; over < 2; over++) {
        size_t n = pool->call_max - (sizeof(head) - 1 - 3 + 4) + over;
        char body[4000];
        int k = snprintf(body, sizeof(body), head, n);

        ck_assert_uint_eq((size_t)k + n, pool->call_max + over);
        memset(body + k, 'x', n);
        ck_assert_int_eq(read_head("Tarry-Then: relay\r\n" TYPE), 0);
        ck_assert_int_eq(read_body(body, (size_t)k + n), over ? LIMIT : 0);
        if (over)
            ck_assert_ptr_nonnull(strstr(why, "call_max"));
    }
}
END_TEST

START_TEST(bounds_a_head)
{
    struct str filler;
    char text[3000];

    /* header_max is 1024: line, field and the empty line together */
    for (int over = 0; over < 2; over++) {
        size_t fixed = strlen(GET("X: \r\n"));

        filler = arena_printf(&arena, "%0*d", (int)(1024 - fixed) + over, 0);
        snprintf(text, sizeof(text), "GET https://api.example.com/a HTTP/1.1\r\nX: %s\r\n\r\n%s",
            filler.p, CALL);
        for (int i = 0; i < COUNT_OF(borders); i++) {
            conf->body_memory_max = borders[i] * 10;
            ck_assert_int_eq(read_all("Tarry-Then: replay\r\n", text), over ? LIMIT : 0);
        }
    }
    /* without an end in sight */
    snprintf(text, sizeof(text), "GET tarry://ai/ HTTP/1.1\r\nX: %02000d", 0);
    ck_assert_int_eq(read_all("Tarry-Then: replay\r\n", text), LIMIT);
}
END_TEST

START_TEST(notes_each_call)
{
    static const char three[] =
        "POST https://api.example.com/a HTTP/1.1\r\nContent-Length: 3\r\nTarry-Call-Id: "
        "one\r\n\r\nabc"
        "HEAD tarry://local/b HTTP/1.1\r\nTARRY-TIMEOUT: 2.5\r\ntarry-retries: 7\r\n\r\n"
        "PUT http://[::1]:8003/c HTTP/1.1\r\nContent-Length: 5\r\nTarry-Retries: "
        "999999999\r\n\r\ndefgh";
    static const struct {
        const char *upstream, *method, *id, *body;
        uint64_t timeout_ms;
        size_t retries;
    } want[] = {
        { "ai", "POST", "one", "abc", 0, SIZE_MAX },
        { "local", "HEAD", NULL, "", 2500, 7 },
        { "six", "PUT", NULL, "defgh", 0, 1000 },
    };
    uint64_t off = 0;

    ck_assert_int_eq(read_all("Tarry-Then: replay\r\n", three), 0);
    ck_assert_uint_eq(handoff.ncalls, 3);
    for (int i = 0; i < 3; i++) {
        const struct enclosed *e = &handoff.calls[i];

        ck_assert_span_eq(e->upstream->name, want[i].upstream);
        ck_assert_span_eq(e->method, want[i].method);
        ck_assert_int_eq(e->call_id.p != NULL, want[i].id != NULL);
        if (want[i].id)
            ck_assert_span_eq(e->call_id, want[i].id);
        ck_assert_uint_eq(e->timeout_ms, want[i].timeout_ms);
        ck_assert_uint_eq(e->retries, want[i].retries);
        ck_assert_uint_eq(e->head_off, off);
        ck_assert_uint_eq(e->body_off, off + e->head_len);
        ck_assert_span_eq(str_make(three + e->body_off, e->body_len), want[i].body);
        off = e->body_off + e->body_len;
    }
    ck_assert_uint_eq(off, strlen(three));
}
END_TEST

START_TEST(bounds_the_call_id)
{
    for (int n = 127; n < 131; n++) {
        struct str text =
            arena_printf(&arena, "GET tarry://ai/ HTTP/1.1\r\nTarry-Call-Id: %0*d\r\n\r\n", n, 7);

        ck_assert_int_eq(read_all("Tarry-Then: relay\r\n", text.p), n > 128 ? LIMIT : 0);
    }
}
END_TEST

/* gzip */

static size_t compress_text(const char *text, size_t n, char *out, size_t room, int window)
{
    z_stream z = { .next_in = (Bytef *)(uintptr_t)text, .avail_in = (uInt)n };

    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)room;
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return z.total_out;
}

enum { GZIP = 15 + 16, ZLIB = 15 };

static int read_gzip(const char *bytes, size_t n)
{
    int rc = read_head("Tarry-Then: resume /r\r\nContent-Encoding: gzip\r\n" TYPE);

    ck_assert_int_eq(rc, 0);
    return read_body(bytes, n);
}

START_TEST(undoes_gzip)
{
    char packed[1000];
    size_t n = compress_text(CALL CALL, strlen(CALL CALL), packed, sizeof(packed), GZIP);

    for (int i = 0; i < COUNT_OF(borders); i++) {
        conf->body_memory_max = borders[i];
        ck_assert_int_eq(read_gzip(packed, n), 0);
        ck_assert_uint_eq(handoff.ncalls, 2);
        ck_assert_uint_eq(body_size(&handoff.body), strlen(CALL CALL));
    }
    /* cut short anywhere, or with something behind */
    for (size_t cut = 0; cut < n; cut++)
        ck_assert_int_eq(read_gzip(packed, cut), MALFORMED);
    packed[n] = 'x';
    ck_assert_int_eq(read_gzip(packed, n + 1), MALFORMED);
    /* one octet changed: damaged, or other text that is refused or not */
    for (size_t i = 0; i < n; i++) {
        packed[i] = (char)(packed[i] ^ 0x40);
        ck_assert_int_le(read_gzip(packed, n), 0);
        packed[i] = (char)(packed[i] ^ 0x40);
    }
    ck_assert_int_eq(read_gzip(CALL, strlen(CALL)), MALFORMED);
    n = compress_text(CALL, strlen(CALL), packed, sizeof(packed), GZIP);
    memcpy(packed + n, packed, n); /* a second member (RFC 1952 2.2) */
    ck_assert_int_eq(read_gzip(packed, 2 * n), 0);
    ck_assert_uint_eq(handoff.ncalls, 2);
    n = compress_text(CALL, strlen(CALL), packed, sizeof(packed), ZLIB);
    ck_assert_int_eq(read_gzip(packed, n), MALFORMED);
}
END_TEST

START_TEST(bounds_what_gzip_unpacks)
{
    size_t size = 20 << 20, n;
    char *zeros = calloc(1, size), *packed = malloc(100000);

    n = compress_text(zeros, size, packed, 100000, GZIP);
    pool->handoff_max = 30000;
    ck_assert_uint_lt(n, pool->handoff_max);
    ck_assert_int_eq(read_gzip(packed, n), LIMIT);
    ck_assert_ptr_nonnull(strstr(why, "handoff_max"));
    ck_assert_uint_lt(body_size(&handoff.body), 30001);
    free(zeros);
    free(packed);
}
END_TEST

/* What is sent to the upstream */

static const struct {
    const char *in;
    const char *out; /* request line with the authority before the target, then the fields */
} sent[] = {
    /* Host from the target; the conf's fields last */
    { "GET https://api.example.com/a?b=c HTTP/1.1\r\nHost: evil.example.com\r\nAccept: x\r\n\r\n",
        "GET api.example.com /a?b=c|Accept=x|Authorization=Bearer conf|X-Extra=1|" },
    { "GET https://API.example.com:443 HTTP/1.1\r\n\r\n",
        "GET api.example.com /|Authorization=Bearer conf|X-Extra=1|" },
    { "GET https://api.example.com?q HTTP/1.1\r\n\r\n",
        "GET api.example.com /?q|Authorization=Bearer conf|X-Extra=1|" },
    { "GET http://[0::1]:8003//x HTTP/1.1\r\n\r\n", "GET [::1]:8003 //x|" },
    { "GET http://127.0.0.1:8002/%2e HTTP/1.1\r\n\r\n", "GET 127.0.0.1:8002 /%2e|" },
    { "GET tarry://local/v1/x?y HTTP/1.1\r\n\r\n", "GET 127.0.0.1:8002 /v1/x?y|" },
    { "GET tarry://ai HTTP/1.1\r\n\r\n",
        "GET api.example.com /|Authorization=Bearer conf|X-Extra=1|" },
    /* The conf's win over the worker's, in any case and number */
    { "GET tarry://ai/ HTTP/1.1\r\nAUTHORIZATION: mine\r\nx: 1\r\nauthorization: mine\r\n"
      "x-extra: 2\r\n\r\n",
        "GET api.example.com /|x=1|Authorization=Bearer conf|X-Extra=1|" },
    /* Hop-by-hop fields, those that Connection names, and Tarry's own stay behind */
    { "GET tarry://local/ HTTP/1.1\r\nConnection: close, x-mine\r\nX-Mine: 1\r\nX-Other: "
      "2\r\n\r\n",
        "GET 127.0.0.1:8002 /|X-Other=2|" },
    { "GET tarry://local/ HTTP/1.1\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: x\r\n"
      "Proxy-Authorization: p\r\nUpgrade: h2c\r\nProxy-Connection: close\r\nA: b\r\n\r\n",
        "GET 127.0.0.1:8002 /|A=b|" },
    { "GET tarry://local/ HTTP/1.1\r\nTarry-Call-Id: i\r\ntarry_state: s\r\nTarry.X: y\r\n"
      "Tarry-Timeout: 1\r\nTarryish: z\r\n\r\n",
        "GET 127.0.0.1:8002 /|Tarryish=z|" },
    { "POST tarry://local/ HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
        "POST 127.0.0.1:8002 /|Content-Length=2|" },
    { "GET tarry://local/ HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n",
        "GET 127.0.0.1:8002 /|Accept-Encoding=gzip|" },
};

static const char *head_text(const struct head *h)
{
    struct str s = arena_printf(&arena, STR_FMT " " STR_FMT " " STR_FMT "|", STR_ARG(h->method),
        STR_ARG(h->authority), STR_ARG(h->target));

    for (size_t i = 0; i < h->nfields; i++)
        s = arena_printf(&arena, STR_FMT STR_FMT "=" STR_FMT "|", STR_ARG(s),
            STR_ARG(h->fields[i].name), STR_ARG(h->fields[i].value));
    return s.p;
}

START_TEST(makes_the_upstreams_request)
{
    for (int i = 0; i < COUNT_OF(borders); i++) {
        struct head out;
        struct arena a = { 0 };

        conf->body_memory_max = borders[i];
        ck_assert_int_eq(read_all("Tarry-Then: relay\r\n", sent[_i].in), 0);
        ck_assert_int_eq(
            handoff_enclosed_head(&handoff, &handoff.calls[0], conf, false, &a, &out), 0);
        ck_assert_int_eq(rewrite_head(&a, &handoff.calls[0].upstream->endpoints[0], &out), 0);
        ck_assert_str_eq(head_text(&out), sent[_i].out);
        arena_release(&a);
    }
}
END_TEST

START_TEST(asks_for_no_coding_where_the_answer_must_come_plain)
{
    struct arena a = { 0 };
    struct head out;

    ck_assert_int_eq(read_all("Tarry-Then: relay\r\n",
                         "GET tarry://local/ HTTP/1.1\r\nACCEPT-ENCODING: gzip\r\nB: c\r\n\r\n"),
        0);
    ck_assert_int_eq(handoff_enclosed_head(&handoff, &handoff.calls[0], conf, true, &a, &out), 0);
    ck_assert_int_eq(rewrite_head(&a, &handoff.calls[0].upstream->endpoints[0], &out), 0);
    ck_assert_str_eq(head_text(&out), "GET 127.0.0.1:8002 /|B=c|Accept-Encoding=identity|");
    arena_release(&a);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("handoff");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, is_a_2xx_with_tarry_then, 0, COUNT_OF(recognised));
    tcase_add_loop_test(t, checks_the_head, 0, COUNT_OF(heads));
    tcase_add_test(t, tells_no_value_of_a_field);
    tcase_add_test(t, keeps_what_the_head_says);
    tcase_add_loop_test(t, checks_the_enclosed_requests, 0, COUNT_OF(bodies));
    tcase_add_test(t, takes_one_call_with_relay);
    tcase_add_test(t, bounds_a_call_with_its_head);
    tcase_add_test(t, bounds_a_head);
    tcase_add_test(t, notes_each_call);
    tcase_add_test(t, bounds_the_call_id);
    tcase_add_test(t, undoes_gzip);
    tcase_add_test(t, bounds_what_gzip_unpacks);
    tcase_add_loop_test(t, makes_the_upstreams_request, 0, COUNT_OF(sent));
    tcase_add_test(t, asks_for_no_coding_where_the_answer_must_come_plain);
    return t;
}

UNIT_MAIN("handoff")
