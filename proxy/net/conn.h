/* One connected socket, plain or TLS, as two byte queues. Whoever opened or accepted it owns it and
 * ends it with conn_close(), conn_finish() or conn_reset(). Closed, it stays readable until the
 * turn ends, and no event follows.
 *
 * Output is written once a turn, before the loop sleeps: what is queued in one turn leaves in one
 * system call (or TLS record). */
#ifndef TARRY_NET_CONN_H
#define TARRY_NET_CONN_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/str.h"
#include "net/addr.h"
#include "net/addrlimit.h"

struct conn;

enum conn_event {
    CONN_CONNECTED, /* TCP, and TLS if it was asked for, stand: once, for conn_open() and
                       conn_accept() with TLS */
    CONN_DATA,      /* there is more in conn_input() */
    CONN_DRAINED,   /* after CONN_E_FULL: room again */
    CONN_EOF,       /* the peer will send no more; what is in conn_input() is all. With TLS: a
                       close_notify came */
    CONN_FAILED, /* broken (conn_error() says how), TLS truncation included. The owner still has to
                    close it */
};

/* The owner may close `c` from within. */
typedef void conn_event_fn(void *owner, struct conn *c, enum conn_event ev);

enum conn_error {
    CONN_E_FULL = -1,
    CONN_E_CONNECT = -2,     /* refused or unreachable: conn_errno() */
    CONN_E_CERTIFICATE = -3, /* the peer's certificate was not accepted */
    CONN_E_TLS = -4,         /* the handshake or a record failed otherwise */
    CONN_E_RESET = -5,     /* reset, or another error of an established connection: conn_errno() */
    CONN_E_TRUNCATED = -6, /* TLS ended without close_notify */
    CONN_E_MEMORY = -7,
    CONN_E_REFUSED = -8, /* the peer wants a certificate of ours, or another one */
};

enum {
    CONN_READ_MAX = 64 << 10, /* read from one connection in one turn */
};

/* Queued output above `n` bytes is CONN_E_FULL from now on, for all connections, and at a quarter
 * of it there is room again. 64 KiB at first. */
void conn_set_output_max(size_t n);

/* So many bytes, and at least CONN_READ_MAX, are held unread in conn_input() from now on, for all
 * connections: what an owner takes in one piece must fit. CONN_READ_MAX at first. */
void conn_set_input_max(size_t n);

/* Starts to connect; `ssl` (may be NULL) is taken over and does a client handshake once TCP stands.
 * CONN_CONNECTED or CONN_FAILED follows, never from within. NULL with errno if there is no
 * descriptor or memory (`ssl` is freed then). */
struct conn *conn_open(
    const struct sockaddr *to, socklen_t tolen, SSL *ssl, conn_event_fn *on_event, void *owner);

/* Takes over an accepted, non-blocking descriptor, with `ssl` (may be NULL) as a server: then
 * CONN_CONNECTED follows the handshake. NULL if there is no memory (`fd` and `ssl` are closed
 * then). */
struct conn *conn_accept(
    int fd, const struct sockaddr *peer, SSL *ssl, conn_event_fn *on_event, void *owner);

/* Begins a client handshake over a connection in the clear whose input is used up: a tunnel of a
 * proxy. `ssl` is taken over; CONN_CONNECTED or CONN_FAILED follows, never from within. 0, or -1
 * without memory (`ssl` is freed then). */
int conn_begin_tls(struct conn *c, SSL *ssl);

/* Hands it over: events go to the new owner from now on. */
void conn_set_owner(struct conn *c, conn_event_fn *on_event, void *owner);

/* No more output follows: once what is queued has left, the peer is told so (a half-close). Reading
 * goes on. */
void conn_end_output(struct conn *c);

/* What was read and not yet consumed; good until the next turn or conn_consume(). */
struct str conn_input(const struct conn *c);
void conn_consume(struct conn *c, size_t n);

/* Reading goes on by itself until the bytes that lie unread are too many. Paused, nothing is read,
 * and neither the end of the input nor its failure is told: both come behind the last byte. When
 * the owner goes on, CONN_DATA may come again for bytes that it has left. */
void conn_pause(struct conn *c, bool paused);

/* Copies into the output queue. 0; CONN_E_FULL: taken, but send no more until CONN_DRAINED;
 * CONN_E_MEMORY: not taken. Never closes `c`. */
int conn_write(struct conn *c, const void *p, size_t n);

/* The output queue itself, to be appended to; then conn_written(). */
struct buf *conn_output(struct conn *c);
int conn_written(struct conn *c);

/* Whether what is queued is within that bound. */
bool conn_has_room(const struct conn *c);

/* Bytes queued and not yet given to the kernel. */
size_t conn_queued(const struct conn *c);

/* Since when (loop_now_ms()) some have been queued without a break: the peer is behind. 0: none
 * are.
 */
uint64_t conn_behind_since_ms(const struct conn *c);

/* Bytes that the kernel has taken so far, and received so far. */
uint64_t conn_bytes_out(const struct conn *c);
uint64_t conn_bytes_in(const struct conn *c);

/* Bytes that have left for good: that the peer's kernel has acknowledged (TCP) or its process has
 * read (unix). Asks the kernel. */
uint64_t conn_bytes_taken(const struct conn *c);

/* Whether the peer may have received bytes of the output since conn_mark(): false only if it
 * provably has not. For deciding whether a request on a kept connection can be sent again. */
void conn_mark(struct conn *c);
bool conn_may_have_arrived(const struct conn *c);

/* Looks at the socket now: whether the peer has closed it or sent bytes unasked. For a kept
 * connection about to be used again. */
bool conn_is_quiet(struct conn *c);

const struct addr *conn_peer(const struct conn *c);

/* Its slot among the connections of its address: empty until the owner fills it. It is given back
 * when the connection has ended, lingering included. */
struct addrlimit_slot *conn_address_slot(struct conn *c);
bool conn_closed(const struct conn *c);
bool conn_eof(const struct conn *c); /* CONN_EOF was told */
bool conn_has_tls(const struct conn *c);
enum conn_error conn_error(const struct conn *c);
int conn_errno(const struct conn *c);

/* One line about what failed, for logs: "connection refused", "certificate has expired". Static or
 * good until the turn ends. */
const char *conn_strerror(const struct conn *c);

/* The protocol agreed on by ALPN ("h2", "http/1.1"), or empty. The spans live as long as `c`. */
struct str conn_alpn(const struct conn *c);
SSL *conn_ssl(struct conn *c); /* NULL without TLS; stays `c`'s */

/* Closes at once (after a failed handshake with a client: once it has taken the alert, or a moment
 * later); unsent output is lost. Idempotent; NULL is allowed. The memory goes when the turn
 * ends. */
void conn_close(struct conn *c);

/* Closes with a TCP reset: the peer cannot mistake it for a clean end. */
void conn_reset(struct conn *c);

/* No more events: sends what is queued (given up when the peer takes nothing for
 * `send_timeout_ms`), tells the peer that no more comes, and reads and drops what the peer still
 * sends for a moment, so that the close does not destroy what the peer has not read yet (RFC
 * 9112 9.6). Then closes by itself. See net/linger.h. */
void conn_finish(struct conn *c, uint64_t send_timeout_ms);

/* How many connections exist, those that are finishing included. */
size_t conn_count(void);
/* How many of them came from conn_accept(). */
size_t conn_count_accepted(void);

/* Closes all that are finishing: at exit. */
void conn_close_finishing(void);

#endif
