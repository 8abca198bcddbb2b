/* Endpoints against services of the test's own, on the same loop: who gets which connection, how
 * many are made, and what becomes of those that wait. */
#include "upstream/endpoints.h"

#include <check.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conffile.h"
#include "h2peer.h"
#include "net/conn.h"
#include "unit.h"
#include "world.h"

/* An HTTP/1.1 connection of the service: answers each GET after the other. */
struct h1conn {
    struct conn *conn;
    struct h1conn *next;
    bool ended;
};

static struct {
    int fd;
    unsigned port;
    ev_io io;
    SSL_CTX *tls;     /* NULL: plain */
    bool h2, no_alpn; /* speaks HTTP/2 if it is offered; chooses nothing */
    bool hold;        /* does not answer by itself */
    bool deaf;        /* accepts, and that is all */
    uint32_t max_streams;
    size_t accepted, resumed, requests;
    struct h2peer *peers; /* newest first */
    struct h1conn *h1conns;
    int deaf_fds[16];
    size_t ndeaf;
} service;

static struct conf *conf;
static struct endpoints *endpoints;

/* A turn and what came of it. */
struct call {
    struct endpoint_turn turn;
    struct stream *s;
    enum stream_error error;
    unsigned status;
    size_t bytes, answers;
    bool reused, http2, over;
    char why[400];
    struct call *cancel_too;
};

/* The service */

static void answer_h2(struct h2peer *p, int32_t id)
{
    service.requests++;
    if (!service.hold)
        h2peer_respond(p, id, "200", NULL, 0, 100, false);
}

static void answer_h1(struct h1conn *h)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    struct str in = conn_input(h->conn);

    if (in.n < 4 || memcmp(in.p + in.n - 4, "\r\n\r\n", 4) != 0)
        return;
    conn_consume(h->conn, in.n);
    service.requests++;
    if (!service.hold)
        conn_write(h->conn, text, sizeof(text) - 1);
}

static void on_h1conn(void *owner, struct conn *c, enum conn_event ev)
{
    struct h1conn *h = owner;

    if (ev == CONN_DATA)
        answer_h1(h);
    if (ev == CONN_EOF || ev == CONN_FAILED) {
        h->ended = true;
        conn_close(c);
    }
}

