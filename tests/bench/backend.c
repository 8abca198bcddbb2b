/* A worker that costs next to nothing, so that a benchmark measures the proxy in front of it:
 * HTTP/1.1 with keep-alive in one event loop.
 *
 *   /plain    answers 200 with a short text
 *   /big      answers 200 with a MiB
 *   /slow     answers as /plain does, after a fifth of a second
 *   /relay    hands one model call off, the model's answer goes to the client
 *   others    hand one model call off and ask for a resume, which answers with what the model said
 *
 * The call is a chat completion whose question is the client's body, padded to --prompt bytes in
 * all. */
#include <ctype.h>
#include <errno.h>
#include <ev.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "sock.h"

#define HEAD_MAX 65536
#define BODY_MAX (64u << 20)
#define BIG ((size_t)1 << 20)
#define SLOW 0.2         /* seconds */
#define QUESTION_MAX 150 /* of the client's body; the stand-in for the services echoes 200 */

struct text {
    char *p;
    size_t len, room;
};

struct backend {
    const char *origin;
    size_t prompt;
    struct ev_loop *loop;
    ev_io accept;
    ev_signal term, intr;
};

/* One connection from the proxy. Ends with close_peer(), which frees it: nothing else holds it. */
struct peer {
    ev_io io;
    ev_timer hold; /* the answer waits for it */
    struct backend *b;
    struct text in, out;
    size_t sent;
    bool closing;
};

struct request {
    const char *head, *body;
    size_t head_len, body_len;
    const char *path;
    size_t path_len;
    bool resume;
};

static void reserve(struct text *t, size_t n)
{
    char *more;

    if (t->room - t->len >= n)
        return;
    t->room = (t->len + n) * 2;
    more = realloc(t->p, t->room);
    if (more == NULL) {
        fprintf(stderr, "backend: no memory\n");
        exit(1);
    }
    t->p = more;
}

static void add(struct text *t, const char *p, size_t n)
{
    reserve(t, n);
    memcpy(t->p + t->len, p, n);
    t->len += n;
}

static void add_head(struct text *t, int status, const char *fields, size_t body_len)
{
    char head[512];
    int len = snprintf(head, sizeof(head),
        "HTTP/1.1 %d From the backend\r\n%s\r\nContent-Length: %zu\r\n\r\n", status, fields,
        body_len);

    add(t, head, (size_t)len);
}

/* The value of a field of the head, or NULL. Names are compared without regard to case. */
static const char *field(const struct request *r, const char *name, size_t *len)
{
    size_t n = strlen(name), rest;
    const char *at = r->head, *end = r->head + r->head_len, *nl;

    while ((nl = memchr(at, '\n', (size_t)(end - at))) != NULL && nl + 1 < end) {
        at = nl + 1;
        rest = (size_t)(end - at);
        if (rest <= n || strncasecmp(at, name, n) != 0 || at[n] != ':')
            continue;
        at += n + 1;
        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
        *len = (size_t)((const char *)memchr(at, '\r', (size_t)(end - at)) - at);
        return at;
    }
    return NULL;
}

/* Status and body of the model's answer, which a resume encloses. */
static void answer_resume(struct peer *p, const struct request *r)
{
    const char *body = memmem(r->body, r->body_len, "\r\n\r\n", 4);
    int status = 500;
    size_t n = 0;

    if (body != NULL && r->body_len > 12 && memcmp(r->body, "HTTP/1.1 ", 9) == 0) {
        status = atoi(r->body + 9);
        body += 4;
        n = r->body_len - (size_t)(body - r->body);
    }
    add_head(&p->out, status, "Content-Type: application/json", n);
    add(&p->out, body, n);
}

