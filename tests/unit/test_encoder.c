/* Bodies on their way into a content coding: what comes out decodes to what was put in, at once
 * after a flush, and does not look whole before its end. */
#include "http/encoder.h"

#include <brotli/decode.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/buf.h"
#include "unit.h"

enum { TEXT = 300000, WINDOW = 64 << 10 };

static char text[TEXT], decoded[TEXT + 1];

/* Words that repeat, and noise that does not. */
static void make_text(void)
{
    unsigned seed = 1;

    for (size_t i = 0; i < TEXT; i++) {
        seed = seed * 1664525 + 1013904223;
        text[i] = i % 1000 < 200 ? (char)(seed >> 24) : "some words "[i % 11];
    }
}

static void on_out(void *owner, struct str out)
{
    ck_assert_uint_gt(out.n, 0);
    ck_assert_int_eq(buf_append_str(owner, out), 0);
}

/* How many bytes of `in` decode, and whether the stream is complete. */
static size_t decode(enum encoding e, struct str in, bool *whole)
{
    z_stream z = { 0 };
    BrotliDecoderState *br;
    ZSTD_DCtx *zstd;
    size_t n = 0;

    switch (e) {
    case ENCODING_IDENTITY:
        ck_abort();
        break;
    case ENCODING_GZIP:
        z.next_in = (unsigned char *)(uintptr_t)in.p;
        z.avail_in = (unsigned)in.n;
        z.next_out = (unsigned char *)decoded;
        z.avail_out = sizeof(decoded);
        ck_assert_int_eq(inflateInit2(&z, 31), Z_OK);
        *whole = inflate(&z, Z_NO_FLUSH) == Z_STREAM_END;
        n = z.total_out;
        inflateEnd(&z);
        break;
    case ENCODING_BR: {
        const uint8_t *next_in = (const uint8_t *)in.p;
        uint8_t *next_out = (uint8_t *)decoded;
        size_t left = in.n, room = sizeof(decoded);

        br = BrotliDecoderCreateInstance(NULL, NULL, NULL);
        *whole = BrotliDecoderDecompressStream(br, &left, &next_in, &room, &next_out, &n) ==
                 BROTLI_DECODER_RESULT_SUCCESS;
        BrotliDecoderDestroyInstance(br);
        break;
    }
    case ENCODING_ZSTD: {
        ZSTD_inBuffer from = { in.p, in.n, 0 };
        ZSTD_outBuffer to = { decoded, sizeof(decoded), 0 };

        zstd = ZSTD_createDCtx();
        *whole = false;
        while (from.pos < from.size) {
            size_t rc = ZSTD_decompressStream(zstd, &to, &from);

            ck_assert(!ZSTD_isError(rc));
            *whole = rc == 0;
        }
        n = to.pos;
        ZSTD_freeDCtx(zstd);
        break;
    }
    }
    return n;
}

static void expect(enum encoding e, const struct buf *b, size_t n, bool whole)
{
    bool is_whole;

    ck_assert_uint_eq(decode(e, buf_str(b), &is_whole), n);
    ck_assert_int_eq(memcmp(decoded, text, n), 0);
    ck_assert_int_eq(is_whole, whole);
}

static const unsigned most[ENCODING_COUNT] = { 0, 9, 9, 12 };

START_TEST(decodes_to_what_was_put_in)
{
    enum encoding e = (enum encoding)_i;

    make_text();
    for (unsigned level = 1; level <= most[e]; level++) {
        struct encoder *enc = encoder_new(e, level, WINDOW);
        struct buf b = { 0 };

        ck_assert_ptr_nonnull(enc);
        for (size_t at = 0, n; at < TEXT; at += n) {
            n = at % 3 == 0 ? 16384 : 1000 + level;
            if (n > TEXT - at)
                n = TEXT - at;
            ck_assert_int_eq(encoder_put(enc, str_make(text + at, n), ENCODER_MORE, on_out, &b), 0);
        }
        ck_assert_int_eq(encoder_put(enc, str_make("", 0), ENCODER_END, on_out, &b), 0);
        expect(e, &b, TEXT, true);
        ck_assert_uint_lt(buf_len(&b), TEXT * 2 / 3);
        encoder_free(enc);
        buf_release(&b);
    }
    ck_assert_uint_eq(encoder_memory() + encoder_count(), 0);
}
END_TEST

START_TEST(gives_all_out_when_it_is_flushed_and_ends_only_when_told)
{
    enum encoding e = (enum encoding)_i;
    struct encoder *enc = encoder_new(e, 4, WINDOW);
    struct buf b = { 0 };

    make_text();
    for (size_t at = 0; at < 5000; at += 50) {
        ck_assert_int_eq(encoder_put(enc, str_make(text + at, 50), ENCODER_MORE, on_out, &b), 0);
        ck_assert_int_eq(encoder_put(enc, str_make("", 0), ENCODER_FLUSH, on_out, &b), 0);
        expect(e, &b, at + 50, false);
    }
    ck_assert_int_eq(encoder_put(enc, str_make("", 0), ENCODER_FLUSH, on_out, &b), 0);
    expect(e, &b, 5000, false);
    ck_assert_int_eq(encoder_put(enc, str_make("", 0), ENCODER_END, on_out, &b), 0);
    expect(e, &b, 5000, true);
    encoder_free(enc);
    buf_release(&b);
}
END_TEST

START_TEST(encodes_nothing)
{
    enum encoding e = (enum encoding)_i;
    struct encoder *enc = encoder_new(e, 4, WINDOW);
    struct buf b = { 0 };

    ck_assert_int_eq(encoder_put(enc, str_make("", 0), ENCODER_END, on_out, &b), 0);
    expect(e, &b, 0, true);
    encoder_free(enc);
    buf_release(&b);
}
END_TEST

/* The window bounds the memory, however long the body is; all of it is counted. */
START_TEST(counts_its_memory)
{
    static const size_t windows[] = { 1 << 10, 100000, 128 << 10, 8 << 20 };
    enum encoding e = (enum encoding)_i;
    struct buf b = { 0 };

    make_text();
    for (int w = 0; w < COUNT_OF(windows); w++) {
        struct encoder *enc = encoder_new(e, 2, windows[w]);
        size_t first = 0;

        ck_assert_ptr_nonnull(enc);
        ck_assert_uint_eq(encoder_count(), 1);
        for (int round = 0; round < 8; round++) {
            ck_assert_int_eq(encoder_put(enc, str_make(text, TEXT), ENCODER_FLUSH, on_out, &b), 0);
            if (round == 3)
                first = encoder_memory();
        }
        ck_assert_uint_gt(encoder_memory(), 50000);
        if (windows[w] < 1 << 20) {
            ck_assert_uint_eq(encoder_memory(), first);
            ck_assert_uint_lt(encoder_memory(), 1300000);
        }
        encoder_free(enc);
        buf_release(&b);
        ck_assert_uint_eq(encoder_memory() + encoder_count(), 0);
    }
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("encoder");

    tcase_add_loop_test(t, decodes_to_what_was_put_in, 1, ENCODING_COUNT);
    tcase_add_loop_test(
        t, gives_all_out_when_it_is_flushed_and_ends_only_when_told, 1, ENCODING_COUNT);
    tcase_add_loop_test(t, encodes_nothing, 1, ENCODING_COUNT);
    tcase_add_loop_test(t, counts_its_memory, 1, ENCODING_COUNT);
    return t;
}

UNIT_MAIN("encoder")
