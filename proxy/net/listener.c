/* Accepting, in batches, with a pause instead of a spin when the process is out of descriptors. A
 * listener that drains accepts what waits in its backlog, a batch a turn, and then closes. */
#include "net/listener.h"

#include <errno.h>
#include <grp.h>
#include <ev.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/addr.h"
#include "net/activation.h"
#include "net/loop.h"
#include "observe/log.h"

struct listener {
    ev_io io;
    ev_timer pause;
    int fd;
    char *text;
    char *unix_path; /* the file to remove at the end; NULL: none */
    listener_accept_fn *on_accept;
    listener_may_accept_fn *may_accept;
    void *owner;
    void *data;
    void (*on_closed)(void *owner, struct listener *l); /* while it drains */
    struct deferred drain;
    struct deferred_free deferred_free;
    uint64_t complained_ms;
    unsigned backlog;
    unsigned left; /* to accept at most while it drains: others may connect all the time */
    bool is_unix;
    bool closed;
};

enum {
    BATCH = 16,     /* accepted in one turn, so that others are served meanwhile */
    PAUSE_MS = 100, /* after EMFILE, or at max_connections */
    COMPLAIN_EVERY_MS = 10000,
};

static void listener_pause_accepting(struct listener *l, const char *why)
{
    ev_io_stop(loop_ev(), &l->io);
    ev_timer_start(loop_ev(), &l->pause);
    if (l->complained_ms == 0 || loop_now_ms() - l->complained_ms >= COMPLAIN_EVERY_MS) {
        l->complained_ms = loop_now_ms();
        log_warn(NULL, "not accepting on %s for a moment: %s", l->text, why);
    }
}

static void listener_on_pause(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct listener *l = w->data;

    ev_timer_set(&l->pause, PAUSE_MS / 1e3, 0.);
    if (!l->closed)
        ev_io_start(ev, &l->io);
}

/* False if there is nothing more to accept now. `waits`: a connection surely waits. */
static bool listener_accept_one(struct listener *l, bool waits)
{
    struct sockaddr_storage peer;
    socklen_t n = sizeof(peer);
    int fd;

    if (!l->may_accept(l->owner, waits)) {
        if (waits)
            listener_pause_accepting(l, "max_connections are open");
        return false;
    }
    peer.ss_family = AF_UNSPEC;
    fd = accept4(l->fd, (struct sockaddr *)&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        if (l->is_unix)
            peer.ss_family = AF_UNIX;
        l->on_accept(l->owner, l, fd, (struct sockaddr *)&peer);
        return true;
    }
    switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        listener_pause_accepting(l, strerror(errno));
        return false;
    case EAGAIN:
        return false;
    default:
        return true; /* that one connection was gone already */
    }
}

static void listener_on_io(struct ev_loop *ev, ev_io *w, int revents)
{
    struct listener *l = w->data;

    for (int i = 0; i < BATCH && !l->closed; i++)
        if (!listener_accept_one(l, i == 0))
            break;
}

static void free_listener(void *what)
{
    struct listener *l = what;

    free(l->text);
    free(l->unix_path);
    free(l);
}

/* A socket file without a listener is left from a crash. */
static void listener_remove_stale(const char *path, const struct sockaddr *sa, socklen_t salen)
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

/* A socket that a master has bound for its children, which inherit the descriptor. `path`: of a
 * unix socket. */
struct listener_shared {
    struct listener_shared *next;
    int fd;
    char *text, *path;
};

static struct listener_shared *shared;

static listener_bind_fn *bind_fn = bind;

void listener_set_bind(listener_bind_fn *fn)
{
    bind_fn = fn ? fn : bind;
}

static gid_t listener_default_group = (gid_t)-1;

void listener_set_group(gid_t gid)
{
    listener_default_group = gid;
}

/* The group that a unix socket's file shall have; -1: as it comes. */
static gid_t listener_group_of(const struct addr_conf *a)
{
    const struct group *g = a->group.n > 0 ? getgrnam(a->group.p) : NULL;

    return g ? g->gr_gid : listener_default_group;
}

/* The file's permissions and group say which users may connect. The file is created with both. They
 * are not set afterwards, because chmod() and chown() would follow a link that somebody puts there.
 * Only a process that is not root, and cannot take on another group, has to set them. */
