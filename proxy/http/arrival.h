/* A client's connection whose version is not known yet. Over TLS, ALPN decides; in the clear it is
 * HTTP/2 if the client begins with its preface (RFC 9113 3.3: prior knowledge), else HTTP/1.1.
 * "Upgrade: h2c" is not known here. It belongs to itself, is on the acceptor's list, and ends when
 * a server takes the connection over. */
#ifndef TARRY_HTTP_ARRIVAL_H
#define TARRY_HTTP_ARRIVAL_H

#include <stdbool.h>

#include "http/acceptor.h"
#include "net/conn.h"

/* Takes over `conn` (from conn_accept()) and serves it; HTTP/2 only if `http2`. 0, or -1 if there
 * is no memory (`conn` is closed then). */
int arrival_take(struct acceptor *a, struct conn *conn, bool http2);

#endif
