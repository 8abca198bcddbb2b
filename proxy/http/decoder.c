/* Three libraries behind one function. Their memory is counted: by an allocator, or (zstd, whose
 * stable interface has none) by asking the library. */
#include "http/decoder.h"

#include <brotli/decode.h>
#include <stdbool.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "http/codermem.h"

enum {
    OUT_STEP = 16 << 10,
    GZIP_FORMAT = 16, /* zlib: added to the window's bits */
    RAW_FORMAT = -1,  /* zlib: times the window's bits */
    ZLIB_BITS = 15,
    ZSTD_BITS_MAX = 23, /* RFC 9659: senders may not ask for more than 8 MB */
};

struct decoder {
    enum coding coding;
    union {
        z_stream zlib;
        BrotliDecoderState *br;
        ZSTD_DCtx *zstd;
    };
    uint64_t size, size_max;
    size_t zstd_memory; /* counted so far */
    int first;          /* deflate: its first byte, until the second tells the format; else -1 */
    unsigned magic;     /* zstd: how many of the frame's first bytes have been looked at */
    bool skippable;     /* zstd: the frame holds nothing */
    bool opened;        /* the library's part has been made */
    bool whole;         /* it is complete; another gzip member or zstd frame may follow */
    bool pending;       /* the library may hold output that had no room */
    int failed;         /* not 0: the error, for good */
};

static size_t memory, count;

static const struct str coding_names[CODING_COUNT] = { [CODING_IDENTITY] = STR_INIT("identity"),
    [CODING_GZIP] = STR_INIT("gzip"),
    [CODING_DEFLATE] = STR_INIT("deflate"),
    [CODING_BR] = STR_INIT("br"),
    [CODING_ZSTD] = STR_INIT("zstd") };

struct str decoder_coding_name(enum coding c)
{
    return coding_names[c];
}

static int decoder_coding_from(struct str word)
{
    if (str_eq_nocase(word, STR("x-gzip"))) /* RFC 9110 8.4.1.3 */
        return CODING_GZIP;
    for (int c = 0; c < CODING_COUNT; c++)
        if (str_eq_nocase(word, coding_names[c]))
            return c;
    return -1;
}

int decoder_coding_of(const struct head *h, enum coding *coding)
{
    *coding = CODING_IDENTITY;
    for (size_t i = 0; i < h->nfields; i++) {
        struct str rest = h->fields[i].value, element;

        if (!str_eq_nocase(h->fields[i].name, STR("content-encoding")))
            continue;
        while (str_next_element(&rest, &element)) {
            int c = decoder_coding_from(element);

            if (c < 0 || (c != CODING_IDENTITY && *coding != CODING_IDENTITY))
                return -1;
            if (c != CODING_IDENTITY)
                *coding = (enum coding)c;
        }
    }
    return 0;
}

static voidpf decoder_take_items(voidpf opaque, uInt items, uInt size)
{
    return codermem_take(&memory, (size_t)items * size);
}

static void *decoder_take_block(void *opaque, size_t n)
{
    return codermem_take(&memory, n);
}

static void decoder_give_block(void *opaque, void *p)
{
    codermem_give(&memory, p);
}

static bool decoder_open_zlib(struct decoder *d, int bits)
{
    d->zlib = (z_stream){ .zalloc = decoder_take_items, .zfree = decoder_give_block };
    d->opened = inflateInit2(&d->zlib, bits) == Z_OK;
    return d->opened;
}

static bool decoder_open(struct decoder *d)
{
    switch (d->coding) {
    case CODING_IDENTITY:
        break;
    case CODING_GZIP:
        return decoder_open_zlib(d, GZIP_FORMAT + ZLIB_BITS);
    case CODING_DEFLATE: /* two formats go by that name: the first bytes tell */
        return true;
    case CODING_BR:
        d->br = BrotliDecoderCreateInstance(decoder_take_block, decoder_give_block, NULL);
        d->opened = d->br != NULL;
        return d->opened;
    case CODING_ZSTD:
        d->zstd = ZSTD_createDCtx();
        d->opened = d->zstd != NULL;
        return d->opened &&
               !ZSTD_isError(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, ZSTD_BITS_MAX));
    }
    return false;
}

struct decoder *decoder_new(enum coding c, uint64_t size_max)
{
    struct decoder *d = calloc(1, sizeof(*d));

    if (!d)
        return NULL;
    count++;
    d->coding = c;
    d->size_max = size_max;
    d->first = -1;
    if (decoder_open(d))
        return d;
    decoder_free(d);
    return NULL;
}

/* One call of a library: what it used and what it made. */
struct decoder_step {
    struct str in;
    size_t used;
    char *out;
    size_t room, made;
};

