/* Decoding in slices. */
#include "exchange/unpack.h"

enum { UNPACK_SLICE = 64 << 10 };

static void unpack_on_turn(void *owner);

int unpack_init(struct unpack *u, enum coding c, uint64_t size_max, decoder_out_fn *on_data,
    void (*on_done)(void *owner, int result), void *owner)
{
    *u = (struct unpack){ .on_data = on_data, .on_done = on_done, .owner = owner };
    deadline_init(&u->again, unpack_on_turn, u);
    u->decoder = decoder_new(c, size_max);
    return u->decoder ? 0 : -1;
}

/* One slice of `in`; what is left of it is kept. */
static int unpack_slice(struct unpack *u, struct str in)
{
    int rc = decoder_put(u->decoder, &in, UNPACK_SLICE, u->on_data, u->owner);

    u->busy = false;
    if (rc < 0)
        return rc;
    if (rc == DECODER_MORE)
        return u->ended ? decoder_end(u->decoder) : UNPACK_OK;
    if (in.n > 0 && buf_append(&u->in, in.p, in.n) < 0)
        return DECODER_E_MEMORY;
    u->busy = true;
    deadline_set(&u->again, 0);
    return UNPACK_BUSY;
}

static void unpack_on_turn(void *owner)
{
    struct unpack *u = owner;
    struct buf in = u->in;
    int rc;

    u->in = (struct buf){ 0 };
    rc = unpack_slice(u, buf_str(&in));
    buf_release(&in);
    if (rc != UNPACK_BUSY)
        u->on_done(u->owner, rc);
}

int unpack_put(struct unpack *u, struct str in)
{
    if (!u->busy)
        return unpack_slice(u, in);
    /* The source had more on its way when it was paused. */
    return buf_append(&u->in, in.p, in.n) < 0 ? DECODER_E_MEMORY : UNPACK_BUSY;
}

int unpack_end(struct unpack *u)
{
    u->ended = true;
    return u->busy ? UNPACK_BUSY : decoder_end(u->decoder);
}

void unpack_release(struct unpack *u)
{
    if (!u->decoder)
        return;
    decoder_free(u->decoder);
    u->decoder = NULL;
    buf_release(&u->in);
    deadline_close(&u->again);
}
