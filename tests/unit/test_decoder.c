/* Coded bodies on their way back: whatever the pieces and the slices, what comes out is what was
 * put in, and a body that is damaged, cut, too large or followed by something is told from a whole
 * one. */
#include "http/decoder.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/buf.h"
#include "cuts.h"
#include "http/encoder.h"
#include "unit.h"

enum { TEXT = 3000, ZEROS = 4 << 20, SLICE = 64 << 10 };

/* Ways to code a body. */
enum way { GZIP, ZLIB, RAW, BR, ZSTD, NWAYS };
static const enum coding codings[NWAYS] = {
    [GZIP] = CODING_GZIP,
    [ZLIB] = CODING_DEFLATE,
    [RAW] = CODING_DEFLATE,
    [BR] = CODING_BR,
    [ZSTD] = CODING_ZSTD,
};

static int on_coded(void *owner, struct str out)
{
    ck_assert_int_eq(buf_append_str(owner, out), 0);
    return 0;
}

static void on_encoded(void *owner, struct str out)
{
    on_coded(owner, out);
}

static void code_deflate(int bits, struct str in, struct buf *out)
{
    z_stream z = { 0 };
    char *p;
    size_t room;

    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    p = buf_reserve(out, deflateBound(&z, in.n), &room);
    z.next_in = (unsigned char *)(uintptr_t)in.p;
    z.avail_in = (unsigned)in.n;
    z.next_out = (unsigned char *)p;
    z.avail_out = (unsigned)room;
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    buf_commit(out, z.total_out);
    deflateEnd(&z);
}

/* Adds `in`, coded, to `out`. */
static void code(enum way way, struct str in, struct buf *out)
{
    static const enum encoding encodings[NWAYS] = {
        [GZIP] = ENCODING_GZIP, [BR] = ENCODING_BR, [ZSTD] = ENCODING_ZSTD
    };
    struct encoder *enc;

    if (way == ZLIB || way == RAW) {
        code_deflate(way == ZLIB ? 15 : -15, in, out);
        return;
    }
    enc = encoder_new(encodings[way], 3, 64 << 10);
    ck_assert_int_eq(encoder_put(enc, in, ENCODER_END, on_encoded, out), 0);
    encoder_free(enc);
}

static const char *text(void)
{
    static char t[TEXT + 1];
    unsigned seed = 1;

    for (size_t i = 0; i < TEXT; i++) {
        seed = seed * 1664525 + 1013904223;
        t[i] = i % 100 < 20 ? (char)('a' + (seed >> 24) % 26) : "some words "[i % 11];
    }
    return t;
}

/* Puts a piece in, turn by turn. */
static int put_all(struct decoder *d, struct str in, size_t slice, struct buf *out)
{
    int rc;

    do
        rc = decoder_put(d, &in, slice, on_coded, out);
    while (rc == DECODER_AGAIN);
    if (rc == DECODER_MORE)
        ck_assert_uint_eq(in.n, 0);
    return rc;
}

/* What becomes of a whole body in one piece. */
static int decode(enum coding c, uint64_t size_max, struct str in, struct buf *out)
{
    struct decoder *d = decoder_new(c, size_max);
    int rc = put_all(d, in, SLICE, out);

    if (rc == DECODER_MORE)
        rc = decoder_end(d);
    decoder_free(d);
    ck_assert_uint_eq(decoder_memory(), 0);
    ck_assert_uint_eq(decoder_count(), 0);
    return rc;
}

START_TEST(decodes_however_it_is_cut)
{
    static const size_t slices[] = { 1, 7, 1000, SLICE };
    struct buf coded = { 0 };

    code((enum way)_i, str_of(text()), &coded);
    for (size_t k = 0; k < sizeof(slices) / sizeof(*slices); k++) {
        struct cuts c = { .n = buf_len(&coded) };

        while (cuts_next(&c)) {
            struct decoder *d = decoder_new(codings[_i], TEXT);
            struct buf out = { 0 };

            for (size_t at = 0, end; at < c.n; at = end) {
                end = cuts_end(&c, at);
                ck_assert_int_eq(
                    put_all(d, cuts_guarded(str_make(buf_str(&coded).p + at, end - at)), slices[k],
                        &out),
                    DECODER_MORE);
                ck_assert_int_eq(decoder_end(d), end < c.n ? DECODER_E_ENDED : 0);
            }
            ck_assert_uint_eq(decoder_size(d), TEXT);
            ck_assert(str_eq(buf_str(&out), str_of(text())));
            decoder_free(d);
            buf_release(&out);
        }
    }
    buf_release(&coded);
}
END_TEST

