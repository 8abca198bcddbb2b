#ifndef TARRY_BENCH_PLAN_H
#define TARRY_BENCH_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include "sock.h"

/* What the load driver was told to do: its command line, read once at the start, and the requests
 * made from it. */

#define PLAN_HEADERS 32
#define PLAN_CLIENTS_MAX 15000

struct plan {
    struct sock_addr addr;
    char host[256]; /* the Host field */
    const char *path, *method, *expect, *body_template;
    const char *headers[PLAN_HEADERS];
    size_t nheaders;
    char *body; /* read from a file; owned */
    size_t body_len;
    size_t clients, requests;
    double ramp, timeout; /* seconds */
    bool keepalive, progress, json;
};

/* Fills `p` from the command line. 0 to go on, otherwise what to exit with plus one; says on
 * standard error why. */
int plan_read(struct plan *p, int argc, char **argv);
void plan_release(struct plan *p);

/* The bytes of request number `i` (from 1), malloc'd; NULL: no memory. */
char *plan_request(const struct plan *p, size_t i, size_t *len);

/* What its answer must hold, written to `buf`. */
void plan_expected(const struct plan *p, size_t i, char *buf, size_t n);

#endif
