/* SipHash-2-4: a hash with a key. Without the key nobody can choose texts that collide, or find the
 * text behind a value. */
#ifndef TARRY_BASE_SIPHASH_H
#define TARRY_BASE_SIPHASH_H

#include <stdint.h>

#include "base/str.h"

struct siphash {
    uint64_t v[4];
    uint64_t tail; /* bytes that do not fill a word yet */
    uint64_t n;    /* bytes so far */
};

void siphash_init(struct siphash *h, const uint64_t key[2]);
void siphash_add(struct siphash *h, struct str s);

/* The length, then the bytes: so that ("a", "bc") and ("ab", "c") differ. */
void siphash_add_field(struct siphash *h, struct str s);
uint64_t siphash_end(struct siphash *h);

#endif