/* RFC 9110 8.4.1.2: deflate is the zlib format, but there are senders that leave its two bytes of
 * header out. A zlib header is a multiple of 31, and its first byte ends in 8: the raw format would
 * begin with a stored block that has no length. */
static int decoder_sniff(struct decoder *d, struct decoder_step *s)
{
    unsigned char b[2];
    z_stream *z = &d->zlib;

    b[0] = (unsigned char)s->in.p[0];
    if (d->first < 0 && s->in.n == 1) {
        d->first = b[0];
        s->used = 1;
        return 0;
    }
    b[1] = (unsigned char)s->in.p[d->first < 0 ? 1 : 0];
    if (d->first >= 0)
        b[0] = (unsigned char)d->first;
    if (!decoder_open_zlib(d,
            (b[0] & 15) == 8 && (b[0] << 8 | b[1]) % 31 == 0 ? ZLIB_BITS : RAW_FORMAT * ZLIB_BITS))
        return DECODER_E_MEMORY;
    if (d->first < 0)
        return 0;
    /* The byte that came alone makes no output. */
    z->next_in = b;
    z->avail_in = 1;
    z->next_out = (unsigned char *)s->out;
    z->avail_out = (uInt)s->room;
    return inflate(z, Z_NO_FLUSH) == Z_OK ? 0 : DECODER_E_DAMAGED;
}

static int decoder_step_zlib(struct decoder *d, struct decoder_step *s)
{
    z_stream *z = &d->zlib;
    int rc;

    if (!d->opened) {
        rc = decoder_sniff(d, s);
        if (rc < 0 || s->used > 0)
            return rc;
    }
    if (d->whole && s->in.n > 0) { /* RFC 1952 2.2: members follow each other */
        if (d->coding != CODING_GZIP || inflateReset(z) != Z_OK)
            return DECODER_E_DAMAGED;
        d->whole = false;
    }
    if (d->whole)
        return 0;
    z->next_in = (unsigned char *)(uintptr_t)s->in.p;
    z->avail_in = (uInt)s->in.n;
    z->next_out = (unsigned char *)s->out;
    z->avail_out = (uInt)s->room;
    rc = inflate(z, Z_NO_FLUSH);
    s->used = s->in.n - z->avail_in;
    s->made = s->room - z->avail_out;
    if (rc == Z_STREAM_END)
        d->whole = true;
    if (rc == Z_MEM_ERROR)
        return DECODER_E_MEMORY;
    return rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR ? 0 : DECODER_E_DAMAGED;
}

static int decoder_step_br(struct decoder *d, struct decoder_step *s)
{
    const uint8_t *next_in = (const uint8_t *)s->in.p;
    uint8_t *next_out = (uint8_t *)s->out;
    size_t left = s->in.n, room = s->room;
    BrotliDecoderErrorCode code;

    if (d->whole)
        return s->in.n > 0 ? DECODER_E_DAMAGED : 0;
    switch (BrotliDecoderDecompressStream(d->br, &left, &next_in, &room, &next_out, NULL)) {
    case BROTLI_DECODER_RESULT_SUCCESS:
        d->whole = true;
        break;
    case BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT:
    case BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT:
        break;
    case BROTLI_DECODER_RESULT_ERROR:
        code = BrotliDecoderGetErrorCode(d->br);
        return code <= BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MODES &&
                       code >= BROTLI_DECODER_ERROR_ALLOC_BLOCK_TYPE_TREES
                   ? DECODER_E_MEMORY
                   : DECODER_E_DAMAGED;
    }
    s->used = s->in.n - left;
    s->made = s->room - room;
    return 0;
}

static void decoder_count_zstd(struct decoder *d)
{
    size_t now = ZSTD_sizeof_DCtx(d->zstd);

    memory += now - d->zstd_memory;
    d->zstd_memory = now;
}

/* The library may be built to read the formats of zstd before RFC 8878 too, which nobody sends and
 * few look after: frames and skippable frames of the RFC only. */
static bool decoder_zstd_begins_well(struct decoder *d, struct str in)
{
    static const unsigned char frame[] = { 0x28, 0xb5, 0x2f, 0xfd },
                               skippable[] = { 0x50, 0x2a, 0x4d, 0x18 };

    for (size_t i = 0; i < in.n && d->magic < sizeof(frame); i++, d->magic++) {
        unsigned char c = (unsigned char)in.p[i];

        if (d->magic == 0)
            d->skippable = (c & 0xf0) == skippable[0];
        else if (d->skippable && c != skippable[d->magic])
            return false;
        if (!d->skippable && c != frame[d->magic])
            return false;
    }
    return true;
}

