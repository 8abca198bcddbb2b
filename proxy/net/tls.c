/* Contexts and verification. TLS 1.2 and up, forward secrecy only, no renegotiation; buffers are
 * given back between records. */
#include "net/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#include "conf/identity.h"
#include "conf/pem.h"
#include "net/castore.h"
#include "observe/log.h"

enum { TICKETS_KEPT = 4, HOST_MAX = 255 };

#define TLS_REMEDY                                                                                 \
    " (the service wants a client certificate, or another one: certificate and private_key)"

/* Suites of TLS 1.2; those of 1.3 are all good. */
static const char suites[] = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!SHA1";

struct tls_client {
    unsigned refs;
    SSL_CTX *ctx;
};

struct tls_peer {
    unsigned refs;
    struct tls_client *client;
    bool literal;
    bool asked; /* the server has asked for a certificate, and we have none */
    SSL_SESSION *tickets[TICKETS_KEPT]; /* oldest first */
    size_t ntickets;
    char host[HOST_MAX + 1];
};

/* OpenSSL's own slot in every SSL for the peer that it was made for. Allocated once a process. */
static int peer_index = -1;

static void tls_on_ssl_freed(
    void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    tls_peer_unref(ptr);
}

/* The path with a NUL at its end. NULL if there is no memory or a NUL in it. */
static char *tls_path_of(struct str s)
{
    return memchr(s.p, 0, s.n) ? NULL : strndup(s.p, s.n);
}

struct str tls_alpn(bool http2)
{
    return http2 ? STR("\x02h2\x08http/1.1") : STR("\x08http/1.1");
}

