/* Where clients come in, and what a process has for them: the listeners, the acceptor, and all that
 * exchanges share. One a process.
 *
 * frontend/ is the way from a listener to an exchange. Read this file, then entry.h (listeners and
 * connections), admission.h (what a request must satisfy), reload.h, peak.h. */
#ifndef TARRY_FRONTEND_FRONT_H
#define TARRY_FRONTEND_FRONT_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/snapshot.h"
#include "exchange/exchange.h"
#include "frontend/entry.h"
#include "frontend/health.h"
#include "frontend/peak.h"
#include "http/acceptor.h"
#include "net/tickets.h"

struct front {
    struct exchanges exchanges; /* with the snapshot in force, the pools and the endpoints */
    struct acceptor acceptor;
    struct entry entry;
    struct peak peak;
    struct deadline drain_timer;
    void (*on_idle)(void *owner); /* while draining: nothing is in flight any more */
    void *owner;
    bool draining;
    bool stopping; /* it is to be sent no more requests; it may still take them (drain_delay) */
};

/* Binds every listener of `conf` and makes pools and endpoints; accepts nothing yet. A reference to
 * `conf` is taken; `tickets` outlives the front (NULL where no listener speaks TLS). `reuse_port`:
 * other processes serve the same addresses. 0, or -1 with one line in `why`. */
int front_open(struct front *f, struct conf *conf, struct tickets *tickets, bool reuse_port,
    char *why, size_t whylen);

/* Begins to accept. */
void front_start(struct front *f);

/* Takes a new snapshot into use: everything is prepared first, then all is swapped. 0, or -1 with
 * one line in `why` and nothing changed. */
int front_reload(struct front *f, struct conf *next, char *why, size_t whylen);

/* For health_ready() and health_answer(). */
struct health front_health(const struct front *f);

/* It will drain soon: whoever asks whether it is ready is told so. */
void front_announce_stop(struct front *f);

/* Stops accepting, ends idle connections, lets what is in flight finish; then on_idle, from the
 * loop. */
void front_drain(struct front *f, void (*on_idle)(void *owner), void *owner);

/* Cuts everything. Returns how many exchanges were still in flight. */
size_t front_close(struct front *f);

/* Exchanges in flight. */
size_t front_in_flight(const struct front *f);

/* The snapshot in force. */
static inline const struct conf *front_conf(const struct front *f)
{
    return f->exchanges.conf;
}

#endif
