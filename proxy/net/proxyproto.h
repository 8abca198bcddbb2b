/* The PROXY protocol's header, versions 1 and 2: what a proxy in front of Tarry says about the
 * connection that it passes on, before the first byte of TLS or HTTP. Bytes to result, no I/O.
 *
 * The caller believes it only of peers that the conf trusts. */
#ifndef TARRY_NET_PROXYPROTO_H
#define TARRY_NET_PROXYPROTO_H

#include <sys/types.h>

#include "base/str.h"
#include "net/addr.h"

enum proxyproto_kind {
    PROXYPROTO_CLIENT,  /* the proxy passes on what `client` sends */
    PROXYPROTO_LOCAL,   /* the proxy speaks for itself, as for health checks */
    PROXYPROTO_UNKNOWN, /* it passes on what somebody sends, and cannot say who */
};

struct proxyproto {
    enum proxyproto_kind kind;
    struct addr client; /* of PROXYPROTO_CLIENT; IPv4 in IPv6 is IPv4, as elsewhere */
};

enum {
    PROXYPROTO_V1_MAX = 107, /* with CR and LF */
    PROXYPROTO_MAX = 4096,   /* of version 2; the protocol allows more, nobody sends it */
};

enum proxyproto_error {
    PROXYPROTO_E_NONE = -1, /* it begins with something else */
    PROXYPROTO_E_TOO_LONG = -2,
    PROXYPROTO_E_SYNTAX = -3, /* version 1 */
    PROXYPROTO_E_VERSION = -4,
    PROXYPROTO_E_COMMAND = -5,
    PROXYPROTO_E_FAMILY = -6,  /* no stream, or unknown */
    PROXYPROTO_E_ADDRESS = -7, /* shorter than its family's */
    PROXYPROTO_E_TLV = -8,     /* a field reaches beyond the header */
    PROXYPROTO_E_CHECKSUM = -9,
};

/* Reads the header that `in` begins with. How many bytes it has; 0: more are needed; or an error.
 */
ssize_t proxyproto_parse(struct str in, struct proxyproto *out);

const char *proxyproto_strerror(int error);

#endif
