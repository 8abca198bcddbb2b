/* Happy Eyeballs: addresses of both families by turns, each with a head start of 250 ms before the
 * next one is tried beside it. */
#include "upstream/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/deadline.h"
#include "net/loop.h"
#include "upstream/connecthead.h"

enum {
    HEAD_START_MS = 250, /* RFC 8305 5: Connection Attempt Delay */
    TRIES_MAX = 16,      /* addresses tried in all */
    AT_ONCE_MAX = 4,     /* connections under way side by side */
};

struct dial {
    struct resolver *resolver;
    struct resolver_lookup lookup;
    struct tls_peer *tls;
    dial_done_fn *on_done;
    void *owner;
    struct deadline limit; /* over all */
    struct deadline next;  /* until the next address is tried */
    struct deferred start; /* of a literal */
    struct deferred_free deferred_free;
    struct conn *trying[AT_ONCE_MAX];
    bool tunnels[AT_ONCE_MAX]; /* the proxy has made the tunnel of that try */
    struct dial_proxy proxy;
    struct addr addrs[TRIES_MAX]; /* in the dial_order in which they are tried */
    size_t naddrs, tried;
    uint64_t timeout_ms;
    enum stream_error error; /* the most telling one so far */
    uint16_t port;
    bool http2, private_only, closed;
    char why[400];
    char host[]; /* of the service; behind its NUL the one to connect to: it, or the proxy */
};

static const char *dial_via(const struct dial *d)
{
    return d->proxy.host.n > 0 ? d->host + strlen(d->host) + 1 : d->host;
}

static void dial_try_next(struct dial *d);

static void free_dial(void *what)
{
    struct dial *d = what;

    tls_peer_unref(d->tls);
    free(d);
}

void dial_close(struct dial *d)
{
    if (!d || d->closed)
        return;
    d->closed = true;
    resolver_cancel(&d->lookup);
    deadline_close(&d->limit);
    deadline_close(&d->next);
    loop_undefer(&d->start);
    for (size_t i = 0; i < AT_ONCE_MAX; i++) {
        conn_close(d->trying[i]);
        d->trying[i] = NULL;
    }
    loop_free_later(&d->deferred_free, d, free_dial);
}

static void dial_finish(struct dial *d, struct conn *conn)
{
    dial_done_fn *on_done = d->on_done;
    void *owner = d->owner;

    dial_close(d);
    on_done(owner, conn, conn ? 0 : d->error, d->why);
}

/* A certificate error is more useful than a connection error, so later tries do not hide it. */
static void dial_note(
    struct dial *d, enum stream_error error, const struct addr *a, const char *what)
{
    struct sockaddr_storage sa;
    char text[ADDR_TEXT_MAX + 8];

    if (d->error == STREAM_E_CERTIFICATE || (d->error == STREAM_E_TLS && error == STREAM_E_CONNECT))
        return;
    d->error = error;
    addr_to_sockaddr(a, &sa);
    if (d->proxy.host.n > 0)
        snprintf(d->why, sizeof(d->why), "\"%.80s\" through the proxy \"%.80s\" at %s: %.170s",
            d->host, dial_via(d), addr_text((struct sockaddr *)&sa, text, sizeof(text)), what);
    else
        snprintf(d->why, sizeof(d->why), "\"%.100s\" at %s: %.200s", d->host,
            addr_text((struct sockaddr *)&sa, text, sizeof(text)), what);
}

static enum stream_error dial_meaning(const struct conn *c)
{
    switch (conn_error(c)) {
    case CONN_E_CERTIFICATE:
        return STREAM_E_CERTIFICATE;
    case CONN_E_TLS:
    case CONN_E_TRUNCATED:
        return STREAM_E_TLS;
    case CONN_E_REFUSED:
        return STREAM_E_ALERT;
    case CONN_E_MEMORY:
        return STREAM_E_MEMORY;
    default:
        return STREAM_E_CONNECT;
    }
}

static bool dial_any_trying(const struct dial *d)
{
    for (size_t i = 0; i < AT_ONCE_MAX; i++) {
        if (d->trying[i])
            return true;
    }
    return false;
}

static void dial_drop_try(struct dial *d, struct conn *c)
{
    for (size_t i = 0; i < AT_ONCE_MAX; i++) {
        if (d->trying[i] == c)
            d->trying[i] = NULL;
    }
    conn_close(c);
}

/* Accepts only an offered protocol: a peer that picks h2 unasked is refused. */
static bool dial_protocol_is_ours(const struct dial *d, const struct conn *c)
{
    struct str alpn = conn_alpn(c);

    return alpn.n == 0 || str_eq(alpn, STR("http/1.1")) || (d->http2 && str_eq(alpn, STR("h2")));
}

