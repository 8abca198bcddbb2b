/* The process's one world: what main.c makes and everybody else is handed. */
#ifndef PROVIDER_PROVIDER_H
#define PROVIDER_PROVIDER_H

#include <ev.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>

#include "fault.h"
#include "list.h"
#include "options.h"
#include "store.h"

/* What /stats shows. /stats and /health themselves are not counted. */
struct tally {
    uint64_t requests, in_flight, peak_in_flight;
    uint64_t connections, peak_connections, all_connections, h2_streams;
    uint64_t faults;
};

struct provider {
    struct ev_loop *loop;
    struct options options;
    SSL_CTX *tls; /* NULL without --https */
    FILE *record; /* NULL without --record */
    struct fault_counts counts;
    struct tally tally;
    struct store store;
    uint64_t serial; /* of the last request; begins somewhere at random so that ids differ between
                        runs */

    struct list peers; /* all that are open */
    struct list ready; /* those with something to write, flushed before the loop sleeps */
    ev_prepare flush;
    char scratch[65536]; /* for one read or one pull */
};

#endif
