/* Counts of the moment, by state, pool and upstream. */
#include "admin/status.h"

#include <inttypes.h>
#include <stdio.h>

#include "frontend/front.h"

static void status_print_endpoint(
    const struct front *f, const struct upstream_conf *u, size_t k, struct buf *b)
{
    struct endpoint *e = endpoints_find(f->exchanges.endpoints, u, &u->endpoints[k]);
    struct verdict_view v = { VERDICT_READY, 0 };

    if (e)
        v = endpoint_view(e, u);
    buf_printf(b, "%s\"" STR_FMT "\":{\"state\":\"%s\",\"wait_ms\":%" PRIu64 "}", k ? "," : "",
        STR_ARG(u->endpoints[k].name), verdict_state_name(v.state), v.wait_ms);
}

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
            struct endpoint *e = endpoints_find(f->exchanges.endpoints, u, &u->endpoints[k]);

            if (e)
                endpoint_counts_add(&c, e);
        }

        buf_printf(b,
            "%s\"" STR_FMT
            "\":{\"connections\":%zu,\"streams\":%zu,\"waiting\":%zu,\"endpoints\":{",
            i ? "," : "", STR_ARG(u->name), c.connections, c.streams, c.waiting);
        for (size_t k = 0; k < u->nendpoints; k++)
            status_print_endpoint(f, u, k, b);
        buf_append_str(b, STR("}}"));
    }
    buf_printf(b, "},\"sandbox\":{\"seccomp\":%s,\"landlock\":%u}}\n",
        p->seccomp ? "true" : "false", p->landlock);
}
