/* Published into the slot of observe/metric.h. */
#include "admin/levels.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "frontend/front.h"
#include "http/encoder.h"
#include "net/loop.h"
#include "observe/metric.h"
#include "upstream/ledger.h"

static struct {
    int statm;        /* /proc/self/statm, which cannot be opened within the sandbox; -1: none */
    DIR *descriptors; /* /proc/self/fd */
    uint64_t cpu_us;  /* published already */
} levels = { .statm = -1 };

void levels_open(void)
{
    levels.statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    levels.descriptors = opendir("/proc/self/fd");
}

void levels_close(void)
{
    if (levels.statm >= 0)
        close(levels.statm);
    if (levels.descriptors)
        closedir(levels.descriptors);
    levels.statm = -1;
    levels.descriptors = NULL;
}

static void levels_set(enum metric m, size_t value, struct str a, struct str b)
{
    metric_set(m, value, METRIC_LABELS(a, b));
}

static void levels_publish_process(void)
{
    char text[128] = "";
    struct rusage ru;
    struct rlimit nofile;
    unsigned long size = 0, resident = 0;
    size_t n = 0;

    if (levels.statm >= 0 && pread(levels.statm, text, sizeof(text) - 1, 0) > 0 &&
        sscanf(text, "%lu %lu", &size, &resident) == 2)
        metric_set(METRIC_MEMORY, resident * (unsigned long)sysconf(_SC_PAGESIZE), NULL);
    if (levels.descriptors) {
        rewinddir(levels.descriptors);
        while (readdir(levels.descriptors))
            n++;
        metric_set(METRIC_DESCRIPTORS, n > 2 ? n - 2 : 0, NULL); /* without "." and ".." */
    }
    if (getrlimit(RLIMIT_NOFILE, &nofile) == 0)
        metric_set(METRIC_DESCRIPTORS_MAX, nofile.rlim_cur, NULL);
    if (getrusage(RUSAGE_SELF, &ru) == 0) {
        uint64_t us = (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000 +
                      (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);

        metric_add(METRIC_CPU, us - levels.cpu_us, NULL);
        levels.cpu_us = us;
    }
    metric_set(METRIC_PROCESSES, 1, NULL);
    metric_observe(METRIC_LOOP_TURN, loop_take_longest_turn_us(), NULL);
}

static void levels_publish_pools(const struct front *f)
{
    for (size_t i = 0; i < front_conf(f)->npools; i++) {
        const struct pool_conf *pc = &front_conf(f)->pools[i];
        const struct pool *p = pools_find(f->exchanges.pools, pc->name);
        struct pool_counts c = p ? pool_counts(p) : (struct pool_counts){ 0 };

        levels_set(METRIC_POOL_SLOTS, c.busy, pc->name, STR("busy"));
        levels_set(METRIC_POOL_SLOTS, c.abandoned, pc->name, STR("abandoned"));
        levels_set(METRIC_POOL_SLOTS, c.slots, pc->name, STR("all"));
        levels_set(METRIC_POOL_QUEUE, c.queued_ahead, pc->name, STR("resume"));
        levels_set(METRIC_POOL_QUEUE, c.queued_new, pc->name, STR("new"));
        levels_set(METRIC_POOL_QUEUE_MAX, pc->queue_max, pc->name, STR(""));
        levels_set(METRIC_POOL_SERVERS, c.servers, pc->name, STR("all"));
        levels_set(METRIC_POOL_SERVERS, c.servers_paused, pc->name, STR("paused"));
    }
}

static void levels_publish_upstreams(const struct front *f)
{
    for (size_t i = 0; i < front_conf(f)->nupstreams; i++) {
        const struct upstream_conf *u = &front_conf(f)->upstreams[i];
        struct endpoint_counts c = { 0 };
        struct pacer_counts paced;

        for (size_t k = 0; k < u->nendpoints; k++) {
            struct endpoint *e = endpoints_find(f->exchanges.endpoints, u, &u->endpoints[k]);

            if (!e)
                continue;
            endpoint_counts_add(&c, e);
            metric_set(METRIC_ENDPOINT_STATE, 1,
                METRIC_LABELS(u->name, u->endpoints[k].name,
                    str_of(verdict_state_name(endpoint_view(e, u).state))));
        }
        levels_set(METRIC_UPSTREAM_CONNECTIONS, c.connections, u->name, STR(""));
        levels_set(METRIC_UPSTREAM_STREAMS, c.streams, u->name, STR(""));
        levels_set(METRIC_UPSTREAM_WAITING, c.waiting, u->name, STR(""));
        paced = pacer_counts(endpoints_pacer(f->exchanges.endpoints), u->name);
        levels_set(METRIC_UPSTREAM_QUEUE, paced.waiting, u->name, STR(""));
        levels_set(METRIC_UPSTREAM_TENANTS, paced.tenants, u->name, STR(""));
    }
}

void levels_publish(const struct front *f)
{
    for (size_t i = 0; i < EX_DONE; i++)
        levels_set(METRIC_EXCHANGES, f->exchanges.by_state[i].count,
            str_of(ex_state_name((enum ex_state)i)), STR(""));
    metric_set(METRIC_CLIENT_CONNECTIONS, acceptor_count(&f->acceptor), NULL);
    metric_set(METRIC_CLIENT_CONNECTIONS_MAX, f->entry.connections_max, NULL);
    metric_set(METRIC_CLIENT_NEWCOMERS, f->entry.addresses.pending, NULL);
    metric_set(METRIC_CLIENT_ADDRESSES, f->entry.addresses.nentries, NULL);
    meter_catch_up();
    metric_set(METRIC_LIMIT_KEYS, meter_keys(), NULL);
    metric_set(METRIC_LIMIT_CALLS, meter_calls(), NULL);
    metric_set(METRIC_COMPRESSION_MEMORY, encoder_memory(), NULL);
    metric_set(METRIC_COMPRESSION_MEMORY_MAX, front_conf(f)->compression.memory_max, NULL);
    levels_publish_pools(f);
    levels_publish_upstreams(f);
    metric_set(METRIC_VERDICTS, ledger_counts().used, NULL);
    metric_set(METRIC_VERDICTS_MAX, ledger_counts().all, NULL);
    levels_publish_process();
    metric_sweep_gauges();
}

/* ---- of this process alone ---- */

/* Passed along to the lines about certificates. */
struct shown {
    struct buf *b;
    struct str listener;
};

static void levels_put_certificate(void *owner, const char *name, const char *kind, time_t ends)
{
    const struct shown *s = owner;

    buf_printf(s->b,
        "tarry_certificate_expiry_timestamp_seconds{listener=\"" STR_FMT
        "\",name=\"%s\",key=\"%s\"} %" PRId64 "\n",
        STR_ARG(s->listener), name, kind, (int64_t)ends);
}

static void levels_put_sni(void *owner, struct str listener, const struct sni *contexts)
{
    sni_each(contexts, levels_put_certificate, &(struct shown){ owner, listener });
}

void levels_print_own(const struct front *f, struct buf *b, const char *version, const char *commit)
{
    buf_printf(b,
        "# HELP tarry_build_info The version that runs\n# TYPE tarry_build_info gauge\n"
        "tarry_build_info{version=\"%s\",commit=\"%s\"} 1\n",
        version, commit);
    buf_printf(b,
        "# HELP tarry_certificate_expiry_timestamp_seconds When a certificate of a listener ends\n"
        "# TYPE tarry_certificate_expiry_timestamp_seconds gauge\n");
    entry_each_sni(&f->entry, levels_put_sni, b);
}
