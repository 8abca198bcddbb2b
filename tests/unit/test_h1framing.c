/* What the fields say about the message's end, the connection's, and who it is for. */
#include "http/h1parse.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

struct parsed {
    struct head head;
    struct field fields[64];
};

/* The head must parse: it is the check that is tested. */
static void parse(struct parsed *p, enum h1_kind kind, const char *text)
{
    static const struct h1_limits limits = { .head_max = 4096,
        .fields_max = 64,
        .target_max = 100,
        .interim_max = 16,
        .chunk_line_max = 4096,
        .chunk_overhead_max = 65536 };
    struct h1_scan scan = { 0 };
    ssize_t n;

    p->head = (struct head){ .fields = p->fields };
    n = h1_parse_head(&scan, kind, &limits, str_of(text), &p->head);
    ck_assert_msg(n == (ssize_t)strlen(text), "\"%s\": %s", text, h1_strerror((int)n));
}

/* "length 5 keep-alive", say. */
static const char *describe(const struct h1_message *m)
{
    static const char *const framing[] = { [H1_NO_BODY] = "none",
        [H1_LENGTH] = "length",
        [H1_CHUNKED] = "chunked",
        [H1_UNTIL_CLOSE] = "until close" };
    static char text[128];
    int n = snprintf(text, sizeof(text), "%s", framing[m->framing]);

    if (m->framing == H1_LENGTH)
        n += snprintf(text + n, sizeof(text) - (size_t)n, " %llu", (unsigned long long)m->length);
    else
        ck_assert_uint_eq(m->length, 0);
    snprintf(text + n, sizeof(text) - (size_t)n, "%s%s%s", m->keep_alive ? " keep-alive" : "",
        m->expects_continue ? " continue" : "", m->upgrade ? " upgrade" : "");
    return text;
}

#define POST(fields) "POST / HTTP/1.1\r\nHost: a\r\n" fields "\r\n"
#define POST_1_0(fields) "POST / HTTP/1.0\r\n" fields "\r\n"

