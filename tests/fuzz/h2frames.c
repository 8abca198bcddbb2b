#include "h2frames.h"

#include <errno.h>
#include <ev.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/str.h"
#include "laws.h"
#include "net/loop.h"

enum {
    HEAD_LEN = 9,
    FRAME_MAX = 16384, /* Tarry announces no larger one, and may send none */
    TURNS = 4,
    IN_MAX = 1 << 15
};

struct input {
    const uint8_t *p, *end;
};

/* What comes back, cut into frames. */
struct output {
    int fd;
    uint8_t bytes[IN_MAX];
    size_t n;
    bool is_http2; /* until it turns out to be HTTP/1.1 */
};

static const struct {
    const char *name, *value;
} table[] = {
    { ":method", "GET" },
    { ":method", "POST" },
    { ":method", "CONNECT" },
    { ":scheme", "http" },
    { ":scheme", "https" },
    { ":path", "/" },
    { ":path", "/a?b#c" },
    { ":path", "*" },
    { ":authority", "a" },
    { ":authority", "u@a,b" },
    { ":status", "200" },
    { ":status", "103" },
    { ":status", "204" },
    { ":protocol", "websocket" },
    { "host", "a" },
    { "host", "b" },
    { "content-length", "5" },
    { "content-length", "0" },
    { "content-length", "1000000" },
    { "content-type", "text/event-stream" },
    { "cookie", "a=b" },
    { "cookie", "c=d" },
    { "transfer-encoding", "chunked" },
    { "connection", "close" },
    { "te", "trailers" },
    { "expect", "100-continue" },
    { "tarry-kind", "resume" },
    { "tarry_then", "relay" },
    { "x-long", "0123456789012345678901234567890123456789012345678901234567890123456789012345" },
    { "X-Upper", "a" },
    { "", "empty" },
    { "x-crlf", "a\r\nb: c" },
    { "priority", "u=0, i" },
    { "upgrade", "h2c" },
    { "http2-settings", "AA" },
    { "accept-encoding", "gzip" },
};

static unsigned octet(struct input *in)
{
    return in->p < in->end ? *in->p++ : 0;
}

static void put_frame(uint8_t *head, size_t n, unsigned type, unsigned flags, unsigned stream)
{
    uint32_t id = stream < 64 ? stream : 0x7fffffffU - stream;

    head[0] = (uint8_t)(n >> 16);
    head[1] = (uint8_t)(n >> 8);
    head[2] = (uint8_t)n;
    head[3] = (uint8_t)type;
    head[4] = (uint8_t)flags;
    head[5] = (uint8_t)(id >> 24);
    head[6] = (uint8_t)(id >> 16);
    head[7] = (uint8_t)(id >> 8);
    head[8] = (uint8_t)id;
}

static void turn(void)
{
    for (int i = 0; i < TURNS; i++)
        ev_run(loop_ev(), EVRUN_NOWAIT);
}

/* RFC 9113 4.1, of what Tarry sends: lengths in bounds, reserved bit unset, and types that we use.
 */
static void check_output(struct output *o)
{
    size_t at = 0;

    if (o->n >= 5 && memcmp(o->bytes, "HTTP/", 5) == 0)
        o->is_http2 = false;
    while (o->is_http2 && o->n - at >= HEAD_LEN) {
        const uint8_t *f = o->bytes + at;
        size_t n = (size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2];

        if (at == 0 && memcmp(f, "PRI * HT", 8) == 0) {
            if (o->n < 24)
                break;
            at = 24; /* a client's preface */
            continue;
        }
        HOLDS(n <= FRAME_MAX && f[3] <= 9 && f[3] != 5 && (f[5] & 0x80) == 0);
        if (o->n - at < HEAD_LEN + n)
            break;
        at += HEAD_LEN + n;
    }
    if (!o->is_http2)
        at = o->n;
    memmove(o->bytes, o->bytes + at, o->n - at);
    o->n -= at;
}

