/* Arenas: blocks of at least BLOCK_MIN bytes, cut from the front. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "config.h"

/* What a parked exchange keeps, beside what is large, fits into one block. */
enum { BLOCK_MIN = 288, ALIGN = _Alignof(max_align_t) };

struct arena_block {
    struct arena_block *next;
    uint32_t size, used;
    _Alignas(max_align_t) char mem[];
};

/* `behind`: the newest block stays the current one. */
static struct arena_block *arena_open_block(struct arena *a, size_t n, bool behind)
{
    struct arena_block *b = n < UINT32_MAX / 2 ? malloc(sizeof(*b) + n) : NULL;

    if (!b)
        return NULL;
    b->size = (uint32_t)n;
    b->used = 0;
    if (behind) {
        b->next = a->blocks->next;
        a->blocks->next = b;
    } else {
        b->next = a->blocks;
        a->blocks = b;
    }
    return b;
}

void *arena_alloc(struct arena *a, size_t n)
{
    struct arena_block *b = a->blocks;
    void *p;

    if (n > SIZE_MAX / 2) {
        a->no_memory = true;
        return NULL;
    }
    n = (n + ALIGN - 1) & ~((size_t)ALIGN - 1);
#ifdef TARRY_PLAIN_MALLOC
    b = arena_open_block(a, n, false);
#else
    /* A large piece gets a block of its own size, and the newest block stays in use. */
    if (!b || b->size - b->used < n)
        b = n >= BLOCK_MIN / 2 ? arena_open_block(a, n, b != NULL)
                               : arena_open_block(a, BLOCK_MIN, false);
#endif
    if (!b) {
        a->no_memory = true;
        return NULL;
    }
    p = b->mem + b->used;
    b->used += (uint32_t)n;
    memset(p, 0, n);
    return p;
}

struct str arena_copy(struct arena *a, struct str s)
{
    char *p = arena_alloc(a, s.n + 1);

    if (!p)
        return (struct str){ NULL, 0 };
    if (s.n > 0)
        memcpy(p, s.p, s.n);
    return (struct str){ p, s.n };
}

const char *arena_cstr(struct arena *a, struct str s)
{
    return arena_copy(a, s).p;
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    int n;
    char *p;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    p = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (!p)
        return (struct str){ NULL, 0 };
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return (struct str){ p, (size_t)n };
}

void arena_release(struct arena *a)
{
    while (a->blocks) {
        struct arena_block *b = a->blocks;

        a->blocks = b->next;
        free(b);
    }
    a->no_memory = false;
}
