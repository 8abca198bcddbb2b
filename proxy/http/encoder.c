/* Three libraries behind one function. Their memory is counted: by an allocator, or (zstd, whose
 * stable interface has none) by asking the library.
 *
 * libbrotlienc calls exit() when its allocator has nothing to give. So that one never returns then:
 * it jumps out of the library, which is not called again, and its blocks are freed from a list. */
#include "http/encoder.h"

#include <brotli/encode.h>
#include <setjmp.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "http/codermem.h"

enum {
    OUT_STEP = 16 << 10,
    GZIP_FORMAT = 16, /* zlib: added to the window's bits */
    GZIP_BITS_MIN = 9,
    GZIP_BITS_MAX = 15,
    GZIP_MEMORY = 8,    /* zlib's default */
    ZSTD_BITS_MAX = 23, /* RFC 9659: clients need not have more than 8 MB */
};

struct encoder {
    enum encoding encoding;
    union {
        z_stream gzip;
        BrotliEncoderState *br;
        ZSTD_CCtx *zstd;
    };
    size_t zstd_memory;           /* counted so far */
    struct encoder_block *blocks; /* of brotli */
    jmp_buf no_memory;            /* where brotli's allocator goes then */
    bool broken;                  /* it has gone there */
};

/* One of brotli's blocks; what follows is the library's. */
struct encoder_block {
    _Alignas(max_align_t) struct encoder_block *next;
    struct encoder_block *prev;
};

static size_t memory, count;

static void *encoder_take_block(void *opaque, size_t n)
{
    struct encoder *enc = opaque;
    struct encoder_block *b = codermem_take(&memory, sizeof(*b) + n);

    if (!b)
        longjmp(enc->no_memory, 1);
    *b = (struct encoder_block){ .next = enc->blocks };
    if (enc->blocks)
        enc->blocks->prev = b;
    enc->blocks = b;
    return b + 1;
}

static void encoder_give_block(void *opaque, void *what)
{
    struct encoder *enc = opaque;
    struct encoder_block *b = what;

    if (!b)
        return;
    b--;
    if (b->prev)
        b->prev->next = b->next;
    else
        enc->blocks = b->next;
    if (b->next)
        b->next->prev = b->prev;
    codermem_give(&memory, b);
}

static voidpf encoder_take_items(voidpf opaque, uInt items, uInt size)
{
    return codermem_take(&memory, (size_t)items * size);
}

static void encoder_give_items(voidpf opaque, voidpf p)
{
    codermem_give(&memory, p);
}

static int encoder_bits_of(size_t window, int least, int most)
{
    int bits = 0;

    while (bits < 62 && window >> (bits + 1))
        bits++;
    return bits < least ? least : bits > most ? most : bits;
}

static bool encoder_open_gzip(struct encoder *enc, unsigned level, size_t window)
{
    enc->gzip = (z_stream){ .zalloc = encoder_take_items, .zfree = encoder_give_items };
    return deflateInit2(&enc->gzip, (int)level, Z_DEFLATED,
               GZIP_FORMAT + encoder_bits_of(window, GZIP_BITS_MIN, GZIP_BITS_MAX), GZIP_MEMORY,
               Z_DEFAULT_STRATEGY) == Z_OK;
}

static bool encoder_make_br(struct encoder *enc, unsigned level, size_t window)
{
    int bits = encoder_bits_of(window, BROTLI_MIN_WINDOW_BITS, BROTLI_MAX_WINDOW_BITS);

    enc->br = BrotliEncoderCreateInstance(encoder_take_block, encoder_give_block, enc);
    return enc->br && BrotliEncoderSetParameter(enc->br, BROTLI_PARAM_QUALITY, level) &&
           BrotliEncoderSetParameter(enc->br, BROTLI_PARAM_LGWIN, (uint32_t)bits);
}

static bool encoder_open_br(struct encoder *enc, unsigned level, size_t window)
{
    if (setjmp(enc->no_memory)) {
        enc->broken = true;
        return false;
    }
    return encoder_make_br(enc, level, window);
}

static void encoder_count_zstd(struct encoder *enc)
{
    size_t now = ZSTD_sizeof_CCtx(enc->zstd);

    memory += now - enc->zstd_memory;
    enc->zstd_memory = now;
}

static bool encoder_open_zstd(struct encoder *enc, unsigned level, size_t window)
{
    int least = (int)ZSTD_cParam_getBounds(ZSTD_c_windowLog).lowerBound;

    enc->zstd = ZSTD_createCCtx();
    return enc->zstd &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(enc->zstd, ZSTD_c_compressionLevel, (int)level)) &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(
               enc->zstd, ZSTD_c_windowLog, encoder_bits_of(window, least, ZSTD_BITS_MAX)));
}

struct encoder *encoder_new(enum encoding e, unsigned level, size_t window)
{
    struct encoder *enc = calloc(1, sizeof(*enc));
    bool good = false;

