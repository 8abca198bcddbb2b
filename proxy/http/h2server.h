/* A client's HTTP/2 connection: many requests at a time, each as a stream. It owns itself and its
 * conn, and ends when the client, a deadline, the drain or its own misbehaviour ends it. */
#ifndef TARRY_HTTP_H2SERVER_H
#define TARRY_HTTP_H2SERVER_H

#include "http/acceptor.h"
#include "net/conn.h"

/* Takes over `conn` (from conn_accept()), which may hold input already. 0, or -1 if there is no
 * memory (`conn` is closed then). */
int h2_server_open(struct conn *conn, struct acceptor *a);

#endif
