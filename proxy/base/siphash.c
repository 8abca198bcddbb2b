/* Jean-Philippe Aumasson and Daniel J. Bernstein, "SipHash: a fast short-input PRF", 2012. */
#include "base/siphash.h"

static uint64_t siphash_rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static void siphash_rounds(uint64_t v[4], int n)
{
    while (n-- > 0) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = siphash_rotate(v[1], 13) ^ v[0];
        v[3] = siphash_rotate(v[3], 16) ^ v[2];
        v[0] = siphash_rotate(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = siphash_rotate(v[1], 17) ^ v[2];
        v[3] = siphash_rotate(v[3], 21) ^ v[0];
        v[2] = siphash_rotate(v[2], 32);
    }
}

static void siphash_word(struct siphash *h, uint64_t word)
{
    h->v[3] ^= word;
    siphash_rounds(h->v, 2);
    h->v[0] ^= word;
}

void siphash_init(struct siphash *h, const uint64_t key[2])
{
    h->v[0] = key[0] ^ UINT64_C(0x736f6d6570736575);
    h->v[1] = key[1] ^ UINT64_C(0x646f72616e646f6d);
    h->v[2] = key[0] ^ UINT64_C(0x6c7967656e657261);
    h->v[3] = key[1] ^ UINT64_C(0x7465646279746573);
    h->tail = h->n = 0;
}

void siphash_add(struct siphash *h, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        h->tail |= (uint64_t)(unsigned char)s.p[i] << (h->n % 8 * 8);
        if (++h->n % 8 == 0) {
            siphash_word(h, h->tail);
            h->tail = 0;
        }
    }
}

void siphash_add_field(struct siphash *h, struct str s)
{
    unsigned char n[8];

    for (unsigned i = 0; i < sizeof(n); i++)
        n[i] = (unsigned char)(s.n >> (8 * i));
    siphash_add(h, str_make((const char *)n, sizeof(n)));
    siphash_add(h, s);
}

uint64_t siphash_end(struct siphash *h)
{
    siphash_word(h, h->n << 56 | h->tail);
    h->v[2] ^= 0xff;
    siphash_rounds(h->v, 4);
    return h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
}
