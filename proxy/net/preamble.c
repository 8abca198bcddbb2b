/* The header comes in one segment nearly always, and may come octet by octet: it is looked at in
 * the socket, and only what belongs to it is taken out. */
#include "net/preamble.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/loop.h"

static void stop(struct preamble *p)
{
    ev_io_stop(loop_ev(), &p->io);
    deadline_close(&p->deadline);
    free(p->seen);
    p->seen = NULL;
    p->fd = -1;
}

static void fail(struct preamble *p, const char *why)
{
    close(p->fd);
    stop(p);
    p->on_end(p->owner, -1, NULL, why);
}

static void on_deadline(void *owner)
{
    fail(owner, "its PROXY header did not come in time");
}

/* Takes `n` octets out that have been seen: they are there. */
static bool take(struct preamble *p, size_t n)
{
    return n == 0 || recv(p->fd, p->seen + p->nseen, n, 0) == (ssize_t)n;
}

static void on_io(struct ev_loop *ev, ev_io *w, int revents)
{
    struct preamble *p = w->data;
    struct proxyproto header;
    ssize_t got, used;
    int fd = p->fd;

    if (!p->seen && !(p->seen = malloc(PROXYPROTO_MAX))) {
        fail(p, "out of memory");
        return;
    }
    got = recv(p->fd, p->seen + p->nseen, PROXYPROTO_MAX - p->nseen, MSG_PEEK);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (got <= 0) {
        fail(p, got == 0 ? "it ended before its PROXY header" : strerror(errno));
        return;
    }
    used = proxyproto_parse(str_make((char *)p->seen, p->nseen + (size_t)got), &header);
    if (used < 0) {
        fail(p, proxyproto_strerror((int)used));
    } else if (!take(p, used > 0 ? (size_t)used - p->nseen : (size_t)got)) {
        fail(p, "its bytes vanished");
    } else if (used == 0) {
        p->nseen += (size_t)got;
    } else {
        stop(p);
        p->on_end(p->owner, fd, &header, NULL);
    }
}

void preamble_open(
    struct preamble *p, int fd, uint64_t timeout_ms, preamble_fn *on_end, void *owner)
{
    *p = (struct preamble){ .on_end = on_end, .owner = owner, .fd = fd };
    ev_io_init(&p->io, on_io, fd, EV_READ);
    p->io.data = p;
    ev_io_start(loop_ev(), &p->io);
    deadline_init(&p->deadline, on_deadline, p);
    deadline_set(&p->deadline, timeout_ms);
}

void preamble_close(struct preamble *p)
{
    if (p->fd < 0)
        return;
    close(p->fd);
    stop(p);
}