static int listener_bind_unix(int fd, const struct addr_conf *a)
{
    gid_t group = listener_group_of(a), mine = getegid();
    bool other = group != (gid_t)-1 && group != mine;
    bool borrowed = other && setegid(group) == 0;
    mode_t mask = umask(~(mode_t)a->mode & 0777);
    int err = bind_fn(fd, (const struct sockaddr *)&a->sa, a->salen), saved = errno;

    umask(mask);
    if (borrowed && setegid(mine) < 0)
        err = -1;
    if (err == 0 && other && !borrowed &&
        lchown(((const struct sockaddr_un *)(const void *)&a->sa)->sun_path, (uid_t)-1, group) <
            0 &&
        a->group.n > 0) {
        saved = errno;
        err = -1;
    }
    errno = saved;
    return err;
}

static int listener_bind_to(const struct addr_conf *a, unsigned backlog, bool many);

/* A kernel without IPv6 still has the half of [::]:PORT that is IPv4's. */
static int listener_bind_ipv4_half(const struct addr_conf *a, unsigned backlog, bool many)
{
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)&a->sa;
    struct addr_conf half = *a;
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)&half.sa;

    memset(&half.sa, 0, sizeof(half.sa));
    in->sin_family = AF_INET;
    in->sin_port = in6->sin6_port;
    half.salen = sizeof(*in);
    return listener_bind_to(&half, backlog, many);
}

static bool listener_has_ipv4_half(const struct addr_conf *a)
{
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)&a->sa;

    return in6->sin6_family == AF_INET6 && !a->ipv6_only &&
           IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
}

/* socket(), bind(), listen(). The descriptor, or -1 with errno. */
static int listener_bind_to(const struct addr_conf *a, unsigned backlog, bool many)
{
    const struct sockaddr *sa = (const struct sockaddr *)&a->sa;
    bool is_unix = sa->sa_family == AF_UNIX;
    int fd, on = 1, only = a->ipv6_only, saved;
    bool good;

    fd = activation_adopt(sa);
    if (fd >= 0) {
        listen(fd, (int)backlog); /* its length; it listens already */
        return fd;
    }
    if (is_unix)
        listener_remove_stale(
            ((const struct sockaddr_un *)(const void *)sa)->sun_path, sa, a->salen);
    fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 && errno == EAFNOSUPPORT && listener_has_ipv4_half(a))
        return listener_bind_ipv4_half(a, backlog, many);
    if (fd < 0)
        return -1;
    if (!is_unix) {
        /* Accepted sockets inherit the next two. */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (many)
            setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
        if (sa->sa_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
    }
    good = (is_unix ? listener_bind_unix(fd, a) : bind_fn(fd, sa, a->salen)) == 0;
    if (good && listen(fd, (int)backlog) == 0)
        return fd;
    saved = errno;
    close(fd);
    if (saved == EADDRNOTAVAIL && listener_has_ipv4_half(a))
        return listener_bind_ipv4_half(a, backlog, many);
    errno = saved;
    return -1;
}

static const struct listener_shared *listener_find_shared(struct str text)
{
    for (const struct listener_shared *s = shared; s; s = s->next)
        if (str_eq(str_of(s->text), text))
            return s;
    return NULL;
}

int listener_share(const struct addr_conf *a, unsigned backlog, bool many, char *why, size_t whylen)
{
    const struct sockaddr *sa = (const struct sockaddr *)&a->sa;
    bool is_unix = sa->sa_family == AF_UNIX;
    struct listener_shared *s;

    if ((many && !is_unix) || activation_find(sa) >= 0)
        return 0;
    s = calloc(1, sizeof(*s));
    if (s) {
        s->text = strndup(a->text.p, a->text.n);
        s->path = is_unix ? strdup(((const struct sockaddr_un *)(const void *)sa)->sun_path) : NULL;
    }
    if (s && s->text && (s->path || !is_unix) &&
        (s->fd = listener_bind_to(a, backlog, many)) >= 0) {
        s->next = shared;
        shared = s;
        return 0;
    }
    snprintf(why, whylen, "cannot listen on " STR_FMT ": %s", STR_ARG(a->text), strerror(errno));
    if (s) {
        free(s->text);
        free(s->path);
        free(s);
    }
    return -1;
}

static void listener_drop_shared(struct listener_shared *s, bool unlink_file)
{
    close(s->fd);
    if (s->path && unlink_file)
        unlink(s->path);
    free(s->text);
    free(s->path);
    free(s);
}

static bool listener_is_named(const struct conf *c, struct str text)
{
    for (size_t i = 0; i < c->nlistens; i++)
        if (str_eq(c->listens[i].addr.text, text))
            return true;
    for (size_t i = 0; i < c->nadmins; i++) {
        char room[CONF_ADDRESS_TEXT_MAX];
        struct addr_conf a;

        for (size_t k = 0; k < c->processes; k++) {
            conf_admin_address(c, &c->admins[i], k, &a, room);
            if (str_eq(a.text, text))
                return true;
        }
    }
    return false;
}

