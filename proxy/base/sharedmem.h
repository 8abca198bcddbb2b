/* Memory that all serving processes see. The master opens it before it forks. A binary that takes
 * over (SIGUSR2) opens the same memory if it knows the layout; otherwise it begins with zeros.
 *
 * A process may be killed at any instruction, and nobody repairs what it left: keep what belongs
 * together in one 64-bit word and change it by compare-and-swap, or leave a half-done change
 * harmless. */
#ifndef TARRY_BASE_SHAREDMEM_H
#define TARRY_BASE_SHAREDMEM_H

#include <stddef.h>
#include <stdint.h>

enum { SHAREDMEM_NAME_MAX = 24, SHAREDMEM_BLOCKS_MAX = 16 };

/* `n` bytes, aligned to a cache line, for the life of the process: zeros, or what the earlier
 * binary had in the block of that name. `layout` is another number for each meaning of the bytes.
 * Shared with processes that are forked later. NULL with errno. */
void *sharedmem_open(const char *name, uint64_t layout, size_t n);

/* The descriptors of all blocks, for the binary that takes over. */
void sharedmem_each(void (*fn)(void *owner, int fd), void *owner);

/* The descriptor of an earlier binary's block; kept until sharedmem_open() asks for it. Closes what
 * is no block. */
void sharedmem_take_over(int fd);

/* Everything has been opened: closes the earlier binary's blocks that nobody has asked for. */
void sharedmem_drop_rest(void);

/* This process passes nothing on: closes the descriptors, the memory stays. */
void sharedmem_forget(void);

#endif
