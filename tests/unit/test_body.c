/* Bodies: kept in memory and in a file, read at any place, and sent in pieces. */
#include "http/body.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conffile.h"
#include "fakestream.h"
#include "http/filereaper.h"
#include "net/loop.h"
#include "unit.h"
#include "world.h"

/* A byte that tells where it stands. */
static char at(uint64_t off)
{
    return (char)(off * 7 + off / 251);
}

static void append(struct body *b, size_t n)
{
    char bytes[4096];

    ck_assert_uint_le(n, sizeof(bytes));
    for (size_t i = 0; i < n; i++)
        bytes[i] = at(body_size(b) + i);
    ck_assert_int_eq(body_append(b, bytes, n), 0);
}

/* Reads [off, off + max) in as many steps as it takes, and compares. */
static void expect_range(const struct body *b, uint64_t off, size_t max)
{
    char scratch[64];
    uint64_t end = off + max < body_size(b) ? off + max : body_size(b);

    while (off < end) {
        struct str s;

        ck_assert_int_eq(
            body_read(b, off, max < sizeof(scratch) ? max : sizeof(scratch), scratch, &s), 0);
        ck_assert_uint_gt(s.n, 0);
        for (size_t i = 0; i < s.n; i++)
            ck_assert_int_eq(s.p[i], at(off + i));
        off += s.n;
    }
}

static const struct {
    size_t memory, step, steps, in_memory;
} kept[] = {
    { 4096, 1, 1, 1 },      /* all in memory */
    { 4096, 512, 8, 4096 }, /* just full */
    { 100, 7, 40, 100 },    /* over the border within a step */
    { 100, 100, 3, 100 },   /* at the border */
    { 0, 50, 3, 0 },        /* nothing in memory */
    { 700, 333, 9, 700 },
};

START_TEST(keeps_what_is_appended)
{
    struct body b;

    body_init(&b, kept[_i].memory, conffile_path(""));
    for (size_t i = 0; i < kept[_i].steps; i++)
        append(&b, kept[_i].step);
    ck_assert_uint_eq(body_size(&b), kept[_i].step * kept[_i].steps);
    ck_assert_uint_eq(b.mem_len, kept[_i].in_memory);
    ck_assert_int_eq(b.fd >= 0, body_size(&b) > kept[_i].in_memory);
    for (uint64_t off = 0; off <= body_size(&b); off += 13)
        for (size_t max = 1; max < 80; max += 26)
            expect_range(&b, off, max);
    body_release(&b);
}
END_TEST

START_TEST(ends_with_an_empty_span)
{
    char scratch[8];
    struct body b;
    struct str s;

    body_init(&b, 4, conffile_path(""));
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(body_read(&b, body_size(&b), sizeof(scratch), scratch, &s), 0);
        ck_assert_uint_eq(s.n, 0);
        ck_assert_int_eq(body_read(&b, body_size(&b) + 100, sizeof(scratch), scratch, &s), 0);
        ck_assert_uint_eq(s.n, 0);
        append(&b, 3);
    }
    body_release(&b);
}
END_TEST

START_TEST(leaves_no_file_behind)
{
    struct body b;

    body_init(&b, 1, conffile_path(""));
    append(&b, 2);
    ck_assert_int_eq(rmdir(conffile_path("")), 0); /* it is empty: the file has no name */
    expect_range(&b, 0, 2);
    body_release(&b);
    conffile_open();
}
END_TEST

