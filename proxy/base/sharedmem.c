/* Each block is a memfd whose first bytes say what it is. */
#include "base/sharedmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHAREDMEM_MAGIC UINT64_C(0x6d65796c74726174)

/* The user's bytes follow. */
struct sharedmem_header {
    uint64_t magic, layout, size;
    char name[SHAREDMEM_NAME_MAX];
    char rest[16];
};
_Static_assert(sizeof(struct sharedmem_header) == 64, "what follows begins at a cache line");

static struct {
    int fds[SHAREDMEM_BLOCKS_MAX];
    bool taken_over[SHAREDMEM_BLOCKS_MAX]; /* from an earlier binary, and not opened yet */
    size_t n;
} sharedmem;

static void sharedmem_keep(int fd, bool taken_over)
{
    sharedmem.fds[sharedmem.n] = fd;
    sharedmem.taken_over[sharedmem.n++] = taken_over;
}

static void *sharedmem_map(int fd, size_t n)
{
    int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    void *p = mmap(NULL, sizeof(struct sharedmem_header) + n, PROT_READ | PROT_WRITE, flags, fd, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* A block that shrinks under its readers would end them by SIGBUS: its size is sealed. The function
 * came with glibc 2.27, and the wheel is for older ones, too. */
static int sharedmem_make(const char *name, size_t n)
{
    int fd = (int)syscall(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)(sizeof(struct sharedmem_header) + n)) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool sharedmem_is(const struct sharedmem_header *h, const char *name)
{
    return h->magic == SHAREDMEM_MAGIC && strncmp(h->name, name, sizeof(h->name)) == 0;
}

/* The earlier binary's block of that name; NULL if there is none that can be used. */
static struct sharedmem_header *sharedmem_find(const char *name, uint64_t layout, size_t n)
{
    for (size_t i = 0; i < sharedmem.n; i++) {
        struct sharedmem_header *h;
        struct stat st;

        if (!sharedmem.taken_over[i] || fstat(sharedmem.fds[i], &st) < 0 ||
            (uint64_t)st.st_size != sizeof(*h) + n)
            continue;
        h = sharedmem_map(sharedmem.fds[i], n);
        if (!h)
            continue;
        if (sharedmem_is(h, name) && h->layout == layout && h->size == n) {
            sharedmem.taken_over[i] = false;
            return h;
        }
        munmap(h, sizeof(*h) + n);
    }
    return NULL;
}

void *sharedmem_open(const char *name, uint64_t layout, size_t n)
{
    struct sharedmem_header *h = sharedmem_find(name, layout, n);
    int fd;

    if (h)
        return h + 1;
    /* Without a memfd the memory is shared all the same, but not with another binary. */
    fd = sharedmem.n < SHAREDMEM_BLOCKS_MAX ? sharedmem_make(name, n) : -1;
    h = sharedmem_map(fd, n);
    if (!h) {
        if (fd >= 0)
            close(fd);
        errno = ENOMEM;
        return NULL;
    }
    h->magic = SHAREDMEM_MAGIC;
    h->layout = layout;
    h->size = n;
    strncpy(h->name, name, sizeof(h->name) - 1);
    if (fd >= 0)
        sharedmem_keep(fd, false);
    return h + 1;
}

void sharedmem_each(void (*fn)(void *owner, int fd), void *owner)
{
    for (size_t i = 0; i < sharedmem.n; i++)
        if (!sharedmem.taken_over[i])
            fn(owner, sharedmem.fds[i]);
}

/* No file is, and nobody can shrink a block that is. */
static bool sharedmem_is_sealed(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);

    return seals >= 0 && (seals & F_SEAL_SHRINK);
}

void sharedmem_take_over(int fd)
{
    struct stat st;

    if (sharedmem.n == SHAREDMEM_BLOCKS_MAX || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        st.st_size < (off_t)sizeof(struct sharedmem_header) || !sharedmem_is_sealed(fd)) {
        close(fd);
        return;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    sharedmem_keep(fd, true);
}

void sharedmem_drop_rest(void)
{
    size_t n = 0;

    for (size_t i = 0; i < sharedmem.n; i++)
        if (sharedmem.taken_over[i])
            close(sharedmem.fds[i]);
        else
            sharedmem.fds[n++] = sharedmem.fds[i];
    memset(sharedmem.taken_over, 0, sizeof(sharedmem.taken_over));
    sharedmem.n = n;
}

void sharedmem_forget(void)
{
    for (size_t i = 0; i < sharedmem.n; i++)
        close(sharedmem.fds[i]);
    sharedmem.n = 0;
}
