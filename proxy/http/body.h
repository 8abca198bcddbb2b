/* A body that is kept: in memory up to a limit, the rest in an unlinked temporary file. Appended to
 * at its end, read at any place, any number of times, until body_forget() gives up what has been
 * read. File I/O goes to the page cache, as is usual for proxies. A large file is given back to the
 * file system a slice a turn: to delete a gigabyte at once would hold up everybody.
 *
 * Embedded; a zeroed struct after body_init() is an empty body. Its owner ends it with
 * body_release(). */
#ifndef TARRY_HTTP_BODY_H
#define TARRY_HTTP_BODY_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "http/stream.h"

struct body {
    char *mem;
    size_t mem_len, mem_cap, mem_max;
    uint64_t size;
    uint64_t forgotten; /* bytes of the file, from its beginning, that the disk has back */
    const char *temp_dir;
    int fd; /* -1: none */
};

/* `temp_dir` must outlive it. */
void body_init(struct body *b, size_t memory_max, const char *temp_dir);

/* `n` bytes will come: they get one block of just that size if they fit into memory. A hint. */
void body_expect(struct body *b, uint64_t n);

/* 0, or -1 with errno (no memory, no disk): then the body is not usable further. */
int body_append(struct body *b, const void *p, size_t n);

static inline uint64_t body_size(const struct body *b)
{
    return b->size;
}

/* Up to `max` bytes at `off`: from memory without a copy, or read from the file into `scratch` (of
 * at least `max` bytes). 0, or -1 with errno. An empty span at the end. */
int body_read(const struct body *b, uint64_t off, size_t max, char *scratch, struct str *out);

/* What lies before `off` will not be read again: the disk gets it back, a mebibyte at a time. A
 * file system that cannot make holes keeps it until the body ends. */
void body_forget(struct body *b, uint64_t off);

/* Empties it; it can be appended to again. */
void body_clear(struct body *b);
void body_release(struct body *b);

/* A part of a body, or a span of memory: what messages are put together from without copying.
 * Borrows. */
struct piece {
    const struct body *body; /* NULL: mem */
    uint64_t off, len;
    const char *mem;
};

struct piece_cursor {
    const struct piece *pieces;
    size_t count, at;
    uint64_t off; /* within pieces[at] */
};

/* Gives it to `take` in steps, from its beginning, until `take` has enough (false). 0, or -1 if it
 * cannot be read. */
int piece_each(const struct piece *p, bool (*take)(void *owner, struct str part), void *owner);

uint64_t pieces_size(const struct piece *pieces, size_t count);

/* Sends from where the cursor stands: 0 when all has been sent (the end is not), STREAM_FULL (go on
 * after on_drained), or a negative error. */
int pieces_send(struct piece_cursor *c, struct stream *s);

#endif
