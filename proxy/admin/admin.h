/* The operators' page, over listeners of its own: GET /metrics (Prometheus text), GET /status
 * (JSON), GET /healthz. Never on a client's listener.
 *
 * admin/ reads what the other rooms count; it changes nothing. */
#ifndef TARRY_ADMIN_ADMIN_H
#define TARRY_ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/snapshot.h"

struct front;

/* Listens on every `admin` section's address. 0, or -1 with one line in `why`. */
int admin_open(struct front *front, const struct conf *conf, char *why, size_t whylen);

/* A reload: binds what is new in `next` (0, or -1 with one line in `why` and nothing changed), then
 * takes it into use, or forgets it. Listeners that are in both confs stay open. */
int admin_prepare(const struct conf *next, char *why, size_t whylen);
void admin_commit(void);
void admin_abandon(void);

/* For /status: the fences that the kernel keeps around the process (landlock: its version, 0:
 * none).
 */
void admin_set_fences(bool seccomp, unsigned landlock);

/* Shows this process's levels (connections, exchanges, slots) to the others, one of which may be
 * asked for the metrics of all. */
void admin_publish(void);

/* The process is stopping: /healthz answers 503 from now on. */
void admin_stop(void);
void admin_close(void);

#endif
