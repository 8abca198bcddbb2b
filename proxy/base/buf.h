/* A queue of bytes in one piece of memory: written at the end, read from the front. Holds memory
 * only while bytes are in it: an empty buf has given its block back to a small free list by size
 * class, so that a connection at rest costs none.
 *
 * A zeroed struct is an empty buf. Whoever embeds it ends it with buf_release(). Pointers into it
 * are good until the next call that changes it. */
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

/* `n` bytes were written to what buf_reserve() gave. */
void buf_commit(struct buf *b, size_t n);

/* Gives the block back if nothing was committed after buf_reserve(). */
void buf_settle(struct buf *b);

/* 0, or -1 if there is no memory (nothing was added then). */
int buf_append(struct buf *b, const void *p, size_t n);
int buf_append_str(struct buf *b, struct str s);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The first `n` bytes are done with. */
void buf_consume(struct buf *b, size_t n);
void buf_release(struct buf *b);

/* Gives the memory that the free lists hold back to the system. */
void buf_trim(void);

#endif
