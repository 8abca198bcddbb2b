/* A stepped loop and scripted peers. */
#include "world.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conffile.h"
#include "net/conn.h"

enum { TURN_MS = 5, SETTLE_TURNS = 20, GIVE_UP_S = 60 };

static size_t fds_before;

static size_t open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    ck_assert_ptr_nonnull(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

void world_open(void)
{
    fds_before = open_fds();
    conffile_open();
    ck_assert_int_eq(loop_init(), 0);
}

void world_close(void)
{
    conn_close_finishing();
    world_settle();
    loop_release();
    buf_trim();
    conffile_close();
    ck_assert_uint_eq(conn_count_accepted(), 0);
    ck_assert_uint_eq(open_fds(), fds_before);
}

static void on_tick(struct ev_loop *ev, ev_timer *w, int revents)
{
}

void world_turn(void)
{
    ev_timer tick;

    ev_timer_init(&tick, on_tick, TURN_MS / 1e3, 0.);
    ev_timer_start(loop_ev(), &tick);
    ev_run(loop_ev(), EVRUN_ONCE);
    ev_timer_stop(loop_ev(), &tick);
}

void world_settle(void)
{
    for (int i = 0; i < SETTLE_TURNS; i++)
        ev_run(loop_ev(), EVRUN_NOWAIT);
}

uint64_t world_give_up_us(void)
{
    const char *seconds = getenv("TARRY_UNIT_GIVE_UP");

    return loop_precise_us() + (uint64_t)(seconds ? atoi(seconds) : GIVE_UP_S) * 1000000;
}

static void adopt(struct peer *p, int fd)
{
    ck_assert_int_ge(fd, 0);
    *p = (struct peer){ .fd = fd };
}

/* Small buffers: tests fill them. */
static void make_small(int fd)
{
    int n = 32 << 10;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof(n));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n, sizeof(n));
}

int peer_pair(struct peer *p)
{
    int fd[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    adopt(p, fd[0]);
    make_small(fd[0]);
    make_small(fd[1]);
    return fd[1];
}

int peer_tcp_pair(struct peer *p)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    unsigned port;
    int listening = peer_listen_tcp(&port), fd;

    sa.sin_port = htons((uint16_t)port);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    adopt(p, fd);
    fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    close(listening);
    make_small(p->fd);
    make_small(fd);
    return fd;
}

int peer_listen_unix(const char *name, int backlog)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", conffile_path(name));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    ck_assert_int_eq(listen(fd, backlog), 0);
    return fd;
}

int peer_listen_tcp(unsigned *port)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, n), 0);
    ck_assert_int_eq(listen(fd, 64), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
    *port = ntohs(sa.sin_port);
    return fd;
}

bool peer_accept(struct peer *p, int listening)
{
    int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return false;
    adopt(p, fd);
    return true;
}

size_t peer_send_some(struct peer *p, const void *bytes, size_t n)
{
    ssize_t k = send(p->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);

    return k < 0 ? 0 : (size_t)k;
}

void peer_send_bytes(struct peer *p, const void *bytes, size_t n)
{
    const char *from = bytes;

    while (n > 0) {
        size_t k = peer_send_some(p, from, n);

        from += k;
        n -= k;
        if (n > 0) {
            ck_assert_msg(k > 0 || errno == EAGAIN, "cannot send: %s", strerror(errno));
            world_turn(); /* the other end has to make room */
        }
    }
}

void peer_send(struct peer *p, const char *text)
{
    peer_send_bytes(p, text, strlen(text));
}

static void fill(struct peer *p)
{
    while (p->fd >= 0 && !p->eof && !p->reset) {
        char *to = buf_reserve(&p->in, 65536, NULL);
        ssize_t n = recv(p->fd, to, 65536, MSG_DONTWAIT);

        if (n > 0)
            buf_commit(&p->in, (size_t)n);
        else
            buf_settle(&p->in);
        if (n == 0)
            p->eof = true;
        else if (n < 0 && errno != EAGAIN)
            p->reset = true;
        if (n < 0)
            return;
    }
}

bool peer_has(struct peer *p, const char *text)
{
    struct str s;

    fill(p);
    s = buf_str(&p->in);
    return memmem(s.p, s.n, text, strlen(text)) != NULL;
}

size_t peer_got(struct peer *p)
{
    fill(p);
    return buf_len(&p->in);
}

bool peer_ended(struct peer *p)
{
    fill(p);
    return p->eof || p->reset;
}

const char *peer_take(struct peer *p)
{
    static char *text;
    struct str s;

    fill(p);
    s = buf_str(&p->in);
    text = realloc(text, s.n + 1);
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    buf_release(&p->in);
    return text;
}

size_t peer_skip(struct peer *p, size_t n)
{
    char scratch[16384];
    ssize_t k = recv(p->fd, scratch, n < sizeof(scratch) ? n : sizeof(scratch), MSG_DONTWAIT);

    return k > 0 ? (size_t)k : 0;
}

void peer_finish(struct peer *p)
{
    shutdown(p->fd, SHUT_WR);
}

void peer_close(struct peer *p)
{
    buf_release(&p->in);
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

void peer_reset(struct peer *p)
{
    struct linger l = { .l_onoff = 1, .l_linger = 0 };

    setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    peer_close(p);
}
