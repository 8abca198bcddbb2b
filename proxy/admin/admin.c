/* Three small pages on HTTP/1.1 connections of their own. */
#include "admin/admin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "frontend/front.h"
#include "http/encoder.h"
#include "http/limits.h"
#include "http/h1server.h"
#include "net/conn.h"
#include "observe/counter.h"

/* A listener of an `admin` section. */
struct wicket {
    struct list_node node;
    struct listener *listener;
    bool stays;
};

static struct {
    struct front *front;
    struct acceptor acceptor;
    struct list wickets, next;
    bool stopping;
    bool seccomp;
    unsigned landlock;
} admin;

/* What a line about a certificate is made of. */
struct shown {
    struct buf *b;
    struct str listener;
};

static void admin_put_certificate(void *owner, const char *name, const char *kind, time_t ends)
{
    const struct shown *s = owner;

    buf_printf(s->b,
        "tarry_certificate_expiry_timestamp_seconds{listener=\"" STR_FMT
        "\",name=\"%s\",key=\"%s\"} %" PRId64 "\n",
        STR_ARG(s->listener), name, kind, (int64_t)ends);
}

static void admin_put_sni(void *owner, struct str listener, const struct sni *sites)
{
    sni_each(sites, admin_put_certificate, &(struct shown){ owner, listener });
}

static void admin_metrics(struct buf *b)
{
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        const char *name = counter_name((enum counter)i);

        buf_printf(b, "# HELP %s %s\n# TYPE %s counter\n%s %" PRIu64 "\n", name,
            counter_help((enum counter)i), name, name, counter_values[i]);
    }
    buf_printf(b, "# HELP tarry_exchanges Exchanges in flight, by state\n"
                  "# TYPE tarry_exchanges gauge\n");
    for (size_t i = 0; i < EX_DONE; i++)
        buf_printf(b, "tarry_exchanges{state=\"%s\"} %zu\n", ex_state_name((enum ex_state)i),
            admin.front->exchanges.by_state[i].count);
    buf_printf(b,
        "# HELP tarry_client_connections Client connections open\n"
        "# TYPE tarry_client_connections gauge\ntarry_client_connections %zu\n",
        acceptor_count(&admin.front->acceptor));
    buf_printf(b,
        "# HELP tarry_client_newcomers Client connections that owe their first request\n"
        "# TYPE tarry_client_newcomers gauge\ntarry_client_newcomers %zu\n"
        "# HELP tarry_client_addresses Addresses that have a client connection\n"
        "# TYPE tarry_client_addresses gauge\ntarry_client_addresses %zu\n",
        admin.front->entry.addresses.newcomers, admin.front->entry.addresses.ngroups);
    buf_printf(b,
        "# HELP tarry_compression_memory_bytes Memory of the responses being compressed now\n"
        "# TYPE tarry_compression_memory_bytes gauge\ntarry_compression_memory_bytes %zu\n",
        encoder_memory());
    buf_printf(b,
        "# HELP tarry_certificate_expiry_timestamp_seconds When a certificate of a listener ends\n"
        "# TYPE tarry_certificate_expiry_timestamp_seconds gauge\n");
    entry_each_sni(&admin.front->entry, admin_put_sni, b);
    buf_printf(b, "# HELP tarry_pool_slots Slots of a pool: taken, taken for nobody, and in all\n"
                  "# TYPE tarry_pool_slots gauge\n");
    for (size_t i = 0; i < admin.front->exchanges.conf->npools; i++) {
        struct str name = admin.front->exchanges.conf->pools[i].name;
        const struct pool *p = pools_find(admin.front->exchanges.pools, name);
        struct pool_counts c = p ? pool_counts(p) : (struct pool_counts){ 0 };

        buf_printf(b,
            "tarry_pool_slots{pool=\"" STR_FMT "\",which=\"busy\"} %zu\n"
            "tarry_pool_slots{pool=\"" STR_FMT "\",which=\"abandoned\"} %zu\n"
            "tarry_pool_slots{pool=\"" STR_FMT "\",which=\"all\"} %zu\n",
            STR_ARG(name), c.busy, STR_ARG(name), c.abandoned, STR_ARG(name), c.slots);
    }
    buf_printf(b, "# HELP tarry_pool_queue Exchanges that wait for a slot\n"
                  "# TYPE tarry_pool_queue gauge\n");
    for (size_t i = 0; i < admin.front->exchanges.conf->npools; i++) {
        struct str name = admin.front->exchanges.conf->pools[i].name;
        const struct pool *p = pools_find(admin.front->exchanges.pools, name);
        struct pool_counts c = p ? pool_counts(p) : (struct pool_counts){ 0 };

        buf_printf(b,
            "tarry_pool_queue{pool=\"" STR_FMT "\",which=\"resume\"} %zu\n"
            "tarry_pool_queue{pool=\"" STR_FMT "\",which=\"new\"} %zu\n",
            STR_ARG(name), c.queued_ahead, STR_ARG(name), c.queued_new);
    }
}

