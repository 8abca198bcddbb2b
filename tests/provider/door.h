/* A listening socket. */
#ifndef PROVIDER_DOOR_H
#define PROVIDER_DOOR_H

#include <ev.h>
#include <openssl/ssl.h>

struct provider;

struct door {
    struct provider *provider;
    SSL_CTX *tls; /* NULL: plain */
    ev_io io;
    ev_timer rest;     /* when there are no descriptors left */
    int fd;            /* -1: closed */
    char address[160]; /* what was bound, with the port that the system chose */
};

/* 0, or -1 with a line on standard error. `address` is as in struct options. */
int door_open(struct door *door, struct provider *provider, const char *address, SSL_CTX *tls);
void door_close(struct door *door);

#endif
