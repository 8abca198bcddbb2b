/* Connections: connecting, handshake, two byte queues, and the three ways to end. */
#include "net/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/linger.h"
#include "net/loop.h"
#include "net/tls.h"
#include "net/wire.h"

/*   CONNECTING -> HANDSHAKE -> OPEN -> CLOSED        from anywhere to CLOSED
 *   An accepted connection skips CONNECTING; one without TLS skips HANDSHAKE. */
enum conn_phase { PHASE_CONNECTING, PHASE_HANDSHAKE, PHASE_OPEN, PHASE_CLOSED };

/*   NONE -> EOF | FAILED        how the input ended
 *   The owner is told after the last byte, and not while it has paused the input: bytes that have
 *   arrived are not lost because the peer resets afterwards. */
enum conn_end { END_NONE, END_EOF, END_FAILED };

struct conn {
    ev_io io;
    conn_event_fn *on_event;
    void *owner;
    struct wire wire;
    struct buf in, out;
    uint64_t bytes_in, bytes_out, marked_out;
    uint64_t behind_ms; /* since when output waits without a break; 0: none does */
    uint64_t turn;      /* the turn of the loop that `moved` counts in */
    size_t moved;       /* bytes read and written in it */
    struct deferred work;
    struct deferred_free deferred_free;
    struct addr peer;
    struct addrlimit_slot slot;
    int err_no;
    int end_err_no;        /* of END_FAILED */
    int out_err_no;        /* of `out_broken` */
    signed char error;     /* enum conn_error, once the owner has been told */
    signed char end_error; /* enum conn_error of END_FAILED */
    unsigned char phase;   /* enum conn_phase */
    unsigned char end;     /* enum conn_end */
    bool accepted;
    bool paused;
    bool resumed;     /* not paused any more, and the owner may have left input then */
    bool eof;         /* CONN_EOF was told */
    bool full;        /* CONN_E_FULL was told and CONN_DRAINED not yet */
    bool out_blocked; /* the socket takes no more for now */
    bool out_broken;  /* the peer takes no more at all */
    bool out_ends;    /* conn_end_output(): shut down when the queue is empty */
    bool shut;        /* our side is shut down */
    bool fill_due;    /* reading may go on without a new event from the kernel */
};

enum { READ_STEP = 16 << 10 };

static size_t nopen, naccepted; /* open: accepted or not */
static size_t output_max = 64 << 10, input_max = CONN_READ_MAX;

static void conn_on_work(void *owner);

static void conn_emit(struct conn *c, enum conn_event ev)
{
    if (!c->on_event)
        return;
    LOOP_ASSERT_OPEN(c->owner);
    c->on_event(c->owner, c, ev);
}

/* A connection moves CONN_READ_MAX bytes a turn, roughly: then the others get theirs. */
static bool conn_has_had_its_share(const struct conn *c)
{
    return c->turn == loop_turn() && c->moved >= CONN_READ_MAX;
}

static void conn_count_moved(struct conn *c, size_t n)
{
    if (c->turn != loop_turn()) {
        c->turn = loop_turn();
        c->moved = 0;
    }
    c->moved += n;
}

static void conn_wake(struct conn *c)
{
    if (conn_has_had_its_share(c))
        loop_defer_to_next_turn(&c->work, conn_on_work, c);
    else
        loop_defer(&c->work, conn_on_work, c);
}

/* The one place that starts and stops the watcher. */
static void conn_update_interest(struct conn *c)
{
    int want = 0;

    switch ((enum conn_phase)c->phase) {
    case PHASE_CONNECTING:
        want = EV_WRITE;
        break;
    case PHASE_HANDSHAKE:
        want = c->wire.wants_write ? EV_WRITE : EV_READ;
        break;
    case PHASE_OPEN:
        if (c->end == END_NONE && !c->paused && buf_len(&c->in) < input_max)
            want |= EV_READ;
        if (c->out_blocked || (c->wire.wants_write && !c->paused))
            want |= EV_WRITE;
        break;
    case PHASE_CLOSED:
        return;
    }
    if ((c->io.events & (EV_READ | EV_WRITE)) == want && (want == 0) == !ev_is_active(&c->io))
        return;
    ev_io_stop(loop_ev(), &c->io);
    if (want) {
        ev_io_set(&c->io, c->wire.fd, want);
        ev_io_start(loop_ev(), &c->io);
    }
}

