/* Memory for libraries that do not come through without: libev aborts when it gets none, and
 * libnghttp2 may free something twice. A block is kept back for them. When the system has nothing
 * left for one of them the block is given back, and the allocation made again. */
#ifndef TARRY_BASE_RESERVE_H
#define TARRY_BASE_RESERVE_H

#include <stdbool.h>
#include <stddef.h>

/* Far more than these libraries ask for in a turn of the loop. It costs addresses, no memory: not a
 * byte of it is written. */
enum { RESERVE_SIZE = 1 << 20 };

/* Keeps the block back, again if it was given. False if there is none to be had now. */
bool reserve_fill(void);

/* Whether it was given away since it was filled. */
bool reserve_is_spent(void);

/* For good: at the end. */
void reserve_release(void);

/* As realloc(3); n = 0 frees. */
void *reserve_realloc(void *p, size_t n);

#endif
