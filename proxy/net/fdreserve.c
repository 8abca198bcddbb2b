/* Copies of one descriptor of /dev/null. */
#include "net/fdreserve.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ROOM = 2 }; /* an accepted connection, and what serving it may open */

static struct {
    int *fds;
    size_t n, max;
    int null; /* -1: there is no reserve */
} fdreserve = { .null = -1 };

void fdreserve_open(size_t n)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur != RLIM_INFINITY && n > r.rlim_cur / 8)
        n = r.rlim_cur / 8;
    fdreserve.fds = n > 0 ? calloc(n, sizeof(*fdreserve.fds)) : NULL;
    fdreserve.max = fdreserve.fds ? n : 0;
    fdreserve.null = fdreserve.fds ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
    fdreserve_fill();
}

/* False if there is none left. */
static bool fdreserve_take(void)
{
    int fd = fcntl(fdreserve.null, F_DUPFD_CLOEXEC, 0);

    if (fd >= 0)
        fdreserve.fds[fdreserve.n++] = fd;
    return fd >= 0;
}

void fdreserve_fill(void)
{
    while (fdreserve.null >= 0 && fdreserve.n < fdreserve.max && fdreserve_take())
        ;
}

static void fdreserve_give(size_t keep)
{
    while (fdreserve.n > keep)
        close(fdreserve.fds[--fdreserve.n]);
}

void fdreserve_lend(void)
{
    fdreserve_give(0);
}

void fdreserve_make_room(void)
{
    int fd = fdreserve.null >= 0 ? fcntl(fdreserve.null, F_DUPFD_CLOEXEC, 0) : -1;

    if (fd >= 0)
        close(fd);
    else
        fdreserve_give(fdreserve.n > ROOM ? fdreserve.n - ROOM : 0);
}

void fdreserve_close(void)
{
    fdreserve_give(0);
    if (fdreserve.null >= 0)
        close(fdreserve.null);
    free(fdreserve.fds);
    fdreserve.fds = NULL;
    fdreserve.max = 0;
    fdreserve.null = -1;
}
