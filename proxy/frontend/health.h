/* Whether this process is to be sent requests. */
#ifndef TARRY_FRONTEND_HEALTH_H
#define TARRY_FRONTEND_HEALTH_H

#include <stdbool.h>

#include "conf/snapshot.h"
#include "workers/pool.h"

enum { HEALTH_TEXT_MAX = 160 };

struct health {
    const struct conf *conf;
    struct pools *pools;
    bool stopping;
};

/* 200, or 503 with the reason in `text`: it stops, or no server of a pool that is required can be
 * reached. */
unsigned health_ready(const struct health *h, char text[HEALTH_TEXT_MAX]);

/* What a route with `health` answers: a status and one line of text. */
unsigned health_answer(const struct health *h, enum route_health kind, char text[HEALTH_TEXT_MAX]);

#endif