/* Bytes that the disk holds for it. */
static uint64_t on_disk(const struct body *b)
{
    struct stat st;

    ck_assert_int_eq(fstat(b->fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* Issue 8, point 12: spool_max bounds what waits, and the disk was never given back the rest. */
START_TEST(gives_the_disk_back_what_was_read)
{
    enum { AHEAD = 1 << 20, ALL = 16 << 20 };
    uint64_t most = 0;
    struct body b;

    body_init(&b, 1000, ".");
    for (uint64_t read = 0; read < ALL; read += 4096) {
        while (body_size(&b) < read + AHEAD)
            append(&b, 4096);
        expect_range(&b, read, 64);
        body_forget(&b, read + 4096);
        most = on_disk(&b) > most ? on_disk(&b) : most;
    }
    expect_range(&b, ALL, 4096);
    /* what waits, what is not a whole step yet, and the file system's own */
    ck_assert_uint_le(most, 3 * AHEAD);
    body_release(&b);
    WORLD_UNTIL(filereaper_count() == 0);
}
END_TEST

START_TEST(ends_a_large_file_a_slice_a_turn)
{
    struct body b;
    uint64_t began = loop_turn();

    body_init(&b, 0, ".");
    while (body_size(&b) < 20 << 20)
        append(&b, 4096);
    body_release(&b);
    ck_assert_uint_eq(filereaper_count(), 1);
    WORLD_UNTIL(filereaper_count() == 0);
    ck_assert_uint_ge(loop_turn() - began, 4);
}
END_TEST

START_TEST(says_when_there_is_no_disk)
{
    struct body b;

    body_init(&b, 2, "/nonexistent/folder");
    ck_assert_int_eq(body_append(&b, "ab", 2), 0);
    ck_assert_int_eq(body_append(&b, "c", 1), -1);
    ck_assert_int_eq(errno, ENOENT);
    body_release(&b);
}
END_TEST

START_TEST(takes_one_block_of_the_announced_size)
{
    struct body b;

    body_init(&b, 1000, conffile_path(""));
    body_expect(&b, 700);
    ck_assert_uint_eq(b.mem_cap, 700);
    append(&b, 700);
    ck_assert_uint_eq(b.mem_cap, 700);
    append(&b, 10); /* it was a hint */
    expect_range(&b, 0, 710);
    body_clear(&b);
    body_expect(&b, 1001); /* does not fit */
    ck_assert_uint_eq(b.mem_cap, 0);
    body_expect(&b, 0);
    ck_assert_ptr_null(b.mem);
    body_release(&b);
}
END_TEST

START_TEST(is_empty_after_clear)
{
    struct body b;

    body_init(&b, 10, conffile_path(""));
    for (int round = 0; round < 2; round++) {
        append(&b, 20);
        expect_range(&b, 0, 20);
        body_clear(&b);
        ck_assert_uint_eq(body_size(&b), 0);
        ck_assert_int_eq(b.fd, -1);
    }
    body_release(&b);
    body_release(&b);
}
END_TEST

/* Pieces of memory and of two bodies, sent with a stream that is full every now and then. */
START_TEST(sends_pieces_in_order)
{
    static const size_t rooms[] = { SIZE_MAX, 1, 3, 100, 20000 };
    struct body small, large;
    struct fake_stream f;
    struct piece pieces[] = {
        { .mem = "head;", .len = 5 },
        { .body = &small, .off = 2, .len = 3 },
        { .mem = "", .len = 0 },
        { .body = &large, .off = 90, .len = 39000 },
        { .body = &small, .len = 0 },
        { .mem = ";tail", .len = 5 },
    };
    struct piece_cursor c = { .pieces = pieces, .count = COUNT_OF(pieces) };
    size_t room = rooms[_i];
    struct str s;
    int rc;

    body_init(&small, 100, conffile_path(""));
    body_init(&large, 100, conffile_path(""));
    append(&small, 9);
    for (int i = 0; i < 10; i++)
        append(&large, 4000);
    ck_assert_uint_eq(pieces_size(pieces, COUNT_OF(pieces)), 39013);
    fake_stream_init(&f);
    f.room = room;
    while ((rc = pieces_send(&c, &f.stream)) == STREAM_FULL)
        f.room = buf_len(&f.body) + room;
    ck_assert_int_eq(rc, 0);
    s = buf_str(&f.body);
    ck_assert_uint_eq(s.n, 39013);
    ck_assert(str_starts_with(s, STR("head;")));
    ck_assert(str_eq(str_make(s.p + s.n - 5, 5), STR(";tail")));
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(s.p[5 + i], at(2 + i));
    for (size_t i = 0; i < 39000; i++)
        ck_assert_int_eq(s.p[8 + i], at(90 + i));
    ck_assert_int_eq(pieces_send(&c, &f.stream), 0); /* nothing twice */
    ck_assert_uint_eq(buf_len(&f.body), 39013);
    fake_stream_release(&f);
    body_release(&small);
    body_release(&large);
}
END_TEST

START_TEST(stops_at_an_error)
{
    struct piece p = { .mem = "abc", .len = 3 };
    struct piece_cursor c = { .pieces = &p, .count = 1 };
    struct fake_stream f;

    fake_stream_init(&f);
    f.error = STREAM_E_MEMORY;
    ck_assert_int_eq(pieces_send(&c, &f.stream), STREAM_E_MEMORY);
    fake_stream_release(&f);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("body");

    tcase_add_checked_fixture(t, world_open, world_close);
    tcase_add_loop_test(t, keeps_what_is_appended, 0, COUNT_OF(kept));
    tcase_add_test(t, ends_with_an_empty_span);
    tcase_add_test(t, leaves_no_file_behind);
    tcase_add_test(t, gives_the_disk_back_what_was_read);
    tcase_add_test(t, ends_a_large_file_a_slice_a_turn);
    tcase_add_test(t, says_when_there_is_no_disk);
    tcase_add_test(t, takes_one_block_of_the_announced_size);
    tcase_add_test(t, is_empty_after_clear);
    tcase_add_loop_test(t, sends_pieces_in_order, 0, 5);
    tcase_add_test(t, stops_at_an_error);
    return t;
}

UNIT_MAIN("body")
