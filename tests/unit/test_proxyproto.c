/* The PROXY protocol's header: what is one, what it names, and what only looks like one. Every
 * input also in two at every octet, before an unreadable page. */
#include "net/proxyproto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuts.h"
#include "unit.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define IPV4 "\xc0\x00\x02\x01\xc6\x33\x64\x01\x12\x34\x01\xbb"
#define IPV6                                                                                       \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"                                                   \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02"                                                   \
    "\x12\x34\x01\xbb"
#define MAPPED                                                                                     \
    "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01"                                                 \
    "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x02"                                                 \
    "\x12\x34\x01\xbb"
#define LINE_OF_107                                                                                \
    "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "                                       \
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"

/* The parser sees what there is so far, as it comes. */
static ssize_t parse_in_pieces(struct str in, struct cuts *c, struct proxyproto *out)
{
    for (size_t at = 0, end; at < in.n; at = end) {
        ssize_t n;

        end = cuts_end(c, at);
        n = proxyproto_parse(cuts_guarded(str_make(in.p, end)), out);
        if (n != 0)
            return n;
    }
    return 0;
}

static const struct {
    struct str in;
    size_t used; /* 0: all */
    enum proxyproto_kind kind;
    const char *ip;
    unsigned port;
} good[] = {
    { STR_INIT("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"), 0, PROXYPROTO_CLIENT,
        "192.0.2.1", 56324 },
    { STR_INIT("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"), 0, PROXYPROTO_CLIENT, "0.0.0.0",
        0 },
    { STR_INIT("PROXY TCP6 2001:db8::1 2001:db8::2 4660 443\r\n"), 0, PROXYPROTO_CLIENT,
        "2001:db8::1", 4660 },
    { STR_INIT("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n"), 0, PROXYPROTO_CLIENT, "192.0.2.1", 1 },
    { STR_INIT("PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\nGET / HTTP/1.1\r\n"), 39,
        PROXYPROTO_CLIENT, "192.0.2.1", 1 },
    { STR_INIT("PROXY UNKNOWN\r\n"), 0, PROXYPROTO_UNKNOWN, "unknown", 0 },
    { STR_INIT("PROXY UNKNOWN what ever  this is\r\n\r\n"), 34, PROXYPROTO_UNKNOWN, "unknown", 0 },
    { STR_INIT(LINE_OF_107), 0, PROXYPROTO_UNKNOWN, "unknown", 0 },
    { STR_INIT(SIGNATURE "\x21\x11\0\x0c" IPV4), 0, PROXYPROTO_CLIENT, "192.0.2.1", 4660 },
    { STR_INIT(SIGNATURE "\x21\x11\0\x0c" IPV4 "\x16\x03\x01"), 28, PROXYPROTO_CLIENT, "192.0.2.1",
        4660 },
    { STR_INIT(SIGNATURE "\x21\x21\0\x24" IPV6), 0, PROXYPROTO_CLIENT, "2001:db8::1", 4660 },
    { STR_INIT(SIGNATURE "\x21\x21\0\x24" MAPPED), 0, PROXYPROTO_CLIENT, "192.0.2.1", 4660 },
    /* Fields behind the addresses: an empty one, an unknown one, padding. */
    { STR_INIT(SIGNATURE "\x21\x11\0\x18" IPV4 "\x02\0\0"
                         "\xea\0\x03vpc"
                         "\x04\0\0"),
        0, PROXYPROTO_CLIENT, "192.0.2.1", 4660 },
    /* A checksum. */
    { STR_INIT(SIGNATURE "\x21\x11\0\x13" IPV4 "\x03\0\x04\xa5\x91\xae\x6a"), 0, PROXYPROTO_CLIENT,
        "192.0.2.1", 4660 },
    { STR_INIT(SIGNATURE "\x21\0\0\0"), 0, PROXYPROTO_UNKNOWN, "unknown", 0 },
    { STR_INIT(SIGNATURE "\x21\0\0\x03\x04\0\0"), 0, PROXYPROTO_UNKNOWN, "unknown", 0 },
    { STR_INIT(SIGNATURE "\x20\0\0\0"), 0, PROXYPROTO_LOCAL, "unknown", 0 },
    /* What LOCAL says beside that does not count. */
    { STR_INIT(SIGNATURE "\x20\x11\0\x0c" IPV4), 0, PROXYPROTO_LOCAL, "unknown", 0 },
    { STR_INIT(SIGNATURE "\x20\xff\0\x01\xff"), 0, PROXYPROTO_LOCAL, "unknown", 0 },
};

START_TEST(names_the_client)
{
    struct cuts c = { .n = good[_i].in.n };

    while (cuts_next(&c)) {
        size_t want = good[_i].used ? good[_i].used : good[_i].in.n;
        struct proxyproto out = { 0 };
        char ip[ADDR_TEXT_MAX];

        ck_assert_int_eq(parse_in_pieces(good[_i].in, &c, &out), want);
        ck_assert_int_eq(out.kind, good[_i].kind);
        ck_assert_str_eq(addr_ip_text(&out.client, ip), good[_i].ip);
        ck_assert_uint_eq(out.client.port, good[_i].port);
    }
}
END_TEST

