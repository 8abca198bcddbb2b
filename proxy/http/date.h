/* The Date field (RFC 9110 6.6.1), made once a second. */
#ifndef TARRY_HTTP_DATE_H
#define TARRY_HTTP_DATE_H

#include <stdint.h>

#include "base/str.h"

enum { DATE_TEXT_MAX = 40 };

/* Zeroed to begin with. */
struct date_cache {
    uint64_t second;
    char text[DATE_TEXT_MAX];
};

/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 5.6.7). */
void date_write(uint64_t wall_ms, char out[DATE_TEXT_MAX]);

/* The same from the cache, as long as the second is the same. Good until the next call. */
struct str date_cached(struct date_cache *c, uint64_t wall_ms);

#endif
