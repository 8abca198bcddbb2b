/* Files, read as a whole. */
#include "conf/file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    file_open_fn *open;
    void *owner;
} opener;

enum { PIPE_BUF_SIZE = 65536 }; /* pipe(7) */

static struct {
    const char *name, *text;
} virtual;

void file_set_opener(file_open_fn *open, void *owner)
{
    opener.open = open;
    opener.owner = owner;
}

void file_set_virtual(const char *name, const char *text)
{
    virtual.name = name;
    virtual.text = text;
}

/* The text is put into a pipe, which can hold all of it, so the sandbox needs no further rule. */
static int file_open_virtual(void)
{
    size_t n = strlen(virtual.text);
    int ends[2], saved;

    if (n > PIPE_BUF_SIZE) {
        errno = EFBIG;
        return -1;
    }
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -1;
    saved = write(ends[1], virtual.text, n) == (ssize_t)n ? 0 : EIO;
    close(ends[1]);
    if (saved == 0)
        return ends[0];
    close(ends[0]);
    errno = saved;
    return -1;
}

int file_open(const char *path, int flags)
{
    if (virtual.name && strcmp(path, virtual.name) == 0)
        return file_open_virtual();
    if (opener.open)
        return opener.open(opener.owner, path, flags);
    return open(path, O_RDONLY | O_CLOEXEC | flags, flags == FILE_NAMELESS ? 0600 : 0640);
}

/* Reads until the end or until `room` is full. Bytes read, or -1 with errno. */
static ssize_t file_read_up_to(int fd, char *p, size_t room)
{
    size_t n = 0;

    while (n < room) {
        ssize_t got = read(fd, p + n, room - n);

        if (got == 0)
            break;
        if (got > 0)
            n += (size_t)got;
        else if (errno != EINTR)
            return -1;
    }
    return (ssize_t)n;
}

bool file_read(const char *path, size_t max, struct file_content *out, char *why, size_t whylen)
{
    int fd = file_open(path, O_NONBLOCK), err = errno;
    struct stat st;
    ssize_t got;

    *out = (struct file_content){ 0 };
    if (fd < 0) {
        snprintf(why, whylen, "cannot read \"%s\": %s", path, strerror(err));
        return false;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        snprintf(why, whylen, "cannot read \"%s\": it is no regular file", path);
        goto failed;
    }
    if ((uint64_t)st.st_size > max) {
        snprintf(why, whylen, "cannot read \"%s\": it is larger than %zu bytes", path, max);
        goto failed;
    }
    /* A file that grows meanwhile is read only up to its original length. */
    out->p = malloc((size_t)st.st_size + 1);
    got = out->p ? file_read_up_to(fd, out->p, (size_t)st.st_size) : -1;
    if (got < 0) {
        snprintf(why, whylen, "cannot read \"%s\": %s", path,
            out->p ? strerror(errno) : "out of memory");
        goto failed;
    }
    close(fd);
    out->n = (size_t)got;
    out->p[out->n] = 0;
    return true;

failed:
    close(fd);
    free(out->p);
    out->p = NULL;
    return false;
}

void file_forget(struct file_content *c)
{
    if (c->p)
        OPENSSL_cleanse(c->p, c->n);
    free(c->p);
    *c = (struct file_content){ 0 };
}

struct str file_resolve(struct arena *a, const char *file, struct str path)
{
    const char *slash = strrchr(file, '/');

    if (path.n == 0 || path.p[0] == '/' || !slash)
        return arena_copy(a, path);
    return arena_printf(a, "%.*s/" STR_FMT, (int)(slash - file), file, STR_ARG(path));
}
