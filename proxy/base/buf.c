/* Byte queues over blocks of power-of-two sizes. Blocks up to 64 KiB are kept on free lists: most
 * connections borrow one for the length of one event. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "config.h"

enum {
    CLASS_MIN_SHIFT = 8,  /* 256 bytes */
    CLASS_MAX_SHIFT = 16, /* 64 KiB: one turn reads as much from a connection */
    NCLASSES = CLASS_MAX_SHIFT - CLASS_MIN_SHIFT + 1,
    KEPT_BYTES_A_CLASS = 1 << 20, /* beyond this, blocks go back to malloc */
};

struct free_block {
    struct free_block *next;
};

/* The process has one loop and no threads: the free lists belong to it. */
static struct {
    struct free_block *first;
    size_t bytes;
} free_blocks[NCLASSES];

static int buf_class_of(size_t n)
{
    int c = 0;

    while (((size_t)1 << (c + CLASS_MIN_SHIFT)) < n)
        c++;
    return c;
}

static char *buf_take_block(size_t n, uint32_t *cap)
{
    int c = buf_class_of(n);

    *cap = (uint32_t)1 << (c + CLASS_MIN_SHIFT);
#ifdef TARRY_PLAIN_MALLOC
    *cap = (uint32_t)n;
    return malloc(n);
#endif
    if (c < NCLASSES && free_blocks[c].first) {
        struct free_block *f = free_blocks[c].first;

        free_blocks[c].first = f->next;
        free_blocks[c].bytes -= *cap;
        return (char *)f;
    }
    return malloc(*cap);
}

static void buf_give_block(char *mem, uint32_t cap)
{
#ifndef TARRY_PLAIN_MALLOC
    int c = buf_class_of(cap);

    if (c < NCLASSES && free_blocks[c].bytes + cap <= KEPT_BYTES_A_CLASS) {
        struct free_block *f = (struct free_block *)(void *)mem;

        f->next = free_blocks[c].first;
        free_blocks[c].first = f;
        free_blocks[c].bytes += cap;
        return;
    }
#endif
    free(mem);
}

char *buf_reserve(struct buf *b, size_t n, size_t *room)
{
    if (!b->mem || (size_t)b->cap - b->off - b->len < n) {
        if (b->mem && (size_t)b->cap - b->len >= n) {
            memmove(b->mem, b->mem + b->off, b->len);
            b->off = 0;
        } else {
            size_t want = (size_t)b->len + n;
            uint32_t cap;
            char *mem;

            if (n > (UINT32_MAX >> 1) || want > (UINT32_MAX >> 1))
                return NULL;
            mem = buf_take_block(want, &cap);
            if (!mem)
                return NULL;
            if (b->mem) {
                memcpy(mem, b->mem + b->off, b->len);
                buf_give_block(b->mem, b->cap);
            }
            b->mem = mem;
            b->cap = cap;
            b->off = 0;
        }
    }
    if (room)
        *room = (size_t)b->cap - b->off - b->len;
    return b->mem + b->off + b->len;
}

void buf_commit(struct buf *b, size_t n)
{
    b->len += (uint32_t)n;
}

void buf_settle(struct buf *b)
{
    if (b->len == 0)
        buf_release(b);
}

int buf_append(struct buf *b, const void *p, size_t n)
{
    char *to;

    if (n == 0)
        return 0;
    to = buf_reserve(b, n, NULL);
    if (!to)
        return -1;
    memcpy(to, p, n);
    b->len += (uint32_t)n;
    return 0;
}

int buf_append_str(struct buf *b, struct str s)
{
    return buf_append(b, s.p, s.n);
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    int n;
    char *to;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        return -1;
    to = buf_reserve(b, (size_t)n + 1, NULL);
    if (!to)
        return -1;
    va_start(ap, fmt);
    vsnprintf(to, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (uint32_t)n;
    return 0;
}

void buf_consume(struct buf *b, size_t n)
{
    b->off += (uint32_t)n;
    b->len -= (uint32_t)n;
    if (b->len == 0)
        buf_release(b);
}

void buf_release(struct buf *b)
{
    if (b->mem)
        buf_give_block(b->mem, b->cap);
    *b = (struct buf){ 0 };
}

void buf_trim(void)
{
    for (int c = 0; c < NCLASSES; c++) {
        while (free_blocks[c].first) {
            struct free_block *f = free_blocks[c].first;

            free_blocks[c].first = f->next;
            free(f);
        }
        free_blocks[c].bytes = 0;
    }
}
