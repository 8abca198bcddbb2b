/* Bodies from bytes, cut in every way, against an unreadable page. */
#include "http/h1body.h"

#include <check.h>
#include <stdlib.h>

#include "cuts.h"
#include "unit.h"

enum { GATHER_MAX = 64 };
enum { CHUNK_LINE_MAX = 4096, CHUNK_OVERHEAD_MAX = 65536 };

static const struct h1_limits limits = { .chunk_line_max = CHUNK_LINE_MAX,
    .chunk_overhead_max = CHUNK_OVERHEAD_MAX };

struct decoded {
    char data[4096];
    size_t n;    /* of data */
    size_t used; /* of the input */
    int err;
    struct h1_body body;
};

/* As a connection would: what a call did not use comes again with more behind it. `room`: how much
 * is gathered; 0: nothing is. */
static void decode(
    struct cuts *c, const struct h1_message *m, struct str in, size_t room, struct decoded *d)
{
    char scratch[GATHER_MAX];
    size_t given = 0;

    *d = (struct decoded){ 0 };
    h1_body_begin(&d->body, m, &limits);
    while (given < in.n && !d->body.complete && d->err == 0) {
        ssize_t n;

        given = cuts_end(c, given);
        do {
            struct str data;

            struct str rest = cuts_guarded(str_make(in.p + d->used, given - d->used));

            n = room > 0 ? h1_body_gather(&d->body, rest, scratch, room, &data)
                         : h1_body_next(&d->body, rest, &data);
            if (n < 0) {
                d->err = (int)n;
                break;
            }
            ck_assert_uint_le(d->n + data.n, sizeof(d->data));
            memcpy(d->data + d->n, data.p, data.n);
            d->n += data.n;
            d->used += (size_t)n;
            ck_assert_uint_le(d->used, given);
        } while (n > 0 && !d->body.complete);
    }
}

enum outcome { COMPLETE, MORE };

static void expect(const struct h1_message *m, struct str in, struct str data, size_t used, int rc)
{
    static const size_t rooms[] = { 0, 1, 3, GATHER_MAX };
    struct cuts c = { .n = in.n };

    for (size_t i = 0; cuts_next(&c); i++) {
        struct decoded d;

        decode(&c, m, in, rooms[i % COUNT_OF(rooms)], &d);
        ck_assert_msg(d.err == (rc < 0 ? rc : 0), "\"" STR_FMT "\" cut %zu: %d (%s)", STR_ARG(in),
            c.way, d.err, h1_strerror(d.err));
        ck_assert_msg(str_eq(str_make(d.data, d.n), data), "\"" STR_FMT "\" cut %zu: \"%.*s\"",
            STR_ARG(in), c.way, (int)d.n, d.data);
        ck_assert_int_eq(d.body.complete, rc == COMPLETE);
        if (rc >= 0)
            ck_assert_uint_eq(d.used, used);
        if (rc < 0) {
            struct str more;

            ck_assert_int_eq(h1_body_next(&d.body, STR("0\r\n\r\n"), &more), rc);
            ck_assert_uint_eq(more.n, 0);
        }
    }
}

static const struct h1_message chunked = { .framing = H1_CHUNKED };

static const struct {
    struct str in, data;
} bodies[] = {
    { STR_INIT("0\r\n\r\n"), STR_INIT("") },
    { STR_INIT("000000000000000\r\n\r\n"), STR_INIT("") },
    { STR_INIT("5\r\nhello\r\n0\r\n\r\n"), STR_INIT("hello") },
    { STR_INIT("5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"), STR_INIT("hello, world") },
    { STR_INIT("A\r\n0123456789\r\na\r\nabcdefghij\r\n00\r\n\r\n"),
        STR_INIT("0123456789abcdefghij") },
    { STR_INIT("000000000000002\r\n\r\n\r\n0\r\n\r\n"), STR_INIT("\r\n") },
    { STR_INIT("5\r\n0\r\n\r\n\r\n0\r\n\r\n"), STR_INIT("0\r\n\r\n") },
    { STR_INIT("1;\r\na\r\n0;x\r\n\r\n"), STR_INIT("a") },
    { STR_INIT("1;a=b;c=\"d;\\\" e\"\t;f\r\na\r\n0\r\n\r\n"), STR_INIT("a") },
    /* RFC 9112 7.1.2: trailers are dropped, whatever they name */
    { STR_INIT("1\r\na\r\n0\r\nContent-Length: 5\r\nHost: b\r\nTransfer-Encoding: x\r\n\r\n"),
        STR_INIT("a") },
    { STR_INIT("0\r\nA:\r\nB:\t c \xff\r\n\r\n"), STR_INIT("") },
};

