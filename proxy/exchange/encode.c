/* The client's response in a content coding, where the conf, the client and the response allow it.
 * What one turn brings leaves with that turn: compression never holds a piece back for longer. */
#include "exchange/exchange.h"
#include "http/encoder.h"
#include "observe/counter.h"

static void encode_on_flush(void *owner);

static unsigned encode_level_of(const struct compression_conf *cc, enum encoding e)
{
    switch (e) {
    case ENCODING_GZIP:
        return cc->gzip_level;
    case ENCODING_BR:
        return cc->brotli_level;
    case ENCODING_ZSTD:
        return cc->zstd_level;
    case ENCODING_IDENTITY:
        break;
    }
    return 0;
}

/* The encoder for a body that suits, or NULL: it goes as it is. */
static struct encoder *encode_open_encoder(struct exchange *ex, enum encoding e)
{
    const struct compression_conf *cc = &ex->conf->compression;

    if (encoder_memory() >= cc->memory_max) {
        counter_add(COUNTER_COMPRESSION_SKIPPED, 1);
        return NULL;
    }
    return encoder_new(e, encode_level_of(cc, e), cc->window);
}

const struct head *encode_begin(
    struct exchange *ex, struct arena *a, const struct head *in, struct head *out)
{
    const struct compression_conf *cc = &ex->conf->compression;
    enum encoding e;

    if (cc->ntypes == 0 || !ex->client || !ex->compress ||
        !encoding_suits(in, cc->types, cc->ntypes, cc->min_size) ||
        head_find(&ex->request, STR("range")) ||
        head_has_token(&ex->request, STR("cache-control"), STR("no-transform")))
        return in;
    e = encoding_choose(&ex->request, cc->encodings, cc->nencodings);
    /* The head that answers HEAD is that of the GET, body or not. */
    if (e != ENCODING_IDENTITY && !ex->is_head)
        ex->encoder = encode_open_encoder(ex, e);
    if (e != ENCODING_IDENTITY && (ex->encoder || ex->is_head)) {
        if (encoding_make_head(a, in, e, out) == 0) {
            if (ex->encoder)
                counter_add(COUNTER_COMPRESSED, 1);
            return out;
        }
        encoder_free(ex->encoder);
        ex->encoder = NULL;
    }
    /* Caches learn that another client would get something else. */
    *out = *in;
    out->room = 0; /* the array is not ours to write to */
    return encoding_add_vary(out, a) == 0 ? out : in;
}

static void encode_on_out(void *owner, struct str out)
{
    struct exchange *ex = owner;

    counter_add(COUNTER_COMPRESSION_OUT, out.n);
    if (!ex->encode_failed && exchange_pass_data(ex, out) < 0)
        ex->encode_failed = true; /* the encoder is on the stack: told when it has returned */
}

static int encode_put(struct exchange *ex, struct str in, enum encoder_step step)
{
    if (encoder_put(ex->encoder, in, step, encode_on_out, ex) < 0)
        ex->encode_failed = true;
    return ex->encode_failed ? -1 : 0;
}

int encode_data(struct exchange *ex, struct str data)
{
    counter_add(COUNTER_COMPRESSION_IN, data.n);
    loop_defer(&ex->encode_flush, encode_on_flush, ex);
    return encode_put(ex, data, ENCODER_MORE);
}

static void encode_on_flush(void *owner)
{
    struct exchange *ex = owner;

    if (ex->encoder && ex->client && encode_put(ex, (struct str){ "", 0 }, ENCODER_FLUSH) < 0)
        exchange_cut(ex, "out_of_memory");
}

int encode_end(struct exchange *ex)
{
    int rc = encode_put(ex, (struct str){ "", 0 }, ENCODER_END);

    encode_release(ex);
    return rc;
}

void encode_release(struct exchange *ex)
{
    loop_undefer(&ex->encode_flush);
    encoder_free(ex->encoder);
    ex->encoder = NULL;
}
