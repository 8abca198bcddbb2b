/* Where this machine keeps the certificate authorities that it trusts. OpenSSL's default is one
 * path, fixed when it is built; a binary that runs on many distributions has to look. */
#ifndef TARRY_NET_CASTORE_H
#define TARRY_NET_CASTORE_H

#include <stdbool.h>

struct castore {
    bool builtin;     /* OpenSSL's own paths, or SSL_CERT_FILE and SSL_CERT_DIR */
    const char *file; /* otherwise; NULL: there is none. Static, or of the environment */
};

/* In this order: the environment, OpenSSL's default, the bundles of Debian, Red Hat, SUSE and
 * Alpine, and the file that TARRY_CA_FALLBACK names. */
struct castore castore_find(void);

#endif