static void hand_off(struct peer *p, const struct request *r, bool relay)
{
    static const char before[] =
        "{\"model\":\"gpt-4o\",%s\"messages\":[{\"role\":\"user\",\"content\":\"";
    static const char after[] = "\"}]}";
    struct backend *b = p->b;
    char json[128], head[512];
    int head_len, json_len = snprintf(json, sizeof(json), before, relay ? "\"stream\":true," : "");
    size_t question = r->body_len < QUESTION_MAX ? r->body_len : QUESTION_MAX, i, start, n = 0;
    size_t least = (size_t)json_len + question + sizeof(after) - 1;
    size_t body_len = least < b->prompt ? b->prompt : least;
    const char *delay = field(r, "X-Provider-Delay", &n);

    if (delay == NULL || n > 16) {
        delay = "0s";
        n = 2;
    }
    head_len = snprintf(head, sizeof(head),
        "POST %s/v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: "
        "Bearer bench\r\nX-Provider-Delay: %.*s\r\nContent-Length: %zu\r\n\r\n",
        b->origin, (int)n, delay, body_len);
    add_head(&p->out, 200,
        relay ? "Content-Type: application/http; msgtype=request\r\nTarry-Then: relay"
              : "Content-Type: application/http; msgtype=request\r\nTarry-Then: resume /done",
        (size_t)head_len + body_len);
    add(&p->out, head, (size_t)head_len);
    add(&p->out, json, (size_t)json_len);
    start = p->out.len;
    add(&p->out, r->body, question);
    for (i = start; i < p->out.len; i++) {
        if (!isprint((unsigned char)p->out.p[i]) || p->out.p[i] == '"' || p->out.p[i] == '\\')
            p->out.p[i] = '.';
    }
    reserve(&p->out, body_len);
    memset(p->out.p + p->out.len, 'x', body_len - least);
    p->out.len += body_len - least;
    add(&p->out, after, sizeof(after) - 1);
}

static bool is_for(const struct request *r, const char *path)
{
    return r->path_len == strlen(path) && memcmp(r->path, path, r->path_len) == 0;
}

static void answer_big(struct peer *p)
{
    add_head(&p->out, 200, "Content-Type: text/plain", BIG);
    reserve(&p->out, BIG);
    memset(p->out.p + p->out.len, 'x', BIG);
    p->out.len += BIG;
}

static void answer(struct peer *p, const struct request *r)
{
    static const char plain[] = "A short answer from a worker that has little to do: it costs the "
                                "proxy what a proxied request costs.\n";

    if (r->resume) {
        answer_resume(p, r);
    } else if (is_for(r, "/plain") || is_for(r, "/slow")) {
        add_head(&p->out, 200, "Content-Type: text/plain", sizeof(plain) - 1);
        add(&p->out, plain, sizeof(plain) - 1);
        if (is_for(r, "/slow"))
            ev_timer_start(p->b->loop, &p->hold);
    } else if (is_for(r, "/big")) {
        answer_big(p);
    } else {
        hand_off(p, r, is_for(r, "/relay"));
    }
}

/* One complete request from `in`. How many bytes it has, 0 for more, -1 for what this is not made
 * for. */
static long parse(const struct text *in, struct request *r)
{
    const char *end = memmem(in->p, in->len, "\r\n\r\n", 4), *v, *sp;
    size_t n;

    if (end == NULL)
        return in->len > HEAD_MAX ? -1 : 0;
    *r = (struct request){ .head = in->p, .head_len = (size_t)(end - in->p) + 4 };
    r->body = in->p + r->head_len;
    if ((v = field(r, "Content-Length", &n)) != NULL)
        r->body_len = strtoul(v, NULL, 10);
    if (field(r, "Transfer-Encoding", &n) != NULL || r->body_len > BODY_MAX)
        return -1;
    if (in->len - r->head_len < r->body_len)
        return 0;
    sp = memchr(r->head, ' ', r->head_len);
    if (sp == NULL)
        return -1;
    r->path = sp + 1;
    r->path_len = strcspn(r->path, " ?\r");
    v = field(r, "Tarry-Kind", &n);
    r->resume = v != NULL && n == 6 && memcmp(v, "resume", 6) == 0;
    return (long)(r->head_len + r->body_len);
}

static void close_peer(struct peer *p)
{
    ev_io_stop(p->b->loop, &p->io);
    ev_timer_stop(p->b->loop, &p->hold);
    close(p->io.fd);
    free(p->in.p);
    free(p->out.p);
    free(p);
}

static void want(struct peer *p, int events)
{
    if ((p->io.events & (EV_READ | EV_WRITE)) == events)
        return;
    ev_io_stop(p->b->loop, &p->io);
    ev_io_set(&p->io, p->io.fd, events);
    ev_io_start(p->b->loop, &p->io);
}

