/* Certificates of clients. */
#include "net/clientcert.h"

#include <openssl/x509v3.h>
#include <stdio.h>

#include "conf/file.h"
#include "conf/pem.h"

enum { SUBJECT_MAX = 2048 }; /* octets of DER: more than anybody has, less than a head can carry */

/* A subject that is too long for a head is treated as none. */
static int clientcert_on_verify(int good, X509_STORE_CTX *c)
{
    X509 *x = X509_STORE_CTX_get_current_cert(c);

    if (good && X509_STORE_CTX_get_error_depth(c) == 0 &&
        i2d_X509_NAME(X509_get_subject_name(x), NULL) > SUBJECT_MAX) {
        X509_STORE_CTX_set_error(c, X509_V_ERR_APPLICATION_VERIFICATION);
        return 0;
    }
    return good;
}

/* A valid session is not resumed if the client's certificate has expired since: a full handshake
 * follows, and reports it. */
static SSL_TICKET_RETURN clientcert_on_ticket_opened(SSL *ssl, SSL_SESSION *session,
    const unsigned char *key_name, size_t n, SSL_TICKET_STATUS status, void *arg)
{
    X509 *client = session ? SSL_SESSION_get0_peer(session) : NULL;

    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (client && X509_cmp_current_time(X509_get0_notAfter(client)) <= 0)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

/* Covers everything that decides which clients are let in. */
static bool clientcert_digest_rules(struct clientcert *c, const struct file_content *authorities)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool good = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) &&
                EVP_DigestUpdate(md, &c->required, sizeof(c->required)) &&
                EVP_DigestUpdate(md, &c->chain_max, sizeof(c->chain_max)) &&
                EVP_DigestUpdate(md, authorities->p, authorities->n) &&
                EVP_DigestFinal_ex(md, c->digest, NULL);

    EVP_MD_CTX_free(md);
    return good;
}

bool clientcert_read(
    struct clientcert *c, const struct listen_conf *listen, char *why, size_t whylen)
{
    const char *path = listen->client_ca_file.p;
    struct file_content content;
    bool good;

    *c = (struct clientcert){ .chain_max = (int)listen->client_chain_max };
    c->required = listen->client_certificate == CLIENT_CERTIFICATE_REQUIRED;
    if (listen->client_certificate == CLIENT_CERTIFICATE_OFF)
        return true;
    c->authorities = pem_read_authorities(path, why, whylen);
    if (!c->authorities || !file_read(path, FILE_CONTENT_MAX, &content, why, whylen))
        return false;
    good = clientcert_digest_rules(c, &content);
    if (!good)
        snprintf(why, whylen, "out of memory");
    file_forget(&content);
    return good;
}

void clientcert_release(struct clientcert *c)
{
    X509_STORE_free(c->authorities);
    c->authorities = NULL;
}

bool clientcert_demand(struct clientcert *c, SSL_CTX *ctx)
{
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(c->authorities);
    int mode = SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE;

    if (c->required)
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ctx, mode, clientcert_on_verify);
    SSL_CTX_set_verify_depth(ctx, c->chain_max);
    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        X509_OBJECT *o = sk_X509_OBJECT_value(objects, i);
        X509 *x = X509_OBJECT_get0_X509(o);

        if (x && !SSL_CTX_add_client_CA(ctx, x)) /* the names that clients are told */
            return false;
        if (X509_OBJECT_get0_X509_CRL(o))
            X509_STORE_set_flags(c->authorities, X509_V_FLAG_CRL_CHECK);
    }
    return SSL_CTX_set1_verify_cert_store(ctx, c->authorities) == 1 &&
           SSL_CTX_set_session_ticket_cb(ctx, NULL, clientcert_on_ticket_opened, NULL) == 1;
}

bool clientcert_describe(
    X509 *certificate, struct arena *a, struct str *subject, struct str *fingerprint)
{
    BIO *bio = BIO_new(BIO_s_mem());
    unsigned char digest[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1], *text;
    unsigned n = 0;
    long len;

    *subject = *fingerprint = (struct str){ 0 };
    if (bio &&
        X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) >= 0 &&
        X509_digest(certificate, EVP_sha256(), digest, &n)) {
        len = BIO_get_mem_data(bio, &text);
        for (unsigned i = 0; i < n; i++)
            snprintf(hex + (size_t)i * 2, 3, "%02x", digest[i]);
        *subject = arena_copy(a, str_make(text, (size_t)len));
        *fingerprint = arena_copy(a, str_of(hex));
    }
    BIO_free(bio);
    return subject->p && fingerprint->p;
}