START_TEST(decodes_chunks)
{
    expect(&chunked, bodies[_i].in, bodies[_i].data, bodies[_i].in.n, COMPLETE);
}
END_TEST

START_TEST(leaves_what_follows) /* RFC 9112 9.3 */
{
    static const struct str tails[] = { STR_INIT("GET / HTTP/1.1\r\n"), STR_INIT("\n"),
        STR_INIT("\r\n\r\n"), STR_INIT("0\r\n\r\n"), STR_INIT("\0") };
    struct str in = bodies[_i].in;

    for (size_t t = 0; t < COUNT_OF(tails); t++) {
        char both[256];

        memcpy(both, in.p, in.n);
        memcpy(both + in.n, tails[t].p, tails[t].n);
        expect(&chunked, str_make(both, in.n + tails[t].n), bodies[_i].data, in.n, COMPLETE);
    }
}
END_TEST

START_TEST(is_not_complete_before_the_last_byte) /* RFC 9112 8 */
{
    struct str in = bodies[_i].in;
    struct cuts c = { .n = in.n };
    struct decoded d;

    for (size_t n = 1; n < in.n; n++) {
        c = (struct cuts){ .n = n };
        while (cuts_next(&c)) {
            decode(&c, &chunked, str_make(in.p, n), 0, &d);
            ck_assert_int_eq(d.err, 0);
            ck_assert_uint_eq(d.used, n);
            ck_assert_int_eq(h1_body_end(&d.body), H1_E_ENDED);
        }
    }
}
END_TEST

