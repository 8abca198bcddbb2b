/* Frames of a WebSocket, as far as their ends. */
#include "http/wsframes.h"

#include "base/entropy.h"

enum { OPCODE_CLOSE = 8, FIN_BIT = 0x80, MASK_BIT = 0x80, LENGTH_16 = 126, LENGTH_64 = 127 };

static size_t wsframes_length_bytes(const struct wsframes *f)
{
    switch (f->head[1] & 0x7f) {
    case LENGTH_16:
        return 2;
    case LENGTH_64:
        return 8;
    default:
        return 0;
    }
}

/* Whether the frame's head is complete. Its second byte says how long it is. */
static bool wsframes_head_is_complete(const struct wsframes *f)
{
    return f->have >= 2 &&
           f->have == 2 + wsframes_length_bytes(f) + (f->head[1] & MASK_BIT ? 4 : 0);
}

static uint64_t wsframes_payload(const struct wsframes *f)
{
    size_t n = wsframes_length_bytes(f);
    uint64_t length = 0;

    if (n == 0)
        return f->head[1] & 0x7f;
    for (size_t i = 0; i < n; i++)
        length = length << 8 | f->head[2 + i];
    return length;
}

ssize_t wsframes_feed(struct wsframes *f, struct str data)
{
    ssize_t end = wsframes_may_begin(f) ? 0 : -1;
    size_t at = 0;

    while (at < data.n) {
        if (f->left > 0) {
            uint64_t n = data.n - at < f->left ? data.n - at : f->left;

            f->left -= n;
            at += (size_t)n;
        } else {
            f->head[f->have++] = (unsigned char)data.p[at++];
            if (!wsframes_head_is_complete(f))
                continue;
            f->closed |= (f->head[0] & 0x0f) == OPCODE_CLOSE;
            f->left = wsframes_payload(f);
            f->have = 0;
        }
        if (f->left == 0)
            end = (ssize_t)at;
    }
    return end;
}

bool wsframes_may_begin(const struct wsframes *f)
{
    return f->left == 0 && f->have == 0;
}

size_t wsframes_close(unsigned char out[WSFRAMES_CLOSE_MAX], unsigned status, bool masked)
{
    unsigned char mask[4] = { 0 };
    size_t n = 0;

    out[n++] = FIN_BIT | OPCODE_CLOSE;
    out[n++] = 2 | (masked ? MASK_BIT : 0);
    if (masked) {
        entropy_fill(mask, sizeof(mask));
        for (size_t i = 0; i < sizeof(mask); i++)
            out[n++] = mask[i];
    }
    out[n++] = (unsigned char)(status >> 8) ^ mask[0];
    out[n++] = (unsigned char)(status & 0xff) ^ mask[1];
    return n;
}
