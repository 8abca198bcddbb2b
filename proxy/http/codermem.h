/* Memory for the coding libraries, counted: each block has its size before it. Encoders and
 * decoders share it. */
#ifndef TARRY_HTTP_CODERMEM_H
#define TARRY_HTTP_CODERMEM_H

#include <stddef.h>

/* `n` bytes, added to *total with what they cost. NULL if there is no memory. */
void *codermem_take(size_t *total, size_t n);

/* Frees a block and takes it off *total. NULL is allowed. */
void codermem_give(size_t *total, void *p);

#endif
