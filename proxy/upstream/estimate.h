/* What a call is expected to use, by its request: services count about the same before they begin
 * with it. */
#ifndef TARRY_UPSTREAM_ESTIMATE_H
#define TARRY_UPSTREAM_ESTIMATE_H

#include <stdint.h>

#include "http/body.h"

struct estimate {
    uint64_t model;         /* a hash of its name; 0: none is named */
    uint32_t input, output; /* tokens */
};

/* Input: a quarter of the body's bytes. Output: the limit that the body asks for, 0 without one.
 * Only the first 256 KiB of the body are looked at for it. */
void estimate_read(const struct piece *body, struct estimate *out);

#endif
