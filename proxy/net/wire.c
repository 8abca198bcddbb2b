/* recv, send and OpenSSL's counterparts, with one set of results. */
#include "net/wire.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* not netinet/tcp.h: its struct tcp_info lacks tcpi_bytes_acked */
#include <netinet/in.h>
#include <openssl/err.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/sni.h"
#include "net/tls.h"

enum { TLS_RECORD_MAX = 16384 };

static bool wire_try_again(int err_no)
{
    return err_no == EAGAIN || err_no == EWOULDBLOCK || err_no == EINTR;
}

static ssize_t wire_read_tls(struct wire *w, void *p, size_t n)
{
    int got, error;

    ERR_clear_error();
    got = SSL_read(w->ssl, p, n > INT32_MAX ? INT32_MAX : (int)n);
    w->err_no = errno;
    w->wants_write = false;
    if (sni_is_flooded(w->ssl))
        return WIRE_E_TLS;
    if (got > 0)
        return got;
    error = SSL_get_error(w->ssl, got);
    switch (error) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_WANT_WRITE:
        w->wants_write = true;
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return WIRE_E_EOF;
    case SSL_ERROR_SYSCALL:
        return WIRE_E_RESET;
    default:
        if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
            return WIRE_E_TRUNCATED;
        return tls_refuses_certificate(w->ssl) ? WIRE_E_REFUSED : WIRE_E_TLS;
    }
}

ssize_t wire_read(struct wire *w, void *p, size_t n)
{
    ssize_t got;

    if (w->ssl)
        return wire_read_tls(w, p, n);
    got = recv(w->fd, p, n, 0);
    w->err_no = errno;
    if (got > 0)
        return got;
    if (got == 0)
        return WIRE_E_EOF;
    return wire_try_again(w->err_no) ? 0 : WIRE_E_RESET;
}

bool wire_has_pending(const struct wire *w)
{
    return w->ssl && SSL_has_pending(w->ssl);
}

static ssize_t wire_write_tls(struct wire *w, const void *p, size_t n)
{
    int taken;

    ERR_clear_error();
    taken = SSL_write(w->ssl, p, n > TLS_RECORD_MAX ? TLS_RECORD_MAX : (int)n);
    w->err_no = errno;
    if (taken > 0)
        return taken;
    switch (SSL_get_error(w->ssl, taken)) {
    case SSL_ERROR_WANT_WRITE:
    case SSL_ERROR_WANT_READ: /* the reading side goes on by itself, and then this is tried again */
        return 0;
    default:
        return WIRE_E_RESET;
    }
}

ssize_t wire_write(struct wire *w, const void *p, size_t n)
{
    ssize_t taken;

    if (w->ssl)
        return wire_write_tls(w, p, n);
    taken = send(w->fd, p, n, MSG_NOSIGNAL);
    w->err_no = errno;
    if (taken >= 0)
        return taken;
    return wire_try_again(w->err_no) ? 0 : WIRE_E_RESET;
}

int wire_handshake(struct wire *w)
{
    int rc, error;

    ERR_clear_error();
    errno = 0;
    rc = SSL_do_handshake(w->ssl);
    w->err_no = errno;
    w->wants_write = false;
    if (rc == 1) {
        sni_settle(w->ssl);
        return 1;
    }
    error = SSL_get_error(w->ssl, rc);
    w->wants_write = error == SSL_ERROR_WANT_WRITE;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return 0;
    if (SSL_get_verify_result(w->ssl) != X509_V_OK)
        return WIRE_E_CERTIFICATE;
    return tls_refuses_certificate(w->ssl) ? WIRE_E_REFUSED : WIRE_E_TLS;
}

void wire_shutdown(struct wire *w, bool socket)
{
    if (w->ssl) {
        SSL_shutdown(w->ssl);
        ERR_clear_error();
    }
    if (socket)
        shutdown(w->fd, SHUT_WR);
}

void wire_close(struct wire *w, bool reset)
{
    if (reset) {
        struct linger l = { .l_onoff = 1, .l_linger = 0 };

        setsockopt(w->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    }
    close(w->fd);
}

uint64_t wire_waiting(const struct wire *w)
{
    int n;

    return ioctl(w->fd, SIOCOUTQ, &n) == 0 && n > 0 ? (uint64_t)n : 0;
}

uint64_t wire_acknowledged(const struct wire *w)
{
    struct tcp_info info;
    socklen_t n = sizeof(info);

    if (getsockopt(w->fd, IPPROTO_TCP, TCP_INFO, &info, &n) < 0 ||
        n < offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof(info.tcpi_bytes_acked))
        return UINT64_MAX;
    return info.tcpi_bytes_acked;
}
