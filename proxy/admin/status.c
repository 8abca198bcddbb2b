/* Counts of the moment, by state, pool and upstream. */
#include "admin/status.h"

#include <stdio.h>

#include "frontend/front.h"

void status_print(const struct front *f, const struct status_process *p, struct buf *b)
{
    buf_printf(b, "{\"stopping\":%s,\"exchanges\":{", p->stopping ? "true" : "false");
    for (size_t i = 0; i < EX_DONE; i++)
        buf_printf(b, "%s\"%s\":%zu", i ? "," : "", ex_state_name((enum ex_state)i),
            f->exchanges.by_state[i].count);
    buf_printf(b, "},\"pools\":{");
    for (size_t i = 0; i < front_conf(f)->npools; i++) {
        struct str name = front_conf(f)->pools[i].name;
        const struct pool *pool = pools_find(f->exchanges.pools, name);
        struct pool_counts c = pool ? pool_counts(pool) : (struct pool_counts){ 0 };

        buf_printf(b,
            "%s\"" STR_FMT
            "\":{\"slots\":%zu,\"busy\":%zu,\"abandoned\":%zu,\"queued_resumes\":%zu,"
            "\"queued_new\":%zu,"
            "\"servers\":%zu,\"servers_paused\":%zu}",
            i ? "," : "", STR_ARG(name), c.slots, c.busy, c.abandoned, c.queued_ahead, c.queued_new,
            c.servers, c.servers_paused);
    }
    buf_printf(b, "},\"upstreams\":{");
    for (size_t i = 0; i < front_conf(f)->nupstreams; i++) {
        const struct upstream_conf *u = &front_conf(f)->upstreams[i];
        struct endpoint_counts c = { 0 };

        for (size_t k = 0; k < u->nendpoints; k++) {
            const struct endpoint *e = endpoints_find(f->exchanges.endpoints, u, &u->endpoints[k]);

            if (e)
                endpoint_counts_add(&c, e);
        }

        buf_printf(b, "%s\"" STR_FMT "\":{\"connections\":%zu,\"streams\":%zu,\"waiting\":%zu}",
            i ? "," : "", STR_ARG(u->name), c.connections, c.streams, c.waiting);
    }
    buf_printf(b, "},\"sandbox\":{\"seccomp\":%s,\"landlock\":%u}}\n",
        p->seccomp ? "true" : "false", p->landlock);
}