/* Sends what there is; may close `p`, so it is the last thing done with it. */
static void send_out(struct peer *p)
{
    ssize_t n;

    if (ev_is_active(&p->hold))
        return;
    while (p->sent < p->out.len) {
        n = send(p->io.fd, p->out.p + p->sent, p->out.len - p->sent, MSG_NOSIGNAL);
        if (n == -1 && errno == EAGAIN) {
            want(p, EV_WRITE);
            return;
        }
        if (n == -1 && errno != EINTR) {
            close_peer(p);
            return;
        }
        p->sent += n > 0 ? (size_t)n : 0;
    }
    p->out.len = p->sent = 0;
    if (p->closing)
        close_peer(p);
    else
        want(p, EV_READ);
}

static void read_in(struct peer *p)
{
    struct request r;
    size_t used = 0;
    long step = 0;
    ssize_t n;

    reserve(&p->in, 16384);
    n = recv(p->io.fd, p->in.p + p->in.len, p->in.room - p->in.len, 0);
    if (n == -1 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        close_peer(p);
        return;
    }
    p->in.len += (size_t)n;
    while (used < p->in.len) {
        struct text rest = { p->in.p + used, p->in.len - used, 0 };

        step = parse(&rest, &r);
        if (step <= 0)
            break;
        answer(p, &r);
        used += (size_t)step;
    }
    memmove(p->in.p, p->in.p + used, p->in.len - used);
    p->in.len -= used;
    p->closing = step == -1;
    send_out(p);
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    struct peer *p = w->data;

    if (p->out.len > p->sent && !ev_is_active(&p->hold))
        send_out(p);
    else
        read_in(p);
}

static void on_hold(struct ev_loop *loop, ev_timer *w, int revents)
{
    send_out(w->data);
}

static void on_accept(struct ev_loop *loop, ev_io *w, int revents)
{
    struct backend *b = w->data;
    struct peer *p;
    int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd == -1)
        return;
    p = calloc(1, sizeof(*p));
    if (p == NULL) {
        close(fd);
        return;
    }
    p->b = b;
    ev_io_init(&p->io, on_io, fd, EV_READ);
    p->io.data = p;
    ev_timer_init(&p->hold, on_hold, SLOW, 0.);
    p->hold.data = p;
    ev_io_start(loop, &p->io);
}

static void on_signal(struct ev_loop *loop, ev_signal *w, int revents)
{
    _exit(0);
}

static int refuse(void)
{
    fprintf(stderr, "usage: backend --listen HOST:PORT|unix:PATH [--origin https://HOST:PORT]\n"
                    "               [--prompt BYTES]\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "listen", required_argument, NULL, 'l' },
        { "origin", required_argument, NULL, 'o' },
        { "prompt", required_argument, NULL, 'p' },
        { NULL, 0, NULL, 0 },
    };
    struct backend b = { .origin = "https://127.0.0.1:8443", .prompt = 1024 };
    struct sock_addr addr = { .len = 0 };
    char where[512];
    int id, fd;

    while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (id == 'l') {
            if (sock_parse(optarg, &addr) == -1)
                return 2;
        } else if (id == 'o') {
            b.origin = optarg;
        } else if (id == 'p') {
            b.prompt = strtoul(optarg, NULL, 10);
        } else {
            return refuse();
        }
    }
    if (addr.len == 0 || optind < argc || b.prompt > BODY_MAX || strlen(b.origin) > 200)
        return refuse();
    sock_raise_limit();
    fd = sock_listen(&addr);
    if (fd == -1)
        return 1;
    b.loop = ev_default_loop(0);
    b.accept.data = &b;
    ev_io_init(&b.accept, on_accept, fd, EV_READ);
    ev_io_start(b.loop, &b.accept);
    ev_signal_init(&b.term, on_signal, SIGTERM);
    ev_signal_start(b.loop, &b.term);
    ev_signal_init(&b.intr, on_signal, SIGINT);
    ev_signal_start(b.loop, &b.intr);
    sock_describe(fd, where, sizeof(where));
    printf("backend: ready listen=%s\n", where);
    fflush(stdout);
    ev_run(b.loop, 0);
    return 0;
}
