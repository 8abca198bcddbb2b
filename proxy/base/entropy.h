/* Random numbers from the kernel's generator, drawn in blocks. */
#ifndef TARRY_BASE_ENTROPY_H
#define TARRY_BASE_ENTROPY_H

#include <stddef.h>
#include <stdint.h>

/* `n` unguessable bytes. Aborts if the kernel provides none: continuing would not be safe. */
void entropy_fill(void *p, size_t n);

/* A number below `bound` (which must not be 0); for jitter and random choices. */
uint64_t entropy_below(uint64_t bound);

enum { ENTROPY_ID_LEN = 26 };

/* An unguessable id: 130 random bits as 26 characters of a-z and 2-7, and a NUL. */
void entropy_id(char out[ENTROPY_ID_LEN + 1]);

/* After fork(): the child must not repeat its parent's numbers. */
void entropy_forget(void);

#endif