static void free_conn(void *what)
{
    struct conn *c = what;

    SSL_free(c->wire.ssl);
    buf_release(&c->in);
    buf_release(&c->out);
    free(c);
}

/* The socket is closed, or lingers on its own. */
static void conn_free_later(struct conn *c)
{
    loop_undefer(&c->work);
    nopen--;
    naccepted -= c->accepted;
    c->phase = PHASE_CLOSED;
    c->on_event = NULL;
    loop_free_later(&c->deferred_free, c, free_conn);
}

static void conn_end(struct conn *c, bool reset)
{
    if (!c || c->phase == PHASE_CLOSED)
        return;
    ev_io_stop(loop_ev(), &c->io);
    addrlimit_remove(&c->slot);
    wire_close(&c->wire, reset);
    conn_free_later(c);
}

/* The alert that says why would be destroyed by a reset, if the client has sent more meanwhile. */
static bool conn_owes_alert(const struct conn *c)
{
    return c && c->phase == PHASE_HANDSHAKE && c->accepted &&
           (c->error == CONN_E_TLS || c->error == CONN_E_CERTIFICATE || c->error == CONN_E_REFUSED);
}

/* Hands the socket over to linger. False if there is no memory for that. */
static bool conn_begin_linger(struct conn *c, uint64_t send_timeout_ms)
{
    struct linger_from from = { &c->wire, &c->out, &c->slot, send_timeout_ms, c->accepted,
        c->end != END_NONE };

    ev_io_stop(loop_ev(), &c->io);
    if (linger_open(&from) < 0)
        return false;
    conn_free_later(c);
    return true;
}

void conn_close(struct conn *c)
{
    if (conn_owes_alert(c) && conn_begin_linger(c, 0))
        return;
    /* A TLS session that is not shut down would be thrown out of the cache: sessions are resumed.
     */
    if (c && c->phase == PHASE_OPEN && c->wire.ssl && !c->out_broken && !c->error)
        wire_shutdown(&c->wire, false);
    conn_end(c, false);
}

void conn_reset(struct conn *c)
{
    conn_end(c, true);
}

static void conn_fail(struct conn *c, enum conn_error error, int err_no)
{
    if (c->phase == PHASE_CLOSED || c->error)
        return;
    c->error = (signed char)error;
    c->err_no = err_no;
    ev_io_stop(loop_ev(), &c->io);
    conn_emit(c, CONN_FAILED);
}

static enum conn_error conn_error_of(enum wire_error e)
{
    switch (e) {
    case WIRE_E_TLS:
        return CONN_E_TLS;
    case WIRE_E_CERTIFICATE:
        return CONN_E_CERTIFICATE;
    case WIRE_E_TRUNCATED:
        return CONN_E_TRUNCATED;
    case WIRE_E_REFUSED:
        return CONN_E_REFUSED;
    case WIRE_E_RESET:
    case WIRE_E_EOF:
        break;
    }
    return CONN_E_RESET;
}

/* One read into `in`, of *got bytes. 1: there may be more; 0: nothing more now; -1: EOF; -2: error,
 * in *error. */
static int conn_read_some(struct conn *c, size_t *got, enum conn_error *error)
{
    size_t room;
    char *to = buf_reserve(&c->in, READ_STEP, &room);
    ssize_t n;

    *got = 0;
    if (!to) {
        *error = CONN_E_MEMORY;
        return -2;
    }
    if (room > READ_STEP)
        room = READ_STEP;
    n = wire_read(&c->wire, to, room);
    if (n > 0) {
        buf_commit(&c->in, (size_t)n);
        *got = (size_t)n;
        /* A socket that gave less than was asked for is empty; a TLS record ends where it ends. */
        return c->wire.ssl || (size_t)n == room;
    }
    buf_settle(&c->in);
    if (n == 0)
        return 0;
    if (n == WIRE_E_EOF)
        return -1;
    *error = conn_error_of((enum wire_error)n);
    return -2;
}

