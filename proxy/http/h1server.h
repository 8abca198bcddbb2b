/* A client's HTTP/1.1 connection: requests one after the other (pipelined ones wait in the socket),
 * each as a stream. It owns itself and its conn, and ends when the client, a deadline or the drain
 * ends it. */
#ifndef TARRY_HTTP_H1SERVER_H
#define TARRY_HTTP_H1SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "http/h1parse.h"
#include "http/stream.h"
#include "net/conn.h"

/* What all connections of a front share. The front owns it and may change limits in place: they
 * hold from the next request. */
struct h1_acceptor {
    struct h1_limits limits;
    uint64_t header_timeout_ms;     /* for a whole head, from its first byte (or from the accept) */
    uint64_t body_timeout_ms;       /* between two reads of a body */
    uint64_t send_timeout_ms;       /* a client that takes nothing */
    uint64_t keep_alive_timeout_ms; /* between requests */
    stream_accept_fn *on_request;
    void *owner;
    bool draining;    /* each connection ends with the response that it is at */
    struct list idle; /* connections between requests, longest idle first */
    struct list busy;
};

void h1_acceptor_init(struct h1_acceptor *a);

/* Ends idle connections now and busy ones with their response. */
void h1_acceptor_drain(struct h1_acceptor *a);

/* Cuts all connections; their streams' owners get STREAM_FAILED. */
void h1_acceptor_close(struct h1_acceptor *a);

/* Takes over `conn` (from conn_accept()). 0, or -1 if there is no memory (`conn` is closed then).
 */
int h1_server_open(struct conn *conn, struct h1_acceptor *a);

#endif
