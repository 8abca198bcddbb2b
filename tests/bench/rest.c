/* Clients at rest: opens connections one after the other, has one small request answered on each,
 * and then holds them all open until its standard input ends.
 *
 *     rest --to HOST:PORT --kind http1|tls-http1|h2c|tls-h2 --count N
 *
 * Says "rest: ready count=N" once all are at rest. It trusts any certificate: what it measures is
 * the other side's memory. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "sock.h"

enum kind { HTTP1, TLS_HTTP1, H2C, TLS_H2 };

static const char *const kinds[] = { "http1", "tls-http1", "h2c", "tls-h2" };

struct client {
    int fd;
    SSL *ssl;
};

static SSL_CTX *ctx;

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "rest: %s: %s\n", what,
        errno ? strerror(errno) : ERR_reason_error_string(ERR_peek_error()));
    exit(1);
}

static void put(struct client *c, const void *p, size_t n)
{
    ssize_t k = c->ssl ? SSL_write(c->ssl, p, (int)n) : write(c->fd, p, n);

    if (k != (ssize_t)n)
        die("cannot send");
}

static size_t get(struct client *c, uint8_t *p, size_t n)
{
    ssize_t k = c->ssl ? SSL_read(c->ssl, p, (int)n) : read(c->fd, p, n);

    if (k <= 0)
        die("the connection ended before the answer was complete");
    return (size_t)k;
}

/* All of the next `n` bytes. */
static void get_all(struct client *c, uint8_t *p, size_t n)
{
    while (n > 0) {
        size_t k = get(c, p, n);

        p += k;
        n -= k;
    }
}

static void ask_http1(struct client *c)
{
    static const char request[] = "GET /plain HTTP/1.1\r\nHost: rest.test\r\n\r\n";
    char in[16384];
    size_t n = 0;
    const char *end, *length;

    put(c, request, sizeof(request) - 1);
    do {
        n += get(c, (uint8_t *)in + n, sizeof(in) - 1 - n);
        in[n] = '\0';
        end = strstr(in, "\r\n\r\n");
    } while (!end && n < sizeof(in) - 1);
    length = strcasestr(in, "\r\ncontent-length:");
    if (!end || !length || strncmp(in, "HTTP/1.1 200", 12) != 0) {
        errno = EPROTO;
        die("not the answer that was expected");
    }
    while (n < (size_t)(end - in) + 4 + strtoul(length + 17, NULL, 10))
        n += get(c, (uint8_t *)in + n, sizeof(in) - 1 - n);
}

/* RFC 9113, as little of it as one request needs. */
static void ask_h2(struct client *c)
{
    static const uint8_t hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    /* :method GET, :scheme http, :path and :authority as literals (RFC 7541 6.1, 6.2.2). */
    uint8_t head[] = "\0\0\x15\1\5\0\0\0\1\x82\x86\4\6/plain\1\x09rest.test";
    static const uint8_t settings_ack[] = "\0\0\0\4\1\0\0\0\0";
    bool answered = false, acked = false;

    if (c->ssl)
        head[10] = 0x87; /* :scheme https */
    put(c, hello, sizeof(hello) - 1);
    put(c, head, sizeof(head) - 1);
    while (!answered || !acked) {
        uint8_t f[9], payload[16384];
        size_t n;

        get_all(c, f, sizeof(f));
        n = (size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2];
        if (n > sizeof(payload) || f[3] == 7 || f[3] == 3) {
            errno = EPROTO;
            die("GOAWAY, RST_STREAM or an oversized frame");
        }
        get_all(c, payload, n);
        if (f[3] == 4 && !(f[4] & 1))
            put(c, settings_ack, sizeof(settings_ack) - 1);
        else if (f[3] == 4)
            acked = true;
        if (f[3] <= 1 && f[8] == 1 && (f[4] & 1))
            answered = true;
    }
}

static void open_client(struct client *c, const struct sock_addr *to, enum kind kind)
{
    static const uint8_t h2[] = "\2h2", http1[] = "\x08http/1.1";
    const struct timeval patience = { .tv_sec = 20 };
    struct pollfd ready;
    int err = 0;
    socklen_t n = sizeof(err);

    c->fd = sock_connect(to);
    if (c->fd < 0)
        die("cannot connect");
    ready = (struct pollfd){ .fd = c->fd, .events = POLLOUT };
    if (poll(&ready, 1, 20000) != 1 || getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &n) < 0 ||
        err) {
        errno = err ? err : ETIMEDOUT;
        die("cannot connect");
    }
    fcntl(c->fd, F_SETFL, 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    errno = 0;
    if (kind == TLS_HTTP1 || kind == TLS_H2) {
        c->ssl = SSL_new(ctx);
        if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1 ||
            SSL_set_alpn_protos(c->ssl, kind == TLS_H2 ? h2 : http1,
                kind == TLS_H2 ? sizeof(h2) - 1 : sizeof(http1) - 1) != 0 ||
            SSL_connect(c->ssl) != 1)
            die("TLS handshake");
    }
    if (kind == H2C || kind == TLS_H2)
        ask_h2(c);
    else
        ask_http1(c);
}

static int usage(void)
{
    fputs("usage: rest --to HOST:PORT --kind http1|tls-http1|h2c|tls-h2 --count N\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "to", required_argument, NULL, 't' },
        { "kind", required_argument, NULL, 'k' },
        { "count", required_argument, NULL, 'n' },
        { NULL, 0, NULL, 0 },
    };
    struct sock_addr to = { .len = 0 };
    struct client *clients;
    size_t count = 0, kind = sizeof(kinds) / sizeof(*kinds);
    char c;
    int o;

    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (o == 't' && sock_parse(optarg, &to) < 0)
            return 2;
        if (o == 'n')
            count = strtoul(optarg, NULL, 10);
        if (o == 'k')
            for (kind = 0; kind < sizeof(kinds) / sizeof(*kinds); kind++)
                if (strcmp(kinds[kind], optarg) == 0)
                    break;
        if (o == '?')
            return usage();
    }
    if (to.len == 0 || kind == sizeof(kinds) / sizeof(*kinds) || count == 0)
        return usage();
    if (count + 50 > sock_raise_limit()) {
        fprintf(stderr, "rest: %zu connections need as many descriptors (ulimit -n)\n", count + 50);
        return 1;
    }
    ctx = SSL_CTX_new(TLS_client_method());
    clients = calloc(count, sizeof(*clients));
    if (!ctx || !clients)
        die("no memory");
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    for (size_t i = 0; i < count; i++)
        open_client(&clients[i], &to, (enum kind)kind);
    printf("rest: ready count=%zu\n", count);
    fflush(stdout);
    while (read(STDIN_FILENO, &c, 1) > 0)
        ;
    for (size_t i = 0; i < count; i++) {
        SSL_free(clients[i].ssl);
        close(clients[i].fd);
    }
    free(clients);
    SSL_CTX_free(ctx);
    return 0;
}
