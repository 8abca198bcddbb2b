/* Coded bodies: the first octet chooses the coding, the slice and how the rest is cut. However it
 * is cut, the same comes out, and never more than the limit. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "http/decoder.h"
#include "laws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { SIZE_MAX_OUT = 1 << 20 };

static int fuzz_on_out(void *owner, struct str out)
{
    HOLDS(out.n > 0);
    HOLDS(buf_append_str(owner, out) == 0);
    return 0;
}

static int fuzz_decode(enum coding c, struct str in, size_t piece, size_t slice, struct buf *out)
{
    struct decoder *d = decoder_new(c, SIZE_MAX_OUT);
    int rc = DECODER_MORE;

    while (in.n > 0 && rc == DECODER_MORE) {
        struct str part = str_make(in.p, in.n < piece ? in.n : piece);

        in = str_make(in.p + part.n, in.n - part.n);
        do
            rc = decoder_put(d, &part, slice, fuzz_on_out, out);
        while (rc == DECODER_AGAIN);
        HOLDS(rc < 0 || part.n == 0);
    }
    HOLDS(decoder_size(d) == buf_len(out) && buf_len(out) <= SIZE_MAX_OUT);
    if (rc == DECODER_MORE)
        rc = decoder_end(d);
    HOLDS(rc != DECODER_E_STOPPED && rc != DECODER_E_MEMORY);
    decoder_free(d);
    HOLDS(decoder_memory() == 0 && decoder_count() == 0);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf whole = { 0 }, cut = { 0 };
    struct str in;
    enum coding c;
    int one, two;

    if (n < 1)
        return 0;
    c = (enum coding)(CODING_GZIP + data[0] % (CODING_COUNT - 1));
    in = str_make((const char *)data + 1, n - 1);
    one = fuzz_decode(c, in, in.n, 64 << 10, &whole);
    two = fuzz_decode(c, in, 1 + (data[0] >> 5), 1 + (data[0] >> 2) % 8 * 100, &cut);
    /* libzstd has a way of its own for a frame that is there at once, which finds more damage. */
    HOLDS((one == 0) == (two == 0) || c == CODING_ZSTD);
    if (one == 0 && two == 0)
        HOLDS(str_eq(buf_str(&whole), buf_str(&cut)));
    buf_release(&whole);
    buf_release(&cut);
    return 0;
}
