/* The TLS side of a listener: its certificates, and which of them a client is shown.
 *
 * There is a TLS context for each set of certificates that some name leads to: one certificate of
 * each kind of key that has the name, or covers it by a wildcard. The first context is the
 * listener's own, for clients that ask for no name or for an unknown one. A session is resumed only
 * in the context, and under the rules for clients' certificates, that it began with.
 *
 * struct sni is reference-counted; the listener holds a reference, and each connection has its
 * own: after a reload, established connections go on with the contexts that they began with. */
#ifndef TARRY_NET_SNI_H
#define TARRY_NET_SNI_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/arena.h"
#include "base/str.h"
#include "conf/snapshot.h"
#include "net/tickets.h"

struct sni;

/* For a listener with a certificate; reads its files anew. If nothing has changed since `present`
 * (NULL: there is none) was made, it is that, with one more reference: contexts cost milliseconds.
 * `tickets` outlives it. NULL with one line in `why`. */
struct sni *sni_new(const struct conf *conf, const struct listen_conf *listen, struct sni *present,
    struct tickets *tickets, char *why, size_t whylen);
struct sni *sni_ref(struct sni *s);
void sni_unref(struct sni *s); /* NULL is allowed */

/* Calls `say` with one line for each thing that an operator should know and that stops nothing: a
 * certificate that has expired or soon will, a staple that is of no use. `wall_ms`: now. */
void sni_inspect(const struct sni *s, uint64_t wall_ms, void (*say)(const char *line));

/* One of its certificates: a name in it, the kind of its key, when it ends (seconds since 1970). */
typedef void sni_certificate_fn(void *owner, const char *name, const char *kind, time_t ends);

void sni_each(const struct sni *s, sni_certificate_fn *fn, void *owner);

/* For conn_accept(), which takes it over. NULL if there is no memory. */
SSL *sni_begin(struct sni *s);

/* ---- of a connection that sni_begin() has begun; `ssl` NULL: one in the clear ---- */

/* The handshake is complete: gives back what only it needed. */
void sni_settle(SSL *ssl);

/* Whether a request for `host` (of its authority, without the port) came to the wrong place: it is
 * neither the name that the client asked for in the handshake, nor one that the certificates shown
 * have while no other site has it. Never so for clients that asked for no name. */
bool sni_is_misdirected(const SSL *ssl, struct str host);

/* The subject of the client's verified certificate as text (RFC 4514, all but visible ASCII
 * escaped), and the SHA-256 of the certificate in hex. False: it has shown none, or there is no
 * memory. In `a`. */
bool sni_client(const SSL *ssl, struct arena *a, struct str *subject, struct str *fingerprint);

/* Whether the client changes keys, or tries to negotiate anew, too often: cut it. */
bool sni_is_flooded(const SSL *ssl);

#endif
