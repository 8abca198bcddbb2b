/* Where clients connect: the listeners of the conf with what their connections begin with, the
 * connections whose proxy has yet to say who the client is, and how many an address may have. A
 * connection that is let in goes to the acceptor. Embedded in the front. */
#ifndef TARRY_FRONTEND_ENTRY_H
#define TARRY_FRONTEND_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "conf/snapshot.h"
#include "http/acceptor.h"
#include "net/addrlimit.h"
#include "net/listener.h"
#include "net/sni.h"
#include "net/tickets.h"

struct entry {
    const struct conf *conf;    /* in force */
    struct acceptor *acceptor;  /* where connections go */
    struct addrlimit addresses; /* the clients' connections, by address */
    struct list listeners;      /* struct entry_listener */
    struct list next_listeners; /* prepared by a reload */
    struct list draining;       /* they accept what waits in their backlog, and close */
    struct list pending;        /* connections whose proxy has not said yet who the client is */
    struct tickets *tickets;    /* keys of TLS sessions, shared by all processes; NULL: no TLS */
    size_t connections_max;     /* max_connections, or fewer where the descriptors do not suffice */
    uint64_t complained_ms;     /* of refused connections, in the log; 0: never */
    void (*on_connection)(void *owner); /* one more */
    void *owner;
    bool reuse_port, started;
};

void entry_init(struct entry *e, struct acceptor *acceptor, struct tickets *tickets,
    bool reuse_port, void (*on_connection)(void *owner), void *owner);

/* The parts of a reload. `prepare` binds what is new and makes the TLS contexts; nothing that is in
 * use changes. 0, or -1 with one line in `why`. */
int entry_prepare(struct entry *e, struct conf *next, char *why, size_t whylen);
void entry_commit(struct entry *e, struct conf *next);
void entry_abandon(struct entry *e);

/* Begins to accept. */
void entry_start(struct entry *e);

/* Stops accepting. */
void entry_stop(struct entry *e);
void entry_close(struct entry *e);

/* Connections, those that are pending included. */
size_t entry_count(const struct entry *e);

/* Whether a listener still has connections to accept though it has been stopped. */
bool entry_is_draining(const struct entry *e);

/* Whether a connection from `a` may come in: counts it among those of its address, in `p`, and logs
 * it if it may not. On the accept; and again if it turns out that it comes from elsewhere. */
bool entry_admits(struct entry *e, struct addrlimit_slot *p, const struct addr *a);

/* Each listener with a certificate. */
typedef void entry_sni_fn(void *owner, struct str listener, const struct sni *sni);
void entry_each_sni(const struct entry *e, entry_sni_fn *fn, void *owner);

#endif
