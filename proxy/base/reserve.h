/* Memory for libraries that cannot handle a failed allocation: libev aborts, and libnghttp2 may
 * free something twice. A block is reserved for them. When one of their allocations fails, the
 * block is returned to the system and the allocation is repeated. */
#ifndef TARRY_BASE_RESERVE_H
#define TARRY_BASE_RESERVE_H

#include <stdbool.h>
#include <stddef.h>

/* Far more than these libraries allocate in a turn of the loop. It uses address space but no
 * memory, because it is never written. */
enum { RESERVE_SIZE = 1 << 20 };

/* Reserves the block, also after it was given up. False if the system has no memory now. */
bool reserve_fill(void);

/* Whether the block was given up since it was last reserved. */
bool reserve_is_spent(void);

/* Returns the block for good, at the end. */
void reserve_release(void);

/* As realloc(3); n = 0 frees. */
void *reserve_realloc(void *p, size_t n);

#endif
