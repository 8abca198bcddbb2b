/* A server's TLS identity: a certificate with its chain, its key, its names, and optionally an OCSP
 * response for stapling. Read when the conf is checked, and by listeners. */
#ifndef TARRY_CONF_IDENTITY_H
#define TARRY_CONF_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/str.h"
#include "conf/pem.h"

enum { IDENTITY_WHY_MAX = 512 };

struct identity {
    struct pem_chain chain;
    EVP_PKEY *key;
    int kind; /* of the key, as EVP_PKEY_get_base_id() says it: TLS shows one of each kind */
    time_t begins, ends; /* of the certificate, seconds since 1970 */
    char **names; /* DNS names in the certificate, lower case, without duplicates; "*.example.com"
                     as it stands */
    size_t nnames;
    unsigned char *staple; /* DER; NULL: none */
    size_t staple_n;
    time_t staple_until;               /* seconds since 1970; 0: for ever */
    char staple_why[IDENTITY_WHY_MAX]; /* why a staple that the conf names is not used; or empty */
};

/* Reads the files. `ocsp_staple` empty: none. An unusable staple is left out, with the reason in
 * `staple_why`: it comes from another program and expires by itself. False with one line in `why`;
 * otherwise ended with identity_release(). */
bool identity_read(struct identity *id, struct str certificate, struct str key,
    struct str ocsp_staple, char *why, size_t whylen);
void identity_release(struct identity *id);

/* Whether it has the name itself; whether a wildcard among its names covers it ("*" stands for the
 * first label, RFC 6125 6.4.3). `name` is lower case. */
bool identity_has(const struct identity *id, struct str name);
bool identity_covers(const struct identity *id, struct str name);

/* Whether it has every name of `other`. */
bool identity_has_all(const struct identity *id, const struct identity *other);

/* "RSA", "ECDSA", ... */
const char *identity_kind_name(const struct identity *id);

#endif
