/* Making certificates and the TLS context that shows them. */
#include "certs.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_S (24L * 3600)
#define NAMES                                                                                      \
    "DNS:localhost,IP:127.0.0.1,IP:::1,DNS:api.openai.com,DNS:api.anthropic.com,"                  \
    "DNS:generativelanguage.googleapis.com"

struct identity {
    X509 *cert;
    EVP_PKEY *key;
};

static void identity_release(struct identity *id)
{
    X509_free(id->cert);
    EVP_PKEY_free(id->key);
    *id = (struct identity){ 0 };
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;
    bool done;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    done = extension && X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    return done;
}

static bool add_serial_and_times(X509 *cert)
{
    unsigned char serial[8];
    uint64_t number;

    if (RAND_bytes(serial, sizeof serial) != 1)
        return false;
    memcpy(&number, serial, sizeof number);
    return ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), number >> 1) &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -DAY_S) &&
           X509_gmtime_adj(X509_getm_notAfter(cert), 3650 * DAY_S);
}

static bool set_name(X509 *cert, const char *name)
{
    return X509_NAME_add_entry_by_txt(
        X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
}

/* `names` NULL: an authority, which signs itself. */
static bool make(
    struct identity *id, const char *name, const char *names, const struct identity *by)
{
    if (!by)
        by = id;
    id->key = EVP_EC_gen("P-256");
    id->cert = X509_new();
    if (!id->key || !id->cert || !X509_set_version(id->cert, X509_VERSION_3) ||
        !add_serial_and_times(id->cert) || !set_name(id->cert, name) ||
        !X509_set_issuer_name(id->cert, X509_get_subject_name(by->cert)) ||
        !X509_set_pubkey(id->cert, id->key))
        return false;
    if (!add_extension(id->cert, by->cert, NID_subject_key_identifier, "hash") ||
        !add_extension(id->cert, by->cert, NID_authority_key_identifier, "keyid:always") ||
        !add_extension(id->cert, by->cert, NID_basic_constraints,
            names ? "critical,CA:FALSE" : "critical,CA:TRUE") ||
        !add_extension(id->cert, by->cert, NID_key_usage,
            names ? "critical,digitalSignature" : "critical,keyCertSign,cRLSign"))
        return false;
    if (names && (!add_extension(id->cert, by->cert, NID_ext_key_usage, "serverAuth") ||
                     !add_extension(id->cert, by->cert, NID_subject_alt_name, names)))
        return false;
    return X509_sign(id->cert, by->key, EVP_sha256()) > 0;
}

static void path_of(char *to, size_t room, const char *dir, const char *name)
{
    snprintf(to, room, "%s/%s", dir, name);
}

/* Written whole or not at all: another process may be reading. */
static bool save(const char *dir, const char *name, X509 *cert, EVP_PKEY *key)
{
    char path[4096], draft[4096];
    bool done = false;
    FILE *to = NULL;
    int fd;

    path_of(path, sizeof path, dir, name);
    path_of(draft, sizeof draft, dir, "draft");
    fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, key ? 0600 : 0644);
    if (fd >= 0)
        to = fdopen(fd, "w");
    if (to && cert)
        done = PEM_write_X509(to, cert);
    else if (to)
        done = PEM_write_PrivateKey(to, key, NULL, NULL, 0, NULL, NULL);
    if (to && fclose(to) != 0)
        done = false;
    return done && rename(draft, path) == 0;
}

static bool all_there(const char *dir)
{
    static const char *const names[] = { "ca.pem", "leaf.pem", "leaf.key", "wrong.pem",
        "wrong.key" };
    char path[4096];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        path_of(path, sizeof path, dir, names[i]);
        if (access(path, R_OK) != 0)
            return false;
    }
    return true;
}

static bool make_all(const char *dir)
{
    struct identity ca = { 0 }, leaf = { 0 }, wrong = { 0 };
    bool done;

    done = make(&ca, "Provider Stand-in Test CA", NULL, NULL) &&
           make(&leaf, "localhost", NAMES, &ca) &&
           make(&wrong, "wrong.invalid", "DNS:wrong.invalid", &ca) &&
           save(dir, "leaf.pem", leaf.cert, NULL) && save(dir, "leaf.key", NULL, leaf.key) &&
           save(dir, "wrong.pem", wrong.cert, NULL) && save(dir, "wrong.key", NULL, wrong.key) &&
           save(dir, "ca.pem", ca.cert, NULL);
    identity_release(&wrong);
    identity_release(&leaf);
    identity_release(&ca);
    return done;
}

static int complain(const char *what, const char *dir)
{
    unsigned long error = ERR_get_error();

    fprintf(stderr, "provider: cannot %s \"%s\": %s\n", what, dir,
        error ? ERR_error_string(error, NULL) : strerror(errno));
    return -1;
}

int certs_make(const char *dir)
{
    char path[4096];
    bool done;
    int lock;

    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return complain("make the directory", dir);
    path_of(path, sizeof path, dir, "lock");
    lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) != 0) {
        complain("lock", path);
        if (lock >= 0)
            close(lock);
        return -1;
    }
    done = all_there(dir) || make_all(dir);
    if (!done)
        complain("make certificates in", dir);
    close(lock);
    return done ? 0 : -1;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
    const unsigned char *in, unsigned in_n, void *user)
{
    static const unsigned char known[] = "\x02h2\x08http/1.1";
    const unsigned skip = user ? 0 : 3; /* a pointer that says that h2 is spoken */
    unsigned char *chosen;

    if (SSL_select_next_proto(&chosen, out_n, known + skip, sizeof known - 1 - skip, in, in_n) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

SSL_CTX *certs_context(const char *dir, bool wrong_name, bool h2)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    char cert[4096], key[4096];

    path_of(cert, sizeof cert, dir, wrong_name ? "wrong.pem" : "leaf.pem");
    path_of(key, sizeof key, dir, wrong_name ? "wrong.key" : "leaf.key");
    if (!context || SSL_CTX_use_certificate_chain_file(context, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
        complain("use the certificate", cert);
        SSL_CTX_free(context);
        return NULL;
    }
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"provider", 8);
    SSL_CTX_set_alpn_select_cb(context, on_alpn, h2 ? context : NULL);
    return context;
}