/* Reads what is there, within the turn's share. The bytes read; how the input ended is noted. */
static size_t conn_read_share(struct conn *c)
{
    enum conn_error error = 0;
    size_t total = 0, got;
    int rc = 1;

    while (rc > 0 && total < CONN_READ_MAX && buf_len(&c->in) < input_max) {
        rc = conn_read_some(c, &got, &error);
        total += got;
    }
    c->bytes_in += total;
    conn_count_moved(c, total);
    if (rc == -1) {
        c->end = END_EOF;
    } else if (rc == -2) {
        c->end = END_FAILED;
        c->end_error = (signed char)error;
        c->end_err_no = c->wire.err_no;
    } else if (rc > 0 && (wire_has_pending(&c->wire) || c->out_broken)) {
        /* Bytes decrypted already make no descriptor readable: come back by ourselves. */
        c->fill_due = true;
    }
    return total;
}

/* The owner has seen all input. */
static void conn_tell_end(struct conn *c)
{
    if (c->out_broken) {
        conn_fail(c, CONN_E_RESET, c->out_err_no);
    } else if (c->end == END_FAILED) {
        conn_fail(c, (enum conn_error)c->end_error, c->end_err_no);
    } else if (c->end == END_EOF && !c->eof) {
        c->eof = true;
        conn_emit(c, CONN_EOF);
    }
}

/* Reads what is there and tells the owner: data first, then how it ended. */
static void conn_fill(struct conn *c)
{
    size_t total = 0;

    c->fill_due = false;
    if (c->end == END_NONE)
        total = conn_read_share(c);
    if (total > 0 || (c->end != END_NONE && c->resumed && buf_len(&c->in) > 0)) {
        c->resumed = false;
        conn_emit(c, CONN_DATA);
        if (c->phase != PHASE_OPEN)
            return;
    }
    if (c->paused)
        return; /* the end waits until the owner goes on */
    if (c->fill_due && buf_len(&c->in) < input_max)
        conn_wake(c);
    else
        conn_tell_end(c);
}

/* The peer takes no more. It may have answered before it stopped reading (RFC 9112 9.5): its answer
 * is read before the failure is told. A client that takes no more has no use for an answer. */
static void conn_output_broke(struct conn *c, int err_no)
{
    c->out_broken = true;
    c->out_blocked = false;
    c->out_err_no = err_no;
    buf_release(&c->out);
    if (c->phase != PHASE_OPEN || (c->paused && c->accepted))
        conn_fail(c, CONN_E_RESET, err_no);
    else if (!c->paused)
        conn_fill(c);
}

/* The peer learns that no more comes; it may still send. */
static void conn_half_close(struct conn *c)
{
    if (!c->shut)
        wire_shutdown(&c->wire, true);
    c->shut = true;
}

static void conn_flush(struct conn *c)
{
    c->out_blocked = false;
    while (buf_len(&c->out) > 0) {
        struct str s = buf_str(&c->out);
        ssize_t n = wire_write(&c->wire, s.p, s.n);

        if (n < 0) {
            conn_output_broke(c, c->wire.err_no);
            return;
        }
        if (n == 0) {
            c->out_blocked = true;
            break;
        }
        c->bytes_out += (uint64_t)n;
        conn_count_moved(c, (size_t)n);
        buf_consume(&c->out, (size_t)n);
    }
    if (buf_len(&c->out) == 0)
        c->behind_ms = 0;
    if (c->out_ends && buf_len(&c->out) == 0) {
        conn_half_close(c);
    } else if (c->full && buf_len(&c->out) <= output_max / 4) {
        c->full = false;
        conn_emit(c, CONN_DRAINED);
    }
}