SSL_CTX *tls_context_new(const SSL_METHOD *method)
{
    SSL_CTX *ctx = SSL_CTX_new(method);

    if (!ctx)
        return NULL;
    SSL_CTX_set_options(
        ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* The end of a body may be the end of the connection: without close_notify it is a truncation,
     * whatever openssl.cnf says. */
    SSL_CTX_clear_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_LEGACY_SERVER_CONNECT |
                                   SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
    /* conn writes from a queue that moves and grows between tries. */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (!SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) ||
        !SSL_CTX_set_cipher_list(ctx, suites)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

/* A session can be resumed later (TLS 1.3: a ticket came). The newest are kept, as copies: OpenSSL
 * marks a connection's own as not resumable when that connection ends without close_notify. 0: not
 * taken over. */
static int tls_on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_peer *p = SSL_get_ex_data(ssl, peer_index);
    SSL_SESSION *copy;

    if (!p || !SSL_SESSION_is_resumable(session))
        return 0;
    copy = SSL_SESSION_dup(session);
    if (!copy)
        return 0;
    if (p->ntickets == TICKETS_KEPT) {
        SSL_SESSION_free(p->tickets[0]);
        memmove(p->tickets, p->tickets + 1, (TICKETS_KEPT - 1) * sizeof(*p->tickets));
        p->ntickets--;
    }
    p->tickets[p->ntickets++] = copy;
    return 0;
}

static bool tls_trust_system(SSL_CTX *ctx)
{
    struct castore store = castore_find();

    if (store.file)
        return SSL_CTX_load_verify_locations(ctx, store.file, NULL);
    if (!store.builtin)
        log_warn(NULL, "this machine has no certificate authorities, so that calls over https "
                       "fail; install ca-certificates, or name a file in SSL_CERT_FILE");
    return SSL_CTX_set_default_verify_paths(ctx);
}

static bool tls_trust(SSL_CTX *ctx, struct str ca_file, char *why, size_t whylen)
{
    X509_STORE *store;
    char *path;

    if (ca_file.n == 0) {
        if (tls_trust_system(ctx))
            return true;
        ERR_clear_error();
        snprintf(why, whylen, "cannot load the system's certificate authorities");
        return false;
    }
    path = tls_path_of(ca_file);
    if (!path) {
        snprintf(why, whylen, "no memory for a TLS context");
        return false;
    }
    store = pem_read_authorities(path, why, whylen);
    free(path);
    if (!store)
        return false;
    /* An intermediate is trusted without its root. */
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_cert_store(ctx, store);
    return true;
}

/* The server asks for a certificate. It may do without, so the handshake goes on. */
static int tls_on_asked(SSL *ssl, X509 **certificate, EVP_PKEY **key)
{
    struct tls_peer *p = SSL_get_ex_data(ssl, peer_index);

    if (p)
        p->asked = true;
    return 0;
}

/* The certificate that the service may ask for. */
static bool tls_show(SSL_CTX *ctx, const struct tls_terms *t, char *why, size_t whylen)
{
    struct identity id;
    bool good;

    if (t->certificate.n == 0)
        return true;
    if (!identity_read(&id, t->certificate, t->private_key, STR(""), why, whylen))
        return false;
    good = SSL_CTX_use_cert_and_key(ctx, id.chain.leaf, id.key, id.chain.rest, 1) == 1;
    if (!good)
        snprintf(why, whylen, "OpenSSL does not take the certificate \"" STR_FMT "\": %s",
            STR_ARG(t->certificate), tls_describe_error(NULL));
    identity_release(&id);
    return good;
}

struct tls_client *tls_client_new(const struct tls_terms *terms, char *why, size_t whylen)
{
    struct tls_client *t = calloc(1, sizeof(*t));

    if (peer_index < 0)
        peer_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, tls_on_ssl_freed);
    if (!t || peer_index < 0)
        goto no_memory;
    t->refs = 1;
    t->ctx = tls_context_new(TLS_client_method());
    if (!t->ctx)
        goto no_memory;
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(
        t->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(t->ctx, tls_on_new_session);
    SSL_CTX_set_client_cert_cb(t->ctx, tls_on_asked);
    if (!tls_trust(t->ctx, terms->ca_file, why, whylen) || !tls_show(t->ctx, terms, why, whylen))
        goto fail;
    return t;
no_memory:
    snprintf(why, whylen, "no memory for a TLS context");
fail:
    if (t)
        SSL_CTX_free(t->ctx);
    free(t);
    return NULL;
}

struct tls_client *tls_client_ref(struct tls_client *t)
{
    t->refs++;
    return t;
}

void tls_client_unref(struct tls_client *t)
{
    if (!t || --t->refs > 0)
        return;
    SSL_CTX_free(t->ctx);
    free(t);
}

struct tls_peer *tls_peer_new(struct tls_client *t, struct str host)
{
    struct tls_peer *p;
    unsigned char ip[16];

    /* OpenSSL takes ".example.com" for any name below it. */
    if (host.n == 0 || host.n > HOST_MAX || memchr(host.p, 0, host.n) || host.p[0] == '.')
        return NULL;
    p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->refs = 1;
    p->client = tls_client_ref(t);
    memcpy(p->host, host.p, host.n);
    p->literal = inet_pton(AF_INET, p->host, ip) == 1 || inet_pton(AF_INET6, p->host, ip) == 1;
    return p;
}

struct tls_peer *tls_peer_ref(struct tls_peer *p)
{
    p->refs++;
    return p;
}

void tls_peer_unref(struct tls_peer *p)
{
    if (!p || --p->refs > 0)
        return;
    for (size_t i = 0; i < p->ntickets; i++)
        SSL_SESSION_free(p->tickets[i]);
    tls_client_unref(p->client);
    free(p);
}

struct tls_client *tls_peer_client(const struct tls_peer *p)
{
    return p->client;
}

bool tls_peer_same_identity(const struct tls_peer *a, const struct tls_peer *b)
{
    X509 *x = a ? SSL_CTX_get0_certificate(a->client->ctx) : NULL,
         *y = b ? SSL_CTX_get0_certificate(b->client->ctx) : NULL;

    return x && y ? X509_cmp(x, y) == 0 : x == y;
}

/* The name that the certificate must have. */
static bool tls_expect_host(struct tls_peer *p, SSL *ssl)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

    if (p->literal)
        return X509_VERIFY_PARAM_set1_ip_asc(param, p->host) == 1;
    X509_VERIFY_PARAM_set_hostflags(
        param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    return X509_VERIFY_PARAM_set1_host(param, p->host, 0) == 1 &&
           SSL_set_tlsext_host_name(ssl, p->host) == 1;
}

SSL *tls_peer_begin(struct tls_peer *p, bool http2)
{
    SSL *ssl = SSL_new(p->client->ctx);
    struct str alpn = tls_alpn(http2);

    if (!ssl)
        return NULL;
    if (!SSL_set_ex_data(ssl, peer_index, p)) {
        SSL_free(ssl);
        return NULL;
    }
    tls_peer_ref(p);
    if (!tls_expect_host(p, ssl) ||
        SSL_set_alpn_protos(ssl, (const unsigned char *)alpn.p, (unsigned)alpn.n) != 0) {
        SSL_free(ssl);
        return NULL;
    }
    if (p->ntickets > 0) {
        SSL_SESSION *session = p->tickets[p->ntickets - 1];

        SSL_set_session(ssl, session);
        /* TLS 1.3 sends new tickets on each connection; before that, one stays good (and a new one
         * need not come). */
        if (SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION) {
            SSL_SESSION_free(session);
            p->ntickets--;
        }
    }
    ERR_clear_error();
    return ssl;
}

static bool tls_is_refused(const SSL *ssl, unsigned long e)
{
    const struct tls_peer *p = ssl && peer_index >= 0 ? SSL_get_ex_data(ssl, peer_index) : NULL;

    if (!p)
        return false; /* a listener's: the client refuses ours */
    switch (ERR_GET_LIB(e) == ERR_LIB_SSL ? ERR_GET_REASON(e) : 0) {
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_NO_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return true;
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE: /* what TLS 1.2 has for the lack of one */
        return p->asked;
    }
    return false;
}

bool tls_refuses_certificate(const SSL *ssl)
{
    return tls_is_refused(ssl, ERR_peek_error());
}

const char *tls_describe_error(const SSL *ssl)
{
    static char text[512];
    long verify = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
    unsigned long e = ERR_peek_error();
    const char *reason;

    if (verify != X509_V_OK) {
        const struct tls_peer *p = peer_index < 0 ? NULL : SSL_get_ex_data(ssl, peer_index);

        if (p)
            snprintf(text, sizeof(text), "certificate of \"%s\": %s", p->host,
                X509_verify_cert_error_string(verify));
        else
            snprintf(text, sizeof(text), "the client's certificate: %s",
                X509_verify_cert_error_string(verify));
    } else {
        reason = e ? ERR_reason_error_string(e) : NULL;
        snprintf(text, sizeof(text), "TLS: %s%s", reason ? reason : "connection closed by peer",
            tls_is_refused(ssl, e) ? TLS_REMEDY : "");
    }
    ERR_clear_error();
    return text;
}
