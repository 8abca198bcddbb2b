/* TLS contexts, chosen by the server name in the ClientHello. */
#include "net/sni.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#include "conf/file.h"
#include "conf/identity.h"
#include "net/clientcert.h"
#include "net/loop.h"
#include "net/tls.h"
#include "observe/counter.h"
#include "observe/log.h"

enum {
    DIGEST_N = 32,
    KINDS_MAX = 6, /* of keys that OpenSSL can hold side by side */
    FLOOD_WINDOW_MS = 60 * 1000,
    EXPIRES_SOON = 6, /* when a sixth of its time is left: 15 days of 90, one of 6 */
};

struct sni_context {
    SSL_CTX *ctx;
    unsigned short members[KINDS_MAX]; /* of sni.ids; the first one's certificate is the oldest
                                          in the conf */
    size_t nmembers;
};

struct sni_name {
    const char *name; /* in one of the identities */
    size_t context;
};

struct sni {
    unsigned refs;
    struct identity *ids; /* the first is the listener's own */
    bool *stale_told;     /* of each: that its staple is out of date */
    size_t nids;
    struct sni_context *contexts; /* the first is for clients without a known name */
    size_t ncontexts;
    struct sni_name *names; /* sorted */
    size_t nnames;
    struct clientcert clients;
    unsigned char digest[DIGEST_N]; /* of what it was made from */
    enum tls_version min_version;
    bool serve_misdirected, http2;
    unsigned key_updates_max;
};

/* Kept for each connection. */
struct sni_conn {
    struct sni *sni;
    uint64_t since_ms;
    unsigned key_updates;
    bool flooded;
    char *asked; /* the name in the ClientHello, folded; NULL: none. OpenSSL does not keep it for a
                    TLS 1.2 session that is resumed */
};

/* OpenSSL's slot in every SSL for its struct sni_conn. Allocated once a process. */
static int sni_conn_index = -1;

static void sni_on_ssl_freed(
    void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    struct sni_conn *g = ptr;

    if (!g)
        return;
    sni_unref(g->sni);
    free(g->asked);
    free(g);
}

static struct sni_conn *sni_conn_of(const SSL *ssl)
{
    return ssl && sni_conn_index >= 0 ? SSL_get_ex_data(ssl, sni_conn_index) : NULL;
}

/* ---- names ---- */

static int sni_by_name(const void *a, const void *b)
{
    return strcmp(((const struct sni_name *)a)->name, ((const struct sni_name *)b)->name);
}

static const struct sni_name *sni_find_name(const struct sni *s, const char *name)
{
    struct sni_name key = { .name = name };

    return s->nnames ? bsearch(&key, s->names, s->nnames, sizeof(key), sni_by_name) : NULL;
}

enum { NAME_ROOM = 256 };

/* Lower case, with a NUL; without the dot that a fully qualified name may end with. False if it is
 * none. */
static bool sni_fold_name(struct str name, char out[NAME_ROOM])
{
    if (name.n > 1 && name.p[name.n - 1] == '.')
        name.n--;
    if (name.n == 0 || name.n >= NAME_ROOM || memchr(name.p, 0, name.n))
        return false;
    for (size_t i = 0; i < name.n; i++)
        out[i] = str_lower_char(name.p[i]);
    out[name.n] = 0;
    return true;
}

/* The context of a folded name: of itself, else of the wildcard that covers it, else the first. */
static size_t sni_context_of(const struct sni *s, const char *name)
{
    const struct sni_name *found = sni_find_name(s, name);
    const char *dot = strchr(name, '.');
    char wildcard[NAME_ROOM + 1];

    if (!found && dot && dot > name) {
        snprintf(wildcard, sizeof(wildcard), "*%s", dot);
        found = sni_find_name(s, wildcard);
    }
    return found ? found->context : 0;
}

/* ---- callbacks of the handshake ---- */

/* The host name of the server_name extension (RFC 6066 3); n is 0 if there is none. */
static struct str sni_asked_name(SSL *ssl)
{
    const unsigned char *p;
    size_t n, name;

    if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) || n < 5 ||
        p[2] != TLSEXT_NAMETYPE_host_name)
        return STR("");
    name = (size_t)p[3] << 8 | p[4];
    return name + 5 <= n ? str_make((const char *)p + 5, name) : STR("");
}

/* Before anything of the ClientHello is answered, and before a session is resumed: so that the
 * ticket is looked at in the context of the name. */
