/* Accepting, in batches, with a pause instead of a spin when the process is out of descriptors. */
#include "net/listener.h"

#include <errno.h>
#include <ev.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/addr.h"
#include "net/loop.h"
#include "observe/log.h"

struct listener {
    ev_io io;
    ev_timer pause;
    int fd;
    char *text;
    char *unix_path; /* NULL: TCP */
    listener_accept_fn *on_accept;
    listener_may_accept_fn *may_accept;
    void *owner;
    void *data;
    struct grave grave;
    uint64_t complained_ms;
    bool closed;
};

enum {
    BATCH = 16,     /* accepted in one turn: others get theirs too */
    PAUSE_MS = 100, /* after EMFILE, or at max_connections */
    COMPLAIN_EVERY_MS = 10000,
};

static void pause_accepting(struct listener *l, const char *why)
{
    ev_io_stop(loop_ev(), &l->io);
    ev_timer_start(loop_ev(), &l->pause);
    if (l->complained_ms == 0 || loop_now_ms() - l->complained_ms >= COMPLAIN_EVERY_MS) {
        l->complained_ms = loop_now_ms();
        log_warn(NULL, "not accepting on %s for a moment: %s", l->text, why);
    }
}

static void on_pause(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct listener *l = w->data;

    ev_timer_set(&l->pause, PAUSE_MS / 1e3, 0.);
    if (!l->closed)
        ev_io_start(ev, &l->io);
}

/* False if there is nothing more to accept now. */
static bool accept_one(struct listener *l)
{
    struct sockaddr_storage peer;
    socklen_t n = sizeof(peer);
    int fd;

    if (!l->may_accept(l->owner)) {
        pause_accepting(l, "max_connections are open");
        return false;
    }
    peer.ss_family = AF_UNSPEC;
    fd = accept4(l->fd, (struct sockaddr *)&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        if (l->unix_path)
            peer.ss_family = AF_UNIX;
        l->on_accept(l->owner, l, fd, (struct sockaddr *)&peer);
        return true;
    }
    switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        pause_accepting(l, strerror(errno));
        return false;
    case EAGAIN:
        return false;
    default:
        return true; /* that one connection was gone already */
    }
}

static void on_io(struct ev_loop *ev, ev_io *w, int revents)
{
    struct listener *l = w->data;

    for (int i = 0; i < BATCH && !l->closed; i++)
        if (!accept_one(l))
            break;
}

static void free_listener(void *what)
{
    struct listener *l = what;

    free(l->text);
    free(l->unix_path);
    free(l);
}

/* A socket file that nobody listens behind is left from a crash. */
static void remove_stale(const char *path, const struct sockaddr *sa, socklen_t salen)
{
    struct stat st;
    int fd;

    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (connect(fd, sa, salen) < 0 && errno == ECONNREFUSED)
        unlink(path);
    close(fd);
}

struct listener *listener_open(struct str text, const struct sockaddr *sa, socklen_t salen,
    unsigned backlog, bool reuse_port, char *why, size_t whylen)
{
    struct listener *l = calloc(1, sizeof(*l));
    int on = 1;

    if (!l || !(l->text = strndup(text.p, text.n)))
        goto no_memory;
    l->fd = -1;
    if (sa->sa_family == AF_UNIX) {
        l->unix_path = strdup(((const struct sockaddr_un *)(const void *)sa)->sun_path);
        if (!l->unix_path)
            goto no_memory;
        remove_stale(l->unix_path, sa, salen);
    }
    l->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        goto failed;
    if (!l->unix_path) {
        /* Accepted sockets inherit the last two. */
        setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(l->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
        if (reuse_port)
            setsockopt(l->fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
        if (sa->sa_family == AF_INET6)
            setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    if (bind(l->fd, sa, salen) < 0)
        goto failed;
    /* Who may connect is told by the folder's permissions, as with other servers. */
    if (l->unix_path && chmod(l->unix_path, 0666) < 0)
        goto failed;
    if (listen(l->fd, (int)backlog) < 0)
        goto failed;
    ev_io_init(&l->io, on_io, l->fd, EV_READ);
    l->io.data = l;
    ev_timer_init(&l->pause, on_pause, PAUSE_MS / 1e3, 0.);
    l->pause.data = l;
    return l;

no_memory:
    errno = ENOMEM;
failed:
    snprintf(why, whylen, "cannot listen on " STR_FMT ": %s", STR_ARG(text), strerror(errno));
    if (l) {
        if (l->fd >= 0)
            close(l->fd);
        free_listener(l);
    }
    return NULL;
}

void listener_start(struct listener *l, listener_accept_fn *on_accept,
    listener_may_accept_fn *may_accept, void *owner)
{
    l->on_accept = on_accept;
    l->may_accept = may_accept;
    l->owner = owner;
    ev_io_start(loop_ev(), &l->io);
}

struct str listener_text(const struct listener *l)
{
    return str_of(l->text);
}

unsigned listener_port(const struct listener *l)
{
    struct sockaddr_storage sa;
    socklen_t n = sizeof(sa);

    if (getsockname(l->fd, (struct sockaddr *)&sa, &n) < 0)
        return 0;
    return addr_of((struct sockaddr *)&sa).port;
}

void listener_close(struct listener *l, bool unlink_file)
{
    if (!l || l->closed)
        return;
    /* Who has connected already is served: the kernel would reset what is left in the backlog. */
    if (l->on_accept)
        while (accept_one(l))
            ;
    l->closed = true;
    ev_io_stop(loop_ev(), &l->io);
    ev_timer_stop(loop_ev(), &l->pause);
    close(l->fd);
    if (l->unix_path && unlink_file)
        unlink(l->unix_path);
    loop_bury(&l->grave, l, free_listener);
}

void listener_set_data(struct listener *l, void *data)
{
    l->data = data;
}

void *listener_data(const struct listener *l)
{
    return l->data;
}
