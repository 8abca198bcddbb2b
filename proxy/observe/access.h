/* The access log: one line an exchange, when it ends. */
#ifndef TARRY_OBSERVE_ACCESS_H
#define TARRY_OBSERVE_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "conf/snapshot.h"

struct access_entry {
    const char *exchange;
    const char *peer;                  /* without the port */
    const char *client;                /* the peer, or whom trusted proxies name in its place */
    struct str host;                   /* as the request names it; empty: it does not */
    struct str request_id;             /* X-Request-Id, as the workers get it */
    const char *trace;                 /* the id of its trace; "": it is in none */
    struct str label;                  /* Tarry-Label of a worker; empty: none */
    struct str method, path, protocol; /* path: the target as received */
    struct str user_agent, referer;
    struct str route;    /* the pool's or (gateway) upstream's name */
    struct str upstream; /* the name of the last call's; empty: no call */
    struct str end;      /* how it ended, in a word */
    const char *code;    /* the same in two letters */
    uint64_t started_wall_ms;
    unsigned status;              /* 0: nothing was sent */
    uint64_t bytes_in, bytes_out; /* of bodies */
    unsigned hops, calls;
    uint64_t queue_us, worker_us, parked_us, total_us;
    struct str endpoint;        /* of the last call; empty: no call */
    unsigned attempts;          /* of all calls together */
    unsigned upstream_status;   /* of the last call; 0: no answer */
    struct str service_id;      /* the service's id of that request; empty: none */
    uint64_t upstream_queue_ms; /* waited for limits of upstreams, all calls together */
    uint64_t first_content_ms;  /* of the last call, from its start; 0: none */
    /* As the services reported them, sums over all calls; `known`: whether one has said it. */
    struct access_tokens {
        uint64_t n;
        bool known;
    } input_tokens, output_tokens, cached_tokens, reasoning_tokens;
};

/* Opens the target in the conf. 0, or -1 with errno: the old target stays. */
int access_open(const struct log_target *target, enum access_format format);
/* As log_set_buffer_max(). */
void access_set_buffer_max(size_t n);

int access_reopen(void);
void access_close(void); /* writes buffered lines first */

/* Whether the access log is on. */
bool access_enabled(void);

/* Gathered in memory until access_flush(): many lines leave in one system call. */
void access_write(const struct access_entry *e);

/* True if no lines are left; otherwise it must be called again later. */
bool access_flush(void);

#endif