static void admin_status(struct buf *b)
{
    buf_printf(b, "{\"stopping\":%s,\"exchanges\":{", admin.stopping ? "true" : "false");
    for (size_t i = 0; i < EX_DONE; i++)
        buf_printf(b, "%s\"%s\":%zu", i ? "," : "", ex_state_name((enum ex_state)i),
            admin.front->exchanges.by_state[i].count);
    buf_printf(b, "},\"pools\":{");
    for (size_t i = 0; i < admin.front->exchanges.conf->npools; i++) {
        struct str name = admin.front->exchanges.conf->pools[i].name;
        const struct pool *p = pools_find(admin.front->exchanges.pools, name);
        struct pool_counts c = p ? pool_counts(p) : (struct pool_counts){ 0 };

        buf_printf(b,
            "%s\"" STR_FMT
            "\":{\"slots\":%zu,\"busy\":%zu,\"abandoned\":%zu,\"queued_resumes\":%zu,"
            "\"queued_new\":%zu,"
            "\"servers\":%zu,\"servers_paused\":%zu}",
            i ? "," : "", STR_ARG(name), c.slots, c.busy, c.abandoned, c.queued_ahead, c.queued_new,
            c.servers, c.servers_paused);
    }
    buf_printf(b, "},\"upstreams\":{");
    for (size_t i = 0; i < admin.front->exchanges.conf->nupstreams; i++) {
        const struct upstream_conf *u = &admin.front->exchanges.conf->upstreams[i];
        struct endpoint_counts c = { 0 };

        for (size_t k = 0; k < u->nendpoints; k++) {
            const struct endpoint *e =
                endpoints_find(admin.front->exchanges.endpoints, u, &u->endpoints[k]);

            if (e)
                endpoint_counts_add(&c, e);
        }

        buf_printf(b, "%s\"" STR_FMT "\":{\"connections\":%zu,\"streams\":%zu,\"waiting\":%zu}",
            i ? "," : "", STR_ARG(u->name), c.connections, c.streams, c.waiting);
    }
    buf_printf(b, "},\"fences\":{\"seccomp\":%s,\"landlock\":%u}}\n",
        admin.seccomp ? "true" : "false", admin.landlock);
}

static void admin_on_stream(void *owner, struct stream *s, const struct message *m)
{
    if (m->kind == MESSAGE_FAILED)
        stream_close(s);
}

static const struct stream_handler admin_stream_handler = { .on_message = admin_on_stream };

static void admin_answer(struct stream *s, unsigned code, struct str type, struct str body)
{
    struct arena a = { 0 };
    struct head head = { .status = code, .minor = 1 };

    if (head_add(&head, &a, STR("Content-Type"), type) < 0 ||
        head_add(&head, &a, STR("Cache-Control"), STR("no-store")) < 0 ||
        head_add(&head, &a, STR("Content-Length"), arena_printf(&a, "%zu", body.n)) < 0 ||
        stream_send_head(s, &head, false) < 0 || stream_send_data(s, body.p, body.n) < 0 ||
        stream_send_end(s) < 0)
        stream_reset(s, STREAM_ABORT); /* no memory: a cut says so better than silence */
    arena_release(&a);
    stream_close(s);
}

static void admin_on_request(void *owner, struct stream *s, const struct stream_request *r)
{
    const struct str text = STR("text/plain; charset=utf-8");
    struct str path, query;
    struct buf b = { 0 };

    stream_set_owner(s, &admin_stream_handler, NULL);
    if (r->error_status) {
        admin_answer(s, r->error_status, text, STR("bad request\n"));
        return;
    }
    str_cut(r->head->target, '?', &path, &query);
    if (!str_eq(r->head->method, STR("GET")) && !str_eq(r->head->method, STR("HEAD"))) {
        admin_answer(s, 405, text, STR("only GET\n"));
    } else if (str_eq(path, STR("/metrics"))) {
        admin_metrics(&b);
        admin_answer(s, 200, STR("text/plain; version=0.0.4; charset=utf-8"), buf_str(&b));
    } else if (str_eq(path, STR("/status"))) {
        admin_status(&b);
        admin_answer(s, 200, STR("application/json"), buf_str(&b));
    } else if (str_eq(path, STR("/healthz"))) {
        admin_answer(
            s, admin.stopping ? 503 : 200, text, admin.stopping ? STR("stopping\n") : STR("ok\n"));
    } else {
        admin_answer(s, 404, text, STR("try /metrics, /status or /healthz\n"));
    }
    buf_release(&b);
}