static void dial_win(struct dial *d, struct conn *c)
{
    for (size_t i = 0; i < AT_ONCE_MAX; i++) {
        if (d->trying[i] == c)
            d->trying[i] = NULL; /* the winner; dial_close() closes the others */
    }
    dial_finish(d, c);
}

static void dial_give_up(struct dial *d, struct conn *c, enum stream_error error, const char *why)
{
    dial_note(d, error, conn_peer(c), why);
    dial_drop_try(d, c);
    dial_try_next(d);
}

/* The proxy's tunnel stands: it is as the connection itself would be. */
static void dial_take_tunnel(struct dial *d, struct conn *c, bool *tunnel)
{
    SSL *ssl;

    *tunnel = true;
    if (!d->tls) {
        dial_win(d, c);
        return;
    }
    if (conn_input(c).n > 0) {
        dial_give_up(d, c, STREAM_E_PROXY, "it sent bytes into the tunnel before TLS began");
        return;
    }
    ssl = tls_peer_begin(d->tls, d->http2);
    if (!ssl || conn_begin_tls(c, ssl) < 0)
        dial_give_up(d, c, STREAM_E_MEMORY, "out of memory");
}

/* Asks the proxy, and reads its answer. */
static void dial_on_proxy(struct dial *d, struct conn *c, bool *tunnel, enum conn_event ev)
{
    struct connecthead_refusal no;
    ssize_t n;

    switch (ev) {
    case CONN_CONNECTED:
        if (connecthead_write(conn_output(c), str_of(d->host), d->port, d->proxy.authorization) < 0)
            dial_give_up(d, c, STREAM_E_MEMORY, "out of memory");
        else
            conn_written(c);
        break;
    case CONN_DATA:
        n = connecthead_read(conn_input(c), &no);
        if (n < 0)
            dial_give_up(d, c, no.error, no.why);
        else if (n > 0) {
            conn_consume(c, (size_t)n);
            dial_take_tunnel(d, c, tunnel);
        }
        break;
    case CONN_EOF:
        dial_give_up(
            d, c, STREAM_E_NO_WAY, "it closed the connection without an answer to CONNECT");
        break;
    case CONN_FAILED:
        dial_give_up(d, c, dial_meaning(c), conn_strerror(c));
        break;
    case CONN_DRAINED:
        break;
    }
}

static void dial_on_conn(void *owner, struct conn *c, enum conn_event ev)
{
    struct dial *d = owner;

    for (size_t i = 0; d->proxy.host.n > 0 && i < AT_ONCE_MAX; i++) {
        if (d->trying[i] == c && !d->tunnels[i]) {
            dial_on_proxy(d, c, &d->tunnels[i], ev);
            return;
        }
    }
    if (ev == CONN_CONNECTED && dial_protocol_is_ours(d, c)) {
        dial_win(d, c);
        return;
    }
    if (ev == CONN_CONNECTED)
        dial_note(d, STREAM_E_TLS, conn_peer(c), "the peer chose a protocol that was not offered");
    else if (ev == CONN_FAILED)
        dial_note(d, dial_meaning(c), conn_peer(c), conn_strerror(c));
    else
        return;
    dial_drop_try(d, c);
    dial_try_next(d);
}

/* Whether a try has reached TLS: then TCP is connected, and racing another address would gain
 * nothing. */
static bool dial_any_in_handshake(const struct dial *d)
{
    for (size_t i = 0; i < AT_ONCE_MAX; i++) {
        SSL *ssl = d->trying[i] ? conn_ssl(d->trying[i]) : NULL;

        if (ssl && !SSL_in_before(ssl))
            return true;
    }
    return false;
}

static void dial_on_next(void *owner)
{
    struct dial *d = owner;

    if (dial_any_in_handshake(d))
        deadline_set(&d->next, HEAD_START_MS);
    else
        dial_try_next(d);
}

/* Begins with one address. False if that failed at once. */
static bool dial_try_one(struct dial *d, size_t slot, struct addr *a)
{
    struct sockaddr_storage sa;
    socklen_t n;
    SSL *ssl = NULL;

    a->port = d->proxy.host.n > 0 ? d->proxy.port : d->port;
    n = addr_to_sockaddr(a, &sa);
    if (d->private_only && !addr_is_private((struct sockaddr *)&sa)) {
        dial_note(d, STREAM_E_CONNECT, a,
            "plain http goes to private addresses only (insecure = true allows it)");
        return false;
    }
    d->tunnels[slot] = false;
    if (d->tls && d->proxy.host.n == 0 && !(ssl = tls_peer_begin(d->tls, d->http2))) {
        dial_note(d, STREAM_E_MEMORY, a, "out of memory");
        return false;
    }
    d->trying[slot] = conn_open((struct sockaddr *)&sa, n, ssl, dial_on_conn, d);
    if (!d->trying[slot])
        dial_note(d, STREAM_E_CONNECT, a, strerror(errno));
    return d->trying[slot] != NULL;
}

