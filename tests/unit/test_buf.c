/* Byte queues. */
#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "unit.h"

START_TEST(keeps_bytes_in_order)
{
    struct buf b = { 0 };

    ck_assert_span_eq(buf_str(&b), "");
    ck_assert_int_eq(buf_append(&b, "abc", 3), 0);
    ck_assert_int_eq(buf_append_str(&b, STR("def")), 0);
    ck_assert_int_eq(buf_append(&b, NULL, 0), 0);
    ck_assert_int_eq(buf_printf(&b, "%d", 42), 0);
    ck_assert_span_eq(buf_str(&b), "abcdef42");
    buf_consume(&b, 4);
    ck_assert_span_eq(buf_str(&b), "ef42");
    ck_assert_uint_eq(buf_len(&b), 4);
    buf_release(&b);
    ck_assert_uint_eq(buf_len(&b), 0);
    buf_trim();
}
END_TEST

START_TEST(holds_no_memory_when_empty)
{
    struct buf b = { 0 };
    size_t room;

    buf_append(&b, "abc", 3);
    buf_consume(&b, 3);
    ck_assert_ptr_null(b.mem);
    ck_assert_ptr_nonnull(buf_reserve(&b, 100, &room));
    ck_assert_uint_ge(room, 100);
    buf_settle(&b);
    ck_assert_ptr_null(b.mem);
    buf_trim();
}
END_TEST

START_TEST(settle_keeps_what_was_committed)
{
    struct buf b = { 0 };

    memcpy(buf_reserve(&b, 10, NULL), "xy", 2);
    buf_commit(&b, 2);
    buf_settle(&b);
    ck_assert_span_eq(buf_str(&b), "xy");
    buf_release(&b);
    buf_trim();
}
END_TEST

/* A long run of appends and consumes of changing sizes, compared with plain arithmetic. */
START_TEST(never_mixes_bytes_up)
{
    struct buf b = { 0 };
    uint32_t put = 0, got = 0, seed = 1;

    for (int turn = 0; turn < 5000; turn++) {
        unsigned char piece[700];
        size_t n, take;

        seed = seed * 1664525 + 1013904223;
        n = (seed >> 8) % sizeof(piece);
        for (size_t i = 0; i < n; i++)
            piece[i] = (unsigned char)(put++ * 31);
        ck_assert_int_eq(buf_append(&b, piece, n), 0);
        ck_assert_uint_eq(buf_len(&b), put - got);
        seed = seed * 1664525 + 1013904223;
        take = buf_len(&b) ? (seed >> 8) % (buf_len(&b) + 1) : 0;
        for (size_t i = 0; i < take; i++)
            if ((unsigned char)buf_str(&b).p[i] != (unsigned char)((got + i) * 31))
                ck_abort_msg("byte %zu of turn %d is wrong", i, turn);
        buf_consume(&b, take);
        got += (uint32_t)take;
    }
    buf_release(&b);
    buf_trim();
}
END_TEST

START_TEST(blocks_that_come_back_are_separate)
{
    struct buf b[40] = { 0 };

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 40; i++) {
            char text[600];

            memset(text, 'a' + i % 26, sizeof(text));
            ck_assert_int_eq(buf_append(&b[i], text, sizeof(text) - (size_t)i), 0);
        }
        for (int i = 0; i < 40; i++) {
            struct str s = buf_str(&b[i]);

            ck_assert_uint_eq(s.n, 600 - (size_t)i);
            for (size_t k = 0; k < s.n; k++)
                ck_assert_int_eq(s.p[k], 'a' + i % 26);
            buf_release(&b[i]);
        }
    }
    buf_trim();
}
END_TEST

START_TEST(refuses_sizes_beyond_its_counters)
{
    struct buf b = { 0 };

    ck_assert_int_eq(buf_append(&b, "x", 1), 0);
    ck_assert_ptr_null(buf_reserve(&b, SIZE_MAX, NULL));
    ck_assert_ptr_null(buf_reserve(&b, SIZE_MAX / 2, NULL));
    ck_assert_ptr_null(buf_reserve(&b, UINT32_MAX, NULL));
    ck_assert_span_eq(buf_str(&b), "x");
    buf_release(&b);
    buf_trim();
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("buf");

    tcase_add_test(t, keeps_bytes_in_order);
    tcase_add_test(t, holds_no_memory_when_empty);
    tcase_add_test(t, settle_keeps_what_was_committed);
    tcase_add_test(t, never_mixes_bytes_up);
    tcase_add_test(t, blocks_that_come_back_are_separate);
    tcase_add_test(t, refuses_sizes_beyond_its_counters);
    return t;
}

UNIT_MAIN("buf")
