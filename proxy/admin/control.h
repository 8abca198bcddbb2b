/* What tarryctl asks of a process, over a unix socket that only those of its mode and group can
 * reach. Whatever changes something is done here and nowhere else.
 *
 *   GET  /exchanges /workers /upstreams /conf /errors /process     text, or JSON with "?json"
 *   POST /drain /pause/POOL /resume/POOL /cancel/EXCHANGE /log/LEVEL */
#ifndef TARRY_ADMIN_CONTROL_H
#define TARRY_ADMIN_CONTROL_H

#include "http/stream.h"

struct front;

struct control {
    struct front *front;
    void (*on_drain)(void *owner); /* as SIGTERM */
    void *owner;
};

/* A request on the control socket: answers it. */
void control_answer(struct control *c, struct stream *s, const struct stream_request *r);

#endif
