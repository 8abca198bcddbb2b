/* Peers' addresses, small enough to keep one a connection. */
#ifndef TARRY_NET_ADDR_H
#define TARRY_NET_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/str.h"

struct addr {
    uint16_t family;      /* AF_INET, AF_INET6, AF_UNIX, or 0: unknown */
    uint16_t port;        /* host byte order */
    unsigned char ip[16]; /* network byte order; 4 or 16 bytes of it */
};

enum { ADDR_TEXT_MAX = 64 };

struct addr addr_of(const struct sockaddr *sa);

/* The sockaddr back; its length. AF_UNIX has no path. */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *out);

/* "192.0.2.1", "2001:db8::1", "unix"; without the port. Returns `out`. */
const char *addr_ip_text(const struct addr *a, char out[ADDR_TEXT_MAX]);

/* "192.0.2.1:80", "[2001:db8::1]:80", "unix:" or, of a sockaddr_un, "unix:PATH" (cut to fit).
 * Returns `out`. */
const char *addr_text(const struct sockaddr *sa, char *out, size_t n);

/* Reads "192.0.2.1", "192.0.2.1:80", "2001:db8::1" or "[2001:db8::1]:80"; the port is ignored.
 * False if it is none of these. */
bool addr_parse(struct str text, struct addr *out);

/* Whether it is of this machine: loopback, or a unix socket. */
bool addr_is_local(const struct addr *a);

/* Whether it is loopback, link-local or private (RFC 1918, RFC 4193): where plain http is allowed
 * to go. */
bool addr_is_private(const struct sockaddr *sa);

#endif
