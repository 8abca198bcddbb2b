/* The operators' pages, over listeners of their own: GET /metrics (Prometheus text or OpenMetrics),
 * /status (JSON), /livez, /readyz and /healthz. Never on a client's listener, and nothing here
 * changes anything: that is what the control socket is for (control.h).
 *
 * admin/ reads what the other rooms count. */
#ifndef TARRY_ADMIN_ADMIN_H
#define TARRY_ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/snapshot.h"

struct admin;
struct front;

struct admin_setup {
    struct front *front;
    const char *version, *commit;  /* literals */
    size_t slot;                   /* this process's number, for its control socket */
    void (*on_drain)(void *owner); /* asked for over the control socket */
    void *owner;
};

/* Listens on every `admin` section's address. NULL with one line in `why`. */
struct admin *admin_open(
    const struct admin_setup *setup, const struct conf *conf, char *why, size_t whylen);

/* A reload: binds what is new in `next` (0, or -1 with one line in `why` and nothing changed), then
 * takes it into use, or forgets it. Listeners that are in both confs stay open. */
int admin_prepare(struct admin *a, const struct conf *next, char *why, size_t whylen);
void admin_commit(struct admin *a);
void admin_abandon(struct admin *a);

/* For /status: the kernel's sandboxes around the process (landlock: its version, 0: none). */
void admin_set_sandbox(struct admin *a, bool seccomp, unsigned landlock);

/* Publishes this process's levels (connections, exchanges, slots) for the scrape of any process. */
void admin_publish(struct admin *a);

/* The process is stopping: /readyz and /healthz answer 503 from now on. */
void admin_stop(struct admin *a);

/* NULL: nothing. */
void admin_close(struct admin *a);

#endif