static int sni_on_client_hello(SSL *ssl, int *alert, void *arg)
{
    struct sni_conn *g = sni_conn_of(ssl);
    struct str asked = sni_asked_name(ssl);
    char name[NAME_ROOM];
    size_t context;

    if (!g || asked.n == 0)
        return SSL_CLIENT_HELLO_SUCCESS;
    free(g->asked);
    g->asked = strdup(sni_fold_name(asked, name) ? name : ""); /* "": one that nobody can have */
    if (!g->asked) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (!*g->asked)
        return SSL_CLIENT_HELLO_SUCCESS;
    context = sni_context_of(g->sni, name);
    if (context > 0 && !SSL_set_SSL_CTX(ssl, g->sni->contexts[context].ctx)) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    return SSL_CLIENT_HELLO_SUCCESS;
}

static int sni_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
    const unsigned char *in, unsigned inlen, void *arg)
{
    struct str ours = tls_alpn(sni_conn_of(ssl)->sni->http2);

    if (SSL_select_next_proto((unsigned char **)out, outlen, (const unsigned char *)ours.p,
            (unsigned)ours.n, in, inlen) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
}

/* The client asks for an OCSP response. */
static int sni_on_status(SSL *ssl, void *arg)
{
    struct sni *s = sni_conn_of(ssl)->sni;
    const X509 *shown = SSL_get_certificate(ssl);

    for (size_t i = 0; i < s->nids; i++) {
        const struct identity *id = &s->ids[i];
        unsigned char *copy;

        if (id->chain.leaf != shown || !id->staple)
            continue;
        if (id->staple_until && (uint64_t)id->staple_until * 1000 <= loop_wall_ms()) {
            if (!s->stale_told[i])
                log_warn(NULL,
                    "the OCSP response for \"%s\" is out of date and no longer stapled; fetch a "
                    "new one and send SIGHUP",
                    id->nnames ? id->names[0] : "the listener's certificate");
            s->stale_told[i] = true;
            break;
        }
        copy = OPENSSL_memdup(id->staple, id->staple_n);
        if (!copy)
            break;
        SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)id->staple_n);
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK;
}

/* Sees every message. Counts those that a client may repeat after the handshake and that cost the
 * server more than the client. */
static void sni_on_message(
    int sent, int version, int type, const void *p, size_t n, SSL *ssl, void *arg)
{
    struct sni_conn *g;
    unsigned char kind;

    if (sent || type != SSL3_RT_HANDSHAKE || n == 0)
        return;
    kind = *(const unsigned char *)p;
    if (kind != SSL3_MT_KEY_UPDATE && kind != SSL3_MT_CLIENT_HELLO)
        return;
    g = SSL_get_ex_data(ssl, sni_conn_index);
    if (!g)
        return;
    if (loop_now_ms() - g->since_ms >= FLOOD_WINDOW_MS) {
        g->since_ms = loop_now_ms();
        g->key_updates = 0;
    }
    /* The first ClientHello, and that after a HelloRetryRequest, are in the handshake. */
    if (!SSL_is_init_finished(ssl) && kind != SSL3_MT_KEY_UPDATE)
        return;
    if (++g->key_updates > g->sni->key_updates_max && !g->flooded) {
        g->flooded = true;
        counter_add(COUNTER_TLS_FLOODS, 1);
    }
}

/* ---- making ---- */

static void sni_explain(char *why, size_t whylen, const char *what, const char *file)
{
    unsigned long e = ERR_peek_last_error();

    snprintf(
        why, whylen, "%s \"%s\": %s", what, file, e ? ERR_reason_error_string(e) : "out of memory");
    ERR_clear_error();
}

/* Marks the context's sessions, so that no other context resumes them: see the head of sni.h. The
 * certificate itself may be renewed. */
static bool sni_set_session_context(
    struct sni *s, const struct sni_context *context, const char *name)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    const struct identity *id = &s->ids[context->members[0]];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    unsigned char *subject = NULL;
    int n = name ? 0 : i2d_X509_NAME(X509_get_subject_name(id->chain.leaf), &subject);
    unsigned len = 0;
    bool good = md && n >= 0 && EVP_DigestInit_ex(md, EVP_sha256(), NULL) &&
                EVP_DigestUpdate(md, s->clients.digest, sizeof(s->clients.digest)) &&
                (name ? EVP_DigestUpdate(md, name, strlen(name) + 1)
                      : EVP_DigestUpdate(md, subject, (size_t)n)) &&
                EVP_DigestFinal_ex(md, digest, &len) &&
                SSL_CTX_set_session_id_context(context->ctx, digest, len);

    EVP_MD_CTX_free(md);
    OPENSSL_free(subject);
    return good;
}

