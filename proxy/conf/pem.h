/* Certificates and keys in PEM files, read into OpenSSL's objects. Errors describe the problem and
 * never show the content. */
#ifndef TARRY_CONF_PEM_H
#define TARRY_CONF_PEM_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

/* A certificate, and those between it and the root in the order of the file. */
struct pem_chain {
    X509 *leaf;
    STACK_OF(X509) * rest;
};

/* All: false with one line in `why`. What comes out is the caller's. */
bool pem_read_chain(const char *path, struct pem_chain *out, char *why, size_t whylen);
void pem_release_chain(struct pem_chain *c);

/* A private key without passphrase; NULL if there is none. */
EVP_PKEY *pem_read_key(const char *path, char *why, size_t whylen);

/* The certificates (and revocation lists, if there are any) of authorities; NULL if there are none.
 */
X509_STORE *pem_read_authorities(const char *path, char *why, size_t whylen);

/* Whether a key is that of a certificate, both good by themselves; the paths are for `why`. */
bool pem_check_pair(const struct pem_chain *c, const EVP_PKEY *key, const char *certificate_path,
    const char *key_path, char *why, size_t whylen);

#endif
