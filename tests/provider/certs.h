/* The certificates that TLS shows: made once in a directory of the tests', by an authority that is
 * forgotten at once. */
#ifndef PROVIDER_CERTS_H
#define PROVIDER_CERTS_H

#include <openssl/ssl.h>
#include <stdbool.h>

/* Makes what the directory (itself included) lacks: ca.pem, leaf.pem with leaf.key for localhost,
 * its addresses and the services' names, and wrong.pem with wrong.key for wrong.invalid. Several
 * processes may do this at once. 0, or -1 with a line on standard error. */
int certs_make(const char *dir);

/* A context that shows the leaf, and speaks h2 by ALPN if it may. NULL with a line on standard
 * error. */
SSL_CTX *certs_context(const char *dir, bool wrong_name, bool h2);

#endif
