/* A queue of bytes in one piece of memory: written at the end, read from the front. Holds memory
 * only while it has bytes: an empty buf returns its block to a free list of its size class, so an
 * idle connection needs no buffer memory.
 *
 * A zeroed struct is an empty buf. The embedding object ends it with buf_release(). Pointers into
 * it are valid until the next call that changes it. */
#ifndef TARRY_BASE_BUF_H
#define TARRY_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct buf {
    char *mem;
    uint32_t cap, off, len;
};

static inline size_t buf_len(const struct buf *b)
{
    return b->len;
}

/* Its bytes, in one piece. */
static inline struct str buf_str(const struct buf *b)
{
    return (struct str){ b->mem ? b->mem + b->off : "", b->len };
}

/* Room for at least `n` more bytes, or NULL if there is no memory; *room (may be NULL) is how much
 * there is. */
char *buf_reserve(struct buf *b, size_t n, size_t *room);

/* `n` bytes were written to the memory that buf_reserve() returned. */
void buf_commit(struct buf *b, size_t n);

/* Gives the block back if nothing was committed after buf_reserve(). */
void buf_settle(struct buf *b);

/* 0, or -1 if there is no memory (nothing was added then). */
int buf_append(struct buf *b, const void *p, size_t n);
int buf_append_str(struct buf *b, struct str s);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Removes the first `n` bytes. */
void buf_consume(struct buf *b, size_t n);
void buf_release(struct buf *b);

/* Returns the memory on the free lists to the system. */
void buf_trim(void);

#endif