static void conn_opened(struct conn *c)
{
    c->phase = PHASE_OPEN;
    conn_emit(c, CONN_CONNECTED);
    /* Bytes that came with the last handshake message do not make the descriptor readable. */
    if (c->phase == PHASE_OPEN && c->wire.ssl)
        c->fill_due = true;
    if (c->phase == PHASE_OPEN && (c->fill_due || buf_len(&c->out) > 0))
        conn_wake(c);
}

static void conn_handshake(struct conn *c)
{
    int rc = wire_handshake(&c->wire);

    if (rc == 1)
        conn_opened(c);
    else if (rc < 0)
        conn_fail(c, conn_error_of((enum wire_error)rc), c->wire.err_no);
}

static void conn_tcp_stands(struct conn *c)
{
    if (c->wire.ssl) {
        c->phase = PHASE_HANDSHAKE;
        conn_handshake(c);
    } else {
        conn_opened(c);
    }
}

static void conn_on_connecting(struct conn *c)
{
    int err = c->err_no; /* connect() may have failed at once */
    socklen_t n = sizeof(err);

    if (!err && getsockopt(c->wire.fd, SOL_SOCKET, SO_ERROR, &err, &n) < 0)
        err = errno;
    if (err)
        conn_fail(c, CONN_E_CONNECT, err);
    else
        conn_tcp_stands(c);
}

static void conn_on_io(struct ev_loop *ev, ev_io *w, int revents)
{
    struct conn *c = w->data;

    switch ((enum conn_phase)c->phase) {
    case PHASE_CONNECTING:
        conn_on_connecting(c);
        break;
    case PHASE_HANDSHAKE:
        conn_handshake(c);
        break;
    case PHASE_OPEN:
        if (revents & EV_WRITE)
            conn_flush(c);
        if (c->phase == PHASE_OPEN && !c->error && !c->paused &&
            (revents & EV_READ || c->wire.wants_write))
            conn_fill(c);
        break;
    case PHASE_CLOSED:
        return;
    }
    if (c->phase != PHASE_CLOSED && !c->error)
        conn_update_interest(c);
}

/* Before the loop sleeps: sends the output that this turn has queued, and does work for which the
 * kernel sends no event. */
static void conn_on_work(void *owner)
{
    struct conn *c = owner;

    if (c->error)
        return;
    switch ((enum conn_phase)c->phase) {
    case PHASE_CONNECTING: /* the kernel answered connect() at once */
        conn_on_connecting(c);
        break;
    case PHASE_OPEN:
        if (conn_has_had_its_share(c)) {
            conn_wake(c);
            break;
        }
        if (c->fill_due && !c->paused)
            conn_fill(c);
        if (c->phase == PHASE_OPEN && !c->error && buf_len(&c->out) > 0 && !c->out_blocked)
            conn_flush(c);
        break;
    case PHASE_HANDSHAKE:
        conn_handshake(c);
        break;
    case PHASE_CLOSED:
        return;
    }
    if (c->phase != PHASE_CLOSED && !c->error)
        conn_update_interest(c);
}

static struct conn *conn_make(int fd, SSL *ssl, conn_event_fn *on_event, void *owner)
{
    struct conn *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    c->wire.fd = fd;
    c->wire.ssl = ssl;
    c->on_event = on_event;
    c->owner = owner;
    ev_io_init(&c->io, conn_on_io, fd, 0);
    c->io.data = c;
    if (ssl && !SSL_set_fd(ssl, fd)) {
        free(c);
        return NULL;
    }
    nopen++;
    return c;
}

void conn_set_output_max(size_t n)
{
    output_max = n;
}

void conn_set_input_max(size_t n)
{
    input_max = n > CONN_READ_MAX ? n : CONN_READ_MAX;
}

