/* A connection's first bytes, or its TLS handshake, tell its version. */
#include "http/arrival.h"

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

static void arrival_free(void *what)
{
    free(what);
}

/* It ends, its conn does not. */
static struct conn *arrival_leave(struct arrival *r)
{
    struct conn *c = r->conn;

    r->closed = true;
    r->conn = NULL;
    list_remove(&r->accepted.node);
    deadline_close(&r->deadline);
    loop_free_later(&r->deferred_free, r, arrival_free);
    return c;
}

static void arrival_give_up(struct arrival *r)
{
    conn_close(arrival_leave(r));
}

static void arrival_refused(struct conn *c, const char *why)
{
    char text[ADDR_TEXT_MAX];

    counter_add(COUNTER_TLS_FAILED, 1);
    log_debug(NULL, "TLS handshake with %s failed: %s", addr_ip_text(conn_peer(c), text), why);
}

static void arrival_on_conn(void *owner, struct conn *c, enum conn_event ev)
{
    struct arrival *r = owner;
    struct acceptor *a = r->acceptor;
    struct str in = conn_input(c);

    switch (ev) {
    case CONN_CONNECTED:
        counter_add(COUNTER_TLS_HANDSHAKES, 1);
        counter_add(COUNTER_TLS_RESUMED, SSL_session_reused(conn_ssl(c)) == 1);
        if (str_eq(conn_alpn(c), STR("h2")))
            h2_server_open(arrival_leave(r), a);
        else
            h1_server_open(arrival_leave(r), a);
        break;
    case CONN_DATA:
        if (conn_has_tls(c))
            break;
        if (str_starts_with(in, preface))
            h2_server_open(arrival_leave(r), a);
        else if (!str_starts_with(preface, in))
            h1_server_open(arrival_leave(r), a);
        break;
    case CONN_DRAINED:
        break;
    case CONN_FAILED:
        if (conn_has_tls(c))
            arrival_refused(c, conn_strerror(c));
        arrival_give_up(r);
        break;
    case CONN_EOF:
        arrival_give_up(r);
        break;
    }
}

static void arrival_on_deadline(void *owner)
{
    struct arrival *r = owner;

    counter_add(COUNTER_CLIENTS_TOO_SLOW, 1);
    if (conn_has_tls(r->conn))
        arrival_refused(r->conn, "it took longer than handshake_timeout");
    arrival_give_up(r);
}

/* The handshake, or the first bytes, may be on their way. */
static void arrival_drain(struct accepted *c)
{
}

static void arrival_cut(struct accepted *c)
{
    arrival_give_up(LIST_OWNER(c, struct arrival, accepted));
}

static const struct accepted_ops arrival_ops = { .drain = arrival_drain, .cut = arrival_cut };

int arrival_take(struct acceptor *a, struct conn *conn, bool http2)
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
    deadline_init(&r->deadline, arrival_on_deadline, r);
    deadline_set(&r->deadline, tls ? a->handshake_timeout_ms : a->header_timeout_ms);
    list_push(&a->arriving, &r->accepted.node);
    conn_set_owner(conn, arrival_on_conn, r);
    return 0;
}
