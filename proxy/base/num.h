/* Numbers, sizes and durations as text. Parsers are strict: digits and the unit, nothing else. */
#ifndef TARRY_BASE_NUM_H
#define TARRY_BASE_NUM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum { NUM_DIGITS_MAX = 18 };

/* Decimal digits only, at most NUM_DIGITS_MAX of them. */
bool num_parse_u64(struct str s, uint64_t *out);

/* Hexadecimal digits only, at most 15 of them. */
bool num_parse_hex(struct str s, uint64_t *out);

/* "64K", "10M", "2G" (powers of 1024) or plain bytes. */
bool num_parse_size(struct str s, uint64_t *bytes);

/* "250ms", "30s", "5m", "2h", "1d": a decimal number and a mandatory unit. */
bool num_parse_duration(struct str s, uint64_t *ms);

/* A decimal number of seconds as in HTTP fields: "2", "0.5", "17.25". Rounded up to whole
 * milliseconds. Larger values become NUM_SECONDS_MAX_MS, which exceeds every lifetime here and can
 * still be added to a time. */
#define NUM_SECONDS_MAX_MS (UINT64_MAX / 4)
bool num_parse_seconds(struct str s, uint64_t *ms);

#endif