/* Frames may follow each other (RFC 8878 3.1). */
static int decoder_step_zstd(struct decoder *d, struct decoder_step *s)
{
    ZSTD_inBuffer from = { s->in.p, s->in.n, 0 };
    ZSTD_outBuffer to = { s->out, s->room, 0 };
    size_t rc;

    if (d->whole && s->in.n == 0)
        return 0;
    if (!decoder_zstd_begins_well(d, s->in))
        return DECODER_E_DAMAGED;
    rc = ZSTD_decompressStream(d->zstd, &to, &from);
    decoder_count_zstd(d);
    if (ZSTD_isError(rc)) {
        switch (ZSTD_getErrorCode(rc)) {
        case ZSTD_error_memory_allocation:
            return DECODER_E_MEMORY;
        case ZSTD_error_frameParameter_windowTooLarge:
            return DECODER_E_WINDOW;
        default:
            return DECODER_E_DAMAGED;
        }
    }
    d->whole = rc == 0;
    if (d->whole)
        d->magic = 0;
    s->used = from.pos;
    s->made = to.pos;
    return 0;
}

static int decoder_step(struct decoder *d, struct decoder_step *s)
{
    switch (d->coding) {
    case CODING_IDENTITY:
        break;
    case CODING_GZIP:
    case CODING_DEFLATE:
        return decoder_step_zlib(d, s);
    case CODING_BR:
        return decoder_step_br(d, s);
    case CODING_ZSTD:
        return decoder_step_zstd(d, s);
    }
    return DECODER_E_DAMAGED;
}

/* Gives the output to the owner, up to the limit. */
static int decoder_give_out(
    struct decoder *d, const struct decoder_step *s, decoder_out_fn *out, void *owner)
{
    if (s->made == 0)
        return 0;
    if (s->made > d->size_max - d->size)
        return DECODER_E_TOO_LARGE;
    d->size += s->made;
    return out(owner, str_make(s->out, s->made)) == 0 ? 0 : DECODER_E_STOPPED;
}

int decoder_put(struct decoder *d, struct str *in, size_t slice, decoder_out_fn *out, void *owner)
{
    char scratch[OUT_STEP];
    size_t used = 0, made = 0;

    if (d->failed)
        return d->failed;
    while (in->n > 0 || d->pending) {
        size_t left = slice - used;
        struct decoder_step s = { .in = str_make(in->p, in->n < left ? in->n : left),
            .out = scratch,
            .room = sizeof(scratch) };

        d->failed = decoder_step(d, &s);
        if (d->failed == 0)
            d->failed = decoder_give_out(d, &s, out, owner);
        if (d->failed)
            return d->failed;
        *in = str_make(in->p + s.used, in->n - s.used);
        d->pending = s.made == s.room;
        used += s.used;
        made += s.made;
        if (s.used == 0 && s.made == 0 && in->n > 0) {
            d->failed = DECODER_E_DAMAGED; /* it would never get on */
            return d->failed;
        }
        if ((used >= slice || made >= slice) && (in->n > 0 || d->pending))
            return DECODER_AGAIN;
    }
    return DECODER_MORE;
}

int decoder_end(const struct decoder *d)
{
    if (d->failed)
        return d->failed;
    return d->whole ? 0 : DECODER_E_ENDED;
}

uint64_t decoder_size(const struct decoder *d)
{
    return d->size;
}

void decoder_free(struct decoder *d)
{
    if (!d)
        return;
    switch (d->opened ? d->coding : CODING_IDENTITY) {
    case CODING_IDENTITY:
        break;
    case CODING_GZIP:
    case CODING_DEFLATE:
        inflateEnd(&d->zlib);
        break;
    case CODING_BR:
        BrotliDecoderDestroyInstance(d->br);
        break;
    case CODING_ZSTD:
        ZSTD_freeDCtx(d->zstd);
        memory -= d->zstd_memory;
        break;
    }
    count--;
    free(d);
}

const char *decoder_strerror(int result)
{
    switch (result) {
    case DECODER_E_DAMAGED:
        return "is damaged";
    case DECODER_E_ENDED:
        return "ends early";
    case DECODER_E_TOO_LARGE:
        return "unpacks to more than the limit";
    case DECODER_E_WINDOW:
        return "needs a window of more than 8 MiB";
    case DECODER_E_MEMORY:
        return "could not be unpacked: out of memory";
    case DECODER_E_STOPPED:
        return "was not unpacked to its end";
    default:
        return "is not finished";
    }
}

size_t decoder_memory(void)
{
    return memory;
}

size_t decoder_count(void)
{
    return count;
}
