/* The header comes in one segment nearly always, and may come octet by octet: it is looked at in
 * the socket, and only what belongs to it is taken out. */
#include "net/proxyreader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/loop.h"

static void proxyreader_stop(struct proxyreader *p)
{
    ev_io_stop(loop_ev(), &p->io);
    deadline_close(&p->deadline);
    free(p->seen);
    p->seen = NULL;
    p->fd = -1;
}

static void proxyreader_fail(struct proxyreader *p, const char *why)
{
    close(p->fd);
    proxyreader_stop(p);
    p->on_end(p->owner, -1, NULL, why);
}

static void proxyreader_on_deadline(void *owner)
{
    proxyreader_fail(owner, "its PROXY header did not come in time");
}

/* Reads `n` octets that have been peeked at before. */
static bool proxyreader_take(struct proxyreader *p, size_t n)
{
    return n == 0 || recv(p->fd, p->seen + p->nseen, n, 0) == (ssize_t)n;
}

static void proxyreader_on_io(struct ev_loop *ev, ev_io *w, int revents)
{
    struct proxyreader *p = w->data;
    struct proxyproto header;
    ssize_t got, used;
    int fd = p->fd;

    if (!p->seen && !(p->seen = malloc(PROXYPROTO_MAX))) {
        proxyreader_fail(p, "out of memory");
        return;
    }
    got = recv(p->fd, p->seen + p->nseen, PROXYPROTO_MAX - p->nseen, MSG_PEEK);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (got <= 0) {
        proxyreader_fail(p, got == 0 ? "it ended before its PROXY header" : strerror(errno));
        return;
    }
    used = proxyproto_parse(str_make((char *)p->seen, p->nseen + (size_t)got), &header);
    if (used < 0) {
        proxyreader_fail(p, proxyproto_strerror((int)used));
    } else if (!proxyreader_take(p, used > 0 ? (size_t)used - p->nseen : (size_t)got)) {
        proxyreader_fail(p, "its bytes vanished");
    } else if (used == 0) {
        p->nseen += (size_t)got;
    } else {
        proxyreader_stop(p);
        LOOP_ASSERT_OPEN(p->owner);
        p->on_end(p->owner, fd, &header, NULL);
    }
}

void proxyreader_open(
    struct proxyreader *p, int fd, uint64_t timeout_ms, proxyreader_fn *on_end, void *owner)
{
    *p = (struct proxyreader){ .on_end = on_end, .owner = owner, .fd = fd };
    ev_io_init(&p->io, proxyreader_on_io, fd, EV_READ);
    p->io.data = p;
    ev_io_start(loop_ev(), &p->io);
    deadline_init(&p->deadline, proxyreader_on_deadline, p);
    deadline_set(&p->deadline, timeout_ms);
}

void proxyreader_close(struct proxyreader *p)
{
    if (p->fd < 0)
        return;
    close(p->fd);
    proxyreader_stop(p);
}