/* A few KiB that unpack to megabytes come out in slices, each no longer than was asked. */
START_TEST(holds_to_the_slice)
{
    static char zeros[ZEROS];
    struct buf coded = { 0 };
    struct decoder *d = decoder_new(codings[_i], UINT64_MAX);
    struct str in;
    size_t turns = 0;
    int rc;

    code((enum way)_i, str_make(zeros, ZEROS), &coded);
    in = buf_str(&coded);
    do {
        struct buf out = { 0 };

        rc = decoder_put(d, &in, SLICE, on_coded, &out);
        ck_assert_uint_lt(buf_len(&out), SLICE + (16 << 10));
        ck_assert_uint_gt(decoder_memory(), 0);
        buf_release(&out);
        turns++;
    } while (rc == DECODER_AGAIN);
    ck_assert_int_eq(rc, DECODER_MORE);
    ck_assert_int_eq(decoder_end(d), 0);
    ck_assert_uint_eq(decoder_size(d), ZEROS);
    ck_assert_uint_ge(turns, ZEROS / (SLICE + (16 << 10)));
    decoder_free(d);
    buf_release(&coded);
}
END_TEST

START_TEST(refuses_more_than_the_limit)
{
    struct buf coded = { 0 }, out = { 0 };

    code((enum way)_i, str_of(text()), &coded);
    ck_assert_int_eq(decode(codings[_i], TEXT - 1, buf_str(&coded), &out), DECODER_E_TOO_LARGE);
    ck_assert_uint_lt(buf_len(&out), TEXT);
    buf_release(&out);
    buf_release(&coded);
}
END_TEST

/* RFC 1952 2.2 and RFC 8878 3.1: members and frames follow each other. The others end once. */
START_TEST(takes_several_members_where_the_coding_has_them)
{
    bool several = _i == GZIP || _i == ZSTD;
    struct buf coded = { 0 }, out = { 0 }, want = { 0 };

    for (size_t i = 0; i < 3; i++) {
        code((enum way)_i, str_of(i == 1 ? "" : text()), &coded);
        buf_append_str(&want, str_of(i == 1 ? "" : text()));
    }
    ck_assert_int_eq(
        decode(codings[_i], UINT64_MAX, buf_str(&coded), &out), several ? 0 : DECODER_E_DAMAGED);
    if (several)
        ck_assert(str_eq(buf_str(&out), buf_str(&want)));
    buf_release(&want);
    buf_release(&out);
    buf_release(&coded);
}
END_TEST

START_TEST(refuses_bytes_that_follow)
{
    struct buf coded = { 0 }, out = { 0 };

    code((enum way)_i, str_of(text()), &coded);
    buf_append_str(&coded, STR("{\"not\": \"coded\"}"));
    ck_assert_int_eq(decode(codings[_i], UINT64_MAX, buf_str(&coded), &out), DECODER_E_DAMAGED);
    buf_release(&out);
    buf_release(&coded);
}
END_TEST

START_TEST(refuses_what_is_not_coded)
{
    struct buf out = { 0 };

    ck_assert_int_eq(decode(codings[_i], UINT64_MAX,
                         STR("{\"model\": \"a\", \"text\": \"not coded at all\"}"), &out),
        DECODER_E_DAMAGED);
    ck_assert_int_eq(decode(codings[_i], UINT64_MAX, STR(""), &out), DECODER_E_ENDED);
    buf_release(&out);
}
END_TEST

/* Any octet may be wrong: nothing is read out of bounds, and the error stays. */
START_TEST(survives_damage)
{
    struct buf coded = { 0 };

    code((enum way)_i, str_make(text(), 300), &coded);
    for (size_t at = 0; at < buf_len(&coded); at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct decoder *d = decoder_new(codings[_i], 1 << 16);
            struct buf out = { 0 };
            int rc;

            coded.mem[coded.off + at] ^= (char)(1u << bit);
            rc = put_all(d, cuts_guarded(buf_str(&coded)), 100, &out);
            ck_assert_int_ne(rc, DECODER_AGAIN);
            if (rc < 0) {
                ck_assert_int_eq(put_all(d, buf_str(&coded), 100, &out), rc);
                ck_assert_int_eq(decoder_end(d), rc);
            }
            coded.mem[coded.off + at] ^= (char)(1u << bit);
            decoder_free(d);
            buf_release(&out);
        }
    }
    buf_release(&coded);
}
END_TEST

static int stop(void *owner, struct str out)
{
    return -1;
}

START_TEST(stops_when_its_owner_says_so)
{
    struct buf coded = { 0 };
    struct decoder *d = decoder_new(codings[_i], UINT64_MAX);
    struct str in;

    code((enum way)_i, str_of(text()), &coded);
    in = buf_str(&coded);
    ck_assert_int_eq(decoder_put(d, &in, SLICE, stop, NULL), DECODER_E_STOPPED);
    ck_assert_int_eq(decoder_put(d, &in, SLICE, stop, NULL), DECODER_E_STOPPED);
    decoder_free(d);
    buf_release(&coded);
}
END_TEST

