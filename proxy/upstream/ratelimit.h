/* What a service says in the head of an answer about what is left of its limits: OpenAI's and its
 * kin's x-ratelimit-{limit,remaining,reset}-{requests,tokens}, and Anthropic's
 * anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}. */
#ifndef TARRY_UPSTREAM_RATELIMIT_H
#define TARRY_UPSTREAM_RATELIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "http/head.h"
#include "upstream/meter.h"

/* False: it says nothing. A level is known if both what remains and the time of the reset can be
 * read. `wall_ms`: since 1970, for resets that are dates. */
bool ratelimit_read(
    const struct head *head, uint64_t wall_ms, struct meter_level levels[METER_NKINDS]);

#endif
