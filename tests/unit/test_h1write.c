/* Heads to bytes: what is written, and what cannot be injected. */
#include "http/h1write.h"

#include <check.h>
#include <stdlib.h>

#include "unit.h"

static void expect(enum h1_kind kind, const struct head *h, const char *text)
{
    struct buf b = { 0 };

    ck_assert_int_eq(h1_write_head(&b, kind, h), 0);
    ck_assert_msg(str_eq(buf_str(&b), str_of(text)), "\"" STR_FMT "\"", STR_ARG(buf_str(&b)));
    buf_release(&b);
}

START_TEST(writes_requests)
{
    struct field fields[] = { { STR_INIT("Host"), STR_INIT("a") }, { STR_INIT("X"), STR_INIT("") },
        { STR_INIT("x"), STR_INIT("a\tb \xff") } };
    struct head h = { .method = STR("POST"), .target = STR("/a?b"), .fields = fields };

    expect(H1_REQUEST, &h, "POST /a?b HTTP/1.1\r\n\r\n");
    h.nfields = COUNT_OF(fields);
    expect(H1_REQUEST, &h, "POST /a?b HTTP/1.1\r\nHost: a\r\nX: \r\nx: a\tb \xff\r\n\r\n");
    h.target = STR("https://a/b");
    h.nfields = 0;
    expect(H1_ENCLOSED_REQUEST, &h, "POST https://a/b HTTP/1.1\r\n\r\n");
}
END_TEST

START_TEST(writes_responses)
{
    struct field fields[] = { { STR_INIT("Content-Length"), STR_INIT("0") } };
    struct head h = { .status = 404, .fields = fields, .nfields = 1 };

    expect(H1_RESPONSE, &h, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    h.reason = STR("Nowhere to be seen");
    expect(H1_RESPONSE, &h, "HTTP/1.1 404 Nowhere to be seen\r\nContent-Length: 0\r\n\r\n");
    h.nfields = 0;
    h.reason = STR("a\r\nB: c");
    expect(H1_RESPONSE, &h, "HTTP/1.1 404 Not Found\r\n\r\n");
    h = (struct head){ .status = 299 };
    expect(H1_RESPONSE, &h, "HTTP/1.1 299 \r\n\r\n");
}
END_TEST

static struct field unsafe[] = {
    { STR_INIT("A"), STR_INIT("b\r\nC: d") },
    { STR_INIT("A"), STR_INIT("b\nc") },
    { STR_INIT("A"), STR_INIT("b\rc") },
    { STR_INIT("A"), STR_INIT("b\0c") },
    { STR_INIT("A"), STR_INIT("\x1b") },
    { STR_INIT("A"), STR_INIT("\r\n\r\nHTTP/1.1 200 OK") },
    { STR_INIT(""), STR_INIT("b") },
    { STR_INIT("A:B"), STR_INIT("c") },
    { STR_INIT("A "), STR_INIT("b") },
    { STR_INIT(" A"), STR_INIT("b") },
    { STR_INIT("A\r\nB"), STR_INIT("c") },
    { STR_INIT("A\0"), STR_INIT("b") },
    { STR_INIT("\xc3\xa9"), STR_INIT("b") },
};

/* A head that cannot be written whole is not written: what is left out might be its framing. */
START_TEST(writes_nothing_if_a_field_would_inject)
{
    struct field fields[] = { { STR_INIT("Good"), STR_INIT("yes") }, unsafe[_i] };
    struct head h = { .status = 200, .fields = fields, .nfields = 2 };
    struct buf b = { 0 };

    ck_assert_int_eq(h1_write_head(&b, H1_RESPONSE, &h), -1);
    ck_assert_uint_eq(buf_len(&b), 0);
    ck_assert_ptr_null(b.mem);
}
END_TEST

START_TEST(writes_nothing_if_the_start_line_is_unsafe)
{
    static const struct {
        enum h1_kind kind;
        struct head head;
    } rows[] = {
        { H1_REQUEST, { .method = STR_INIT(""), .target = STR_INIT("/") } },
        { H1_REQUEST, { .method = STR_INIT("G T"), .target = STR_INIT("/") } },
        { H1_REQUEST, { .method = STR_INIT("GET\r\nA: b"), .target = STR_INIT("/") } },
        { H1_REQUEST, { .method = STR_INIT("GET"), .target = STR_INIT("") } },
        { H1_REQUEST, { .method = STR_INIT("GET"), .target = STR_INIT("/a b") } },
        { H1_REQUEST, { .method = STR_INIT("GET"), .target = STR_INIT("/a\tb") } },
        { H1_REQUEST, { .method = STR_INIT("GET"), .target = STR_INIT("/ HTTP/1.1\r\nA: b") } },
        { H1_REQUEST, { .method = STR_INIT("GET"), .target = STR_INIT("/\0") } },
        { H1_ENCLOSED_REQUEST, { .method = STR_INIT("GET"), .target = STR_INIT("https://a/ b") } },
        { H1_RESPONSE, { .status = 0 } },
        { H1_RESPONSE, { .status = 99 } },
        { H1_RESPONSE, { .status = 600 } },
        { H1_RESPONSE, { .status = 1000 } },
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buf b = { 0 };

        buf_append_str(&b, STR("before"));
        ck_assert_int_eq(h1_write_head(&b, rows[i].kind, &rows[i].head), -1);
        ck_assert(str_eq(buf_str(&b), STR("before")));
        buf_release(&b);
    }
}
END_TEST

START_TEST(adds_behind_what_is_there)
{
    struct head h = { .status = 100 };
    struct buf b = { 0 };

    buf_append_str(&b, STR("before"));
    ck_assert_int_eq(h1_write_head(&b, H1_RESPONSE, &h), 0);
    ck_assert(str_eq(buf_str(&b), STR("beforeHTTP/1.1 100 Continue\r\n\r\n")));
    buf_release(&b);
}
END_TEST

START_TEST(knows_reasons)
{
    ck_assert(str_eq(h1_reason(200), STR("OK")));
    ck_assert(str_eq(h1_reason(100), STR("Continue")));
    ck_assert(str_eq(h1_reason(508), STR("Loop Detected")));
    ck_assert_uint_eq(h1_reason(599).n, 0);
    ck_assert_uint_eq(h1_reason(99).n, 0);
    ck_assert_uint_eq(h1_reason(600).n, 0);
    ck_assert_ptr_nonnull(h1_reason(0).p);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("writing");

    tcase_add_test(t, writes_requests);
    tcase_add_test(t, writes_responses);
    tcase_add_loop_test(t, writes_nothing_if_a_field_would_inject, 0, COUNT_OF(unsafe));
    tcase_add_test(t, writes_nothing_if_the_start_line_is_unsafe);
    tcase_add_test(t, adds_behind_what_is_there);
    tcase_add_test(t, knows_reasons);
    return t;
}

UNIT_MAIN("h1write")
