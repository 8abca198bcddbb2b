/* The lists of client connections, what is done to all of them, and which server gets a new one. */
#include "http/acceptor.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>

#include "http/h1server.h"
#include "http/h2server.h"
#include "net/deadline.h"
#include "net/loop.h"
#include "observe/counter.h"
#include "observe/log.h"

/* A connection that has said nothing yet: small, since thousands may be silent. */
struct arrival {
    struct conn *conn;
    struct acceptor *acceptor;
    struct accepted accepted;
    union {
        struct deadline deadline;
        struct deferred_free deferred_free;
    };
    bool closed;
};

static const struct str preface =
    STR_INIT(NGHTTP2_CLIENT_MAGIC); /* "PRI * HTTP/2.0", which no HTTP/1.1 request begins with */

static void acceptor_free_arrival(void *what)
{
    free(what);
}

/* It ends, its conn does not. */
static struct conn *acceptor_leave(struct arrival *r)
{
    struct conn *c = r->conn;

    r->closed = true;
    r->conn = NULL;
    list_remove(&r->accepted.node);
    deadline_close(&r->deadline);
    loop_free_later(&r->deferred_free, r, acceptor_free_arrival);
    return c;
}

static void acceptor_give_up(struct arrival *r)
{
    conn_close(acceptor_leave(r));
}

static void acceptor_refused(struct conn *c, const char *why)
{
    char text[ADDR_TEXT_MAX];

    counter_add(COUNTER_TLS_FAILED, 1);
    log_debug(NULL, "TLS handshake with %s failed: %s", addr_ip_text(conn_peer(c), text), why);
}

static void acceptor_on_conn(void *owner, struct conn *c, enum conn_event ev)
{
    struct arrival *r = owner;
    struct acceptor *a = r->acceptor;
    struct str in = conn_input(c);

    switch (ev) {
    case CONN_CONNECTED:
        counter_add(COUNTER_TLS_HANDSHAKES, 1);
        counter_add(COUNTER_TLS_RESUMED, SSL_session_reused(conn_ssl(c)) == 1);
        if (str_eq(conn_alpn(c), STR("h2")))
            h2_server_open(acceptor_leave(r), a);
        else
            h1_server_open(acceptor_leave(r), a);
        break;
    case CONN_DATA:
        if (conn_has_tls(c))
            break;
        if (str_starts_with(in, preface))
            h2_server_open(acceptor_leave(r), a);
        else if (!str_starts_with(preface, in))
            h1_server_open(acceptor_leave(r), a);
        break;
    case CONN_DRAINED:
        break;
    case CONN_FAILED:
        if (conn_has_tls(c))
            acceptor_refused(c, conn_strerror(c));
        acceptor_give_up(r);
        break;
    case CONN_EOF:
        acceptor_give_up(r);
        break;
    }
}

static void acceptor_on_deadline(void *owner)
{
    struct arrival *r = owner;

    counter_add(COUNTER_CLIENTS_TOO_SLOW, 1);
    if (conn_has_tls(r->conn))
        acceptor_refused(r->conn, "it took longer than handshake_timeout");
    acceptor_give_up(r);
}

/* The handshake, or the first bytes, may be on their way. */
static void acceptor_drain_arrival(struct accepted *c)
{
}

static void acceptor_cut_arrival(struct accepted *c)
{
    acceptor_give_up(LIST_OWNER(c, struct arrival, accepted));
}

static const struct accepted_ops arrival_ops = { .drain = acceptor_drain_arrival,
    .cut = acceptor_cut_arrival };

void acceptor_init(struct acceptor *a)
{
    list_init(&a->arriving);
    list_init(&a->idle);
    list_init(&a->busy);
}

int acceptor_take(struct acceptor *a, struct conn *conn, bool http2)
{
    bool tls = conn_has_tls(conn);
    struct arrival *r = http2 || tls ? calloc(1, sizeof(*r)) : NULL;

    if (!http2 && !tls)
        return h1_server_open(conn, a);
    if (!r) {
        conn_close(conn);
        return -1;
    }
    r->conn = conn;
    r->acceptor = a;
    r->accepted.ops = &arrival_ops;
    deadline_init(&r->deadline, acceptor_on_deadline, r);
    deadline_set(&r->deadline, tls ? a->handshake_timeout_ms : a->header_timeout_ms);
    list_push(&a->arriving, &r->accepted.node);
    conn_set_owner(conn, acceptor_on_conn, r);
    return 0;
}

/* Each is moved aside first: what one of them does may end others. */
void acceptor_drain(struct acceptor *a)
{
    struct list *lists[] = { &a->idle, &a->busy };

    a->draining = true;
    for (size_t i = 0; i < 2; i++) {
        struct list rest;

        list_init(&rest);
        while (list_first(lists[i]))
            list_push(&rest, list_first(lists[i]));
        while (list_first(&rest)) {
            struct accepted *c = LIST_OWNER(list_first(&rest), struct accepted, node);

            list_push(lists[i], &c->node);
            c->ops->drain(c);
        }
    }
}

void acceptor_close(struct acceptor *a)
{
    struct list *lists[] = { &a->arriving, &a->idle, &a->busy };

    for (size_t i = 0; i < 3; i++) {
        while (list_first(lists[i])) {
            struct accepted *c = LIST_OWNER(list_first(lists[i]), struct accepted, node);

            c->ops->cut(c);
        }
    }
}

size_t acceptor_make_room(struct acceptor *a, size_t n)
{
    size_t ended = 0;

    LIST_EACH(at, &a->idle) {
        struct accepted *c = LIST_OWNER(at, struct accepted, node);

        if (ended == n)
            break;
        ended += c->ops->retire(c);
    }
    return ended;
}

struct pace_limits acceptor_body_pace(const struct acceptor *a)
{
    return (struct pace_limits){ a->body_timeout_ms, a->body_rate_min, a->rate_window_ms };
}

struct pace_limits acceptor_send_pace(const struct acceptor *a)
{
    return (struct pace_limits){ a->send_timeout_ms, a->send_rate_min, a->rate_window_ms };
}

size_t acceptor_count(const struct acceptor *a)
{
    return a->arriving.count + a->idle.count + a->busy.count;
}
