/* Pools are looked at at the moment of the question. */
#include "frontend/health.h"

#include <stdio.h>

/* A pool that the conf calls required, and none of whose servers can be reached. */
static const struct pool_conf *health_find_lost_pool(const struct health *h)
{
    const struct conf *c = h->conf;

    for (size_t i = 0; i < c->npools; i++) {
        const struct pool *p =
            c->pools[i].required_for_ready ? pools_find(h->pools, c->pools[i].name) : NULL;

        if (p && pool_counts(p).servers == pool_counts(p).servers_paused)
            return &c->pools[i];
    }
    return NULL;
}

unsigned health_ready(const struct health *h, char text[HEALTH_TEXT_MAX])
{
    const struct pool_conf *lost = health_find_lost_pool(h);

    if (h->stopping)
        snprintf(text, HEALTH_TEXT_MAX, "stopping\n");
    else if (lost)
        snprintf(text, HEALTH_TEXT_MAX, "no server of the pool \"" STR_FMT "\" can be reached\n",
            STR_ARG(lost->name));
    else
        snprintf(text, HEALTH_TEXT_MAX, "ok\n");
    return h->stopping || lost ? 503 : 200;
}

unsigned health_answer(const struct health *h, enum route_health kind, char text[HEALTH_TEXT_MAX])
{
    if (kind == ROUTE_HEALTH_READY)
        return health_ready(h, text);
    snprintf(text, HEALTH_TEXT_MAX, "ok\n");
    return 200;
}