static int choose(SSL *ssl, const unsigned char **out, unsigned char *outlen,
    const unsigned char *in, unsigned inlen, void *arg)
{
    static const unsigned char both[] = "\x02h2\x08http/1.1";
    const unsigned char *mine = service.h2 ? both : both + 3;

    if (service.no_alpn || SSL_select_next_proto((unsigned char **)out, outlen, mine,
                               service.h2 ? 12 : 9, in, inlen) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    return SSL_TLSEXT_ERR_OK;
}

static void take_connection(struct conn *c)
{
    if (str_eq(conn_alpn(c), STR("h2"))) {
        struct h2peer *p =
            h2peer_open(c, &(struct h2peer_options){ .max_streams = service.max_streams });

        p->on_request = answer_h2;
        p->next = service.peers;
        service.peers = p;
        h2peer_flush(p);
    } else {
        struct h1conn *h = calloc(1, sizeof(*h));

        h->conn = c;
        h->next = service.h1conns;
        service.h1conns = h;
        conn_set_owner(c, on_h1conn, h);
    }
}

static void on_shaking(void *owner, struct conn *c, enum conn_event ev)
{
    if (ev == CONN_CONNECTED) {
        service.resumed += SSL_session_reused(conn_ssl(c)) != 0;
        take_connection(c);
    } else {
        conn_close(c);
    }
}

static void on_accept(struct ev_loop *ev, ev_io *w, int revents)
{
    struct sockaddr_storage sa = { .ss_family = AF_INET };
    int fd = accept4(service.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct conn *c;

    if (fd < 0)
        return;
    service.accepted++;
    if (service.deaf) {
        service.deaf_fds[service.ndeaf++] = fd;
        return;
    }
    c = conn_accept(
        fd, (struct sockaddr *)&sa, service.tls ? SSL_new(service.tls) : NULL, on_shaking, NULL);
    if (!service.tls)
        take_connection(c);
}

static void stop_accepting(void)
{
    if (service.fd < 0)
        return;
    ev_io_stop(loop_ev(), &service.io);
    close(service.fd);
    service.fd = -1;
}

/* Certificates: each its own authority. `san` as openssl.cnf has it, or NULL: only a CN that says
 * localhost. */
static void put_certificate(const char *name, const char *san, bool expired)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    char file[64];
    FILE *f;

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -7200);
    X509_gmtime_adj(X509_getm_notAfter(x), expired ? -3600 : 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
        (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    if (san) {
        X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);

        X509_add_ext(x, ext, -1);
        X509_EXTENSION_free(ext);
    }
    ck_assert_int_gt(X509_sign(x, key, EVP_sha256()), 0);
    snprintf(file, sizeof(file), "%s.crt", name);
    f = fopen(conffile_path(file), "w");
    ck_assert(f && PEM_write_X509(f, x) == 1);
    fclose(f);
    snprintf(file, sizeof(file), "%s.key", name);
    f = fopen(conffile_path(file), "w");
    ck_assert(f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void serve_plain(void)
{
    memset(&service, 0, sizeof(service));
    service.fd = peer_listen_tcp(&service.port);
    service.max_streams = 100;
    ev_io_init(&service.io, on_accept, service.fd, EV_READ);
    ev_io_start(loop_ev(), &service.io);
}

static void serve_tls(const char *san, bool expired)
{
    serve_plain();
    put_certificate("service", san, expired);
    service.tls = SSL_CTX_new(TLS_server_method());
    ck_assert_int_eq(
        SSL_CTX_use_certificate_file(service.tls, conffile_path("service.crt"), SSL_FILETYPE_PEM),
        1);
    ck_assert_int_eq(
        SSL_CTX_use_PrivateKey_file(service.tls, conffile_path("service.key"), SSL_FILETYPE_PEM),
        1);
    SSL_CTX_set_alpn_select_cb(service.tls, choose, NULL);
    service.h2 = true;
}

static void serve_no_more(void)
{
    stop_accepting();
    while (service.peers) {
        struct h2peer *p = service.peers;

        service.peers = p->next;
        h2peer_close(p);
    }
    while (service.h1conns) {
        struct h1conn *h = service.h1conns;

        service.h1conns = h->next;
        if (!h->ended)
            conn_close(h->conn);
        free(h);
    }
    for (size_t i = 0; i < service.ndeaf; i++)
        close(service.deaf_fds[i]);
    SSL_CTX_free(service.tls);
}

/* Origins */

/* A conf with one upstream; `options` go into its section. */
static struct conf *load(const char *scheme, const char *host, const char *options)
{
    char text[2000];

    snprintf(text, sizeof(text),
        "listen \"127.0.0.1:1\" { }\n"
        "upstream \"up\" {\n origin = \"%s://%s:%u\"\n %s%s%s\n %s\n}\n"
        "route \"/\" { upstream = \"up\" }\n",
        scheme, host, service.port, service.tls ? "ca_file = \"" : "",
        service.tls ? conffile_path("service.crt") : "", service.tls ? "\"" : "", options);
    return conffile_must_load(text);
}

static void open_origins(const char *host, const char *options)
{
    conf = load(service.tls ? "https" : "http", host, options);
    endpoints = endpoints_open(conf);
    ck_assert_ptr_nonnull(endpoints);
}

static struct endpoint *up(void)
{
    struct endpoint *o = endpoints_find(endpoints, &conf->upstreams[0], &conf->upstreams[0].own);

    ck_assert_ptr_nonnull(o);
    return o;
}

static void close_all(void)
{
    endpoints_close(endpoints);
    conf_unref(conf);
    serve_no_more();
}

static void on_stream(void *owner, struct stream *s, const struct message *m)
{
    struct call *c = owner;

    if (m->kind == MESSAGE_HEAD)
        c->status = m->head->status;
    if (m->kind == MESSAGE_DATA)
        c->bytes += m->data.n;
    if (m->kind == MESSAGE_FAILED)
        c->error = m->cause;
    if (m->kind == MESSAGE_FAILED || m->kind == MESSAGE_END) {
        c->over = true;
        c->s = NULL;
        stream_close(s);
        endpoint_leave(&c->turn);
    }
}

static const struct stream_handler handler = { .on_message = on_stream };

static void on_answer(void *owner, struct stream *s, enum stream_error error, const char *why)
{
    const struct head head = {
        .method = STR("GET"), .target = STR("/"), .authority = STR("localhost"), .minor = 1
    };
    struct call *c = owner;

    c->answers++;
    ck_assert_uint_eq(c->answers, 1);
    ck_assert((c->turn.endpoint != NULL) == (s != NULL)); /* it uses it, or the turn is over */
    if (c->cancel_too)
        endpoint_leave(&c->cancel_too->turn);
    if (!s) {
        c->error = error;
        c->over = true;
        snprintf(c->why, sizeof(c->why), "%s", why);
        return;
    }
    c->s = s;
    c->reused = s->reused;
    c->http2 = s->http2;
    stream_set_owner(s, &handler, c);
    stream_send_head(s, &head, true);
}

static void ask(struct call *c)
{
    *c = (struct call){ .turn = { .on_answer = on_answer, .owner = c },
        .cancel_too = c->cancel_too };
    endpoint_ask(up(), &c->turn);
    ck_assert_uint_eq(c->answers, 0); /* never from within */
}

static void ask_all(struct call *c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ask(&c[i]);
}

static size_t count_good(const struct call *c, size_t n)
{
    size_t good = 0;

    for (size_t i = 0; i < n; i++)
        good += c[i].over && c[i].status == 200 && !c[i].error;
    return good;
}

static size_t count_over(const struct call *c, size_t n)
{
    size_t over = 0;

    for (size_t i = 0; i < n; i++)
        over += c[i].over;
    return over;
}

static void close_calls(struct call *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (c[i].s)
            stream_close(c[i].s);
        if (c[i].turn.endpoint)
            endpoint_leave(&c[i].turn);
    }
}

START_TEST(serves_wishes_over_plain_http)
{
    struct call c[10] = { 0 };

    serve_plain();
    open_origins(_i == 0 ? "127.0.0.1" : "localhost", "max_connections = 3");
    ask_all(c, 10);
    WORLD_UNTIL(count_good(c, 10) == 10);
    ck_assert_uint_eq(service.accepted, 3);
    ck_assert_uint_eq(service.requests, 10);
    ck_assert(!c[0].http2 && !c[0].reused);
    ck_assert(c[9].reused);
    world_settle();
    ck_assert_uint_eq(endpoint_counts(up()).connections, 3);
    ck_assert_uint_eq(endpoint_counts(up()).streams, 0);
    close_all();
}
END_TEST

START_TEST(closes_what_was_not_used_for_long)
{
    struct call c = { 0 };

    if (_i == 0)
        serve_plain();
    else
        serve_tls("DNS:localhost", false);
    open_origins("localhost", "keep_alive_timeout = \"50ms\"");
    ask(&c);
    WORLD_UNTIL(c.over);
    ck_assert_uint_eq(c.status, 200);
    WORLD_UNTIL(endpoint_counts(up()).connections == 0);
    WORLD_UNTIL(_i == 0 ? service.h1conns->ended : service.peers->ended);
    ask(&c);
    WORLD_UNTIL(c.over);
    ck_assert_uint_eq(c.status, 200);
    ck_assert_uint_eq(service.accepted, 2);
    close_all();
}
END_TEST

START_TEST(many_calls_share_one_connection)
{
    static struct call c[100];

    serve_tls("DNS:localhost", false);
    service.hold = true;
    open_origins("localhost", "streams_per_connection = 100");
    ask_all(c, 100);
    WORLD_UNTIL(service.requests == 100);
    ck_assert_uint_eq(service.accepted, 1); /* nobody dialled beside the first */
    ck_assert_uint_eq(service.peers->open, 100);
    for (int i = 0; i < 100; i++)
        h2peer_respond(service.peers, 1 + 2 * i, "200", NULL, 0, 10, false);
    WORLD_UNTIL(count_good(c, 100) == 100);
    ck_assert(c[0].http2);
    close_all();
}
END_TEST

/* One connection that breaks takes few calls with it. */
START_TEST(calls_are_spread_over_connections)
{
    static struct call c[100];

    serve_tls("DNS:localhost", false);
    service.hold = true;
    open_origins("localhost", "");
    ask_all(c, 100);
    WORLD_UNTIL(service.requests == 100);
    ck_assert_uint_eq(service.accepted, 4); /* 32 each */
    close_calls(c, 100);
    close_all();
}
END_TEST

/* A connection of the service with `n` calls on it. */
static struct h2peer *peer_with(size_t n)
{
    struct h2peer *p = service.peers;

    while (p && p->open != n)
        p = p->next;
    ck_assert_ptr_nonnull(p);
    return p;
}

/* The next one that breaks takes half as many. */
START_TEST(connections_that_break_are_shared_by_fewer)
{
    static struct call c[132];

    serve_tls("DNS:localhost", false);
    service.hold = true;
    open_origins("localhost", "");
    ask_all(c, 100);
    WORLD_UNTIL(service.requests == 100);
    ck_assert_uint_eq(service.accepted, 4);
    h2peer_end(peer_with(32), true);
    WORLD_UNTIL(count_over(c, 100) == 32);
    ck_assert_uint_eq(endpoint_counts(up()).share, 16);
    ask_all(c + 100, 32);
    WORLD_UNTIL(service.requests == 132);
    ck_assert_uint_eq(service.accepted, 6); /* 12 beside the 4 of the last one, 16, and 4 */
    h2peer_end(peer_with(16), true);
    WORLD_UNTIL(count_over(c, 132) == 48);
    ck_assert_uint_eq(endpoint_counts(up()).share, 8);
    close_calls(c, 132);
    close_all();
}
END_TEST

/* A service that is restarted breaks all of them. */
START_TEST(connections_that_break_together_count_once)
{
    static struct call c[100];

    serve_tls("DNS:localhost", false);
    service.hold = true;
    open_origins("localhost", "");
    ask_all(c, 100);
    WORLD_UNTIL(service.requests == 100);
    for (struct h2peer *p = service.peers; p; p = p->next)
        h2peer_end(p, true);
    WORLD_UNTIL(count_over(c, 100) == 100);
    ck_assert(endpoint_counts(up()).share == 16 || endpoint_counts(up()).share == 2);
    close_all();
}
END_TEST

START_TEST(connections_that_hold_again_are_shared_by_more)
{
    static struct call c[100];

    serve_tls("DNS:localhost", false);
    service.hold = true;
    open_origins("localhost", "streams_recovery_interval = \"200ms\"");
    ask_all(c, 100);
    WORLD_UNTIL(service.requests == 100);
    h2peer_end(peer_with(32), true);
    WORLD_UNTIL(count_over(c, 100) == 32);
    ck_assert_uint_eq(endpoint_counts(up()).share, 16);
    WORLD_UNTIL(endpoint_counts(up()).share == 32);
    close_calls(c, 100);
    close_all();
}
END_TEST

/* Rather a shared fate than a call that waits. */
START_TEST(the_limit_of_connections_goes_before_their_share)
{
    static struct call c[104];

    serve_tls("DNS:localhost", false);
    service.hold = true;
    open_origins("localhost", "max_connections = 2");
    ask_all(c, 64);
    WORLD_UNTIL(service.requests == 64);
    h2peer_end(service.peers, true);
    WORLD_UNTIL(count_over(c, 64) == 32);
    ck_assert_uint_eq(endpoint_counts(up()).share, 16);
    ask_all(c + 64, 30);
    WORLD_UNTIL(service.requests == 94);
    ck_assert_uint_eq(service.accepted, 3);
    ck_assert_uint_ge(endpoint_counts(up()).share, 30);
    ask_all(c + 94, 10); /* no more than the conf allows */
    WORLD_UNTIL(service.requests == 96);
    ck_assert_uint_eq(endpoint_counts(up()).share, 32);
    ck_assert_uint_eq(endpoint_counts(up()).waiting, 8);
    close_calls(c, 104);
    close_all();
}
END_TEST

/* Its calls are finished; what comes goes to a new one. */
START_TEST(an_old_connection_retires)
{
    struct call a = { 0 }, b = { 0 };
    uint64_t asked_ms;

    serve_tls("DNS:localhost", false);
    service.hold = true;
    open_origins("localhost", "connection_max_age = \"10ms\"");
    ask(&a);
    WORLD_UNTIL(service.requests == 1);
    asked_ms = loop_now_ms();
    WORLD_UNTIL(loop_now_ms() >= asked_ms + 20);
    ask(&b);
    WORLD_UNTIL(service.requests == 2);
    ck_assert_uint_eq(service.accepted, 2);
    h2peer_respond(service.peers->next, 1, "200", NULL, 0, 10, false);
    h2peer_respond(service.peers, 1, "200", NULL, 0, 10, false);
    WORLD_UNTIL(count_good(&a, 1) && count_good(&b, 1));
    close_all();
}
END_TEST

/* A connection that was silent may be dead: it must answer a ping before it gets a call. */
START_TEST(an_unused_connection_is_asked_before_it_is_used)
{
    struct call a = { 0 }, b = { 0 };
    uint64_t over_ms;

    serve_tls("DNS:localhost", false);
    open_origins("localhost", _i == 0 ? "probe_after = \"5ms\" probe_timeout = \"60s\""
                                      : "probe_after = \"5ms\" probe_timeout = \"20ms\"");
    ask(&a);
    WORLD_UNTIL(count_good(&a, 1));
    over_ms = loop_now_ms();
    WORLD_UNTIL(loop_now_ms() >= over_ms + 50);
    if (_i == 1)
        conn_pause(service.peers->conn, true); /* it reads nothing any more */
    ask(&b);
    WORLD_UNTIL(count_good(&b, 1));
    ck_assert_uint_eq(service.accepted, _i == 0 ? 1 : 2);
    close_all();
}
END_TEST

START_TEST(the_101st_call_gets_another_connection_or_waits)
{
    static struct call c[250];

    serve_tls("DNS:localhost", false);
    service.hold = true;
    open_origins("localhost", "max_connections = 2 streams_per_connection = 1000");
    ask_all(c, 101);
    WORLD_UNTIL(service.requests == 101);
    ck_assert_uint_eq(service.accepted, 2);
    ask_all(c + 101, 149);
    world_settle();
    WORLD_UNTIL(service.requests == 200);
    world_settle();
    ck_assert_uint_eq(service.requests, 200);
    ck_assert_uint_eq(service.accepted, 2);
    ck_assert_uint_eq(endpoint_counts(up()).waiting, 50);
    ck_assert_uint_eq(endpoint_counts(up()).streams, 200);
    /* First come, first served. */
    h2peer_respond(service.peers, 1, "200", NULL, 0, 10, false);
    WORLD_UNTIL(service.requests == 201);
    ck_assert_uint_eq(c[200].answers, 1);
    ck_assert_uint_eq(c[201].answers, 0);
    service.hold = false;
    for (struct h2peer *p = service.peers; p; p = p->next) {
        for (int32_t id = p == service.peers ? 3 : 1; id <= 199; id += 2)
            h2peer_respond(p, id, "200", NULL, 0, 10, false);
    }
    WORLD_UNTIL(count_over(c, 250) >= 249);
    close_calls(c, 250);
    close_all();
}
END_TEST

START_TEST(makes_as_many_connections_as_the_wishes_need)
{
    static struct call c[100];

    serve_tls("DNS:localhost", false);
    service.max_streams = 10;
    service.hold = true;
    open_origins("localhost", "");
    ask_all(c, 100);
    WORLD_UNTIL(service.requests == 100);
    ck_assert_uint_eq(service.accepted, 10);
    close_calls(c, 100);
    close_all();
}
END_TEST

START_TEST(a_peer_that_allows_no_stream_is_not_dialled_for_ever)
{
    struct call c[20] = { 0 };
    nghttp2_settings_entry none = { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0 };

    serve_tls("DNS:localhost", false);
    open_origins("localhost", "");
    ask(&c[0]);
    WORLD_UNTIL(c[0].over);
    nghttp2_submit_settings(service.peers->library, 0, &none, 1);
    h2peer_flush(service.peers);
    world_settle();
    ask_all(c, 20);
    world_settle();
    ck_assert_uint_eq(service.accepted, 1);
    ck_assert_uint_eq(endpoint_counts(up()).waiting, 20);
    none.value = 5;
    nghttp2_submit_settings(service.peers->library, 0, &none, 1);
    h2peer_flush(service.peers);
    WORLD_UNTIL(count_good(c, 20) == 20);
    close_all();
}
END_TEST

START_TEST(falls_back_to_http1_where_alpn_says_so)
{
    struct call c[5] = { 0 };

    serve_tls("DNS:localhost", false);
    if (_i == 0)
        service.h2 = false;
    if (_i == 1)
        service.no_alpn = true;
    open_origins("localhost", _i == 2 ? "http2 = false" : "");
    ask_all(c, 5);
    WORLD_UNTIL(count_good(c, 5) == 5);
    ck_assert(!c[0].http2);
    ck_assert_uint_eq(service.accepted, 5); /* side by side, once that is known */
    close_all();
}
END_TEST

/* Certificates that must not be accepted. */
static const struct {
    const char *host, *san;
    bool expired;
    const char *why; /* NULL: accepted */
} certificates[] = {
    { "localhost", "DNS:localhost", false, NULL },
    { "localhost", "DNS:other, DNS:localhost", false, NULL },
    { "127.0.0.1", "IP:127.0.0.1", false, NULL },
    { "localhost", "DNS:other", false, "hostname mismatch" },
    { "localhost", "DNS:*.localhost", false, "hostname mismatch" },
    { "localhost", "DNS:l*", false, "hostname mismatch" },
    { "localhost", "DNS:localhost", true, "expired" },
    { "localhost", NULL, false, "hostname mismatch" }, /* a CN is no name */
    { "127.0.0.1", "DNS:127.0.0.1", false, "IP address mismatch" },
    { "127.0.0.1", "IP:127.0.0.2", false, "IP address mismatch" },
    { "localhost", "IP:127.0.0.1", false, "hostname mismatch" },
};

START_TEST(verifies_the_certificate)
{
    struct call c[3] = { 0 };

    serve_tls(certificates[_i].san, certificates[_i].expired);
    open_origins(certificates[_i].host, "");
    ask_all(c, 3);
    WORLD_UNTIL(count_over(c, 3) == 3);
    if (!certificates[_i].why) {
        ck_assert_uint_eq(count_good(c, 3), 3);
    } else {
        for (int i = 0; i < 3; i++) {
            ck_assert_int_eq(c[i].error, STREAM_E_CERTIFICATE);
            ck_assert_msg(strstr(c[i].why, certificates[_i].why) != NULL, "%s", c[i].why);
        }
        ck_assert_uint_eq(service.requests, 0);
    }
    close_all();
}
END_TEST

START_TEST(trusts_only_the_authorities_it_was_told)
{
    struct call c = { 0 };

    serve_tls("DNS:localhost", false);
    open_origins("localhost", "");
    /* The service changes to a certificate that nobody vouches for. */
    put_certificate("service", "DNS:localhost", false);
    SSL_CTX_use_certificate_file(service.tls, conffile_path("service.crt"), SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(service.tls, conffile_path("service.key"), SSL_FILETYPE_PEM);
    ask(&c);
    WORLD_UNTIL(c.over);
    ck_assert_int_eq(c.error, STREAM_E_CERTIFICATE);
    close_all();
}
END_TEST

START_TEST(resumes_sessions)
{
    struct call c = { 0 };

    serve_tls("DNS:localhost", false);
    SSL_CTX_set_max_proto_version(service.tls, _i == 1 ? TLS1_2_VERSION : TLS1_3_VERSION);
    service.h2 = _i != 2;
    open_origins("localhost", _i == 2 ? "" : "keep_alive_timeout = \"20ms\"");
    for (int round = 0; round < 3; round++) {
        ask(&c);
        WORLD_UNTIL(c.over);
        ck_assert_uint_eq(c.status, 200);
        /* However the connection before it ended. */
        if (_i == 2) {
            conn_reset(service.h1conns->conn);
            service.h1conns->ended = true;
        }
        WORLD_UNTIL(endpoint_counts(up()).connections == 0);
    }
    ck_assert_uint_eq(service.accepted, 3);
    ck_assert_uint_eq(service.resumed, 2);
    close_all();
}
END_TEST

START_TEST(a_refused_connection_answers_each_wish_once)
{
    struct call c[20] = { 0 };
    bool tls = _i == 1;

    if (tls)
        serve_tls("DNS:localhost", false);
    else
        serve_plain();
    stop_accepting();
    open_origins("localhost", "max_connections = 4");
    ask_all(c, 20);
    WORLD_UNTIL(count_over(c, 20) == 20);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(c[i].error, STREAM_E_CONNECT);
        ck_assert_ptr_nonnull(strstr(c[i].why, "refused"));
    }
    world_settle();
    ck_assert_uint_eq(endpoint_counts(up()).connections, 0);
    close_all();
}
END_TEST

START_TEST(connecting_has_a_limit)
{
    struct call c[3] = { 0 };

    serve_tls("DNS:localhost", false);
    service.deaf = true;
    open_origins("localhost", "connect_timeout = \"100ms\"");
    ask_all(c, 3);
    WORLD_UNTIL(count_over(c, 3) == 3);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(c[i].error, STREAM_E_CONNECT_TIMEOUT);
    close_all();
}
END_TEST

START_TEST(plain_http_stays_at_home)
{
    struct call c = { 0 };

    serve_plain();
    service.port = 80;
    /* What the conf refuses as a literal a name can still lead to: checked once more when the
     * address is known. */
    conf = load("http", "localhost", "");
    conf->upstreams[0].own.origin = STR("http://192.0.2.1");
    conf->upstreams[0].own.host = STR("192.0.2.1");
    endpoints = endpoints_open(conf);
    ask(&c);
    WORLD_UNTIL(c.over);
    ck_assert_int_eq(c.error, STREAM_E_CONNECT);
    ck_assert_ptr_nonnull(strstr(c.why, "private"));
    close_all();
}
END_TEST

START_TEST(a_name_without_address_is_told)
{
    struct call c[2] = { 0 };

    serve_tls("DNS:localhost", false);
    open_origins("name.invalid", "connect_timeout = \"2s\"");
    ask_all(c, 2);
    WORLD_UNTIL(count_over(c, 2) == 2);
    ck_assert_int_eq(c[0].error, STREAM_E_RESOLVE);
    ck_assert_int_eq(c[1].error, STREAM_E_RESOLVE);
    ck_assert_ptr_nonnull(strstr(c[0].why, "name.invalid"));
    close_all();
}
END_TEST

START_TEST(cancelled_wishes_hear_nothing)
{
    struct call c[4] = { 0 };

    serve_tls("DNS:localhost", false);
    open_origins("localhost", "");
    c[1].cancel_too = &c[2]; /* from within another's answer */
    ask_all(c, 4);
    endpoint_leave(&c[0].turn);
    WORLD_UNTIL(c[1].over && c[3].over);
    ck_assert_uint_eq(c[0].answers, 0);
    ck_assert_uint_eq(c[2].answers, 0);
    ck_assert_uint_eq(count_good(c, 4), 2);
    endpoint_leave(&c[0].turn); /* idempotent */
    close_all();
}
END_TEST

START_TEST(goes_round_a_connection_that_is_going)
{
    struct call c[3] = { 0 };
    struct h2peer *first;

    serve_tls("DNS:localhost", false);
    service.hold = true;
    open_origins("localhost", "max_connections = 1"); /* one that is going does not count */
    ask_all(c, 2);
    WORLD_UNTIL(service.requests == 2);
    first = service.peers;
    nghttp2_submit_goaway(first->library, 0, 1, NGHTTP2_NO_ERROR, NULL, 0);
    h2peer_flush(first);
    WORLD_UNTIL(c[1].over);
    ck_assert_int_eq(c[1].error, STREAM_E_REFUSED);
    service.hold = false;
    ask(&c[2]);
    WORLD_UNTIL(c[2].over);
    ck_assert_uint_eq(c[2].status, 200);
    ck_assert_uint_eq(service.accepted, 2);
    ck_assert(!c[0].over);
    h2peer_respond(first, 1, "200", NULL, 0, 10, false);
    WORLD_UNTIL(c[0].over);
    ck_assert_uint_eq(c[0].status, 200);
    WORLD_UNTIL(endpoint_counts(up()).connections == 1);
    close_all();
}
END_TEST

START_TEST(wishes_wait_for_what_works_when_dialling_fails)
{
    struct call c[4] = { 0 };

    serve_tls("DNS:localhost", false);
    service.max_streams = 2;
    service.hold = true;
    open_origins("localhost", "");
    ask_all(c, 2);
    WORLD_UNTIL(service.requests == 2);
    stop_accepting();
    ask_all(c + 2, 2);
    world_settle();
    world_settle();
    ck_assert_uint_eq(c[2].answers + c[3].answers, 0);
    service.hold = false;
    h2peer_respond(service.peers, 1, "200", NULL, 0, 10, false);
    h2peer_respond(service.peers, 3, "200", NULL, 0, 10, false);
    WORLD_UNTIL(count_good(c, 4) == 4);
    close_all();
}
END_TEST

START_TEST(and_hear_of_it_when_that_is_gone_too)
{
    struct call c[3] = { 0 };

    serve_tls("DNS:localhost", false);
    service.max_streams = 1;
    service.hold = true;
    open_origins("localhost", "");
    ask(&c[0]);
    WORLD_UNTIL(service.requests == 1);
    stop_accepting();
    ask_all(c + 1, 2);
    world_settle();
    h2peer_end(service.peers, true);
    WORLD_UNTIL(count_over(c, 3) == 3);
    ck_assert_int_eq(c[0].error, STREAM_E_TERMINATED);
    ck_assert_int_eq(c[1].error, STREAM_E_CONNECT);
    ck_assert_int_eq(c[2].error, STREAM_E_CONNECT);
    close_all();
}
END_TEST

/* Takes a new conf into use, as SIGHUP does. */
static void reload(struct conf *next)
{
    char why[256];

    ck_assert_msg(endpoints_prepare(endpoints, next, why, sizeof(why)) == 0, "%s", why);
    endpoints_commit(endpoints);
}

START_TEST(a_reload_drains_connections)
{
    struct call c[3] = { 0 };
    struct conf *next;

    serve_tls("DNS:localhost", false);
    service.hold = true;
    open_origins("localhost", "");
    ask(&c[0]);
    WORLD_UNTIL(service.requests == 1);
    next = load("https", "localhost", "first_byte_timeout = \"1s\" max_connections = 7");
    reload(next);
    conf_unref(conf);
    conf = next;
    ask(&c[1]);
    WORLD_UNTIL(service.requests == 2);
    ck_assert_uint_eq(service.accepted, 2);
    h2peer_respond(service.peers, 1, "200", NULL, 0, 10, false);
    h2peer_respond(service.peers->next, 1, "200", NULL, 0, 10, false);
    WORLD_UNTIL(count_good(c, 2) == 2);
    close_all();
}
END_TEST

START_TEST(a_reload_lets_what_it_drops_finish)
{
    struct call c[4] = { 0 };
    struct conf *next;

    serve_tls("DNS:localhost", false);
    service.hold = true;
    open_origins("localhost", "");
    ask(&c[0]);
    WORLD_UNTIL(service.requests == 1);
    next = load("https", "localhost", "http2 = false"); /* another origin by that */
    ask(&c[1]);                                         /* a turn that waits */
    reload(next);
    WORLD_UNTIL(service.requests == 2);
    /* An exchange that began under the old snapshot still finds its origin. */
    ask(&c[2]);
    WORLD_UNTIL(service.requests == 3);
    ck_assert_uint_eq(service.accepted, 1);
    for (int i = 0; i < 3; i++)
        h2peer_respond(service.peers, 1 + 2 * i, "200", NULL, 0, 10, false);
    WORLD_UNTIL(count_good(c, 3) == 3);
    WORLD_UNTIL(service.peers->ended); /* and then it is closed */
    /* Later than that, too: then it is made once more. */
    service.hold = false;
    ask(&c[3]);
    WORLD_UNTIL(c[3].over);
    ck_assert_uint_eq(c[3].status, 200);
    ck_assert(c[3].http2);
    conf_unref(conf);
    conf = next;
    ask(&c[0]);
    WORLD_UNTIL(c[0].over);
    ck_assert_uint_eq(c[0].status, 200);
    ck_assert(!c[0].http2);
    close_all();
}
END_TEST

START_TEST(a_reload_that_fails_changes_nothing)
{
    struct call c = { 0 };
    struct conf *next;
    char why[256] = "";

    serve_tls("DNS:localhost", false);
    open_origins("localhost", "");
    ask(&c);
    WORLD_UNTIL(c.over);
    next = load("https", "localhost", "http2 = false");
    conffile_put("service.crt", "not a certificate\n");
    ck_assert_int_lt(endpoints_prepare(endpoints, next, why, sizeof(why)), 0);
    ck_assert_ptr_nonnull(strstr(why, "service.crt"));
    conf_unref(next);
    ask(&c);
    WORLD_UNTIL(c.over);
    ck_assert_uint_eq(c.status, 200);
    ck_assert(c.reused);
    close_all();
}
END_TEST

START_TEST(two_upstreams_of_one_origin_share_nothing)
{
    struct call c[2] = { 0 };
    char text[1000];

    serve_plain();
    snprintf(text, sizeof(text),
        "listen \"127.0.0.1:1\" { }\n"
        "upstream \"a\" {\n origin = \"http://127.0.0.1:%u\"\n}\n"
        "upstream \"b\" {\n origin = \"http://127.0.0.1:%u\"\n}\n"
        "route \"/\" { upstream = \"a\" }\n",
        service.port, service.port);
    conf = conffile_must_load(text);
    endpoints = endpoints_open(conf);
    for (int i = 0; i < 2; i++) {
        struct endpoint *o =
            endpoints_find(endpoints, &conf->upstreams[i], &conf->upstreams[i].own);

        c[i].turn = (struct endpoint_turn){ .on_answer = on_answer, .owner = &c[i] };
        endpoint_ask(o, &c[i].turn);
        WORLD_UNTIL(c[i].over);
        ck_assert(!c[i].reused);
        ck_assert_uint_eq(endpoint_counts(o).connections, 1);
    }
    ck_assert_uint_eq(service.accepted, 2);
    close_all();
}
END_TEST

START_TEST(a_prepared_reload_can_be_abandoned)
{
    struct conf *next;
    char why[256];

    serve_plain();
    open_origins("localhost", "");
    next = load("http", "127.0.0.1", "");
    ck_assert_int_eq(endpoints_prepare(endpoints, next, why, sizeof(why)), 0);
    endpoints_abandon(endpoints);
    ck_assert_int_eq(endpoints_prepare(endpoints, next, why, sizeof(why)), 0);
    conf_unref(next);
    close_all(); /* with one prepared */
}
END_TEST

START_TEST(closing_tells_everybody)
{
    struct call c[5] = { 0 };

    if (_i == 0)
        serve_plain();
    else
        serve_tls("DNS:localhost", false);
    service.hold = true;
    service.max_streams = 2;
    open_origins("localhost", "max_connections = 1");
    ask_all(c, 5);
    WORLD_UNTIL(service.requests >= 1);
    world_settle();
    endpoints_close(endpoints);
    ck_assert_uint_eq(count_over(c, 5), 5);
    ck_assert_int_eq(c[4].error, STREAM_E_CONNECT);
    conf_unref(conf);
    serve_no_more();
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("endpoint");

    tcase_add_checked_fixture(t, world_open, world_close);
    tcase_add_loop_test(t, serves_wishes_over_plain_http, 0, 2);
    tcase_add_loop_test(t, closes_what_was_not_used_for_long, 0, 2);
    tcase_add_test(t, many_calls_share_one_connection);
    tcase_add_test(t, calls_are_spread_over_connections);
    tcase_add_test(t, connections_that_break_are_shared_by_fewer);
    tcase_add_test(t, connections_that_break_together_count_once);
    tcase_add_test(t, connections_that_hold_again_are_shared_by_more);
    tcase_add_test(t, the_limit_of_connections_goes_before_their_share);
    tcase_add_test(t, an_old_connection_retires);
    tcase_add_loop_test(t, an_unused_connection_is_asked_before_it_is_used, 0, 2);
    tcase_add_test(t, the_101st_call_gets_another_connection_or_waits);
    tcase_add_test(t, makes_as_many_connections_as_the_wishes_need);
    tcase_add_test(t, a_peer_that_allows_no_stream_is_not_dialled_for_ever);
    tcase_add_loop_test(t, falls_back_to_http1_where_alpn_says_so, 0, 3);
    tcase_add_loop_test(t, verifies_the_certificate, 0, COUNT_OF(certificates));
    tcase_add_test(t, trusts_only_the_authorities_it_was_told);
    tcase_add_loop_test(t, resumes_sessions, 0, 3);
    tcase_add_loop_test(t, a_refused_connection_answers_each_wish_once, 0, 2);
    tcase_add_test(t, connecting_has_a_limit);
    tcase_add_test(t, plain_http_stays_at_home);
    tcase_add_test(t, a_name_without_address_is_told);
    tcase_add_test(t, cancelled_wishes_hear_nothing);
    tcase_add_test(t, goes_round_a_connection_that_is_going);
    tcase_add_test(t, wishes_wait_for_what_works_when_dialling_fails);
    tcase_add_test(t, and_hear_of_it_when_that_is_gone_too);
    tcase_add_test(t, a_reload_drains_connections);
    tcase_add_test(t, a_reload_lets_what_it_drops_finish);
    tcase_add_test(t, a_reload_that_fails_changes_nothing);
    tcase_add_test(t, a_prepared_reload_can_be_abandoned);
    tcase_add_test(t, two_upstreams_of_one_origin_share_nothing);
    tcase_add_loop_test(t, closing_tells_everybody, 0, 2);
    return t;
}

UNIT_MAIN("endpoint")
