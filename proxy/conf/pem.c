/* PEM by OpenSSL, from memory. */
#include "conf/pem.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>

#include "conf/file.h"

/* Instead of OpenSSL's own, which would ask at the terminal. */
static int pem_no_passphrase(char *buf, int size, int rwflag, void *data)
{
    return -1;
}

/* The last of OpenSSL's errors in words; the queue is emptied. */
static const char *pem_openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    ERR_clear_error();
    return reason ? reason : "unknown error";
}

/* The file as OpenSSL reads it. The content has to live as long as the BIO. */
static BIO *pem_open_bio(const char *path, struct file_content *content, char *why, size_t whylen)
{
    BIO *bio;

    if (!file_read(path, FILE_CONTENT_MAX, content, why, whylen))
        return NULL;
    bio = BIO_new_mem_buf(content->p, (int)content->n);
    if (!bio) {
        file_forget(content);
        snprintf(why, whylen, "cannot read \"%s\": out of memory", path);
    }
    ERR_clear_error();
    return bio;
}

/* False with `why` if something else than the end of the file is next. */
static bool pem_ended_well(void)
{
    unsigned long e = ERR_peek_last_error();

    return ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
}

static bool pem_read_rest(BIO *bio, struct pem_chain *out)
{
    X509 *x;

    while ((x = PEM_read_bio_X509(bio, NULL, pem_no_passphrase, NULL))) {
        if (!sk_X509_push(out->rest, x)) {
            X509_free(x);
            return false;
        }
    }
    return pem_ended_well();
}

bool pem_read_chain(const char *path, struct pem_chain *out, char *why, size_t whylen)
{
    struct file_content content;
    BIO *bio = pem_open_bio(path, &content, why, whylen);

    *out = (struct pem_chain){ 0 };
    if (!bio)
        return false;
    /* The first certificate may carry trust settings (TRUSTED CERTIFICATE), which peers do not use.
     */
    out->leaf = PEM_read_bio_X509_AUX(bio, NULL, pem_no_passphrase, NULL);
    out->rest = sk_X509_new_null();
    if (!out->leaf || !out->rest || !pem_read_rest(bio, out)) {
        snprintf(why, whylen, "no certificate in \"%s\" (%s); it must be a PEM file", path,
            pem_openssl_reason());
        pem_release_chain(out);
    }
    BIO_free(bio);
    file_forget(&content);
    ERR_clear_error();
    return out->leaf != NULL;
}

void pem_release_chain(struct pem_chain *c)
{
    X509_free(c->leaf);
    sk_X509_pop_free(c->rest, X509_free);
    *c = (struct pem_chain){ 0 };
}

EVP_PKEY *pem_read_key(const char *path, char *why, size_t whylen)
{
    struct file_content content;
    BIO *bio = pem_open_bio(path, &content, why, whylen);
    EVP_PKEY *key;

    if (!bio)
        return NULL;
    key = PEM_read_bio_PrivateKey(bio, NULL, pem_no_passphrase, NULL);
    if (!key)
        snprintf(why, whylen,
            "no private key in \"%s\" (%s); it must be a PEM file without passphrase", path,
            pem_openssl_reason());
    BIO_free(bio);
    file_forget(&content);
    return key;
}

/* How many there are; 0 after an error too. */
static size_t pem_add_authorities(X509_STORE *store, STACK_OF(X509_INFO) * all)
{
    size_t n = 0;

    for (int i = 0; i < sk_X509_INFO_num(all); i++) {
        X509_INFO *info = sk_X509_INFO_value(all, i);

        if (info->x509) {
            if (!X509_STORE_add_cert(store, info->x509))
                return 0;
            n++;
        }
        if (info->crl && !X509_STORE_add_crl(store, info->crl))
            return 0;
    }
    return n;
}

X509_STORE *pem_read_authorities(const char *path, char *why, size_t whylen)
{
    struct file_content content;
    BIO *bio = pem_open_bio(path, &content, why, whylen);
    STACK_OF(X509_INFO) *all = NULL;
    X509_STORE *store = NULL;

    if (!bio)
        return NULL;
    store = X509_STORE_new();
    all = PEM_X509_INFO_read_bio(bio, NULL, pem_no_passphrase, NULL);
    if (!store || !all || pem_add_authorities(store, all) == 0) {
        const char *reason =
            all && ERR_peek_last_error() == 0 ? "none found" : pem_openssl_reason();

        snprintf(
            why, whylen, "no certificates in \"%s\" (%s); it must be a PEM file", path, reason);
        X509_STORE_free(store);
        store = NULL;
    }
    sk_X509_INFO_pop_free(all, X509_INFO_free);
    BIO_free(bio);
    file_forget(&content);
    ERR_clear_error();
    return store;
}

bool pem_check_pair(const struct pem_chain *c, const EVP_PKEY *key, const char *certificate_path,
    const char *key_path, char *why, size_t whylen)
{
    if (X509_check_private_key(c->leaf, key) == 1)
        return true;
    snprintf(why, whylen,
        "\"%s\" is not the key of the certificate in \"%s\" (%s); take the one that it was made "
        "with",
        key_path, certificate_path, pem_openssl_reason());
    return false;
}
