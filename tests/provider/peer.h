/* One accepted socket, plain or TLS. It finds out which version of HTTP is spoken and hands the
 * bytes to h1 or h2. It owns itself: it ends when the other side goes, or when its protocol says
 * so. What is to be written is gathered and goes out once a turn, before the loop sleeps. */
#ifndef PROVIDER_PEER_H
#define PROVIDER_PEER_H

#include <ev.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "list.h"
#include "text.h"

struct peer;
struct provider;

/* h1 and h2. None of these may close the peer but by what it returns or by peer_finish(). */
struct peer_protocol {
    /* False: the connection is of no use any more. */
    bool (*data)(struct peer *peer, const char *p, size_t n);
    /* Fills `out` up to about PEER_OUT_MAX, if there is something to say. */
    void (*fill)(struct peer *peer);
    /* It has ended, for a reason in a word; frees peer->state. */
    void (*gone)(struct peer *peer, const char *how);
};

#define PEER_OUT_MAX 65536

struct peer {
    struct list link, ready; /* in the provider's lists */
    struct provider *provider;
    const struct peer_protocol *protocol; /* NULL until it is known */
    void *state;                          /* the protocol's */
    uint64_t number;                      /* counted from 1 */
    int fd;
    SSL *ssl; /* NULL: plain */
    ev_io io;
    ev_timer timer;    /* the next dripped byte, or the end of lingering */
    struct text early; /* plain: what came before the protocol was known */
    struct text out;
    size_t out_at;
    uint64_t drip_ms;
    bool dripping;   /* one byte a time, as drip_ms says, until all is out that came before … */
    bool drip_ends;  /* … this was set */
    bool handshaken; /* or plain */
    bool finishing;  /* close once `out` is empty */
    bool lingering;  /* our side is closed, theirs is awaited */
    bool silent;     /* nothing goes out any more */
};

/* Takes the socket. */
void peer_accept(struct provider *provider, int fd, SSL_CTX *tls);
/* There is something to write: it is flushed before the loop sleeps. */
void peer_touch(struct peer *peer);
/* Closes when all of `out` is written; `fill` is no longer asked. */
void peer_finish(struct peer *peer);
/* From now on one byte each `ms`; after peer_drip_end() until `out` is empty. */
void peer_drip(struct peer *peer, uint64_t ms);
void peer_drip_end(struct peer *peer);
/* Frees it at once. `hard`: with a TCP reset. */
void peer_close(struct peer *peer, const char *how, bool hard);

/* Starts and stops the flushing of all peers; stopping closes them. */
void peer_start_all(struct provider *provider);
void peer_stop_all(struct provider *provider);

#endif