static void dial_try_next(struct dial *d)
{
    size_t slot = 0;

    while (slot < AT_ONCE_MAX && d->trying[slot])
        slot++;
    while (slot < AT_ONCE_MAX && d->tried < d->naddrs) {
        if (dial_try_one(d, slot, &d->addrs[d->tried++])) {
            if (d->tried < d->naddrs)
                deadline_set(&d->next, HEAD_START_MS);
            return;
        }
    }
    if (slot < AT_ONCE_MAX && !dial_any_trying(d))
        dial_finish(d, NULL);
}

/* By turns, the family that the resolver puts first (usually IPv6) first. */
static void dial_order(struct dial *d, const struct addr *addrs, size_t n)
{
    size_t at[2] = { 0, 0 };
    uint16_t family[2];

    family[0] = n > 0 ? addrs[0].family : AF_INET6;
    family[1] = family[0] == AF_INET6 ? AF_INET : AF_INET6;
    for (int turn = 0; d->naddrs < TRIES_MAX && (at[0] < n || at[1] < n); turn = !turn) {
        while (at[turn] < n && addrs[at[turn]].family != family[turn])
            at[turn]++;
        if (at[turn] < n)
            d->addrs[d->naddrs++] = addrs[at[turn]++];
    }
}

static void dial_on_resolved(void *owner, const struct resolver_answer *a)
{
    struct dial *d = owner;

    if (a->n == 0) {
        d->error = STREAM_E_RESOLVE;
        snprintf(d->why, sizeof(d->why), "cannot resolve %s\"%.200s\": %.80s",
            d->proxy.host.n > 0 ? "the proxy " : "", dial_via(d), a->why);
        dial_finish(d, NULL);
        return;
    }
    dial_order(d, a->addrs, a->n);
    dial_try_next(d);
}

static void dial_on_start(void *owner)
{
    dial_try_next(owner);
}

static void dial_on_limit(void *owner)
{
    struct dial *d = owner;
    bool resolving = d->naddrs == 0;

    /* A certificate that was not accepted is the more useful answer. */
    if (d->error != STREAM_E_CERTIFICATE) {
        d->error = resolving ? STREAM_E_RESOLVE : STREAM_E_CONNECT_TIMEOUT;
        snprintf(d->why, sizeof(d->why), "%s \"%.200s\"%s took longer than %llu ms",
            resolving ? "resolving" : "connecting to", resolving ? dial_via(d) : d->host,
            d->proxy.host.n > 0 ? resolving ? ", the proxy," : " through the proxy" : "",
            (unsigned long long)d->timeout_ms);
    }
    dial_finish(d, NULL);
}

static bool dial_take_literal(struct dial *d)
{
    struct addr *a = &d->addrs[0];

    if (inet_pton(AF_INET, dial_via(d), a->ip) == 1)
        a->family = AF_INET;
    else if (inet_pton(AF_INET6, dial_via(d), a->ip) == 1)
        a->family = AF_INET6;
    else
        return false;
    d->naddrs = 1;
    return true;
}

struct dial *dial_open(
    struct resolver *r, const struct dial_target *t, dial_done_fn *on_done, void *owner)
{
    struct dial *d = calloc(1, sizeof(*d) + t->host.n + 1 + t->proxy.host.n + 1);

    if (!d)
        return NULL;
    memcpy(d->host, t->host.p, t->host.n);
    if (t->proxy.host.n > 0)
        memcpy(d->host + t->host.n + 1, t->proxy.host.p, t->proxy.host.n);
    d->proxy = t->proxy;
    d->resolver = r;
    d->port = t->port;
    d->http2 = t->http2;
    d->private_only = t->private_only;
    d->timeout_ms = t->timeout_ms;
    d->on_done = on_done;
    d->owner = owner;
    d->error = STREAM_E_CONNECT;
    deadline_init(&d->limit, dial_on_limit, d);
    deadline_init(&d->next, dial_on_next, d);
    if (dial_take_literal(d)) {
        loop_defer(&d->start, dial_on_start, d);
    } else if (resolver_ask(r, &d->lookup, str_of(dial_via(d)), dial_on_resolved, d) < 0) {
        free(d);
        return NULL;
    }
    deadline_set(&d->limit, t->timeout_ms);
    if (t->tls)
        d->tls = tls_peer_ref(t->tls);
    return d;
}
