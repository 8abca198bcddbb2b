/* A load driver: many clients at once, each with one request at a time, and every answer checked
 * for being its own. What other drivers leave out is the check, and that is what matters here: a
 * proxy that parks ten thousand exchanges must give each client the answer to its own question. */
#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "plan.h"
#include "reply.h"
#include "tally.h"

#define BATCH                                                                                      \
    200           /* clients started in one turn: the loop must also read what the first ones get  \
                   */
#define SAMPLES 3 /* failures told in full */

struct client {
    ev_io io;
    ev_timer timer;
    struct load *load;
    int fd;
    size_t number; /* of the request in flight */
    uint64_t began_ns;
    char *out;
    size_t out_len, out_sent;
    struct reply reply;
};

struct load {
    struct plan plan;
    struct tally tally;
    struct ev_loop *loop;
    ev_timer starter, ticker;
    ev_signal interrupt;
    struct client *clients;
    size_t started_clients, started, ended, samples;
    uint64_t began_ns;
    bool tty;
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double seconds_since(uint64_t ns)
{
    return (double)(now_ns() - ns) / 1e9;
}

static void next_request(struct client *c);

static void hang_up(struct client *c)
{
    ev_io_stop(c->load->loop, &c->io);
    if (c->fd != -1)
        close(c->fd);
    c->fd = -1;
}

/* The request in flight is over, well or not; `kind` is NULL or what went wrong. */
static void end_request(struct client *c, const char *kind)
{
    struct load *l = c->load;

    ev_timer_stop(l->loop, &c->timer);
    ev_io_stop(l->loop, &c->io);
    free(c->out);
    c->out = NULL;
    l->ended++;
    if (kind == NULL) {
        tally_ok(&l->tally, (now_ns() - c->began_ns) / 1000, c->reply.body_bytes);
    } else {
        tally_failed(&l->tally, kind);
        if (l->samples++ < SAMPLES)
            fprintf(stderr, "%sload: request %zu: %s%s%.*s\n", l->tty ? "\r\033[K" : "", c->number,
                kind, c->reply.sample_len > 0 ? ": " : "", (int)c->reply.sample_len,
                c->reply.sample);
    }
    if (kind != NULL || !l->plan.keepalive || c->reply.closes)
        hang_up(c);
    if (l->ended == l->plan.requests)
        ev_break(l->loop, EVBREAK_ALL);
    else
        next_request(c);
}

static void end_reply(struct client *c)
{
    char kind[32];

    if (c->reply.status != 200) {
        snprintf(kind, sizeof(kind), "status %d", c->reply.status);
        end_request(c, kind);
    } else {
        end_request(c, c->reply.found ? NULL : "wrong answer");
    }
}

static const char *name_errno(int err)
{
    switch (err) {
    case ECONNREFUSED:
        return "refused";
    case ECONNRESET:
    case EPIPE:
        return "reset";
    case EMFILE:
    case ENFILE:
        return "no descriptor";
    case EADDRNOTAVAIL:
        return "no free port";
    case EAGAIN:
        return "backlog full"; /* of a unix socket */
    default:
        return strerror(err);
    }
}

/* Sends what is left. True while the client's request is still in flight. */
static bool send_more(struct client *c)
{
    ssize_t n;

    while (c->out_sent < c->out_len) {
        n = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent, MSG_NOSIGNAL);
        if (n == -1 && (errno == EAGAIN || errno == EINTR || errno == EINPROGRESS))
            return true;
        if (n == -1) {
            end_request(c, name_errno(errno));
            return false;
        }
        c->out_sent += (size_t)n;
    }
    ev_io_stop(c->load->loop, &c->io);
    ev_io_set(&c->io, c->fd, EV_READ);
    ev_io_start(c->load->loop, &c->io);
    return true;
}

static void receive(struct client *c)
{
    static char buf[65536];
    ssize_t n = recv(c->fd, buf, sizeof(buf), 0);
    long used;

    if (n == -1 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == -1) {
        end_request(c, name_errno(errno));
        return;
    }
    if (n == 0) {
        if (reply_eof(&c->reply))
            end_reply(c);
        else
            end_request(c, c->reply.touched ? "cut off" : "no answer");
        return;
    }
    used = reply_feed(&c->reply, buf, (size_t)n);
    if (used == -1 || (used < n && c->reply.at == REPLY_DONE)) {
        c->reply.closes = true;
        end_request(c, used == -1 ? "not HTTP/1.1" : "more than one answer");
    } else if (c->reply.at == REPLY_DONE) {
        end_reply(c);
    }
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    struct client *c = w->data;

    if ((revents & EV_WRITE) && !send_more(c))
        return;
    if (revents & EV_READ)
        receive(c);
}

static void on_timeout(struct ev_loop *loop, ev_timer *w, int revents)
{
    end_request(w->data, "timeout");
}

/* The watcher first waits to write: connecting shows itself so, and an open connection is writable
 * at once. So no request ends inside the call that starts it, however many fail in a row. */
