/* Takes the chunk out of a chat stream that tells the usage alone, for a client that did not ask
 * for it. Bytes are split anywhere; those of an event are held until it is known not to be that
 * chunk. All others pass as they came. */
#ifndef TARRY_LLM_SIEVE_H
#define TARRY_LLM_SIEVE_H

#include "base/buf.h"
#include "base/str.h"

enum { SIEVE_HELD_MAX = 64 << 10 }; /* a longer event passes */

struct sieve;

/* NULL if there is no memory. */
struct sieve *sieve_new(void);
void sieve_free(struct sieve *s);

/* Appends to `out` what passes. 0, or -1 if there is no memory. */
int sieve_feed(struct sieve *s, struct str piece, struct buf *out);

/* The stream has ended: what is held passes. */
int sieve_end(struct sieve *s, struct buf *out);

#endif
