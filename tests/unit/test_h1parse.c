/* Heads from bytes: every input also cut in two at every byte, byte by byte and at random, against
 * an unreadable page. */
#include "http/h1parse.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuts.h"
#include "unit.h"

#define LONG_50 "0123456789012345678901234567890123456789012345678X"

static const struct h1_limits limits = { .head_max = 1000,
    .fields_max = 8,
    .target_max = 100,
    .interim_max = 16,
    .chunk_line_max = 4096,
    .chunk_overhead_max = 65536 };

struct parsed {
    ssize_t rc;   /* what the last call returned */
    size_t given; /* bytes there were at that call */
    struct head head;
    struct field fields[64];
    char text[4096]; /* the head in one line */
};

static void describe(struct parsed *p)
{
    const struct head *h = &p->head;
    int n;

    if (h->status)
        n = snprintf(p->text, sizeof(p->text), "%u " STR_FMT " .%u", h->status, STR_ARG(h->reason),
            h->minor);
    else
        n = snprintf(p->text, sizeof(p->text), STR_FMT " " STR_FMT " .%u", STR_ARG(h->method),
            STR_ARG(h->target), h->minor);
    if (h->authority.n > 0)
        n += snprintf(
            p->text + n, sizeof(p->text) - (size_t)n, " at " STR_FMT, STR_ARG(h->authority));
    for (size_t i = 0; i < h->nfields; i++)
        n += snprintf(p->text + n, sizeof(p->text) - (size_t)n, " [" STR_FMT "=" STR_FMT "]",
            STR_ARG(h->fields[i].name), STR_ARG(h->fields[i].value));
    ck_assert_int_lt(n, (int)sizeof(p->text));
}

/* As a connection would: what has come so far is at another place in every call. */
static void parse(
    struct cuts *c, enum h1_kind kind, const struct h1_limits *l, struct str in, struct parsed *p)
{
    struct h1_scan scan = { 0 };

    p->text[0] = 0;
    p->rc = 0;
    p->given = 0;
    while (p->given < in.n && p->rc == 0) {
        p->given = cuts_end(c, p->given);
        memset(p->fields, 0, sizeof(p->fields));
        p->head = (struct head){ .fields = p->fields };
        p->rc = h1_parse_head(&scan, kind, l, cuts_guarded(str_make(in.p, p->given)), &p->head);
    }
    if (p->rc > 0)
        describe(p);
}

/* Parses `in` in every cut. All must return `rc` and, if it is a head, describe it as `text`. */
static void expect(
    enum h1_kind kind, const struct h1_limits *l, struct str in, ssize_t rc, const char *text)
{
    struct cuts c = { .n = in.n };

    while (cuts_next(&c)) {
        struct parsed p;

        parse(&c, kind, l, in, &p);
        ck_assert_msg(p.rc == rc, "\"" STR_FMT "\" cut %zu: %zd (%s), not %zd (%s)", STR_ARG(in),
            c.way, p.rc, h1_strerror((int)p.rc), rc, h1_strerror((int)rc));
        ck_assert_str_eq(p.text, text);
    }
}

