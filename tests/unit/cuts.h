/* For tests of incremental parsers: the ways to cut an input, and an unreadable page behind each
 * piece.
 *
 *     struct cuts c = { .n = in.n };
 *     while (cuts_next(&c))
 *         for (size_t at = 0, end; at < in.n; at = end)
 *             end = cuts_end(&c, at);      the piece is [at, end)
 */
#ifndef TARRY_TESTS_CUTS_H
#define TARRY_TESTS_CUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct cuts {
    size_t n;   /* of the input; set by the user */
    size_t way; /* whole, in two at every byte, byte by byte, at random */
    uint64_t random;
};

/* The next way to cut; false after the last one. The same ones in every run. */
bool cuts_next(struct cuts *c);

/* Where the piece ends that begins at `at`. */
size_t cuts_end(struct cuts *c, size_t at);

/* A copy that ends where reading further crashes. Good until the next call. */
struct str cuts_guarded(struct str s);

#endif
