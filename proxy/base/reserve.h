/* Memory for libraries that cannot cope without: libev aborts when it gets none, and libnghttp2 may
 * free something twice. A block is kept back for them. When an allocation of theirs fails, the
 * block is given back to the system and the allocation is made again. */
#ifndef TARRY_BASE_RESERVE_H
#define TARRY_BASE_RESERVE_H

#include <stdbool.h>
#include <stddef.h>

/* Far more than these libraries ask for in a turn of the loop. It costs addresses, no memory: not a
 * byte of it is written. */
enum { RESERVE_SIZE = 1 << 20 };

/* Keeps a block back, again if it has been given away. False if the system has none now. */
bool reserve_fill(void);

/* Whether it was given away since it was filled. */
bool reserve_is_spent(void);

/* Gives it back for good, at the end. */
void reserve_release(void);

/* As realloc(3); n = 0 frees. */
void *reserve_realloc(void *p, size_t n);

#endif