static bool sni_make_context(
    struct sni *s, struct sni_context *context, struct tickets *tickets, char *why, size_t whylen)
{
    SSL_CTX *ctx = context->ctx = tls_context_new(TLS_server_method());

    if (!ctx || !tickets_serve(tickets, ctx) ||
        !SSL_CTX_set_min_proto_version(
            ctx, s->min_version == TLS_VERSION_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION) ||
        (s->clients.authorities && !clientcert_demand(&s->clients, ctx))) {
        snprintf(why, whylen, "no memory for a TLS context");
        return false;
    }
    for (size_t i = 0; i < context->nmembers; i++) {
        const struct identity *id = &s->ids[context->members[i]];

        if (SSL_CTX_use_cert_and_key(ctx, id->chain.leaf, id->key, id->chain.rest, 1) != 1) {
            sni_explain(why, whylen, "cannot use the certificate of",
                id->nnames ? id->names[0] : "the listener");
            return false;
        }
    }
    SSL_CTX_set_options(ctx, SSL_OP_PRIORITIZE_CHACHA);
    /* A client that sends messages without data must not hold the loop in one read. */
    SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_client_hello_cb(ctx, sni_on_client_hello, NULL);
    SSL_CTX_set_alpn_select_cb(ctx, sni_on_alpn, NULL);
    SSL_CTX_set_tlsext_status_cb(ctx, sni_on_status);
    SSL_CTX_set_msg_callback(ctx, sni_on_message);
    return true;
}

static void sni_add_member(struct sni *s, struct sni_context *context, size_t id)
{
    for (size_t i = 0; i < context->nmembers; i++)
        if (s->ids[context->members[i]].kind == s->ids[id].kind)
            return;
    if (context->nmembers < KINDS_MAX)
        context->members[context->nmembers++] = (unsigned short)id;
}

/* The members of a name's context: those that have it come before those that cover it. */
static struct sni_context sni_gather(struct sni *s, const char *name)
{
    struct sni_context context = { 0 };

    for (size_t i = 0; i < s->nids; i++)
        if (identity_has(&s->ids[i], str_of(name)))
            sni_add_member(s, &context, i);
    for (size_t i = 0; name[0] != '*' && i < s->nids; i++)
        if (identity_covers(&s->ids[i], str_of(name)))
            sni_add_member(s, &context, i);
    return context;
}

static bool sni_same_members(const struct sni_context *a, const struct sni_context *b)
{
    return a->nmembers == b->nmembers &&
           memcmp(a->members, b->members, a->nmembers * sizeof(*a->members)) == 0;
}

/* Adds the context unless there is such a one. Its number, or -1 with `why`. */
static ptrdiff_t sni_add_context(struct sni *s, struct sni_context *context, const char *name,
    struct tickets *tickets, char *why, size_t whylen)
{
    for (size_t i = 0; i < s->ncontexts; i++)
        if (sni_same_members(&s->contexts[i], context))
            return (ptrdiff_t)i;
    if (!sni_make_context(s, context, tickets, why, whylen) ||
        !sni_set_session_context(s, context, name)) {
        SSL_CTX_free(context->ctx);
        return -1;
    }
    s->contexts[s->ncontexts] = *context;
    return (ptrdiff_t)s->ncontexts++;
}

/* The listener's own certificate, and beside it those of other kinds that have all of its names. */
static struct sni_context sni_own_context(struct sni *s)
{
    struct sni_context context = { 0 };

    sni_add_member(s, &context, 0);
    for (size_t i = 1; s->ids[0].nnames > 0 && i < s->nids; i++)
        if (identity_has_all(&s->ids[i], &s->ids[0]))
            sni_add_member(s, &context, i);
    return context;
}

static bool make_sni(struct sni *s, struct tickets *tickets, char *why, size_t whylen)
{
    struct sni_context context = sni_own_context(s);
    size_t n = 0;

    for (size_t i = 0; i < s->nids; i++)
        n += s->ids[i].nnames;
    s->contexts = calloc(n + 1, sizeof(*s->contexts));
    s->names = calloc(n + 1, sizeof(*s->names));
    if (!s->contexts || !s->names) {
        snprintf(why, whylen, "no memory for TLS");
        return false;
    }
    if (sni_add_context(
            s, &context, s->ids[0].nnames ? s->ids[0].names[0] : NULL, tickets, why, whylen) < 0)
        return false;
    for (size_t i = 0; i < s->nids; i++)
        for (size_t k = 0; k < s->ids[i].nnames; k++)
            s->names[s->nnames++].name = s->ids[i].names[k];
    if (s->nnames > 0)
        qsort(s->names, s->nnames, sizeof(*s->names), sni_by_name);
    for (size_t i = 0; i < s->nnames; i++) {
        ptrdiff_t at;

        context = sni_gather(s, s->names[i].name);
        at = sni_add_context(s, &context, s->names[i].name, tickets, why, whylen);
        if (at < 0)
            return false;
        s->names[i].context = (size_t)at;
    }
    return true;
}

