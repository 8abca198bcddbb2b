/* Memory that is freed all at once: all of an exchange, or all of a conf snapshot. A zeroed struct
 * is an empty arena; its owner ends it with arena_release(). Pieces are never freed individually.
 */
#ifndef TARRY_BASE_ARENA_H
#define TARRY_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    bool no_memory;             /* a piece could not be had; stays until arena_release() */
};

/* Zeroed memory aligned for any type, or NULL if there is none. */
void *arena_alloc(struct arena *a, size_t n);

/* A copy with a NUL behind it (not counted in its length). p is NULL if there is no memory. */
struct str arena_copy(struct arena *a, struct str s);
const char *arena_cstr(struct arena *a, struct str s);
struct str arena_printf(struct arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

void arena_release(struct arena *a);

#endif
