/* A preloaded library by which a test takes memory away from a running process: the n-th allocation
 * from now on fails, and `count` - 1 after it. The test and the process share the page of a file,
 * named by NOMEM_FILE; only the process whose id stands there is meant, or any if it is ANYBODY. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* tests/e2e/harness/nomem.py writes and reads it. */
struct orders {
    uint64_t pid;
    uint64_t first, count; /* allocations `first` to `first` + `count` - 1 fail; the first is 1 */
    uint64_t seen, failed;
};

enum { ANYBODY = 0 };

static struct orders *orders;

static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static int (*real_posix_memalign)(void **, size_t, size_t);
static void *(*real_aligned_alloc)(size_t, size_t);

/* What dlsym() itself asks for while it is looked up. */
static _Alignas(max_align_t) char early[8192];
static size_t early_used;

static void *take_early(size_t n)
{
    void *p = early + early_used;

    early_used += (n + 15) & ~(size_t)15;
    return early_used <= sizeof(early) ? p : NULL;
}

static void find_real(void)
{
    static int finding;

    if (real_malloc || finding)
        return;
    finding = 1;
    real_calloc = (void *(*)(size_t, size_t))(uintptr_t)dlsym(RTLD_NEXT, "calloc");
    real_realloc = (void *(*)(void *, size_t))(uintptr_t)dlsym(RTLD_NEXT, "realloc");
    real_posix_memalign =
        (int (*)(void **, size_t, size_t))(uintptr_t)dlsym(RTLD_NEXT, "posix_memalign");
    real_aligned_alloc = (void *(*)(size_t, size_t))(uintptr_t)dlsym(RTLD_NEXT, "aligned_alloc");
    real_malloc = (void *(*)(size_t))(uintptr_t)dlsym(RTLD_NEXT, "malloc");
    finding = 0;
}

__attribute__((constructor)) static void open_orders(void)
{
    const char *path = getenv("NOMEM_FILE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *page;

    if (fd < 0)
        return;
    page = mmap(NULL, sizeof(*orders), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    orders = page == MAP_FAILED ? NULL : page;
}

/* libconfuse asserts that it got what it wanted; Tarry makes sure of that beforehand. */
static int is_spared(void *caller)
{
    Dl_info info;

    return dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "libconfuse");
}

static int fails(void *caller)
{
    if (!orders || orders->count == 0)
        return 0;
    if ((orders->pid != ANYBODY && orders->pid != (uint64_t)getpid()) || is_spared(caller))
        return 0;
    orders->seen++;
    if (orders->seen < orders->first || orders->seen >= orders->first + orders->count)
        return 0;
    orders->failed++;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t n)
{
    find_real();
    if (!real_malloc)
        return take_early(n);
    return fails(__builtin_return_address(0)) ? NULL : real_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    find_real();
    if (!real_malloc)
        return take_early(n * size); /* zero, as it is used once */
    return fails(__builtin_return_address(0)) ? NULL : real_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    find_real();
    if (!real_malloc)
        return p ? NULL : take_early(n);
    return fails(__builtin_return_address(0)) ? NULL : real_realloc(p, n);
}

int posix_memalign(void **p, size_t alignment, size_t n)
{
    find_real();
    return fails(__builtin_return_address(0)) ? ENOMEM : real_posix_memalign(p, alignment, n);
}

void *aligned_alloc(size_t alignment, size_t n)
{
    find_real();
    return fails(__builtin_return_address(0)) ? NULL : real_aligned_alloc(alignment, n);
}

/* Here, so that its caller is seen and not the C library. */
char *strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *p;

    find_real();
    p = !real_malloc ? take_early(n) : fails(__builtin_return_address(0)) ? NULL : real_malloc(n);
    return p ? memcpy(p, s, n) : NULL;
}

char *strndup(const char *s, size_t most)
{
    size_t n = strnlen(s, most);
    char *p;

    find_real();
    p = !real_malloc                         ? take_early(n + 1)
        : fails(__builtin_return_address(0)) ? NULL
                                             : real_malloc(n + 1);
    if (!p)
        return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}
