/* One accepted socket. */
#include "peer.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "h1.h"
#include "h2.h"
#include "provider.h"

#define WRITE_A_TURN (1u << 20)
#define LINGER_S 1.0

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* What reading and writing may meet, TLS or not. */
enum { IO_BLOCKED = -1, IO_EOF = -2, IO_RESET = -3 };

static ssize_t io_error(void)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return IO_BLOCKED;
    return IO_RESET;
}

static ssize_t tls_error(struct peer *peer, int result)
{
    int saved = errno;

    switch (SSL_get_error(peer->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return IO_BLOCKED;
    case SSL_ERROR_ZERO_RETURN:
        return IO_EOF;
    case SSL_ERROR_SYSCALL:
        return saved == 0 ? IO_EOF : IO_RESET;
    default:
        return ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING ? IO_EOF
                                                                                      : IO_RESET;
    }
}

static ssize_t peer_read(struct peer *peer, void *to, size_t room)
{
    ssize_t n;

    if (peer->ssl) {
        ERR_clear_error();
        errno = 0;
        n = SSL_read(peer->ssl, to, (int)room);
        return n > 0 ? n : tls_error(peer, (int)n);
    }
    n = recv(peer->fd, to, room, 0);
    return n > 0 ? n : n == 0 ? IO_EOF : io_error();
}

static ssize_t peer_write(struct peer *peer, const void *p, size_t n)
{
    ssize_t done;

    if (peer->ssl) {
        ERR_clear_error();
        errno = 0;
        done = SSL_write(peer->ssl, p, (int)n);
        return done > 0 ? done : tls_error(peer, (int)done);
    }
    done = send(peer->fd, p, n, MSG_NOSIGNAL);
    return done >= 0 ? done : io_error();
}

static const char *how_of(ssize_t error)
{
    return error == IO_EOF ? "closed-by-peer" : "reset-by-peer";
}

static size_t pending(const struct peer *peer)
{
    return peer->out.n - peer->out_at;
}

static void update_interest(struct peer *peer)
{
    int wanted = EV_READ;

    if (pending(peer) && !peer->silent && !peer->dripping)
        wanted |= EV_WRITE;
    if (peer->ssl && !peer->handshaken)
        wanted = SSL_want_write(peer->ssl) ? EV_WRITE : EV_READ;
    if ((peer->io.events & (EV_READ | EV_WRITE)) == wanted)
        return;
    ev_io_stop(peer->provider->loop, &peer->io);
    ev_io_set(&peer->io, peer->fd, wanted);
    ev_io_start(peer->provider->loop, &peer->io);
}

static void start_timer(struct peer *peer, double seconds)
{
    ev_timer_stop(peer->provider->loop, &peer->timer);
    ev_timer_set(&peer->timer, seconds, 0.);
    ev_timer_start(peer->provider->loop, &peer->timer);
}

/* All has been written. A close with unread input would be a reset and could take the last bytes
 * away: so our side is closed first, and theirs is awaited for a moment. */
static void close_politely(struct peer *peer)
{
    if (peer->ssl && peer->handshaken)
        SSL_shutdown(peer->ssl);
    shutdown(peer->fd, SHUT_WR);
    peer->lingering = true;
    start_timer(peer, LINGER_S);
}

/* What has gone out. False: the peer has been closed. */
static bool write_out(struct peer *peer, size_t most)
{
    size_t n = pending(peer) < most ? pending(peer) : most;
    ssize_t done = peer_write(peer, peer->out.p + peer->out_at, n);

    if (done == IO_BLOCKED)
        return true;
    if (done < 0) {
        peer_close(peer, how_of(done), false);
        return false;
    }
    peer->out_at += (size_t)done;
    if (!pending(peer)) {
        peer->out_at = peer->out.n = 0;
        if (peer->out.room > 4096)
            text_free(&peer->out);
    }
    return true;
}

static void fill(struct peer *peer)
{
    if (peer->finishing || !peer->protocol || pending(peer) >= PEER_OUT_MAX)
        return;
    if (peer->out_at > 0) {
        memmove(peer->out.p, peer->out.p + peer->out_at, pending(peer));
        peer->out.n -= peer->out_at;
        peer->out_at = 0;
    }
    peer->protocol->fill(peer);
}

/* Writes one byte and waits for the next one's time. */
static void flush_drip(struct peer *peer)
{
    if (ev_is_active(&peer->timer))
        return;
    fill(peer);
    if (pending(peer) && !write_out(peer, 1))
        return;
    if (pending(peer)) {
        start_timer(peer, (double)peer->drip_ms / 1000);
    } else if (peer->drip_ends || peer->finishing) {
        peer->dripping = false;
        peer_touch(peer); /* for what waited behind */
    }
    update_interest(peer);
}

static void flush(struct peer *peer)
{
    size_t written = 0, before;

    if (peer->silent || peer->lingering || !peer->handshaken)
        return;
    if (peer->dripping) {
        flush_drip(peer);
        return;
    }
    for (;;) {
        fill(peer);
        before = pending(peer);
        if (!before ||
            written >= WRITE_A_TURN) /* the rest when the socket is writable, after the others */
            break;
        if (!write_out(peer, before))
            return;
        written += before - pending(peer);
        if (pending(peer))
            break;
    }
    if (peer->finishing && !pending(peer))
        close_politely(peer);
    update_interest(peer);
}

static void speak(struct peer *peer, bool h2)
{
    peer->protocol = h2 ? &h2_protocol : &h1_protocol;
    peer->state = h2 ? h2_new(peer) : h1_new(peer);
    peer_touch(peer);
}

/* Plain: HTTP/2 begins with the client's preface (RFC 9113 3.4). False as in struct peer_protocol.
 */
static bool guess_protocol(struct peer *peer, const char *p, size_t n)
{
    struct text early;
    size_t known;
    bool alike, alive;

    text_add(&peer->early, p, n);
    known = peer->early.n < sizeof preface - 1 ? peer->early.n : sizeof preface - 1;
    alike = !peer->provider->options.no_h2 && memcmp(peer->early.p, preface, known) == 0;
    if (alike && known < sizeof preface - 1)
        return true;
    speak(peer, alike);
    early = peer->early;
    peer->early = (struct text){ 0 };
    alive = peer->protocol->data(peer, early.p, early.n);
    text_free(&early);
    return alive;
}

static void fill_in(struct peer *peer)
{
    char *scratch = peer->provider->scratch;
    ssize_t n = 1;

    /* TLS keeps what it has read ahead: it must be asked until it has no more. */
    for (int i = 0; peer->ssl || i < 4; i++) {
        bool alive = true;

        n = peer_read(peer, scratch, sizeof peer->provider->scratch);
        if (n < 0)
            break;
        if (peer->lingering || peer->silent)
            continue;
        if (peer->protocol)
            alive = peer->protocol->data(peer, scratch, (size_t)n);
        else
            alive = guess_protocol(peer, scratch, (size_t)n);
        if (!alive)
            peer_finish(peer);
    }
    if (n == IO_EOF || n == IO_RESET) {
        peer_close(peer, how_of(n), false);
        return;
    }
    update_interest(peer);
}

static void note_handshake(const struct peer *peer)
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());

    if (!peer->provider->options.quiet)
        fprintf(stderr, "provider: connection %llu: TLS handshake failed: %s\n",
            (unsigned long long)peer->number, reason ? reason : "connection closed");
    ERR_clear_error();
}