static bool sni_read_identities(
    struct sni *s, const struct listen_conf *l, char *why, size_t whylen)
{
    s->ids = calloc(l->nidentities + 1, sizeof(*s->ids));
    s->stale_told = calloc(l->nidentities + 1, sizeof(*s->stale_told));
    if (!s->ids || !s->stale_told) {
        snprintf(why, whylen, "no memory for TLS");
        return false;
    }
    if (!identity_read(&s->ids[0], l->certificate, l->private_key, l->ocsp_staple, why, whylen))
        return false;
    s->nids = 1;
    for (size_t i = 0; i < l->nidentities; i++) {
        const struct identity_conf *ic = &l->identities[i];

        if (!identity_read(
                &s->ids[s->nids], ic->certificate, ic->private_key, ic->ocsp_staple, why, whylen))
            return false;
        s->nids++;
    }
    return true;
}

static bool sni_digest_file(EVP_MD_CTX *md, struct str path, char *why, size_t whylen)
{
    struct file_content content = { 0 };
    bool good;

    if (path.n > 0 && !file_read(path.p, FILE_CONTENT_MAX, &content, why, whylen))
        return false;
    good = EVP_DigestUpdate(md, &content.n, sizeof(content.n)) &&
           EVP_DigestUpdate(md, content.p, content.n);
    file_forget(&content);
    return good;
}

/* A digest of everything that the contexts of a listener are made from. */
static bool sni_digest_sources(const struct conf *conf, const struct listen_conf *l,
    unsigned char out[DIGEST_N], char *why, size_t whylen)
{
    unsigned options[] = { l->client_certificate, l->client_chain_max, l->misdirected,
        l->tls_min_version, l->http2, conf->key_updates_max };
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool good;

    snprintf(why, whylen, "no memory for TLS");
    good = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) &&
           EVP_DigestUpdate(md, options, sizeof(options)) &&
           sni_digest_file(md, l->certificate, why, whylen) &&
           sni_digest_file(md, l->private_key, why, whylen) &&
           sni_digest_file(md, l->ocsp_staple, why, whylen) &&
           sni_digest_file(md, l->client_ca_file, why, whylen);
    for (size_t i = 0; good && i < l->nidentities; i++)
        good = sni_digest_file(md, l->identities[i].certificate, why, whylen) &&
               sni_digest_file(md, l->identities[i].private_key, why, whylen) &&
               sni_digest_file(md, l->identities[i].ocsp_staple, why, whylen);
    good = good && EVP_DigestFinal_ex(md, out, NULL);
    EVP_MD_CTX_free(md);
    return good;
}

/* A staple that could not be used when it was read may be usable now. */
static bool sni_has_bad_staple(const struct sni *s)
{
    for (size_t i = 0; i < s->nids; i++)
        if (s->ids[i].staple_why[0])
            return true;
    return false;
}

struct sni *sni_new(const struct conf *conf, const struct listen_conf *listen, struct sni *present,
    struct tickets *tickets, char *why, size_t whylen)
{
    unsigned char digest[DIGEST_N];
    struct sni *s;

    if (!sni_digest_sources(conf, listen, digest, why, whylen))
        return NULL;
    if (present && memcmp(present->digest, digest, DIGEST_N) == 0 && !sni_has_bad_staple(present))
        return sni_ref(present);
    s = calloc(1, sizeof(*s));
    if (sni_conn_index < 0)
        sni_conn_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, sni_on_ssl_freed);
    if (!s || sni_conn_index < 0) {
        free(s);
        snprintf(why, whylen, "no memory for TLS");
        return NULL;
    }
    s->refs = 1;
    memcpy(s->digest, digest, DIGEST_N);
    s->min_version = listen->tls_min_version;
    s->serve_misdirected = listen->misdirected == MISDIRECTED_SERVE;
    s->http2 = listen->http2;
    s->key_updates_max = conf->key_updates_max;
    if (sni_read_identities(s, listen, why, whylen) &&
        clientcert_read(&s->clients, listen, why, whylen) && make_sni(s, tickets, why, whylen))
        return s;
    sni_unref(s);
    return NULL;
}