/* 215 octets of addresses where 216 belong. */
#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static const struct {
    struct str in;
    int error;
} bad[] = {
    { STR_INIT("GET / HTTP/1.1\r\n\r\n"), PROXYPROTO_E_NONE },
    { STR_INIT("\x16\x03\x01\x02\0\x01"), PROXYPROTO_E_NONE },
    { STR_INIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), PROXYPROTO_E_NONE },
    { STR_INIT("proxy UNKNOWN\r\n"), PROXYPROTO_E_NONE },
    { STR_INIT("PROXYTCP4 192.0.2.1 198.51.100.1 1 2\r\n"), PROXYPROTO_E_NONE },
    { STR_INIT("\r\n\r\n\0\r\nQUIX\n\x21\x11\0\0"), PROXYPROTO_E_NONE },
    { STR_INIT("PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4 192.0.2.1 198.51.100.1 1 2\rX"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4 192.0.2.1 198.51.100.1 1 -2\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4 192.0.2.1\0 198.51.100.1 1 2\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY \r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY TCP4\r\n"), PROXYPROTO_E_SYNTAX },
    { STR_INIT("PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n"), PROXYPROTO_E_FAMILY },
    { STR_INIT("PROXY UNKNOWNS 192.0.2.1 198.51.100.1 1 2\r\n"), PROXYPROTO_E_FAMILY },
    { STR_INIT("PROXY UNKNOWN " HUNDRED "\r\n"), PROXYPROTO_E_TOO_LONG },
    { STR_INIT("PROXY UNKNOWN fffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
               "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"), /* 108 octets */
        PROXYPROTO_E_TOO_LONG },
    { STR_INIT(SIGNATURE "\x11\x11\0\x0c" IPV4), PROXYPROTO_E_VERSION },
    { STR_INIT(SIGNATURE "\x31\x11\0\x0c" IPV4), PROXYPROTO_E_VERSION },
    { STR_INIT(SIGNATURE "\x22\x11\0\x0c" IPV4), PROXYPROTO_E_COMMAND },
    { STR_INIT(SIGNATURE "\x2f\x11\0\x0c" IPV4), PROXYPROTO_E_COMMAND },
    { STR_INIT(SIGNATURE "\x21\x12\0\x0c" IPV4), PROXYPROTO_E_FAMILY }, /* datagrams */
    { STR_INIT(SIGNATURE "\x21\x13\0\x0c" IPV4), PROXYPROTO_E_FAMILY },
    { STR_INIT(SIGNATURE "\x21\x41\0\x0c" IPV4), PROXYPROTO_E_FAMILY },
    { STR_INIT(SIGNATURE "\x21\x10\0\x0c" IPV4), PROXYPROTO_E_FAMILY },
    { STR_INIT(SIGNATURE "\x21\x11\0\x0b" IPV4), PROXYPROTO_E_ADDRESS },
    { STR_INIT(SIGNATURE "\x21\x21\0\x0c" IPV4), PROXYPROTO_E_ADDRESS },
    { STR_INIT(SIGNATURE "\x21\x31\0\xd7" HUNDRED HUNDRED TEN "12345"), PROXYPROTO_E_ADDRESS },
    { STR_INIT(SIGNATURE "\x21\x11\x0f\xf1" IPV4), PROXYPROTO_E_TOO_LONG },
    { STR_INIT(SIGNATURE "\x21\x11\xff\xff" IPV4), PROXYPROTO_E_TOO_LONG },
    { STR_INIT(SIGNATURE "\x21\x11\0\x0d" IPV4 "\x04"), PROXYPROTO_E_TLV },
    { STR_INIT(SIGNATURE "\x21\x11\0\x0f" IPV4 "\x04\0\x01"), PROXYPROTO_E_TLV },
    { STR_INIT(SIGNATURE "\x21\x11\0\x12" IPV4 "\x04\xff\xff"
                         "abc"),
        PROXYPROTO_E_TLV },
    { STR_INIT(SIGNATURE "\x21\x11\0\x12" IPV4 "\x04\0\x01"
                         "a\x04\0"),
        PROXYPROTO_E_TLV },
    { STR_INIT(SIGNATURE "\x21\x11\0\x13" IPV4 "\x03\0\x04\xa5\x91\xae\x6b"),
        PROXYPROTO_E_CHECKSUM },
    { STR_INIT(SIGNATURE "\x21\0\0\x03\x03\0\0"), PROXYPROTO_E_CHECKSUM }, /* found by fuzzing */
    { STR_INIT(SIGNATURE "\x21\x11\0\x12" IPV4 "\x03\0\x03\x29\x85\xce"), PROXYPROTO_E_CHECKSUM },
};

START_TEST(refuses_what_only_looks_like_one)
{
    struct cuts c = { .n = bad[_i].in.n };

    while (cuts_next(&c)) {
        struct proxyproto out = { 0 };

        ck_assert_int_eq(parse_in_pieces(bad[_i].in, &c, &out), bad[_i].error);
        ck_assert_uint_eq(out.client.family, 0);
    }
    ck_assert_str_ne(proxyproto_strerror(bad[_i].error), "unknown error");
}
END_TEST

START_TEST(waits_for_the_rest)
{
    for (int i = 0; i < COUNT_OF(good); i++) {
        size_t whole = good[i].used ? good[i].used : good[i].in.n;

        for (size_t n = 0; n < whole; n++) {
            struct proxyproto out;

            ck_assert_int_eq(proxyproto_parse(cuts_guarded(str_make(good[i].in.p, n)), &out), 0);
        }
    }
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("proxyproto");

    tcase_add_loop_test(t, names_the_client, 0, COUNT_OF(good));
    tcase_add_loop_test(t, refuses_what_only_looks_like_one, 0, COUNT_OF(bad));
    tcase_add_test(t, waits_for_the_rest);
    return t;
}

UNIT_MAIN("proxyproto")