static void handshake(struct peer *peer)
{
    const unsigned char *alpn = NULL;
    unsigned n = 0;
    ssize_t error;
    int result;

    ERR_clear_error();
    errno = 0;
    result = SSL_accept(peer->ssl);
    if (result == 1) {
        peer->handshaken = true;
        SSL_get0_alpn_selected(peer->ssl, &alpn, &n);
        speak(peer, n == 2 && memcmp(alpn, "h2", 2) == 0);
        fill_in(peer);
        return;
    }
    error = tls_error(peer, result);
    if (error == IO_BLOCKED) {
        update_interest(peer);
        return;
    }
    note_handshake(peer);
    peer_close(peer, how_of(error), false);
}

static void on_io(struct ev_loop *ev, ev_io *w, int revents)
{
    struct peer *peer = w->data;

    if (!peer->handshaken) {
        handshake(peer);
        return;
    }
    if (revents & EV_WRITE)
        peer_touch(peer);
    if (revents & EV_READ)
        fill_in(peer); /* may close it */
}

static void on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct peer *peer = w->data;

    if (peer->lingering)
        peer_close(peer, "closed", false);
    else
        peer_touch(peer);
}

void peer_accept(struct provider *pr, int fd, SSL_CTX *tls)
{
    struct peer *peer = text_alloc(sizeof *peer);
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* a unix socket minds nothing */
    peer->provider = pr;
    peer->fd = fd;
    peer->number = ++pr->tally.all_connections;
    if (++pr->tally.connections > pr->tally.peak_connections)
        pr->tally.peak_connections = pr->tally.connections;
    list_add(&pr->peers, &peer->link);
    list_init(&peer->ready);
    peer->handshaken = !tls;
    if (tls) {
        peer->ssl = SSL_new(tls);
        if (!peer->ssl || !SSL_set_fd(peer->ssl, fd))
            abort();
        SSL_set_accept_state(peer->ssl);
    }
    ev_init(&peer->timer, on_timer);
    peer->timer.data = peer;
    ev_io_init(&peer->io, on_io, fd, EV_READ);
    peer->io.data = peer;
    ev_io_start(pr->loop, &peer->io);
}