static const struct {
    struct str in, data;
    enum h1_error err;
} bad_bodies[] = {
    /* RFC 9112 7.1: sizes */
    { STR_INIT("\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("x\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT(" 5\r\nhello\r\n0\r\n\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("5 \r\nhello\r\n0\r\n\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("5\t\r\nhello\r\n0\r\n\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("5 ;a\r\nhello\r\n0\r\n\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("0x5\r\nhello\r\n0\r\n\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("+5\r\nhello\r\n0\r\n\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("-5\r\nhello\r\n0\r\n\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("1_0\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("5,\r\nhello\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("5\0\r\nhello\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("5g\r\nhello\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT(";a\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("0000000000000005\r\nhello\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("10000000000000005\r\nhello\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("fffffffffffffffff\r\nhello\r\n"), STR_INIT(""), H1_E_CHUNK },
    /* RFC 9112 7.1: line ends of sizes */
    { STR_INIT("5\nhello\r\n0\r\n\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("5\r\nhello\n0\r\n\r\n"), STR_INIT("hello"), H1_E_CHUNK },
    { STR_INIT("5\r\nhello\r\n0\n\r\n"), STR_INIT("hello"), H1_E_CHUNK },
    { STR_INIT("5\r\nhello\r\n0\r\n\n"), STR_INIT("hello"), H1_E_LINE_END },
    { STR_INIT("0\r\nA: b\n\r\n"), STR_INIT(""), H1_E_LINE_END },
    { STR_INIT("0\r\nA: b\r\n\n"), STR_INIT(""), H1_E_LINE_END },
    { STR_INIT("5\rhello\r\n"), STR_INIT(""), H1_E_LINE_END },
    { STR_INIT("5\r\r\nhello\r\n"), STR_INIT(""), H1_E_LINE_END },
    { STR_INIT("0\r\n\rx"), STR_INIT(""), H1_E_LINE_END },
    { STR_INIT("0\r\nA: b\rC: d\r\n\r\n"), STR_INIT(""), H1_E_LINE_END },
    /* RFC 9112 7.1.1: extensions */
    { STR_INIT("5;a\nhello\r\n0\r\n\r\n"), STR_INIT(""), H1_E_LINE_END },
    { STR_INIT("5;a\rb\r\nhello\r\n0\r\n\r\n"), STR_INIT(""), H1_E_LINE_END },
    { STR_INIT("5;\nhello\r\n"), STR_INIT(""), H1_E_LINE_END },
    { STR_INIT("5;a=\"\r\n\"\r\nhello\r\n"), STR_INIT("\"\r\nhe"), H1_E_CHUNK },
    { STR_INIT("5;a=\"\n\"\r\nhello\r\n"), STR_INIT(""), H1_E_LINE_END },
    { STR_INIT("5;a\0b\r\nhello\r\n"), STR_INIT(""), H1_E_CHUNK },
    { STR_INIT("5;a\x7f\r\nhello\r\n"), STR_INIT(""), H1_E_CHUNK },
    /* RFC 9112 7.1: data */
    { STR_INIT("5\r\nhello!\r\n0\r\n\r\n"), STR_INIT("hello"), H1_E_CHUNK },
    { STR_INIT("5\r\nhelloxx0\r\n\r\n"), STR_INIT("hello"), H1_E_CHUNK },
    { STR_INIT("5\r\nhello\rx0\r\n\r\n"), STR_INIT("hello"), H1_E_CHUNK },
    { STR_INIT("5\r\nhellox\n0\r\n\r\n"), STR_INIT("hello"), H1_E_CHUNK },
    { STR_INIT("5\r\nhello0\r\n\r\n"), STR_INIT("hello"), H1_E_CHUNK },
    { STR_INIT("4\r\nhello\r\n0\r\n\r\n"), STR_INIT("hell"), H1_E_CHUNK },
    { STR_INIT("5\r\nhello\r\n\r\n0\r\n\r\n"), STR_INIT("hello"), H1_E_CHUNK },
    /* trailers are fields */
    { STR_INIT("0\r\n A: b\r\n\r\n"), STR_INIT(""), H1_E_FIELD },
    { STR_INIT("0\r\nA: b\r\n c\r\n\r\n"), STR_INIT(""), H1_E_FIELD },
    { STR_INIT("0\r\n: b\r\n\r\n"), STR_INIT(""), H1_E_FIELD },
    { STR_INIT("0\r\nA\r\n\r\n"), STR_INIT(""), H1_E_FIELD },
    { STR_INIT("0\r\nA : b\r\n\r\n"), STR_INIT(""), H1_E_FIELD },
    { STR_INIT("0\r\nGET / HTTP/1.1\r\n\r\n"), STR_INIT(""), H1_E_FIELD },
    { STR_INIT("0\r\nA: b\0\r\n\r\n"), STR_INIT(""), H1_E_FIELD },
    { STR_INIT("0\r\nA: \x01\r\n\r\n"), STR_INIT(""), H1_E_FIELD },
    { STR_INIT("0\r\n\xc3\xa9: b\r\n\r\n"), STR_INIT(""), H1_E_FIELD },
};

START_TEST(refuses_chunks)
{
    expect(&chunked, bad_bodies[_i].in, bad_bodies[_i].data, 0, bad_bodies[_i].err);
}
END_TEST

/* Feeds `repeat` times `before`, `fill` times 'x', `after`, in pieces of `piece` bytes at most. The
 * last result. */
static int feed(struct h1_body *b, size_t repeat, const char *before, size_t fill,
    const char *after, size_t piece)
{
    for (size_t i = 0; i < repeat; i++) {
        size_t n = strlen(before) + fill + strlen(after);
        char *one = malloc(n), *end = one + n, *p = one;

        memcpy(one, before, strlen(before));
        memset(one + strlen(before), 'x', fill);
        memcpy(end - strlen(after), after, strlen(after));
        while (p < end && !b->complete) {
            size_t left = (size_t)(end - p);
            struct str data;
            ssize_t rc = h1_body_next(b, str_make(p, left < piece ? left : piece), &data);

            if (rc < 0) {
                free(one);
                return (int)rc;
            }
            p += rc;
        }
        free(one);
    }
    return 0;
}

START_TEST(bounds_what_carries_nothing) /* RFC 9112 7.1.1 and 7.1.2 */
{
    static const struct {
        size_t repeat;
        const char *first, *before;
        size_t fill;
        const char *after;
        int rc;
    } rows[] = {
        { 1, "", "1;", 4095, "\r\na\r\n", 0 },
        { 1, "", "1;", 4096, "\r\na\r\n", H1_E_CHUNK_OVERHEAD },
        { 16, "", "1;", 4095, "\r\na\r\n", 0 },
        { 17, "", "1;", 4095, "\r\na\r\n", H1_E_CHUNK_OVERHEAD },
        { 1, "", "1;", 65536, "\r\na\r\n", H1_E_CHUNK_OVERHEAD },
        { 32768, "", "1;", 1, "\r\na\r\n", 0 },
        { 32769, "", "1;", 1, "\r\na\r\n", H1_E_CHUNK_OVERHEAD },
        { 1, "0\r\n", "a:", 4094, "\r\n", 0 },
        { 1, "0\r\n", "a:", 4095, "\r\n", H1_E_CHUNK_OVERHEAD },
        { 1, "0\r\n", "", 4095, ":\r\n", 0 },
        { 1, "0\r\n", "", 4096, ":\r\n", H1_E_CHUNK_OVERHEAD },
        { 1, "0\r\n", "", 4097, "", H1_E_CHUNK_OVERHEAD }, { 16, "0\r\n", "a:", 4094, "\r\n", 0 },
        { 17, "0\r\n", "a:", 4094, "\r\n", H1_E_CHUNK_OVERHEAD },
        { 100000, "", "1\r\n", 1, "\r\n", 0 }, /* small chunks alone are no offence */
    };
    static const size_t pieces[] = { SIZE_MAX, 1, 7 };

    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        struct h1_body b;

        h1_body_begin(&b, &chunked, &limits);
        ck_assert_int_eq(feed(&b, 1, rows[_i].first, 0, "", pieces[i]), 0);
        ck_assert_int_eq(
            feed(&b, rows[_i].repeat, rows[_i].before, rows[_i].fill, rows[_i].after, pieces[i]),
            rows[_i].rc);
    }
}
END_TEST

START_TEST(takes_the_largest_chunk_size)
{
    struct h1_body b;
    struct str data;

    h1_body_begin(&b, &chunked, &limits);
    ck_assert_int_eq(h1_body_next(&b, STR("fffffffffffffff\r\nabc"), &data), 20);
    ck_assert(str_eq(data, STR("abc")));
    ck_assert_uint_eq(b.left, UINT64_C(0xfffffffffffffff) - 3);
}
END_TEST

START_TEST(borrows_data_where_it_lies)
{
    struct str in = STR("5\r\nhello\r\n0\r\n\r\n"), data;
    struct h1_body b;

    h1_body_begin(&b, &chunked, &limits);
    ck_assert_int_eq(h1_body_next(&b, in, &data), 8);
    ck_assert_ptr_eq(data.p, in.p + 3);
    ck_assert_uint_eq(data.n, 5);
}
END_TEST

START_TEST(decodes_lengths)
{
    static const struct h1_message five = { .framing = H1_LENGTH, .length = 5 };

    expect(&five, STR("hello"), STR("hello"), 5, COMPLETE);
    expect(&five, STR("hello, GET / HTTP/1.1"), STR("hello"), 5, COMPLETE);
    expect(&five, STR("hell"), STR("hell"), 4, MORE);
}
END_TEST

START_TEST(knows_when_there_is_no_body)
{
    static const struct h1_message none[] = {
        { .framing = H1_NO_BODY },
        { .framing = H1_LENGTH, .length = 0 },
    };

    for (size_t i = 0; i < COUNT_OF(none); i++) {
        struct h1_body b;
        struct str data;

        h1_body_begin(&b, &none[i], &limits);
        ck_assert(b.complete);
        ck_assert_int_eq(h1_body_next(&b, STR("hello"), &data), 0);
        ck_assert_uint_eq(data.n, 0);
        ck_assert_int_eq(h1_body_end(&b), 0);
    }
}
END_TEST

START_TEST(reads_until_the_connection_closes)
{
    static const struct h1_message close = { .framing = H1_UNTIL_CLOSE };
    struct h1_body b;
    struct str data;

    expect(&close, STR("0\r\n\r\n\0"), STR("0\r\n\r\n\0"), 6, MORE);
    h1_body_begin(&b, &close, &limits);
    ck_assert_int_eq(h1_body_next(&b, STR("hello"), &data), 5);
    ck_assert(!b.complete);
    ck_assert_int_eq(h1_body_end(&b), 0);
    ck_assert(b.complete);
}
END_TEST

START_TEST(tells_an_early_end)
{
    static const struct h1_message five = { .framing = H1_LENGTH, .length = 5 };
    struct h1_body b;
    struct str data;

    h1_body_begin(&b, &five, &limits);
    ck_assert_int_eq(h1_body_end(&b), H1_E_ENDED);
    ck_assert_int_eq(h1_body_next(&b, STR("hell"), &data), 4);
    ck_assert_int_eq(h1_body_end(&b), H1_E_ENDED);
    ck_assert_int_eq(h1_body_next(&b, STR("o"), &data), 1);
    ck_assert_int_eq(h1_body_end(&b), 0);
}
END_TEST

/* Issue 8, point 9: one call for what one read brings. */
START_TEST(gathers_small_chunks)
{
    static const struct str in = STR_INIT("1\r\na\r\n1\r\nb\r\n2;x\r\ncd\r\n1\r");
    char scratch[GATHER_MAX];
    struct h1_body b;
    struct str data;

    h1_body_begin(&b, &chunked, &limits);
    ck_assert_int_eq(h1_body_gather(&b, in, scratch, sizeof(scratch), &data), (ssize_t)in.n);
    ck_assert_span_eq(data, "abcd");
    /* an error is told behind the data */
    ck_assert_int_gt(h1_body_gather(&b, STR("\ne\r\nxx"), scratch, sizeof(scratch), &data), 0);
    ck_assert_span_eq(data, "e");
    ck_assert_int_eq(h1_body_gather(&b, STR("xx"), scratch, sizeof(scratch), &data), H1_E_CHUNK);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("bodies");

    tcase_add_loop_test(t, decodes_chunks, 0, COUNT_OF(bodies));
    tcase_add_loop_test(t, leaves_what_follows, 0, COUNT_OF(bodies));
    tcase_add_loop_test(t, is_not_complete_before_the_last_byte, 0, COUNT_OF(bodies));
    tcase_add_loop_test(t, refuses_chunks, 0, COUNT_OF(bad_bodies));
    tcase_add_loop_test(t, bounds_what_carries_nothing, 0, 15);
    tcase_add_test(t, takes_the_largest_chunk_size);
    tcase_add_test(t, borrows_data_where_it_lies);
    tcase_add_test(t, gathers_small_chunks);
    tcase_add_test(t, decodes_lengths);
    tcase_add_test(t, knows_when_there_is_no_body);
    tcase_add_test(t, reads_until_the_connection_closes);
    tcase_add_test(t, tells_an_early_end);
    return t;
}

UNIT_MAIN("h1body")