struct conn *conn_open(
    const struct sockaddr *to, socklen_t tolen, SSL *ssl, conn_event_fn *on_event, void *owner)
{
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, saved;
    struct conn *c = fd < 0 ? NULL : conn_make(fd, ssl, on_event, owner);

    if (!c) {
        saved = fd < 0 ? errno : ENOMEM;
        if (fd >= 0)
            close(fd);
        SSL_free(ssl);
        errno = saved;
        return NULL;
    }
    if (to->sa_family != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    c->peer = addr_of(to);
    c->phase = PHASE_CONNECTING;
    if (ssl)
        SSL_set_connect_state(ssl);
    if (connect(fd, to, tolen) == 0) {
        conn_wake(c);
    } else if (errno == EINPROGRESS) {
        conn_update_interest(c);
    } else {
        c->err_no = errno;
        conn_wake(c);
    }
    return c;
}

struct conn *conn_accept(
    int fd, const struct sockaddr *peer, SSL *ssl, conn_event_fn *on_event, void *owner)
{
    struct conn *c = conn_make(fd, ssl, on_event, owner);

    if (!c) {
        close(fd);
        SSL_free(ssl);
        return NULL;
    }
    c->peer = addr_of(peer);
    c->accepted = true;
    naccepted++;
    if (ssl) {
        SSL_set_accept_state(ssl);
        c->phase = PHASE_HANDSHAKE;
    } else {
        c->phase = PHASE_OPEN;
        c->fill_due =
            true; /* the first request is often there already: saves a trip through the kernel */
    }
    conn_wake(c);
    return c;
}

int conn_begin_tls(struct conn *c, SSL *ssl)
{
    BUG_IF(c->phase != PHASE_OPEN || c->wire.ssl || buf_len(&c->in) > 0);
    if (!SSL_set_fd(ssl, c->wire.fd)) {
        SSL_free(ssl);
        return -1;
    }
    SSL_set_connect_state(ssl);
    c->wire.ssl = ssl;
    c->phase = PHASE_HANDSHAKE;
    c->fill_due = false;
    conn_wake(c);
    return 0;
}

void conn_set_owner(struct conn *c, conn_event_fn *on_event, void *owner)
{
    c->on_event = on_event;
    c->owner = owner;
}

struct str conn_input(const struct conn *c)
{
    return buf_str(&c->in);
}

void conn_consume(struct conn *c, size_t n)
{
    bool was_full = buf_len(&c->in) >= input_max;

    buf_consume(&c->in, n);
    if (was_full && c->phase == PHASE_OPEN && !c->paused && buf_len(&c->in) < input_max) {
        c->fill_due = true;
        conn_wake(c);
    }
}

void conn_pause(struct conn *c, bool paused)
{
    if (c->paused == paused || c->phase == PHASE_CLOSED)
        return;
    c->paused = paused;
    if (!paused && c->phase == PHASE_OPEN) {
        c->resumed = true;
        c->fill_due = true;
        conn_wake(c);
    } else if (c->phase == PHASE_OPEN && !c->error) {
        conn_update_interest(c);
    }
}

void conn_end_output(struct conn *c)
{
    if (c->phase != PHASE_OPEN || c->out_broken || c->error)
        return;
    c->out_ends = true;
    if (buf_len(&c->out) == 0)
        conn_half_close(c);
}

bool conn_has_room(const struct conn *c)
{
    return buf_len(&c->out) <= output_max;
}

int conn_written(struct conn *c)
{
    if (c->phase == PHASE_CLOSED || c->out_broken || c->error) {
        buf_release(&c->out);
        return 0; /* the failure is on its way, or told */
    }
    if (c->behind_ms == 0)
        c->behind_ms = loop_now_ms();
    if (c->phase == PHASE_OPEN && !c->out_blocked)
        conn_wake(c);
    if (conn_has_room(c))
        return 0;
    c->full = true;
    return CONN_E_FULL;
}

int conn_write(struct conn *c, const void *p, size_t n)
{
    if (buf_append(&c->out, p, n) < 0)
        return CONN_E_MEMORY;
    return conn_written(c);
}

struct buf *conn_output(struct conn *c)
{
    return &c->out;
}

size_t conn_queued(const struct conn *c)
{
    return buf_len(&c->out);
}

uint64_t conn_behind_since_ms(const struct conn *c)
{
    return buf_len(&c->out) > 0 ? c->behind_ms : 0;
}

uint64_t conn_bytes_out(const struct conn *c)
{
    return c->bytes_out;
}

uint64_t conn_bytes_in(const struct conn *c)
{
    return c->bytes_in;
}

uint64_t conn_bytes_taken(const struct conn *c)
{
    uint64_t waiting = c->phase == PHASE_CLOSED ? 0 : wire_waiting(&c->wire);

    return waiting < c->bytes_out ? c->bytes_out - waiting : 0;
}

void conn_mark(struct conn *c)
{
    c->marked_out = c->bytes_out + buf_len(&c->out);
}

bool conn_may_have_arrived(const struct conn *c)
{
    if (c->bytes_out <= c->marked_out)
        return false;
    /* A unix socket that is closed with our bytes unread says so. A server reads at least so much
     * at once: with fewer bytes, unread means that it has seen none. */
    if (c->peer.family == AF_UNIX)
        return !(c->err_no == ECONNRESET && c->bytes_out - c->marked_out <= 4096);
    /* TLS records and the handshake are not counted one by one here: be careful. Nor does a reset
     * tell what came before it. */
    if (c->wire.ssl || c->phase == PHASE_CLOSED || c->err_no == ECONNRESET)
        return true;
    /* A FIN that was sent after our bytes had come acknowledges them; one that crossed them does
     * not. */
    /* The SYN counts as one byte. What was sent before the mark has been acknowledged: it was
     * answered. */
    return wire_acknowledged(&c->wire) > c->marked_out + 1;
}

bool conn_is_quiet(struct conn *c)
{
    char byte;
    ssize_t n;

    if (c->phase != PHASE_OPEN || c->end != END_NONE || c->error || buf_len(&c->in) > 0 ||
        c->out_broken)
        return false;
    n = recv(c->wire.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n > 0 && c->wire.ssl)
        return true; /* perhaps a session ticket: reading it will tell */
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

const struct addr *conn_peer(const struct conn *c)
{
    return &c->peer;
}

struct addrlimit_slot *conn_address_slot(struct conn *c)
{
    return &c->slot;
}

bool conn_closed(const struct conn *c)
{
    return c->phase == PHASE_CLOSED;
}

bool conn_eof(const struct conn *c)
{
    return c->eof;
}

bool conn_has_tls(const struct conn *c)
{
    return c->wire.ssl != NULL;
}

enum conn_error conn_error(const struct conn *c)
{
    return (enum conn_error)c->error;
}

int conn_errno(const struct conn *c)
{
    return c->err_no;
}

const char *conn_strerror(const struct conn *c)
{
    switch ((enum conn_error)c->error) {
    case CONN_E_CONNECT:
    case CONN_E_RESET:
        return c->err_no ? strerror(c->err_no) : "connection reset by peer";
    case CONN_E_CERTIFICATE:
    case CONN_E_TLS:
    case CONN_E_REFUSED:
        return tls_describe_error(c->wire.ssl);
    case CONN_E_TRUNCATED:
        return "TLS ended without close_notify";
    case CONN_E_MEMORY:
        return "out of memory";
    case CONN_E_FULL:
        break;
    }
    return "connection closed";
}

struct str conn_alpn(const struct conn *c)
{
    const unsigned char *p = NULL;
    unsigned n = 0;

    if (c->wire.ssl)
        SSL_get0_alpn_selected(c->wire.ssl, &p, &n);
    return str_make((const char *)p, n);
}

SSL *conn_ssl(struct conn *c)
{
    return c->wire.ssl;
}

void conn_finish(struct conn *c, uint64_t send_timeout_ms)
{
    if (!c || conn_closed(c))
        return;
    if (c->phase != PHASE_OPEN || c->out_broken || c->error ||
        !conn_begin_linger(c, send_timeout_ms))
        conn_end(c, false);
}

size_t conn_count(void)
{
    return nopen + linger_count_accepted();
}

size_t conn_count_accepted(void)
{
    return naccepted + linger_count_accepted();
}

void conn_close_finishing(void)
{
    linger_close_all();
}