void peer_touch(struct peer *peer)
{
    if (list_empty(&peer->ready))
        list_add(&peer->provider->ready, &peer->ready);
}

void peer_finish(struct peer *peer)
{
    peer->finishing = true;
    peer_touch(peer);
}

void peer_drip(struct peer *peer, uint64_t ms)
{
    peer->drip_ms = ms;
    peer->dripping = true;
    peer->drip_ends = false;
}

void peer_drip_end(struct peer *peer)
{
    peer->drip_ends = true;
    peer_touch(peer);
}

void peer_close(struct peer *peer, const char *how, bool hard)
{
    struct provider *pr = peer->provider;
    struct linger none = { .l_onoff = 1, .l_linger = 0 };

    ev_io_stop(pr->loop, &peer->io);
    ev_timer_stop(pr->loop, &peer->timer);
    list_remove(&peer->link);
    list_remove(&peer->ready);
    if (peer->protocol)
        peer->protocol->gone(peer, how);
    if (peer->ssl)
        SSL_free(peer->ssl);
    if (hard)
        setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(peer->fd);
    text_free(&peer->early);
    text_free(&peer->out);
    pr->tally.connections--;
    free(peer);
}

static void on_flush(struct ev_loop *ev, ev_prepare *w, int revents)
{
    struct provider *pr = w->data;

    while (!list_empty(&pr->ready)) {
        struct peer *peer = list_of(pr->ready.next, struct peer, ready);

        list_remove(&peer->ready);
        flush(peer); /* may close it */
    }
}

void peer_start_all(struct provider *pr)
{
    list_init(&pr->peers);
    list_init(&pr->ready);
    ev_prepare_init(&pr->flush, on_flush);
    ev_set_priority(&pr->flush, EV_MINPRI);
    pr->flush.data = pr;
    ev_prepare_start(pr->loop, &pr->flush);
}

void peer_stop_all(struct provider *pr)
{
    while (!list_empty(&pr->peers))
        peer_close(list_of(pr->peers.next, struct peer, link), "shutdown", false);
    ev_prepare_stop(pr->loop, &pr->flush);
}