static bool admin_may_accept(void *owner, bool waits)
{
    return acceptor_count(&admin.acceptor) < admin.front->exchanges.conf->admin_connections_max;
}

static void admin_on_accept(void *owner, struct listener *l, int fd, const struct sockaddr *peer)
{
    struct conn *c = conn_accept(fd, peer, NULL, NULL, NULL);

    if (c)
        h1_server_open(c, &admin.acceptor);
}

static void admin_close_wicket(struct wicket *w)
{
    list_remove(&w->node);
    listener_close(w->listener, true);
    free(w);
}

static struct wicket *admin_find(struct str text)
{
    LIST_EACH(n, &admin.wickets)
    {
        struct wicket *w = LIST_OWNER(n, struct wicket, node);

        if (str_eq(listener_text(w->listener), text))
            return w;
    }
    return NULL;
}

void admin_abandon(void)
{
    while (list_first(&admin.next))
        admin_close_wicket(LIST_OWNER(list_first(&admin.next), struct wicket, node));
    LIST_EACH(n, &admin.wickets)
    LIST_OWNER(n, struct wicket, node)->stays = false;
}

/* Opens what is new on admin.next; marks what stays. */
int admin_prepare(const struct conf *conf, char *why, size_t whylen)
{
    for (size_t i = 0; i < conf->nadmins; i++) {
        const struct addr_conf *ac = &conf->admins[i].addr;
        struct wicket *w = admin_find(ac->text);

        if (!w) {
            w = calloc(1, sizeof(*w));
            if (w)
                w->listener = listener_open(ac->text, (const struct sockaddr *)&ac->sa, ac->salen,
                    (unsigned)conf->admin_connections_max, conf->processes > 1, why, whylen);
            if (!w || !w->listener) {
                free(w);
                admin_abandon();
                return -1;
            }
            list_push(&admin.next, &w->node);
        }
        w->stays = true;
    }
    return 0;
}

/* From the snapshot in force. */
static void admin_apply_limits(void)
{
    const struct conf *c = admin.front->exchanges.conf;

    admin.acceptor.limits = limits_of(c);
    admin.acceptor.header_timeout_ms = c->admin_timeout_ms;
    admin.acceptor.body_timeout_ms = c->admin_timeout_ms;
    admin.acceptor.send_timeout_ms = c->admin_timeout_ms;
    admin.acceptor.keep_alive_timeout_ms = c->admin_keep_alive_timeout_ms;
}

void admin_commit(void)
{
    admin_apply_limits();
    LIST_EACH(n, &admin.wickets)
    {
        struct wicket *w = LIST_OWNER(n, struct wicket, node);

        if (!w->stays)
            admin_close_wicket(w);
    }
    while (list_first(&admin.next)) {
        struct wicket *w = LIST_OWNER(list_first(&admin.next), struct wicket, node);

        list_push(&admin.wickets, &w->node);
        listener_start(w->listener, admin_on_accept, admin_may_accept, &admin);
    }
    LIST_EACH(n, &admin.wickets)
    LIST_OWNER(n, struct wicket, node)->stays = false;
}

int admin_open(struct front *front, const struct conf *conf, char *why, size_t whylen)
{
    admin.front = front;
    list_init(&admin.wickets);
    list_init(&admin.next);
    acceptor_init(&admin.acceptor);
    admin.acceptor.on_request = admin_on_request;
    if (admin_prepare(conf, why, whylen) < 0)
        return -1;
    admin_commit();
    return 0;
}

void admin_set_fences(bool seccomp, unsigned landlock)
{
    admin.seccomp = seccomp;
    admin.landlock = landlock;
}

void admin_publish(void)
{
}

void admin_stop(void)
{
    admin.stopping = true;
}

void admin_close(void)
{
    LIST_EACH(n, &admin.wickets)
    admin_close_wicket(LIST_OWNER(n, struct wicket, node));
    acceptor_close(&admin.acceptor);
}
