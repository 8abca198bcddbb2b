/* A client's HTTP/1.1 connection: requests one after the other (pipelined ones wait in the socket),
 * each as a stream. It owns itself and its conn, and ends when the client, a deadline or the drain
 * ends it. */
#ifndef TARRY_HTTP_H1SERVER_H
#define TARRY_HTTP_H1SERVER_H

#include "http/acceptor.h"
#include "net/conn.h"

/* Takes over `conn` (from conn_accept()), which may hold input already. 0, or -1 if there is no
 * memory (`conn` is closed then). */
int h1_server_open(struct conn *conn, struct acceptor *a);

#endif
