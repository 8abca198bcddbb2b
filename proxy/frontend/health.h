/* Whether this process is to be sent requests. */
#ifndef TARRY_FRONTEND_HEALTH_H
#define TARRY_FRONTEND_HEALTH_H

#include <stddef.h>

#include "frontend/front.h"

enum { HEALTH_TEXT_MAX = 160 };

/* 200, or 503 with the reason in `text`: it stops, or no server of a pool that is required can be
 * reached. */
unsigned health_ready(const struct front *f, char text[HEALTH_TEXT_MAX]);

/* What a route with `health` answers: a status and one line of text. */
unsigned health_answer(const struct front *f, enum route_health kind, char text[HEALTH_TEXT_MAX]);

#endif