struct sni *sni_ref(struct sni *s)
{
    s->refs++;
    return s;
}

void sni_unref(struct sni *s)
{
    if (!s || --s->refs > 0)
        return;
    for (size_t i = 0; i < s->ncontexts; i++)
        SSL_CTX_free(s->contexts[i].ctx);
    for (size_t i = 0; i < s->nids; i++)
        identity_release(&s->ids[i]);
    clientcert_release(&s->clients);
    free(s->ids);
    free(s->stale_told);
    free(s->contexts);
    free(s->names);
    free(s);
}

static const char *sni_name_of(const struct identity *id)
{
    return id->nnames ? id->names[0] : "the listener";
}

void sni_inspect(const struct sni *s, uint64_t wall_ms, void (*say)(const char *line))
{
    time_t now = (time_t)(wall_ms / 1000);
    char line[IDENTITY_WHY_MAX + 128];

    for (size_t i = 0; i < s->nids; i++) {
        const struct identity *id = &s->ids[i];
        time_t left = id->ends - now;
        bool soon = left < (id->ends - id->begins) / EXPIRES_SOON;

        if (left <= 0)
            snprintf(line, sizeof(line),
                "the %s certificate of \"%s\" has expired: clients will refuse it; renew it and "
                "send SIGHUP",
                identity_kind_name(id), sni_name_of(id));
        else if (soon)
            snprintf(line, sizeof(line),
                "the %s certificate of \"%s\" expires in %ld days; renew it and send SIGHUP",
                identity_kind_name(id), sni_name_of(id), (long)(left / (24 * 3600)));
        if (soon)
            say(line);
        if (id->staple_why[0]) {
            snprintf(
                line, sizeof(line), "OCSP response of \"%s\": %s", sni_name_of(id), id->staple_why);
            say(line);
        }
    }
}

void sni_each(const struct sni *s, sni_certificate_fn *fn, void *owner)
{
    for (size_t i = 0; i < s->nids; i++)
        fn(owner, s->ids[i].nnames ? s->ids[i].names[0] : "", identity_kind_name(&s->ids[i]),
            s->ids[i].ends);
}

/* ---- connections ---- */

SSL *sni_begin(struct sni *s)
{
    SSL *ssl = SSL_new(s->contexts[0].ctx);
    struct sni_conn *g = calloc(1, sizeof(*g));

    if (!ssl || !g || !SSL_set_ex_data(ssl, sni_conn_index, g)) {
        SSL_free(ssl);
        free(g);
        return NULL;
    }
    g->sni = sni_ref(s);
    g->since_ms = loop_now_ms();
    return ssl;
}

void sni_settle(SSL *ssl)
{
    if (sni_conn_of(ssl))
        SSL_set_tlsext_status_ocsp_resp(ssl, NULL, 0);
}

/* Whether one of the context's certificates has the name, or covers it. */
static bool sni_has_name(const struct sni *s, const struct sni_context *context, const char *name)
{
    for (size_t i = 0; i < context->nmembers; i++) {
        const struct identity *id = &s->ids[context->members[i]];

        if (identity_has(id, str_of(name)) || identity_covers(id, str_of(name)) ||
            X509_check_ip_asc(id->chain.leaf, name, 0) == 1)
            return true;
    }
    return false;
}

bool sni_is_misdirected(const SSL *ssl, struct str host)
{
    const struct sni_conn *g = sni_conn_of(ssl);
    const char *asked = g ? g->asked : NULL;
    char name[NAME_ROOM];
    size_t context;

    if (!asked || g->sni->serve_misdirected || host.n == 0)
        return false;
    if (host.n > 1 && host.p[0] == '[' && host.p[host.n - 1] == ']') /* of an IPv6 address */
        host = str_make(host.p + 1, host.n - 2);
    if (!*asked || !sni_fold_name(host, name))
        return true;
    if (strcmp(asked, name) == 0)
        return false;
    context = sni_context_of(g->sni, asked);
    return sni_context_of(g->sni, name) != context ||
           !sni_has_name(g->sni, &g->sni->contexts[context], name);
}

bool sni_client(const SSL *ssl, struct arena *a, struct str *subject, struct str *fingerprint)
{
    const struct sni_conn *g = sni_conn_of(ssl);
    X509 *shown = g && g->sni->clients.authorities ? SSL_get0_peer_certificate(ssl) : NULL;

    return shown && clientcert_describe(shown, a, subject, fingerprint);
}

bool sni_is_flooded(const SSL *ssl)
{
    const struct sni_conn *g = sni_conn_of(ssl);

    return g && g->flooded;
}
