/* The ends of a WebSocket's frames. Every input also cut in two at every byte. */
#include "http/wsframes.h"

#include "unit.h"

/* The bytes after which a frame is complete, as many as possible. */
static const struct {
    const char *in;
    size_t n;
    ssize_t whole;
    bool closed;
} rows[] = {
    { "", 0, 0, false },
    { "\x81\x05hello", 7, 7, false },
    { "\x81\x05hello\x81", 8, 7, false },
    { "\x81\x05hell", 6, 0, false },
    { "\x81\x00\x89\x00", 4, 4, false },
    { "\x81\x82\x00\x00\x00\x00yz", 8, 8, false },
    { "\x81\x82\x00\x00\x00\x00y", 7, 0, false },
    { "\x82\x7e\x00\x03xyz", 7, 7, false },
    { "\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x02xy\x88", 13, 12, false },
    { "\x82\xff\x00\x00\x00\x00\x00\x00\x00\x01zzzzy\x88\x80zzzz", 21, 21, true },
    { "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xffxy", 12, 0, false },
    { "\x88\x02\x03\xe9", 4, 4, true },
};

START_TEST(finds_where_frames_end) /* one run a row */
{
    for (size_t cut = 0; cut <= rows[_i].n; cut++) {
        struct wsframes f = { 0 };
        ssize_t first = wsframes_feed(&f, str_make(rows[_i].in, cut));
        ssize_t second = wsframes_feed(&f, str_make(rows[_i].in + cut, rows[_i].n - cut));

        ck_assert_int_eq(second >= 0 ? (ssize_t)cut + second : first, rows[_i].whole);
        ck_assert_int_eq(f.closed, rows[_i].closed);
        ck_assert_int_eq(wsframes_may_begin(&f), (size_t)rows[_i].whole == rows[_i].n);
    }
}
END_TEST

START_TEST(says_that_no_frame_may_begin)
{
    struct wsframes f = { 0 };

    ck_assert_int_eq(wsframes_feed(&f, STR("\x81\x05he")), 0);
    ck_assert_int_eq(wsframes_feed(&f, STR("ll")), -1);
    ck_assert_int_eq(wsframes_feed(&f, STR("o\x81")), 1);
    ck_assert(!wsframes_may_begin(&f));
}
END_TEST

START_TEST(a_close_frame_reads_as_one)
{
    for (int masked = 0; masked < 2; masked++) {
        unsigned char out[WSFRAMES_CLOSE_MAX];
        size_t n = wsframes_close(out, WSFRAMES_GOING_AWAY, masked), mask = masked ? 4 : 0;
        struct wsframes f = { 0 };

        ck_assert_uint_eq(n, 4 + mask);
        ck_assert_int_eq(wsframes_feed(&f, str_make((char *)out, n)), (ssize_t)n);
        ck_assert(f.closed);
        ck_assert_uint_eq(
            (out[2 + mask] ^ (masked ? out[2] : 0)) << 8 | (out[3 + mask] ^ (masked ? out[3] : 0)),
            1001);
    }
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("wsframes");

    tcase_add_loop_test(t, finds_where_frames_end, 0, COUNT_OF(rows));
    tcase_add_test(t, says_that_no_frame_may_begin);
    tcase_add_test(t, a_close_frame_reads_as_one);
    return t;
}

UNIT_MAIN("wsframes")