static const struct {
    const char *in, *is;
} requests[] = {
    { POST(""), "none keep-alive" },
    { POST("Content-Length: 0\r\n"), "length 0 keep-alive" },
    { POST("content-LENGTH:5\r\n"), "length 5 keep-alive" },
    { POST("Content-Length: 999999999999999999\r\n"), "length 999999999999999999 keep-alive" },
    { POST("Transfer-Encoding: chunked\r\n"), "chunked keep-alive" },
    { POST("transfer-encoding: \tChUnKeD \r\n"), "chunked keep-alive" },
    { "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        "length 5 keep-alive" }, /* RFC 9110 9.3.1 */
    { "HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "chunked keep-alive" },
    { POST("Connection: close\r\n"), "none" },
    { POST("Connection: x, CLOSE ,y\r\n"), "none" },
    { POST("Connection: keep-alive\r\nConnection: close\r\n"), "none" },
    { POST("Connection: closed\r\n"), "none keep-alive" },
    { POST("Connection: ,, te\r\n"), "none keep-alive" },
    { POST("Connection:\r\n"), "none keep-alive" },
    { POST_1_0(""), "none" },
    { POST_1_0("Connection: keep-alive\r\n"), "none keep-alive" },
    { POST_1_0("Connection: keep-alive, close\r\n"), "none" },
    { POST_1_0("Content-Length: 5\r\n"), "length 5" },
    { POST("Expect: 100-continue\r\nContent-Length: 5\r\n"), "length 5 keep-alive continue" },
    { POST("Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n"),
        "chunked keep-alive continue" },
    { POST("Expect: 100-continue\r\nContent-Length: 0\r\n"), "length 0 keep-alive" },
    { POST("Expect: 100-continue\r\n"), "none keep-alive" },
    { POST_1_0("Expect: 100-continue\r\nContent-Length: 5\r\n"), "length 5" },
    { POST("Connection: Upgrade\r\nUpgrade: websocket\r\n"), "none keep-alive upgrade" },
    { POST("Upgrade: websocket\r\n"), "none keep-alive" },
    { POST("Connection: upgrade\r\n"), "none keep-alive" },
    { POST("Connection: upgrade\r\nUpgrade:\r\n"), "none keep-alive" },
    { POST_1_0("Connection: upgrade\r\nUpgrade: websocket\r\n"), "none" },
};

START_TEST(reads_what_requests_say)
{
    struct h1_message m;
    struct parsed p;

    parse(&p, H1_REQUEST, requests[_i].in);
    ck_assert_int_eq(h1_check_request(&p.head, &m), 0);
    ck_assert_str_eq(describe(&m), requests[_i].is);
}
END_TEST

#define NAMES_8 "a,b,c,d,e,f,g,h,"
#define LENGTH(value) POST("Content-Length: " value "\r\n")
#define CODING(value) POST("Transfer-Encoding: " value "\r\n")
#define CONNECTION(value) POST("Connection: " value "\r\n")
#define HOST(value) "GET / HTTP/1.1\r\nHost: " value "\r\n\r\n"

static const struct {
    const char *in;
    enum h1_error err;
} bad_requests[] = {
    /* RFC 9112 6.3: both lengths */
    { POST("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), H1_E_LENGTH },
    { POST("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), H1_E_LENGTH },
    { POST("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), H1_E_LENGTH },
    { POST("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n"), H1_E_LENGTH },
    /* RFC 9112 6.1 */
    { CODING(""), H1_E_CODING },
    { CODING(",chunked"), H1_E_CODING },
    { CODING("chunked,"), H1_E_CODING },
    { CODING("chunked, "), H1_E_CODING },
    { CODING("chunked, identity"), H1_E_CODING },
    { CODING("identity, chunked"), H1_E_CODING },
    { CODING("chunked, chunked"), H1_E_CODING },
    { CODING("chunked, gzip"), H1_E_CODING },
    { CODING("gzip,, chunked"), H1_E_CODING },
    { CODING("chunked;a=b"), H1_E_CODING },
    { CODING("gzip;q=1"), H1_E_CODING },
    { CODING("chunked x"), H1_E_CODING },
    { CODING("x chunked"), H1_E_CODING },
    { CODING("\"chunked\""), H1_E_CODING },
    { CODING("'chunked'"), H1_E_CODING_UNKNOWN }, /* a token, as odd as it looks */
    { CODING("\x85"
             "chunked"),
        H1_E_CODING },
    { CODING("chunked\xa0"), H1_E_CODING },
    { POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), H1_E_CODING },
    { POST("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"), H1_E_CODING },
    { POST("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n"), H1_E_CODING },
    { POST("Transfer_Encoding: chunked\r\n"), H1_E_CODING },
    { POST("transfer.encoding: chunked\r\n"), H1_E_CODING },
    { POST("Transfer-Encoding: chunked\r\nTransfer_Encoding: chunked\r\n"), H1_E_CODING },
    { POST_1_0("Transfer-Encoding: chunked\r\n"), H1_E_CODING },
    { CODING("xchunked"), H1_E_CODING_UNKNOWN },
    { CODING("chunkedx"), H1_E_CODING_UNKNOWN },
    { CODING("gzip"), H1_E_CODING_UNKNOWN },
    { CODING("identity"), H1_E_CODING_UNKNOWN },
    { CODING("gzip, chunked"), H1_E_CODING_UNKNOWN },
    { CODING("gzip\t,deflate"), H1_E_CODING_UNKNOWN },
    /* RFC 9110 8.6: several */
    { POST("Content-Length: 5\r\nContent-Length: 6\r\n"), H1_E_LENGTH },
    { POST("Content-Length: 5\r\ncontent-length: 5\r\n"), H1_E_LENGTH },
    { LENGTH("5, 5"), H1_E_LENGTH },
    { LENGTH("5,6"), H1_E_LENGTH },
    { LENGTH(",5"), H1_E_LENGTH },
    /* RFC 9110 8.6: malformed */
    { LENGTH(""), H1_E_LENGTH },
    { LENGTH("+1"), H1_E_LENGTH },
    { LENGTH("-1"), H1_E_LENGTH },
    { LENGTH("-0"), H1_E_LENGTH },
    { LENGTH("0x10"), H1_E_LENGTH },
    { LENGTH("1_0"), H1_E_LENGTH },
    { LENGTH("010"), H1_E_LENGTH },
    { LENGTH("00"), H1_E_LENGTH },
    { LENGTH("1 0"), H1_E_LENGTH },
    { LENGTH("1.0"), H1_E_LENGTH },
    { LENGTH("1e2"), H1_E_LENGTH },
    { LENGTH("a"), H1_E_LENGTH },
    { LENGTH("\"1\""), H1_E_LENGTH },
    { LENGTH("\xb2"), H1_E_LENGTH },
    { LENGTH("1000000000000000000"), H1_E_LENGTH },
    { LENGTH("9223372036854775808"), H1_E_LENGTH },
    { LENGTH("18446744073709551621"), H1_E_LENGTH },
    { POST("Content_Length: 5\r\n"), H1_E_LENGTH },
    { POST("Content.Length: 5\r\n"), H1_E_LENGTH },
    { POST("Content-Length: 5\r\nCONTENT_LENGTH: 5\r\n"), H1_E_LENGTH },
    /* RFC 9110 10.1.1 */
    { POST("Expect: 200-ok\r\n"), H1_E_EXPECT },
    { POST("Expect:\r\n"), H1_E_EXPECT },
    { POST("Expect: 100-continue, x\r\n"), H1_E_EXPECT },
    { POST("Expect: 100-continue\r\nExpect: 100-continue\r\n"), H1_E_EXPECT },
    { POST("Expect: x\r\nExpect: 100-continue\r\n"), H1_E_EXPECT },
    { POST_1_0("Expect: x\r\n"), H1_E_EXPECT },
    /* RFC 9110 7.6.1 */
    { CONNECTION("host"), H1_E_CONNECTION },
    { CONNECTION("close, Content-Length"), H1_E_CONNECTION },
    { CONNECTION("Transfer-Encoding"), H1_E_CONNECTION },
    { CONNECTION("transfer_encoding"), H1_E_CONNECTION },
    { CONNECTION("Authorization"), H1_E_CONNECTION },
    { CONNECTION("Cookie"), H1_E_CONNECTION },
    { CONNECTION("Expect"), H1_E_CONNECTION },
    { CONNECTION("Forwarded"), H1_E_CONNECTION },
    { CONNECTION("X-Forwarded-For"), H1_E_CONNECTION },
    { CONNECTION("x_forwarded.proto"), H1_E_CONNECTION },
    { CONNECTION("X-Real-IP"), H1_E_CONNECTION },
    { CONNECTION("Tarry-State"), H1_E_CONNECTION },
    { CONNECTION("tarry_state"), H1_E_CONNECTION },
    { CONNECTION("a b"), H1_E_CONNECTION },
    { CONNECTION("a;b"), H1_E_CONNECTION },
    { CONNECTION("\"close\""), H1_E_CONNECTION },
    { CONNECTION(NAMES_8 NAMES_8 NAMES_8 NAMES_8 "i"), H1_E_CONNECTION },
    { POST("Connection: a\r\nConnection: " NAMES_8 NAMES_8 NAMES_8 NAMES_8 "\r\n"),
        H1_E_CONNECTION },
    { POST("Connection: close\r\nConnection: Cookie\r\n"), H1_E_CONNECTION },
    /* RFC 9112 3.2 */
    { "GET / HTTP/1.1\r\n\r\n", H1_E_HOST },
    { POST("Host: a\r\n"), H1_E_HOST },
    { POST("host: b\r\n"), H1_E_HOST },
    { POST("Host:\r\n"), H1_E_HOST },
    { POST("Content-Type: a\r\nX: y\r\ncontent-type: b\r\n"), H1_E_REPEATED },
    { POST("Authorization: a\r\nAuthorization: a\r\n"), H1_E_REPEATED },
    { "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", H1_E_HOST },
    { HOST(""), H1_E_HOST },
    { HOST("a,b"), H1_E_HOST },
    { HOST("a, a"), H1_E_HOST },
    { HOST("a b"), H1_E_HOST },
    { HOST("u@a"), H1_E_HOST },
    { HOST("a/b"), H1_E_HOST },
    { HOST("a?b"), H1_E_HOST },
    { HOST("a#b"), H1_E_HOST },
    { HOST("http://a"), H1_E_HOST },
    { HOST("a:b"), H1_E_HOST },
    { HOST("a:0"), H1_E_HOST },
    { HOST("a:65536"), H1_E_HOST },
    { HOST("a:80:80"), H1_E_HOST },
    { HOST(":80"), H1_E_HOST },
    { HOST("[::1"), H1_E_HOST },
    { HOST("[::1%eth0]"), H1_E_HOST },
    { HOST("[::1]x"), H1_E_HOST },
    { HOST("::1"), H1_E_HOST },
    { HOST("a\\b"), H1_E_HOST },
    { HOST("a%00"), H1_E_HOST },
    { HOST("\xc3\xa9"), H1_E_HOST },
    { "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", H1_E_HOST },
    { "GET http://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n", H1_E_HOST },
    { "GET https://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n", H1_E_HOST },
    { "GET http://[::1]/ HTTP/1.1\r\nHost: [::2]\r\n\r\n", H1_E_HOST },
    { "GET http://a/ HTTP/1.1\r\n\r\n", H1_E_HOST },
};

START_TEST(refuses_requests)
{
    struct h1_message m;
    struct parsed p;
    int rc;

    parse(&p, H1_REQUEST, bad_requests[_i].in);
    rc = h1_check_request(&p.head, &m);
    ck_assert_msg(rc == (int)bad_requests[_i].err, "\"%s\": %d (%s)", bad_requests[_i].in, rc,
        h1_strerror(rc));
}
END_TEST

START_TEST(takes_32_names_in_connection)
{
    struct h1_message m;
    struct parsed p;

    parse(&p, H1_REQUEST, CONNECTION(NAMES_8 NAMES_8 NAMES_8 NAMES_8));
    ck_assert_int_eq(h1_check_request(&p.head, &m), 0);
}
END_TEST

START_TEST(tells_the_authority)
{
    static const struct {
        const char *in, *authority;
    } rows[] = {
        { HOST("a.Example"), "a.Example" },
        { HOST("a:8080"), "a:8080" },
        { HOST("[::1]:8080"), "[::1]:8080" },
        { HOST("1.2.3.4"), "1.2.3.4" },
        { HOST("a_b.c"), "a_b.c" },
        { HOST("a:"), "a:" },
        { HOST("[::1]:"), "[::1]:" },
        { HOST("a!$&'()*+;=~b"), "a!$&'()*+;=~b" },
        { "GET http://a:80/ HTTP/1.1\r\nHost: A\r\n\r\n", "A" },
        { "GET http://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n", "a:80" },
        { "GET https://a:443/ HTTP/1.1\r\nHost: a:\r\n\r\n", "a:" },
        { "GET http://a;b:/ HTTP/1.1\r\nHost: a;b\r\n\r\n", "a;b" },
        { "GET http://A:81/ HTTP/1.1\r\nHost: a:81\r\n\r\n", "a:81" },
        { "GET http://a/ HTTP/1.0\r\n\r\n", "a" },
        { "GET / HTTP/1.0\r\nHost: a\r\n\r\n", "a" },
        { "GET / HTTP/1.0\r\n\r\n", "" },
    };
    struct h1_message m;
    struct parsed p;

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        parse(&p, H1_REQUEST, rows[i].in);
        ck_assert_int_eq(h1_check_request(&p.head, &m), 0);
        ck_assert_msg(str_eq(p.head.authority, str_of(rows[i].authority)), "%s", rows[i].in);
    }
}
END_TEST

#define OK(fields) "HTTP/1.1 200 OK\r\n" fields "\r\n"
#define STATUS(status, fields) "HTTP/1.1 " status "\r\n" fields "\r\n"

static const struct {
    const char *in, *method, *is;
} responses[] = {
    { OK(""), "GET", "until close" },
    { OK("Connection: keep-alive\r\n"), "GET", "until close" },
    { OK("Content-Length: 0\r\n"), "GET", "length 0 keep-alive" },
    { OK("Content-Length: 5\r\n"), "POST", "length 5 keep-alive" },
    { OK("Content-Length: 5\r\nConnection: close\r\n"), "GET", "length 5" },
    { OK("Transfer-Encoding: Chunked\r\n"), "GET", "chunked keep-alive" },
    { "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", "length 5" },
    { "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\n", "GET",
        "length 5 keep-alive" },
    { "HTTP/1.0 200 OK\r\n\r\n", "GET", "until close" },
    { OK("Content-Length: 5\r\n"), "HEAD", "none keep-alive" },
    { OK("Transfer-Encoding: chunked\r\n"), "HEAD", "none keep-alive" },
    { OK(""), "HEAD", "none keep-alive" },
    { STATUS("304", "Content-Length: 5\r\n"), "GET", "none keep-alive" },
    { STATUS("304", ""), "GET", "none keep-alive" },
    { STATUS("204", ""), "GET", "none keep-alive" },
    { STATUS("204", "Content-Length: 0\r\n"), "GET", "none keep-alive" },
    { STATUS("204", "Content-Length: 5\r\n"), "GET", "none" }, /* RFC 9110 15.3.5 */
    { STATUS("204", "Transfer-Encoding: chunked\r\n"), "GET", "none" },
    { STATUS("100", ""), "GET", "none keep-alive" },
    { STATUS("103", "Link: x\r\n"), "GET", "none keep-alive" },
    { STATUS("103", "Content-Length: 5\r\n"), "GET", "none" },
    { STATUS("101", "Connection: upgrade\r\nUpgrade: x\r\n"), "GET", "none upgrade" },
    { OK("Connection: Content-Length\r\nContent-Length: 5\r\n"), "GET", "length 5 keep-alive" },
    { OK("Expect: x\r\nHost: a\r\nHost: b\r\nContent-Length: 5\r\n"), "GET",
        "length 5 keep-alive" },
    { OK("Content_Length: 6\r\nContent-Length: 5\r\n"), "GET", "length 5 keep-alive" },
};

START_TEST(reads_what_responses_say)
{
    struct h1_message m;
    struct parsed p;

    parse(&p, H1_RESPONSE, responses[_i].in);
    ck_assert_int_eq(h1_check_response(&p.head, str_of(responses[_i].method), &m), 0);
    ck_assert_str_eq(describe(&m), responses[_i].is);
}
END_TEST

static const struct {
    const char *in;
    enum h1_error err;
} bad_responses[] = {
    /* RFC 9112 6.3 */
    { OK("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), H1_E_LENGTH },
    { OK("Content-Length: 5\r\nContent-Length: 5\r\n"), H1_E_LENGTH },
    { OK("Content-Length: 5\r\nContent-Length: 6\r\n"), H1_E_LENGTH },
    { OK("Content-Length: 5, 5\r\n"), H1_E_LENGTH },
    { OK("Content-Length:\r\n"), H1_E_LENGTH },
    { OK("Content-Length: -1\r\n"), H1_E_LENGTH },
    { OK("Transfer-Encoding: gzip, chunked\r\n"), H1_E_CODING_UNKNOWN },
    { OK("Transfer-Encoding: identity\r\n"), H1_E_CODING_UNKNOWN },
    { OK("Transfer-Encoding: chunked, chunked\r\n"), H1_E_CODING },
    { OK("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), H1_E_CODING },
    { "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", H1_E_CODING },
    { STATUS("204", "Content-Length: x\r\n"), H1_E_LENGTH },
    { STATUS("304", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), H1_E_LENGTH },
};

START_TEST(refuses_responses)
{
    static const char *const methods[] = { "GET", "HEAD" };
    struct h1_message m;
    struct parsed p;

    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        parse(&p, H1_RESPONSE, bad_responses[_i].in);
        ck_assert_int_eq(h1_check_response(&p.head, str_of(methods[i]), &m), bad_responses[_i].err);
    }
}
END_TEST

#define CALL(fields) "POST https://a/ HTTP/1.1\r\n" fields "\r\n"

START_TEST(frames_enclosed_requests_by_length_only)
{
    static const struct {
        const char *in;
        int rc;
        const char *is;
    } rows[] = {
        { CALL(""), 0, "none keep-alive" },
        { CALL("Content-Length: 5\r\n"), 0, "length 5 keep-alive" },
        { CALL("Host: x y\r\nHost: b\r\nContent-Length: 5\r\n"), 0, "length 5 keep-alive" },
        { CALL("Expect: x\r\nContent-Length: 5\r\n"), 0, "length 5 keep-alive" },
        { CALL("Content-Length: 5\r\nContent-Length: 5\r\n"), H1_E_LENGTH, NULL },
        { CALL("Content-Length: 05\r\n"), H1_E_LENGTH, NULL },
        { CALL("Content_Length: 5\r\n"), H1_E_LENGTH, NULL },
        { CALL("Transfer-Encoding: chunked\r\n"), H1_E_CODING, NULL },
        { CALL("Transfer-Encoding: gzip\r\n"), H1_E_CODING, NULL },
        { CALL("Transfer-Encoding:\r\n"), H1_E_CODING, NULL },
        { CALL("Transfer_Encoding: chunked\r\n"), H1_E_CODING, NULL },
        { CALL("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), H1_E_LENGTH, NULL },
        { CALL("Connection: Authorization\r\n"), H1_E_CONNECTION, NULL },
    };
    struct h1_message m;
    struct parsed p;

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        parse(&p, H1_ENCLOSED_REQUEST, rows[i].in);
        ck_assert_msg(h1_check_enclosed(&p.head, &m) == rows[i].rc, "%s", rows[i].in);
        if (rows[i].rc == 0)
            ck_assert_str_eq(describe(&m), rows[i].is);
    }
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("framing");

    tcase_add_loop_test(t, reads_what_requests_say, 0, COUNT_OF(requests));
    tcase_add_loop_test(t, refuses_requests, 0, COUNT_OF(bad_requests));
    tcase_add_test(t, takes_32_names_in_connection);
    tcase_add_test(t, tells_the_authority);
    tcase_add_loop_test(t, reads_what_responses_say, 0, COUNT_OF(responses));
    tcase_add_loop_test(t, refuses_responses, 0, COUNT_OF(bad_responses));
    tcase_add_test(t, frames_enclosed_requests_by_length_only);
    return t;
}

UNIT_MAIN("h1framing")