static void next_request(struct client *c)
{
    struct load *l = c->load;
    char expected[REPLY_TEXT];

    if (l->started == l->plan.requests)
        return;
    c->number = ++l->started;
    plan_expected(&l->plan, c->number, expected, sizeof(expected));
    reply_expect(&c->reply, expected);
    c->out_sent = 0;
    c->out = plan_request(&l->plan, c->number, &c->out_len);
    if (c->out == NULL) {
        fprintf(stderr, "load: no memory\n");
        exit(2);
    }
    c->began_ns = now_ns();
    if (c->fd == -1)
        c->fd = sock_connect(&l->plan.addr);
    /* From now, not from the turn's beginning: a start of thousands is one long turn. */
    ev_now_update(l->loop);
    ev_timer_set(&c->timer, c->fd != -1 ? l->plan.timeout : 0.01, 0);
    ev_timer_start(l->loop, &c->timer);
    if (c->fd == -1) {
        if (l->samples++ < SAMPLES)
            fprintf(stderr, "load: cannot connect: %s\n", strerror(errno));
        return; /* counted when the short timer fires: a pause instead of a spin */
    }
    ev_io_set(&c->io, c->fd, EV_WRITE);
    ev_io_start(l->loop, &c->io);
}

static void on_start(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct load *l = w->data;
    double share = l->plan.ramp > 0 ? seconds_since(l->began_ns) / l->plan.ramp : 1;
    size_t due = share >= 1 ? l->plan.clients : (size_t)(share * (double)l->plan.clients) + 1, i;

    for (i = 0; i < BATCH && l->started_clients < due && l->started_clients < l->plan.clients; i++)
        next_request(&l->clients[l->started_clients++]);
    if (l->started_clients == l->plan.clients)
        ev_timer_stop(loop, w);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct load *l = w->data;

    fprintf(stderr, "%s  %zu of %zu answered, %zu waiting, %.1f s%s", l->tty ? "\r\033[K" : "",
        l->tally.ok, l->plan.requests, l->started - l->ended, seconds_since(l->began_ns),
        l->tty ? "" : "\n");
    if (l->tally.failed > 0 && l->tty)
        fprintf(stderr, ", %zu failed", l->tally.failed);
    fflush(stderr);
}

static void on_interrupt(struct ev_loop *loop, ev_signal *w, int revents)
{
    struct load *l = w->data;

    while (l->ended++ < l->plan.requests)
        tally_failed(&l->tally, "interrupted");
    fprintf(stderr, "%sload: interrupted\n", l->tty ? "\r\033[K" : "");
    ev_break(loop, EVBREAK_ALL);
}

static int begin(struct load *l)
{
    size_t i;

    if (tally_init(&l->tally, l->plan.requests) == -1)
        return -1;
    l->clients = calloc(l->plan.clients, sizeof(*l->clients));
    if (l->clients == NULL)
        return -1;
    l->tty = isatty(STDERR_FILENO);
    l->loop = ev_default_loop(0);
    for (i = 0; i < l->plan.clients; i++) {
        struct client *c = &l->clients[i];

        c->load = l;
        c->fd = -1;
        ev_init(&c->io, on_io);
        ev_init(&c->timer, on_timeout);
        c->io.data = c->timer.data = c;
    }
    l->starter.data = l->ticker.data = l->interrupt.data = l;
    ev_timer_init(&l->starter, on_start, 0, 0.001);
    ev_timer_start(l->loop, &l->starter);
    ev_timer_init(&l->ticker, on_tick, 0, l->tty ? 0.1 : 2);
    if (l->plan.progress)
        ev_timer_start(l->loop, &l->ticker);
    ev_signal_init(&l->interrupt, on_interrupt, SIGINT);
    ev_signal_start(l->loop, &l->interrupt);
    l->began_ns = now_ns();
    return 0;
}

static void end(struct load *l)
{
    size_t i;

    for (i = 0; l->clients != NULL && i < l->plan.clients; i++) {
        hang_up(&l->clients[i]);
        free(l->clients[i].out);
    }
    free(l->clients);
    tally_release(&l->tally);
    plan_release(&l->plan);
    if (l->loop != NULL)
        ev_loop_destroy(l->loop);
}

int main(int argc, char **argv)
{
    struct load l = { 0 };
    double seconds;
    int rc = plan_read(&l.plan, argc, argv);

    if (rc != 0) {
        plan_release(&l.plan);
        return rc - 1;
    }
    if (begin(&l) == -1) {
        fprintf(stderr, "load: no memory for %zu clients\n", l.plan.clients);
        end(&l);
        return 2;
    }
    ev_run(l.loop, 0);
    seconds = seconds_since(l.began_ns);
    rc = l.tally.ok == l.plan.requests ? 0 : 1;
    if (l.plan.progress && l.tty)
        fprintf(stderr, "\r\033[K");
    if (l.plan.json)
        tally_print_json(&l.tally, l.plan.requests, seconds, stdout);
    else
        tally_print_text(&l.tally, l.plan.requests, seconds, stdout);
    end(&l);
    return rc;
}