    if (!enc)
        return NULL;
    count++;
    enc->encoding = e;
    switch (e) {
    case ENCODING_IDENTITY:
        break;
    case ENCODING_GZIP:
        good = encoder_open_gzip(enc, level, window);
        break;
    case ENCODING_BR:
        good = encoder_open_br(enc, level, window);
        break;
    case ENCODING_ZSTD:
        good = encoder_open_zstd(enc, level, window);
        break;
    }
    if (good)
        return enc;
    encoder_free(enc);
    return NULL;
}

static int encoder_put_gzip(
    struct encoder *enc, struct str in, enum encoder_step step, encoder_out_fn *out, void *owner)
{
    static const int how[] = {
        [ENCODER_MORE] = Z_NO_FLUSH, [ENCODER_FLUSH] = Z_SYNC_FLUSH, [ENCODER_END] = Z_FINISH
    };
    unsigned char scratch[OUT_STEP];
    z_stream *z = &enc->gzip;

    /* uInt is enough: a piece is never longer than what was read at once. */
    z->next_in = (unsigned char *)(uintptr_t)in.p;
    z->avail_in = (uInt)in.n;
    do {
        z->next_out = scratch;
        z->avail_out = sizeof(scratch);
        /* Z_BUF_ERROR: nothing (more) to do. */
        if (deflate(z, how[step]) == Z_STREAM_ERROR)
            return -1;
        if (z->avail_out < sizeof(scratch))
            out(owner, str_make((char *)scratch, sizeof(scratch) - z->avail_out));
    } while (z->avail_out == 0);
    return 0;
}

static int encoder_feed_br(
    struct encoder *enc, struct str in, enum encoder_step step, encoder_out_fn *out, void *owner)
{
    static const BrotliEncoderOperation how[] = { [ENCODER_MORE] = BROTLI_OPERATION_PROCESS,
        [ENCODER_FLUSH] = BROTLI_OPERATION_FLUSH,
        [ENCODER_END] = BROTLI_OPERATION_FINISH };
    const uint8_t *next_in = (const uint8_t *)in.p;
    size_t left = in.n;

    do {
        uint8_t scratch[OUT_STEP], *next_out = scratch;
        size_t room = sizeof(scratch);

        if (!BrotliEncoderCompressStream(
                enc->br, how[step], &left, &next_in, &room, &next_out, NULL))
            return -1;
        if (room < sizeof(scratch))
            out(owner, str_make((char *)scratch, sizeof(scratch) - room));
    } while (left > 0 || BrotliEncoderHasMoreOutput(enc->br));
    return 0;
}

static int encoder_put_br(
    struct encoder *enc, struct str in, enum encoder_step step, encoder_out_fn *out, void *owner)
{
    if (enc->broken)
        return -1;
    if (setjmp(enc->no_memory)) {
        enc->broken = true;
        return -1;
    }
    return encoder_feed_br(enc, in, step, out, owner);
}

static int encoder_put_zstd(
    struct encoder *enc, struct str in, enum encoder_step step, encoder_out_fn *out, void *owner)
{
    static const ZSTD_EndDirective how[] = {
        [ENCODER_MORE] = ZSTD_e_continue, [ENCODER_FLUSH] = ZSTD_e_flush, [ENCODER_END] = ZSTD_e_end
    };
    ZSTD_inBuffer from = { in.p, in.n, 0 };
    size_t left;

    do {
        char scratch[OUT_STEP];
        ZSTD_outBuffer to = { scratch, sizeof(scratch), 0 };

        left = ZSTD_compressStream2(enc->zstd, &to, &from, how[step]);
        if (ZSTD_isError(left))
            return -1;
        if (to.pos > 0)
            out(owner, str_make(scratch, to.pos));
    } while (step == ENCODER_MORE ? from.pos < from.size : left > 0);
    encoder_count_zstd(enc);
    return 0;
}

int encoder_put(
    struct encoder *enc, struct str in, enum encoder_step step, encoder_out_fn *out, void *owner)
{
    switch (enc->encoding) {
    case ENCODING_IDENTITY:
        break;
    case ENCODING_GZIP:
        return encoder_put_gzip(enc, in, step, out, owner);
    case ENCODING_BR:
        return encoder_put_br(enc, in, step, out, owner);
    case ENCODING_ZSTD:
        return encoder_put_zstd(enc, in, step, out, owner);
    }
    return -1;
}

void encoder_free(struct encoder *enc)
{
    if (!enc)
        return;
    switch (enc->encoding) {
    case ENCODING_IDENTITY:
        break;
    case ENCODING_GZIP:
        deflateEnd(&enc->gzip);
        break;
    case ENCODING_BR:
        if (enc->br && !enc->broken)
            BrotliEncoderDestroyInstance(enc->br);
        while (enc->blocks)
            encoder_give_block(enc, enc->blocks + 1);
        break;
    case ENCODING_ZSTD:
        ZSTD_freeCCtx(enc->zstd);
        memory -= enc->zstd_memory;
        break;
    }
    count--;
    free(enc);
}

size_t encoder_memory(void)
{
    return memory;
}

size_t encoder_count(void)
{
    return count;
}
