/* A WebSocket as OpenAI's realtime API speaks it, over HTTP/1.1: a session, an answer to each
 * response.create, and an echo of everything else. */
#ifndef PROVIDER_REALTIME_H
#define PROVIDER_REALTIME_H

#include <stdbool.h>
#include <sys/types.h>

#include "ask.h"
#include "text.h"

/* Whether the request is a handshake for it, with a key and without a fault on demand. */
bool realtime_is_asked(const struct ask *ask);

/* Appends the answer to the handshake and the first event. */
void realtime_begin(const struct ask *ask, struct text *out);

/* Takes one frame from the beginning of `p`, which it may change, and appends what it is answered
 * with. The bytes used; 0: more are needed; -1: it is over, once `out` is written. */
ssize_t realtime_take(char *p, size_t n, struct text *out);

#endif
