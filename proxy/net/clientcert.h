/* Certificates of clients at a listener: which authorities may have signed them, how they are asked
 * for, and what workers are told of a client that has shown one. */
#ifndef TARRY_NET_CLIENTCERT_H
#define TARRY_NET_CLIENTCERT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/str.h"
#include "conf/snapshot.h"

enum { CLIENTCERT_DIGEST_N = 32 };

struct clientcert {
    X509_STORE *authorities; /* NULL: clients are asked for none */
    bool required;
    int chain_max;
    unsigned char digest[CLIENTCERT_DIGEST_N]; /* of all of it: other rules have another one */
};

/* Reads the listener's client_ca_file, if clients are asked. False with one line in `why`; end it
 * with clientcert_release() in any case. */
bool clientcert_read(
    struct clientcert *c, const struct listen_conf *listen, char *why, size_t whylen);
void clientcert_release(struct clientcert *c);

/* Lets the context's connections ask for certificates. False if there is no memory. Its tickets
 * must carry `digest` in the session's context, so that clients admitted under other rules are
 * verified again. */
bool clientcert_demand(struct clientcert *c, SSL_CTX *ctx);

/* The subject as text (RFC 4514, all but visible ASCII escaped), and the SHA-256 of the certificate
 * in hex, in `a`. False if there is no memory. */
bool clientcert_describe(
    X509 *certificate, struct arena *a, struct str *subject, struct str *fingerprint);

#endif
