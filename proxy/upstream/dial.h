/* One attempt to reach a host: resolve its name, try its addresses in turn (RFC 8305), shake hands,
 * all within one time limit. With a proxy on the way it is the proxy's name and addresses, and the
 * handshake is in the tunnel. Belongs to the link that it is to fill, which ends it with
 * dial_close(), unless it has told how it ended: then it is gone by itself. */
#ifndef TARRY_UPSTREAM_DIAL_H
#define TARRY_UPSTREAM_DIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "http/stream.h"
#include "net/conn.h"
#include "net/resolver.h"
#include "net/tls.h"

struct dial;

/* Borrowed: outlives the dial. */
struct dial_proxy {
    struct str host; /* empty: there is none */
    uint16_t port;
    struct str authorization;
};

struct dial_target {
    struct dial_proxy proxy; /* asked for a tunnel to the host, whose name it resolves */
    struct str host;         /* a name or an address literal without brackets; copied */
    uint16_t port;
    struct tls_peer *tls; /* NULL: plain */
    bool http2;           /* h2 was offered */
    bool private_only;    /* refuse addresses that are not private */
    uint64_t timeout_ms;
};

/* `conn`: connected; its owner is still the dial, the new one takes it over within the call. NULL:
 * `error` and `why` say why not, until the call returns. Never from within dial_open(). */
typedef void dial_done_fn(void *owner, struct conn *conn, enum stream_error error, const char *why);

/* NULL if there is no memory. */
struct dial *dial_open(
    struct resolver *r, const struct dial_target *t, dial_done_fn *on_done, void *owner);
void dial_close(struct dial *d);

#endif
