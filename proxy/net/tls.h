/* TLS by OpenSSL: contexts, what is verified of a server, and sessions kept for resumption. The
 * handshake and the records are conn's; a listener's side is in sni.
 *
 * struct tls_client is one set of trusted authorities; clients of the same CA file share it. struct
 * tls_peer is one name to be reached under it: what goes into SNI, what the certificate must say,
 * and the tickets of earlier sessions. Both are reference-counted; connections
 * hold references of their own. Nothing is shared between peers but the authorities. */
#ifndef TARRY_NET_TLS_H
#define TARRY_NET_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

struct tls_client;
struct tls_peer;

/* Whom to trust, and what to show: paths. */
struct tls_terms {
    struct str ca_file; /* empty: the system's authorities. Each certificate in it is trusted as it
                           is, an intermediate or the server's own certificate too */
    struct str certificate, private_key; /* of ours; empty: none */
};

/* NULL with one line in `why` if a file cannot be read. */
struct tls_client *tls_client_new(const struct tls_terms *t, char *why, size_t whylen);
struct tls_client *tls_client_ref(struct tls_client *t);
void tls_client_unref(struct tls_client *t); /* NULL is allowed */

/* `host`: a name, or an address literal without brackets (no SNI is sent for those, RFC 6066 3).
 * NULL if there is no memory. */
struct tls_peer *tls_peer_new(struct tls_client *t, struct str host);
struct tls_peer *tls_peer_ref(struct tls_peer *p);
void tls_peer_unref(struct tls_peer *p); /* NULL is allowed */
struct tls_client *tls_peer_client(const struct tls_peer *p);

/* Whether both show the same certificate, or none; either may be NULL. */
bool tls_peer_same_identity(const struct tls_peer *a, const struct tls_peer *b);

/* For conn_open(), which takes it over. `http2`: ALPN offers h2 before http/1.1. Resumes an earlier
 * session if there is one; a TLS 1.3 ticket is used once (RFC 8446 C.4). NULL if there is no
 * memory. */
SSL *tls_peer_begin(struct tls_peer *p, bool http2);

/* What ALPN offers or takes, in its wire format (RFC 7301 3.1): http/1.1, and h2 before it if
 * `http2`. */
struct str tls_alpn(bool http2);

/* What contexts of both sides have in common: TLS 1.2 and up, forward secrecy, no renegotiation, no
 * compression, buffers given back between records. The caller ends it with SSL_CTX_free(). NULL if
 * there is no memory. */
SSL_CTX *tls_context_new(const SSL_METHOD *method);

/* Whether the failure that is on the thread's error queue is an alert by which the peer refuses our
 * certificate, or the lack of one. With TLS 1.3 it comes when the handshake is over for us. */
bool tls_refuses_certificate(const SSL *ssl);

/* Why the handshake or a record failed, in words: what is wrong with the peer's certificate, or
 * OpenSSL's own reason, which it takes off the thread's error queue: call it right after the
 * failure. Good until the next call. */
const char *tls_describe_error(const SSL *ssl);

#endif
