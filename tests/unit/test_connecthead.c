/* The request for a tunnel, and what a proxy's answers mean. */
#include "upstream/connecthead.h"

#include <stdio.h>
#include <string.h>

#include "unit.h"

static const struct {
    const char *host;
    unsigned port;
    const char *authorization, *out;
} asked[] = {
    { "api.example", 443, "", "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n" },
    { "::1", 8443, "Basic eA==",
        "CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n"
        "Proxy-Authorization: Basic eA==\r\n\r\n" },
};

START_TEST(asks_with_host_and_port)
{
    struct buf out = { 0 };

    ck_assert_int_eq(connecthead_write(&out, str_of(asked[_i].host), (uint16_t)asked[_i].port,
                         str_of(asked[_i].authorization)),
        0);
    ck_assert(str_eq(buf_str(&out), str_of(asked[_i].out)));
    buf_release(&out);
}
END_TEST

static const struct {
    const char *in;
    ssize_t n;
    enum stream_error error;
} answers[] = {
    { "HTTP/1.1 200 Connection established\r\n\r\n", 39, 0 },
    { "HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\nmore", 35, 0 },
    { "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 38, 0 },
    { "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 x\r\n\r\n", 43, 0 },
    { "HTTP/1.1 407 x\r\n\r\n", -1, STREAM_E_PROXY },
    { "HTTP/1.1 403 x\r\n\r\n", -1, STREAM_E_PROXY },
    { "HTTP/1.1 302 x\r\nLocation: /\r\n\r\n", -1, STREAM_E_PROXY },
    { "HTTP/1.1 101 x\r\n\r\n", -1, STREAM_E_PROXY },
    { "HTTP/1.1 500 x\r\n\r\n", -1, STREAM_E_NO_WAY },
    { "HTTP/1.1 503 x\r\n\r\n", -1, STREAM_E_NO_WAY },
    { "HTTP/1.1 504 x\r\n\r\n", -1, STREAM_E_CONNECT_TIMEOUT },
    { "220 mail.example ESMTP\r\n", -1, STREAM_E_PROXY },
    { "\x15\x03\x01\x00\x02\x02\x0a\r\n", -1, STREAM_E_PROXY },
};

START_TEST(judges_the_answer) /* one run a row, with the head cut anywhere */
{
    struct str in = str_of(answers[_i].in);
    struct connecthead_refusal no = { 0 };

    for (size_t cut = 0; answers[_i].n > 0 && cut < (size_t)answers[_i].n; cut++)
        ck_assert_int_eq(connecthead_read(str_make(in.p, cut), &no), 0);
    ck_assert_int_eq(connecthead_read(in, &no), answers[_i].n);
    if (answers[_i].n < 0) {
        ck_assert_int_eq(no.error, answers[_i].error);
        ck_assert_uint_gt(str_of(no.why).n, 0);
    }
}
END_TEST

START_TEST(an_answer_without_end_is_refused)
{
    static char long_one[20 << 10];
    struct connecthead_refusal no = { 0 };
    size_t n = 0;

    n += (size_t)snprintf(long_one, sizeof(long_one), "HTTP/1.1 200 OK\r\nX: ");
    memset(long_one + n, 'x', sizeof(long_one) - n);
    ck_assert_int_eq(connecthead_read(str_make(long_one, sizeof(long_one)), &no), -1);
    ck_assert_int_eq(no.error, STREAM_E_PROXY);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("connecthead");

    tcase_add_loop_test(t, asks_with_host_and_port, 0, COUNT_OF(asked));
    tcase_add_loop_test(t, judges_the_answer, 0, COUNT_OF(answers));
    tcase_add_test(t, an_answer_without_end_is_refused);
    return t;
}

UNIT_MAIN("connecthead")
