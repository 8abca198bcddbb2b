/* Bodies: memory, then a file that has no name. */
#include "http/body.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "conf/file.h"
#include "http/filereaper.h"

enum { GROW_MIN = 512, SEND_STEP = 16 << 10, FORGET_STEP = 1 << 20 };

void body_init(struct body *b, size_t memory_max, const char *temp_dir)
{
    *b = (struct body){ .mem_max = memory_max, .temp_dir = temp_dir, .fd = -1 };
}

static int body_grow(struct body *b, size_t want)
{
    size_t cap = b->mem_cap ? b->mem_cap : GROW_MIN;
    char *mem;

    if (want <= b->mem_cap)
        return 0;
    while (cap < want)
        cap *= 2;
    if (cap > b->mem_max)
        cap = b->mem_max;
    mem = realloc(b->mem, cap);
    if (!mem)
        return -1;
    b->mem = mem;
    b->mem_cap = cap;
    return 0;
}

void body_expect(struct body *b, uint64_t n)
{
    char *mem;

    if (n == 0 || n > b->mem_max || n <= b->mem_cap || b->fd >= 0)
        return;
    mem = realloc(b->mem, (size_t)n);
    if (!mem)
        return;
    b->mem = mem;
    b->mem_cap = (size_t)n;
}

static int body_open_file(struct body *b)
{
    char path[4096];
    int fd = file_open(b->temp_dir, FILE_NAMELESS);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        snprintf(path, sizeof(path), "%s/tarry-XXXXXX", b->temp_dir);
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0)
            unlink(path);
    }
    if (fd < 0)
        return -1;
    b->fd = fd;
    return 0;
}

int body_append(struct body *b, const void *p, size_t n)
{
    const char *from = p;
    size_t room = b->mem_max - b->mem_len;

    if (b->fd < 0 && room > 0 && n > 0) {
        size_t k = n < room ? n : room;

        if (body_grow(b, b->mem_len + k) < 0)
            return -1;
        memcpy(b->mem + b->mem_len, from, k);
        b->mem_len += k;
        b->size += k;
        from += k;
        n -= k;
    }
    if (n == 0)
        return 0;
    if (b->fd < 0 && body_open_file(b) < 0)
        return -1;
    while (n > 0) {
        ssize_t k = pwrite(b->fd, from, n, (off_t)(b->size - b->mem_len));

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return -1;
        b->size += (uint64_t)k;
        from += k;
        n -= (size_t)k;
    }
    return 0;
}

int body_read(const struct body *b, uint64_t off, size_t max, char *scratch, struct str *out)
{
    ssize_t k;

    if (off < b->mem_len) {
        size_t n = b->mem_len - (size_t)off;

        *out = str_make(b->mem + off, n < max ? n : max);
        return 0;
    }
    *out = str_make(scratch, 0);
    if (off >= b->size)
        return 0;
    do
        k = pread(b->fd, scratch, max, (off_t)(off - b->mem_len));
    while (k < 0 && errno == EINTR);
    if (k == 0)
        errno = EIO; /* the file is shorter than what was written to it */
    if (k <= 0)
        return -1;
    out->n = (size_t)k;
    return 0;
}

void body_forget(struct body *b, uint64_t off)
{
    uint64_t upto = off < b->mem_len ? 0 : off - b->mem_len;

    if (b->fd < 0 || upto < b->forgotten + FORGET_STEP)
        return;
    upto -= upto % FORGET_STEP;
    fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)b->forgotten,
        (off_t)(upto - b->forgotten));
    b->forgotten = upto;
}

void body_clear(struct body *b)
{
    free(b->mem);
    if (b->fd >= 0)
        filereaper_take(b->fd, b->size - b->mem_len);
    body_init(b, b->mem_max, b->temp_dir);
}

void body_release(struct body *b)
{
    if (b->temp_dir)
        body_clear(b);
}

enum { READ_STEP = 16 << 10 };

int piece_each(const struct piece *p, bool (*take)(void *owner, struct str part), void *owner)
{
    char scratch[READ_STEP];

    for (uint64_t at = 0; at < p->len;) {
        uint64_t left = p->len - at;
        size_t n = left < READ_STEP ? (size_t)left : READ_STEP;
        struct str part = str_make(p->body ? NULL : p->mem + at, n);

        if (p->body && body_read(p->body, p->off + at, n, scratch, &part) < 0)
            return -1;
        if (part.n == 0 || !take(owner, part))
            return 0;
        at += part.n;
    }
    return 0;
}

uint64_t pieces_size(const struct piece *pieces, size_t count)
{
    uint64_t n = 0;

    for (size_t i = 0; i < count; i++)
        n += pieces[i].len;
    return n;
}

int pieces_send(struct piece_cursor *c, struct stream *s)
{
    char scratch[SEND_STEP];

    while (c->at < c->count) {
        const struct piece *p = &c->pieces[c->at];
        uint64_t left = p->len - c->off;
        struct str data;
        int rc;

        if (left == 0) {
            c->at++;
            c->off = 0;
            continue;
        }
        if (!p->body)
            data = str_make(p->mem + c->off, left < SEND_STEP ? (size_t)left : SEND_STEP);
        else if (body_read(p->body, p->off + c->off, left < SEND_STEP ? (size_t)left : SEND_STEP,
                     scratch, &data) < 0)
            return STREAM_E_MEMORY;
        rc = stream_send_data(s, data.p, data.n);
        if (rc < 0 && rc != STREAM_FULL)
            return rc;
        c->off += data.n;
        if (rc == STREAM_FULL && (c->off < p->len || c->at + 1 < c->count))
            return STREAM_FULL;
    }
    return 0;
}
