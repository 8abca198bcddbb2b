/* Compression of what goes to the client. */
#include "exchange/encode.h"

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
static struct encoder *encode_open_encoder(const struct compression_conf *cc, enum encoding e)
{
    if (encoder_memory() >= cc->memory_max) {
        counter_add(COUNTER_COMPRESSION_SKIPPED, 1);
        return NULL;
    }
    return encoder_new(e, encode_level_of(cc, e), cc->window);
}

const struct head *encode_begin(struct encode *en, const struct compression_conf *cc,
    const struct head *request, struct arena *a, const struct head *in, struct head *out)
{
    bool is_head = str_eq(request->method, STR("HEAD"));
    enum encoding e;

    if (cc->ntypes == 0 || !encoding_suits(in, cc->types, cc->ntypes, cc->min_size) ||
        head_find(request, STR("range")) ||
        head_has_token(request, STR("cache-control"), STR("no-transform")))
        return in;
    e = encoding_choose(request, cc->encodings, cc->nencodings);
    /* The head that answers HEAD is that of the GET, body or not. */
    if (e != ENCODING_IDENTITY && !is_head)
        en->encoder = encode_open_encoder(cc, e);
    if (e != ENCODING_IDENTITY && (en->encoder || is_head)) {
        if (encoding_make_head(a, in, e, out) == 0) {
            if (en->encoder)
                counter_add(COUNTER_COMPRESSED, 1);
            return out;
        }
        encoder_free(en->encoder);
        en->encoder = NULL;
    }
    /* Caches learn that another client would get something else. */
    *out = *in;
    out->room = 0; /* the array is not ours to write to */
    return encoding_add_vary(out, a) == 0 ? out : in;
}

static void encode_on_out(void *owner, struct str out)
{
    struct encode *en = owner;

    counter_add(COUNTER_COMPRESSION_OUT, out.n);
    if (!en->failed && en->pass(en->owner, out) < 0)
        en->failed = true; /* the encoder is on the stack: told when it has returned */
}

static int encode_put(struct encode *en, struct str in, enum encoder_step step)
{
    if (encoder_put(en->encoder, in, step, encode_on_out, en) < 0)
        en->failed = true;
    return en->failed ? -1 : 0;
}

int encode_data(struct encode *en, struct str data)
{
    counter_add(COUNTER_COMPRESSION_IN, data.n);
    loop_defer(&en->flush, encode_on_flush, en);
    return encode_put(en, data, ENCODER_MORE);
}

static void encode_on_flush(void *owner)
{
    struct encode *en = owner;

    if (en->encoder && encode_put(en, (struct str){ "", 0 }, ENCODER_FLUSH) < 0)
        en->on_failed(en->owner);
}

int encode_end(struct encode *en)
{
    int rc = encode_put(en, (struct str){ "", 0 }, ENCODER_END);

    encode_release(en);
    return rc;
}

void encode_release(struct encode *en)
{
    loop_undefer(&en->flush);
    encoder_free(en->encoder);
    en->encoder = NULL;
}