/* RFC 9659: no more than 8 MiB. */
START_TEST(refuses_a_window_that_is_too_large)
{
    struct buf coded = { 0 }, out = { 0 };
    ZSTD_CCtx *z = ZSTD_createCCtx();
    static char zeros[ZEROS], room[1 << 16];
    ZSTD_inBuffer from = { zeros, sizeof(zeros), 0 };
    ZSTD_outBuffer to = { room, sizeof(room), 0 };

    ZSTD_CCtx_setParameter(z, ZSTD_c_windowLog, 24);
    ck_assert_uint_eq(ZSTD_isError(ZSTD_compressStream2(z, &to, &from, ZSTD_e_flush)), 0);
    ZSTD_freeCCtx(z);
    buf_append(&coded, room, to.pos);
    ck_assert_int_eq(decode(CODING_ZSTD, UINT64_MAX, buf_str(&coded), &out), DECODER_E_WINDOW);
    buf_release(&out);
    buf_release(&coded);
}
END_TEST

static const struct {
    struct str in;
    int result;
} frames[] = {
    { STR_INIT("\x28\xb5\x2f\xfd\x20\x05\x29\0\0hello"), 0 },
    { STR_INIT("\x5f\x2a\x4d\x18\x02\0\0\0xx"), 0 },
    { STR_INIT("\x25\xb5\x2f\xfd\x01\xcf\x75\x90"), DECODER_E_DAMAGED }, /* version 0.5 */
    { STR_INIT("\x60\x2a\x4d\x18\x02\0\0\0xx"), DECODER_E_DAMAGED },
};

/* RFC 8878 3.1; older formats are not read, even by a library that could. */
START_TEST(reads_frames_of_the_rfc_only)
{
    struct buf out = { 0 };

    ck_assert_int_eq(decode(CODING_ZSTD, UINT64_MAX, frames[_i].in, &out), frames[_i].result);
    buf_release(&out);
}
END_TEST

static const struct {
    const char *one, *two; /* lines */
    int result;
    enum coding coding;
} heads[] = {
    { NULL, NULL, 0, CODING_IDENTITY },
    { "", NULL, 0, CODING_IDENTITY },
    { "identity", NULL, 0, CODING_IDENTITY },
    { "gzip", NULL, 0, CODING_GZIP },
    { "X-GZip", NULL, 0, CODING_GZIP },
    { "deflate", NULL, 0, CODING_DEFLATE },
    { "BR", NULL, 0, CODING_BR },
    { "zstd", NULL, 0, CODING_ZSTD },
    { "identity, zstd", NULL, 0, CODING_ZSTD },
    { "identity", " , br ,", 0, CODING_BR },
    { "gzip, gzip", NULL, -1, 0 },
    { "gzip", "br", -1, 0 },
    { "compress", NULL, -1, 0 },
    { "dcz", NULL, -1, 0 },
    { "gzip;q=1", NULL, -1, 0 },
};

START_TEST(reads_content_encoding)
{
    struct field fields[2];
    struct head h = { .fields = fields };
    enum coding c;

    if (heads[_i].one)
        fields[h.nfields++] = (struct field){ STR("content-Encoding"), str_of(heads[_i].one) };
    if (heads[_i].two)
        fields[h.nfields++] = (struct field){ STR("Content-Encoding"), str_of(heads[_i].two) };
    ck_assert_int_eq(decoder_coding_of(&h, &c), heads[_i].result);
    if (heads[_i].result == 0)
        ck_assert_int_eq(c, heads[_i].coding);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("decoder");

    tcase_add_loop_test(t, decodes_however_it_is_cut, 0, NWAYS);
    tcase_add_loop_test(t, holds_to_the_slice, 0, NWAYS);
    tcase_add_loop_test(t, refuses_more_than_the_limit, 0, NWAYS);
    tcase_add_loop_test(t, takes_several_members_where_the_coding_has_them, 0, NWAYS);
    tcase_add_loop_test(t, refuses_bytes_that_follow, 0, NWAYS);
    tcase_add_loop_test(t, refuses_what_is_not_coded, 0, NWAYS);
    tcase_add_loop_test(t, survives_damage, 0, NWAYS);
    tcase_add_loop_test(t, stops_when_its_owner_says_so, 0, NWAYS);
    tcase_add_test(t, refuses_a_window_that_is_too_large);
    tcase_add_loop_test(t, reads_frames_of_the_rfc_only, 0, COUNT_OF(frames));
    tcase_add_loop_test(t, reads_content_encoding, 0, COUNT_OF(heads));
    return t;
}

UNIT_MAIN("decoder")