/* Reads what came back. False once the connection has ended. */
static bool drain(struct output *o)
{
    for (;;) {
        ssize_t n = recv(o->fd, o->bytes + o->n, sizeof(o->bytes) - o->n, MSG_DONTWAIT);

        if (n <= 0)
            return n < 0 && (errno == EAGAIN || errno == EINTR);
        o->n += (size_t)n;
        check_output(o);
    }
}

static bool send_all(struct output *o, const void *p, size_t n)
{
    const char *at = p;

    while (n > 0) {
        ssize_t k = send(o->fd, at, n, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (k > 0) {
            at += k;
            n -= (size_t)k;
        } else if (errno != EAGAIN || !drain(o)) {
            return false;
        } else {
            turn();
            /* A peer that reads no more has closed, or holds us back for good. */
            k = send(o->fd, at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (k <= 0)
                return false;
            at += k;
            n -= (size_t)k;
        }
    }
    return true;
}

static bool send_frame(
    struct output *o, unsigned type, unsigned flags, unsigned stream, const void *p, size_t n)
{
    uint8_t head[HEAD_LEN];

    put_frame(head, n, type, flags, stream);
    return send_all(o, head, sizeof(head)) && send_all(o, p, n);
}

static bool raw_frame(struct output *o, struct input *in, unsigned type)
{
    unsigned flags = octet(in), stream = octet(in);
    size_t n = octet(in);

    if (n > (size_t)(in->end - in->p))
        n = (size_t)(in->end - in->p);
    in->p += n;
    return send_frame(o, type, flags, stream, in->p - n, n);
}

static size_t literal(uint8_t *to, const char *s)
{
    size_t n = strlen(s);

    to[0] = (uint8_t)n; /* all are shorter than 127 */
    memcpy(to + 1, s, n);
    return n + 1;
}

static bool headers(struct output *o, struct input *in)
{
    uint8_t block[255 * 160];
    unsigned flags = octet(in), stream = octet(in), count = octet(in);
    size_t n = 0;

    while (count-- > 0 && in->p < in->end) {
        size_t i = octet(in) % (sizeof(table) / sizeof(*table));

        block[n++] = 0; /* literal without indexing, new name (RFC 7541 6.2.2) */
        n += literal(block + n, table[i].name);
        n += literal(block + n, table[i].value);
    }
    return send_frame(o, 1, flags, stream, block, n > FRAME_MAX ? FRAME_MAX : n);
}

static bool step(
    struct output *o, struct input *in, h2frames_action_fn *action, void *owner, unsigned what)
{
    static const uint8_t zeros[255 * 256];

    if (what < 0x10)
        return raw_frame(o, in, what);
    switch (what) {
    case 0x10:
        return headers(o, in);
    case 0x11: {
        unsigned flags = octet(in) & 1, stream = octet(in);
        size_t n = (size_t)octet(in) * 256;

        return send_frame(o, 0, flags, stream, zeros, n > FRAME_MAX ? FRAME_MAX : n);
    }
    case 0x12:
        return raw_frame(o, in, 0x10);
    case 0x13: {
        size_t n = octet(in), left = (size_t)(in->end - in->p);

        in->p += n < left ? n : left;
        return send_all(o, in->p - (n < left ? n : left), n < left ? n : left);
    }
    case 0x14:
        turn();
        return drain(o);
    default:
        if (what >= 0xf0)
            action(owner, what - 0xf0, octet(in));
        return true;
    }
}

struct conn *h2frames_connect(int *fd)
{
    struct sockaddr_storage sa = { .ss_family = AF_UNIX };
    struct conn *c;
    int fds[2];

    HOLDS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    *fd = fds[1];
    c = conn_accept(fds[0], (struct sockaddr *)&sa, NULL, NULL, NULL);
    HOLDS(c);
    return c;
}

void h2frames_play(int fd, const char *hello, size_t hello_len, const uint8_t *data, size_t n,
    h2frames_action_fn *action, void *owner)
{
    static struct output o;
    struct input in = { data, data + n };
    bool open;

    o.fd = fd;
    o.n = 0;
    o.is_http2 = true;
    open = send_all(&o, hello, hello_len);
    while (open && in.p < in.end)
        open = step(&o, &in, action, owner, octet(&in));
    turn();
    drain(&o);
    turn();
    close(fd);
    turn();
}