void listener_each_shared(void (*fn)(void *owner, int fd), void *owner)
{
    for (const struct listener_shared *s = shared; s; s = s->next)
        fn(owner, s->fd);
}

void listener_unshare(const struct conf *except, bool unlink_files)
{
    struct listener_shared **at = &shared;

    while (*at) {
        struct listener_shared *s = *at;

        if (except && listener_is_named(except, str_of(s->text))) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        listener_drop_shared(s, unlink_files);
    }
}

struct listener *listener_open(
    const struct addr_conf *a, unsigned backlog, bool many, char *why, size_t whylen)
{
    const struct sockaddr *sa = (const struct sockaddr *)&a->sa;
    struct listener *l = calloc(1, sizeof(*l));
    const struct listener_shared *s = NULL;
    int given = activation_find(sa);

    if (!l || !(l->text = strndup(a->text.p, a->text.n))) {
        errno = ENOMEM;
        goto failed;
    }
    if (given >= 0) {
        listen(given, (int)backlog); /* its length; it listens already */
    } else if ((s = listener_find_shared(a->text)) != NULL) {
        listen(s->fd, (int)backlog);
    } else if (many && sa->sa_family == AF_UNIX) {
        snprintf(why, whylen,
            "cannot listen on " STR_FMT ": several processes share a unix socket only from "
            "their start on: restart",
            STR_ARG(a->text));
        free_listener(l);
        return NULL;
    } else if (sa->sa_family == AF_UNIX) {
        l->unix_path = strdup(((const struct sockaddr_un *)(const void *)sa)->sun_path);
        if (!l->unix_path) {
            errno = ENOMEM;
            goto failed;
        }
    }
    l->is_unix = sa->sa_family == AF_UNIX;
    if (s)
        given = s->fd;
    l->fd = given >= 0 ? fcntl(given, F_DUPFD_CLOEXEC, 0) : listener_bind_to(a, backlog, many);
    if (l->fd < 0)
        goto failed;
    l->backlog = backlog;
    ev_io_init(&l->io, listener_on_io, l->fd, EV_READ);
    l->io.data = l;
    ev_timer_init(&l->pause, listener_on_pause, PAUSE_MS / 1e3, 0.);
    l->pause.data = l;
    return l;

failed:
    snprintf(why, whylen, "cannot listen on " STR_FMT ": %s", STR_ARG(a->text), strerror(errno));
    if (l)
        free_listener(l);
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

void listener_set_backlog(struct listener *l, unsigned backlog)
{
    if (l->backlog == backlog || l->closed)
        return;
    l->backlog = backlog;
    if (listen(l->fd, (int)backlog) < 0)
        log_warn(NULL, "cannot set the backlog of %s: %s", l->text, strerror(errno));
}

static void listener_end(struct listener *l)
{
    l->closed = true;
    loop_undefer(&l->drain);
    ev_io_stop(loop_ev(), &l->io);
    ev_timer_stop(loop_ev(), &l->pause);
    close(l->fd);
    loop_free_later(&l->deferred_free, l, free_listener);
}

static void listener_remove_file(struct listener *l, bool unlink_file)
{
    if (l->unix_path && unlink_file)
        unlink(l->unix_path);
    free(l->unix_path);
    l->unix_path = NULL;
}

static void listener_on_drain(void *owner)
{
    struct listener *l = owner;
    bool more = true;

    for (int i = 0; i < BATCH && l->left > 0 && more; i++, l->left--)
        more = listener_accept_one(l, false);
    if (l->left > 0 && more) {
        loop_defer_to_next_turn(&l->drain, listener_on_drain, l);
        return;
    }
    listener_end(l);
    l->on_closed(l->owner, l);
}

void listener_drain(
    struct listener *l, bool unlink_file, void (*on_closed)(void *owner, struct listener *l))
{
    BUG_IF(!l->on_accept || l->on_closed);
    listener_remove_file(l, unlink_file);
    ev_io_stop(loop_ev(), &l->io);
    ev_timer_stop(loop_ev(), &l->pause);
    l->on_closed = on_closed;
    l->left = l->backlog + 1; /* the kernel holds one more than it is told */
    loop_defer(&l->drain, listener_on_drain, l);
}

void listener_close(struct listener *l, bool unlink_file)
{
    if (!l || l->closed)
        return;
    listener_remove_file(l, unlink_file);
    listener_end(l);
}

void listener_set_data(struct listener *l, void *data)
{
    l->data = data;
}

void *listener_data(const struct listener *l)
{
    return l->data;
}