static const struct {
    struct str in;
    const char *text;
} requests[] = {
    { STR_INIT("GET / HTTP/1.1\r\n\r\n"), "GET / .1" },
    { STR_INIT("GET / HTTP/1.0\r\n\r\n"), "GET / .0" },
    { STR_INIT("GET / HTTP/1.7\r\n\r\n"), "GET / .1" },
    { STR_INIT("\r\nGET / HTTP/1.1\r\n\r\n"), "GET / .1" },
    { STR_INIT("GET /a%zz?b=%0d%0a&c=%20 HTTP/1.1\r\n\r\n"), "GET /a%zz?b=%0d%0a&c=%20 .1" },
    { STR_INIT("M-SEARCH / HTTP/1.1\r\n\r\n"), "M-SEARCH / .1" },
    { STR_INIT("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF / HTTP/1.1\r\n\r\n"),
        "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF / .1" },
    { STR_INIT("GET //a/../b;c HTTP/1.1\r\n\r\n"), "GET //a/../b;c .1" },
    { STR_INIT("OPTIONS * HTTP/1.1\r\n\r\n"), "OPTIONS * .1" },
    { STR_INIT("GET http://a HTTP/1.1\r\n\r\n"), "GET / .1 at a" },
    { STR_INIT("GET HTTP://a.B:81/c?d HTTP/1.1\r\n\r\n"), "GET /c?d .1 at a.B:81" },
    { STR_INIT("GET https://[::1]:8/ HTTP/1.1\r\n\r\n"), "GET / .1 at [::1]:8" },
    { STR_INIT("OPTIONS http://a HTTP/1.1\r\n\r\n"), "OPTIONS * .1 at a" },
    { STR_INIT("OPTIONS http://a/ HTTP/1.1\r\n\r\n"), "OPTIONS / .1 at a" },
    { STR_INIT("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "GET / .1 [Host=a]" },
    { STR_INIT("GET / HTTP/1.1\r\nHost:a\r\nX: \t b c\td \t\r\n\r\n"),
        "GET / .1 [Host=a] [X=b c\td]" },
    { STR_INIT("GET / HTTP/1.1\r\nA:\r\nB: \r\nA: \xc3\xa9\x80\xff\r\n\r\n"),
        "GET / .1 [A=] [B=] [A=\xc3\xa9\x80\xff]" },
    { STR_INIT("GET / HTTP/1.1\r\n!#$%&'*+-.^_`|~09azAZ: :::\r\n\r\n"),
        "GET / .1 [!#$%&'*+-.^_`|~09azAZ=:::]" },
    { STR_INIT(
          "GET / HTTP/1.1\r\nA: 1\r\nA: 2\r\nA: 3\r\nA: 4\r\nA: 5\r\nA: 6\r\nA: 7\r\nA: 8\r\n\r\n"),
        "GET / .1 [A=1] [A=2] [A=3] [A=4] [A=5] [A=6] [A=7] [A=8]" },
};

START_TEST(reads_requests)
{
    expect(H1_REQUEST, &limits, requests[_i].in, (ssize_t)requests[_i].in.n, requests[_i].text);
}
END_TEST

START_TEST(leaves_what_follows_the_head) /* RFC 9112 9.3.2: pipelined requests, good or bad, are for
                                            the next call */
{
    static const struct str tails[] = { STR_INIT("GET /"), STR_INIT("\r\n\r\n"), STR_INIT("\n"),
        STR_INIT("\0\0"), STR_INIT(" x") };
    struct str head = requests[_i].in;

    for (size_t t = 0; t < COUNT_OF(tails); t++) {
        char both[1024];

        memcpy(both, head.p, head.n);
        memcpy(both + head.n, tails[t].p, tails[t].n);
        expect(H1_REQUEST, &limits, str_make(both, head.n + tails[t].n), (ssize_t)head.n,
            requests[_i].text);
    }
}
END_TEST

START_TEST(waits_for_the_end_of_the_head)
{
    struct str head = requests[_i].in;

    for (size_t n = 1; n < head.n; n++)
        expect(H1_REQUEST, &limits, str_make(head.p, n), 0, "");
}
END_TEST

#define LINE(text) STR_INIT(text "\r\n\r\n")
#define FIELD(text) STR_INIT("GET / HTTP/1.1\r\n" text "\r\n\r\n")

static const struct {
    struct str in;
    enum h1_error err;
} bad_requests[] = {
    /* RFC 9112 3: the request line */
    { LINE("GET"), H1_E_LINE },
    { LINE("GET "), H1_E_LINE },
    { LINE("GET /"), H1_E_LINE }, /* HTTP/0.9 */
    { LINE("GET / "), H1_E_LINE },
    { LINE("GET  / HTTP/1.1"), H1_E_LINE },
    { LINE("GET /  HTTP/1.1"), H1_E_LINE },
    { LINE("GET / HTTP/1.1 "), H1_E_LINE },
    { LINE(" GET / HTTP/1.1"), H1_E_LINE },
    { LINE("GET /a b HTTP/1.1"), H1_E_LINE },
    { LINE("GET / HTTP/1.1 x"), H1_E_LINE },
    { LINE("GET HTTP/1.1"), H1_E_LINE },
    { LINE("GET / http/1.1"), H1_E_LINE },
    { LINE("GET / HTTP/1."), H1_E_LINE },
    { LINE("GET / HTTP/1.10"), H1_E_LINE },
    { LINE("GET / HTTP/11"), H1_E_LINE },
    { LINE("GET / HTTP/1,1"), H1_E_LINE },
    { LINE("GET / HTTP/a.1"), H1_E_LINE },
    { LINE("GET / HTTP/1.a"), H1_E_LINE },
    { LINE("GET / HTTPS/1.1"), H1_E_LINE },
    { LINE("GET / XTTP/1.1"), H1_E_LINE },
    { LINE("GET / HTTP/0.9"), H1_E_LINE },
    { LINE("GET / HTTP/2.0"), H1_E_VERSION },
    { LINE("GET / HTTP/9.9"), H1_E_VERSION },
    { LINE("PRI * HTTP/2.0"), H1_E_VERSION },
    { LINE("G(T / HTTP/1.1"), H1_E_METHOD },
    { LINE("GET: / HTTP/1.1"), H1_E_METHOD },
    { LINE("get / HTTP/1.1"), H1_E_METHOD },
    { LINE("Head / HTTP/1.1"), H1_E_METHOD },
    { LINE("G\xc3\xa9T / HTTP/1.1"), H1_E_METHOD },
    { LINE("GET\t/ HTTP/1.1"), H1_E_METHOD },
    { LINE("G\tT / HTTP/1.1"), H1_E_METHOD },
    { LINE("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1"), H1_E_METHOD },
    { LINE("GET /\tHTTP/1.1 HTTP/1.1"), H1_E_TARGET },
    { LINE("GET /\tHTTP/1.1"), H1_E_LINE },
    { LINE("GET /a\tb HTTP/1.1"), H1_E_TARGET },
    { LINE("GET /a#b HTTP/1.1"), H1_E_TARGET },
    { LINE("GET # HTTP/1.1"), H1_E_TARGET },
    { LINE("GET a HTTP/1.1"), H1_E_TARGET },
    { LINE("GET ?a HTTP/1.1"), H1_E_TARGET },
    { LINE("GET * HTTP/1.1"), H1_E_TARGET },
    { LINE("OPTIONS ** HTTP/1.1"), H1_E_TARGET },
    { LINE("CONNECT a:80 HTTP/1.1"), H1_E_TARGET },
    { LINE("CONNECT / HTTP/1.1"), H1_E_TARGET },
    { LINE("GET a:80 HTTP/1.1"), H1_E_TARGET },
    { LINE("GET http:// HTTP/1.1"), H1_E_TARGET },
    { LINE("GET http:///a HTTP/1.1"), H1_E_TARGET },
    { LINE("GET http:/a HTTP/1.1"), H1_E_TARGET },
    { LINE("GET http://u@a/ HTTP/1.1"), H1_E_TARGET },
    { LINE("GET http://a:0/ HTTP/1.1"), H1_E_TARGET },
    { LINE("GET http://a:66000/ HTTP/1.1"), H1_E_TARGET },
    { LINE("GET http://a?b HTTP/1.1"), H1_E_TARGET },
    { LINE("GET http://a?b/c HTTP/1.1"), H1_E_TARGET },
    { LINE("OPTIONS http://a?b HTTP/1.1"), H1_E_TARGET },
    { LINE("GET http://a/#b HTTP/1.1"), H1_E_TARGET },
    { LINE("GET http://a#b HTTP/1.1"), H1_E_TARGET },
    { LINE("GET http://a,b/ HTTP/1.1"), H1_E_TARGET },
    { LINE("GET ftp://a/ HTTP/1.1"), H1_E_TARGET },
    { LINE("GET tarry://a/ HTTP/1.1"), H1_E_TARGET },
    { LINE("GET /a\0b HTTP/1.1"), H1_E_LINE },
    { LINE("GET /\x1b[1m HTTP/1.1"), H1_E_LINE },
    { LINE("GET /\x7f HTTP/1.1"), H1_E_LINE },
    { LINE("GET /\vHTTP/1.1 HTTP/1.1"), H1_E_LINE },
    { LINE("\x16\x03\x01\x02"), H1_E_LINE }, /* a TLS client at a plain port */
    { LINE("\r\n\r\nGET / HTTP/1.1"), H1_E_LINE },
    /* RFC 9112 2.2: line ends */
    { STR_INIT("GET / HTTP/1.1\n"), H1_E_LINE_END },
    { STR_INIT("\nGET / HTTP/1.1\r\n\r\n"), H1_E_LINE_END },
    { STR_INIT("GET /\r HTTP/1.1\r\n\r\n"), H1_E_LINE_END },
    { STR_INIT("GET / HTTP/1.1\r\r\n\r\n"), H1_E_LINE_END },
    { STR_INIT("GET / HTTP/1.1\r\nA: b\n"), H1_E_LINE_END },
    { STR_INIT("GET / HTTP/1.1\r\nA: b\n\r\n"), H1_E_LINE_END },
    { STR_INIT("GET / HTTP/1.1\r\nA: b\r\n\n"), H1_E_LINE_END },
    { STR_INIT("GET / HTTP/1.1\r\nA: b\r\n\rx"), H1_E_LINE_END },
    { STR_INIT("GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n"), H1_E_LINE_END },
    { STR_INIT("GET / HTTP/1.1\r\nA: b\r\r\n\r\n"), H1_E_LINE_END },
    { STR_INIT("GET / HTTP/1.1\r\nA\r: b\r\n\r\n"), H1_E_LINE_END },
    /* RFC 9112 2.2: octets */
    { FIELD("A: b\0c"), H1_E_FIELD },
    { FIELD("A: \x01"), H1_E_FIELD },
    { FIELD("A: b\vc"), H1_E_FIELD },
    { FIELD("A: b\fc"), H1_E_FIELD },
    { FIELD("A: b\x1f"), H1_E_FIELD },
    { FIELD("A: b\x7f"), H1_E_FIELD },
    { FIELD("A\0: b"), H1_E_FIELD },
    { FIELD("\xc3\xa9: b"), H1_E_FIELD },
    { FIELD("A\x80: b"), H1_E_FIELD },
    /* RFC 9112 5.1: names and colons */
    { FIELD(": b"), H1_E_FIELD },
    { FIELD(":"), H1_E_FIELD },
    { FIELD("A"), H1_E_FIELD },
    { FIELD("A b: c"), H1_E_FIELD },
    { FIELD("A : b"), H1_E_FIELD },
    { FIELD("A\t: b"), H1_E_FIELD },
    { FIELD("A(: b"), H1_E_FIELD },
    { FIELD("\"A\": b"), H1_E_FIELD },
    { FIELD("A;B: b"), H1_E_FIELD },
    /* RFC 9112 5.1 and 5.2: folding, on the first line too */
    { FIELD(" A: b"), H1_E_FIELD },
    { FIELD("\tA: b"), H1_E_FIELD },
    { FIELD("A: b\r\n c"), H1_E_FIELD },
    { FIELD("A: b\r\n\tc: d"), H1_E_FIELD },
    { FIELD("A: b\r\n \r\nC: d"), H1_E_FIELD },
    { FIELD("Transfer-Encoding:\r\n chunked"), H1_E_FIELD },
};

START_TEST(refuses_requests)
{
    expect(H1_REQUEST, &limits, bad_requests[_i].in, bad_requests[_i].err, "");
}
END_TEST

START_TEST(refuses_before_the_head_is_complete)
{
    static const struct {
        struct str in;
        enum h1_error err;
    } rows[] = {
        { STR_INIT("GET / HTTP/1.1\n"), H1_E_LINE_END },
        { STR_INIT("GET / HTTP/1.1\rX"), H1_E_LINE_END },
        { STR_INIT("GE\x01"), H1_E_LINE },
        { STR_INIT("GET / HTTP/2.0\r\n"), H1_E_VERSION },
        { STR_INIT("GET / HTTP/1.1\r\nHo\n"), H1_E_LINE_END },
        { STR_INIT("GET / HTTP/1.1\r\nHo: \x01"), H1_E_FIELD },
        { STR_INIT("GET / HTTP/1.1\r\n A: b\r\n"), H1_E_FIELD },
        { STR_INIT("GET / HTTP/1.1\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\n"),
            H1_E_HEAD_TOO_LARGE },
        { STR_INIT(LONG_50 LONG_50 LONG_50), H1_E_METHOD },
        { STR_INIT("GET /" LONG_50 LONG_50 LONG_50), H1_E_TARGET_TOO_LONG },
    };

    expect(H1_REQUEST, &limits, rows[_i].in, rows[_i].err, "");
}
END_TEST

/* A request with a target, a name and a value of these lengths. */
static struct str sized(char *out, size_t target, size_t name, size_t value, bool ended)
{
    char *p = out;

    p += sprintf(p, "GET /");
    memset(p, 'a', target - 1);
    p += target - 1;
    p += sprintf(p, " HTTP/1.1\r\n");
    memset(p, 'n', name);
    p += name;
    p += sprintf(p, ": ");
    memset(p, 'v', value);
    p += value;
    if (ended)
        p += sprintf(p, "\r\n\r\n");
    return str_make(out, (size_t)(p - out));
}

START_TEST(holds_to_its_limits) /* RFC 9110 5.4 */
{
    struct cuts c = { .n = 1000 };
    struct parsed p;
    char mem[4096];
    struct str in = sized(mem, 100, 10, 869, true);

    ck_assert_uint_eq(in.n, limits.head_max);
    cuts_next(&c);
    parse(&c, H1_REQUEST, &limits, in, &p);
    ck_assert_int_eq(p.rc, 1000);
    expect(H1_REQUEST, &limits, sized(mem, 101, 10, 10, true), H1_E_TARGET_TOO_LONG, "");
    expect(H1_REQUEST, &limits, sized(mem, 100, 10, 870, true), H1_E_HEAD_TOO_LARGE, "");
    expect(H1_REQUEST, &limits, sized(mem, 100, 10, 873, false), H1_E_HEAD_TOO_LARGE, "");
    expect(H1_REQUEST, &limits, sized(mem, 1, 1500, 1, true), H1_E_HEAD_TOO_LARGE, "");
    expect(H1_RESPONSE, &limits, str_make(memset(mem, 'x', 1000), 1000), H1_E_HEAD_TOO_LARGE, "");
    expect(H1_REQUEST, &limits,
        STR("GET / HTTP/1.1\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\n\r\n"),
        H1_E_HEAD_TOO_LARGE, "");
}
END_TEST

START_TEST(looks_no_further_than_the_limit)
{
    struct cuts c = { .n = 2000 };
    struct parsed p;
    char mem[4096];
    struct str in = sized(mem, 10, 10, 1900, true);

    mem[1000] = '\n'; /* would be another error */
    cuts_next(&c);
    parse(&c, H1_REQUEST, &limits, in, &p);
    ck_assert_int_eq(p.rc, H1_E_HEAD_TOO_LARGE);
    mem[999] = '\n';
    c = (struct cuts){ .n = in.n };
    cuts_next(&c);
    parse(&c, H1_REQUEST, &limits, in, &p);
    ck_assert_int_eq(p.rc, H1_E_LINE_END);
}
END_TEST

START_TEST(refuses_long_heads_at_the_first_byte_too_many)
{
    struct cuts c = { .n = 2000 };
    struct parsed p;
    char mem[4096];

    while (c.way < 2001) /* byte by byte */
        cuts_next(&c);
    parse(&c, H1_REQUEST, &limits, str_make(memset(mem, 'x', 2000), 2000), &p);
    ck_assert_int_eq(p.rc, H1_E_METHOD);
    ck_assert_uint_le(p.given, 145); /* method, target and version at their longest */
    parse(&c, H1_REQUEST, &limits, sized(mem, 1, 1, 1900, false), &p);
    ck_assert_int_eq(p.rc, H1_E_HEAD_TOO_LARGE);
    ck_assert_uint_eq(p.given, limits.head_max);
}
END_TEST

static const struct {
    struct str in;
    const char *text;
} responses[] = {
    { STR_INIT("HTTP/1.1 200 OK\r\n\r\n"), "200 OK .1" },
    { STR_INIT("HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n"), "404 Not Found .0 [A=b]" },
    { STR_INIT("HTTP/1.1 200 \r\n\r\n"), "200  .1" },
    { STR_INIT("HTTP/1.1 200\r\n\r\n"), "200  .1" },
    { STR_INIT("HTTP/1.2 100 a\tb \xc3\xa9\r\n\r\n"), "100 a\tb \xc3\xa9 .1" },
    { STR_INIT("HTTP/1.1 599 x\r\n\r\n"), "599 x .1" },
};

START_TEST(reads_responses)
{
    expect(H1_RESPONSE, &limits, responses[_i].in, (ssize_t)responses[_i].in.n, responses[_i].text);
}
END_TEST

static const struct {
    struct str in;
    enum h1_error err;
} bad_responses[] = {
    /* RFC 9112 4 */
    { LINE("HTTP/1.1"), H1_E_LINE },
    { LINE("HTTP/1.1 "), H1_E_LINE },
    { LINE("HTTP/1.1  200 OK"), H1_E_LINE },
    { LINE("HTTP/1.1\t200 OK"), H1_E_LINE },
    { LINE("HTTP/1.1 2xx OK"), H1_E_LINE },
    { LINE("HTTP/1.1 200OK"), H1_E_LINE },
    { LINE("HTTP/1.1 +20 OK"), H1_E_LINE },
    { LINE("HTTP/1.1 200\tOK"), H1_E_LINE },
    { LINE("http/1.1 200 OK"), H1_E_LINE },
    { LINE("ICY 200 OK"), H1_E_LINE },
    { LINE("<html>"), H1_E_LINE },
    { LINE(" HTTP/1.1 200 OK"), H1_E_LINE },
    { STR_INIT("\r\nHTTP/1.1 200 OK\r\n\r\n"), H1_E_LINE },
    { LINE("HTTP/2.0 200 OK"), H1_E_VERSION },
    { LINE("HTTP/1.1 20 OK"), H1_E_STATUS },
    { LINE("HTTP/1.1 99 OK"), H1_E_STATUS },
    { LINE("HTTP/1.1 099 OK"), H1_E_STATUS },
    { LINE("HTTP/1.1 1000 OK"), H1_E_STATUS },
    { LINE("HTTP/1.1 0200 OK"), H1_E_STATUS },
    { LINE("HTTP/1.1 600 OK"), H1_E_STATUS },
    { LINE("HTTP/1.1 000 OK"), H1_E_STATUS },
    { LINE("HTTP/1.1 200 O\0K"), H1_E_LINE },
    { LINE("HTTP/1.1 200 O\rK"), H1_E_LINE_END },
    { STR_INIT("HTTP/1.1 200 OK\n\n"), H1_E_LINE_END },
    { LINE("HTTP/1.1 200 OK\r\nA: b\r\n c"), H1_E_FIELD },
    { LINE("HTTP/1.1 200 OK\r\nA: b\0"), H1_E_FIELD },
    { LINE("HTTP/1.1 200 OK\r\nA : b"), H1_E_FIELD },
    { LINE("HTTP/1.1 200 OK\r\nA: b\nC: d"), H1_E_LINE_END },
};

START_TEST(refuses_responses)
{
    expect(H1_RESPONSE, &limits, bad_responses[_i].in, bad_responses[_i].err, "");
}
END_TEST

START_TEST(reads_enclosed_requests)
{
    struct str in = STR("POST https://api.example:444/v1?k=v HTTP/1.1\r\nA: b\r\n\r\n");
    struct str named = STR("POST tarry://models/v1 HTTP/1.1\r\n\r\n");

    expect(H1_ENCLOSED_REQUEST, &limits, in, (ssize_t)in.n,
        "POST https://api.example:444/v1?k=v .1 [A=b]");
    expect(H1_ENCLOSED_REQUEST, &limits, named, (ssize_t)named.n, "POST tarry://models/v1 .1");
}
END_TEST

static const struct {
    struct str in;
    enum h1_error err;
} bad_enclosed[] = {
    { LINE("\r\nPOST https://a/ HTTP/1.1"), H1_E_LINE },
    { LINE("POST https://a/ HTTP/1.0"), H1_E_VERSION },
    { LINE("POST https://a/ HTTP/1.2"), H1_E_VERSION },
    { LINE("POST / HTTP/1.1"), H1_E_TARGET },
    { LINE("OPTIONS * HTTP/1.1"), H1_E_TARGET },
    { LINE("POST https://u@a/ HTTP/1.1"), H1_E_TARGET },
    { LINE("POST https://a/#b HTTP/1.1"), H1_E_TARGET },
    { LINE("POST https:///b HTTP/1.1"), H1_E_TARGET },
    { LINE("CONNECT https://a/ HTTP/1.1"), H1_E_TARGET },
    { STR_INIT("POST https://a/ HTTP/1.1\nA: b\r\n\r\n"), H1_E_LINE_END },
    { LINE("POST https://a/ HTTP/1.1\r\nA: b\r\n c"), H1_E_FIELD },
};

START_TEST(refuses_enclosed_requests)
{
    expect(H1_ENCLOSED_REQUEST, &limits, bad_enclosed[_i].in, bad_enclosed[_i].err, "");
}
END_TEST

START_TEST(names_every_error)
{
    for (int err = H1_E_LINE; err >= H1_E_REPEATED; err--) {
        unsigned status = h1_error_status(err);

        ck_assert_str_ne(h1_strerror(err), "no error");
        ck_assert_uint_ge(status, 400);
        ck_assert_uint_le(status, 505);
    }
    ck_assert_uint_eq(h1_error_status(H1_E_LINE), 400);
    ck_assert_uint_eq(h1_error_status(H1_E_LIMIT), 413);
    ck_assert_uint_eq(h1_error_status(H1_E_TARGET_TOO_LONG), 414);
    ck_assert_uint_eq(h1_error_status(H1_E_EXPECT), 417);
    ck_assert_uint_eq(h1_error_status(H1_E_HEAD_TOO_LARGE), 431);
    ck_assert_uint_eq(h1_error_status(H1_E_CODING_UNKNOWN), 501);
    ck_assert_uint_eq(h1_error_status(H1_E_VERSION), 505);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("heads");

    tcase_add_loop_test(t, reads_requests, 0, COUNT_OF(requests));
    tcase_add_loop_test(t, leaves_what_follows_the_head, 0, COUNT_OF(requests));
    tcase_add_loop_test(t, waits_for_the_end_of_the_head, 0, COUNT_OF(requests));
    tcase_add_loop_test(t, refuses_requests, 0, COUNT_OF(bad_requests));
    tcase_add_loop_test(t, refuses_before_the_head_is_complete, 0, 10);
    tcase_add_test(t, holds_to_its_limits);
    tcase_add_test(t, looks_no_further_than_the_limit);
    tcase_add_test(t, refuses_long_heads_at_the_first_byte_too_many);
    tcase_add_loop_test(t, reads_responses, 0, COUNT_OF(responses));
    tcase_add_loop_test(t, refuses_responses, 0, COUNT_OF(bad_responses));
    tcase_add_test(t, reads_enclosed_requests);
    tcase_add_loop_test(t, refuses_enclosed_requests, 0, COUNT_OF(bad_enclosed));
    tcase_add_test(t, names_every_error);
    return t;
}

UNIT_MAIN("h1parse")
