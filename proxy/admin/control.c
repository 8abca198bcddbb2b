/* Each command prints its rows through a table of two forms: columns for people, JSON for programs.
 */
#include "admin/control.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "admin/page.h"
#include "admin/pause.h"
#include "base/buf.h"
#include "base/url.h"
#include "frontend/front.h"
#include "observe/json.h"
#include "observe/log.h"

enum { DESCRIPTION_MAX = 1024 };

static const struct str control_text = STR_INIT("text/plain; charset=utf-8");
static const struct str control_json = STR_INIT("application/json");

/* ---- show ---- */

static void control_show_exchange(const struct exchange *ex, struct buf *b, bool json, bool first)
{
    uint64_t age_ms = (loop_precise_us() - ex->started_us) / 1000;
    char text[DESCRIPTION_MAX] = "";
    struct arena scratch = { 0 };

    exchange_describe(ex, text, sizeof(text));
    if (!json) {
        buf_printf(b, "%s %s %" PRIu64 ".%03us %s\n", ex->id, ex_state_name(ex->state),
            age_ms / 1000, (unsigned)(age_ms % 1000), text);
        return;
    }
    buf_printf(b, "%s{\"exchange\":\"%s\",\"state\":\"%s\",\"age_ms\":%" PRIu64 ",\"method\":",
        first ? "" : ",", ex->id, ex_state_name(ex->state), age_ms);
    json_string(b, ex->request.head.method);
    buf_append_str(b, STR(",\"path\":"));
    json_string(b, url_hide_keys(&scratch, ex->request.head.target));
    arena_release(&scratch);
    buf_printf(b, ",\"hops\":%u,\"calls\":%u,\"description\":", ex->nhops, ex->ncalls);
    json_string(b, str_of(text));
    buf_append_str(b, STR("}"));
}

static void control_show_exchanges(struct control *c, struct buf *b, bool json)
{
    bool first = true;

    buf_append_str(b, json ? STR("[") : STR(""));
    for (size_t i = 0; i < EX_DONE; i++)
        LIST_EACH(n, &c->front->exchanges.by_state[i]) {
            control_show_exchange(LIST_OWNER(n, struct exchange, node), b, json, first);
            first = false;
        }
    buf_append_str(b, json ? STR("]\n") : STR(""));
}

static void control_show_workers(struct control *c, struct buf *b, bool json)
{
    const struct conf *conf = front_conf(c->front);

    buf_append_str(b, json ? STR("[")
                           : STR("pool busy slots abandoned queue resumes servers "
                                 "unreachable paused\n"));
    for (size_t i = 0; i < conf->npools; i++) {
        const struct pool *p = pools_find(c->front->exchanges.pools, conf->pools[i].name);
        struct pool_counts n = p ? pool_counts(p) : (struct pool_counts){ 0 };

        buf_printf(b,
            json ? "%s{\"pool\":\"" STR_FMT "\",\"busy\":%zu,\"slots\":%zu,\"abandoned\":%zu,"
                   "\"queued_new\":%zu,\"queued_resumes\":%zu,\"servers\":%zu,"
                   "\"servers_paused\":%zu,\"paused\":%s}"
                 : "%s" STR_FMT " %zu %zu %zu %zu %zu %zu %zu %s\n",
            json && i ? "," : "", STR_ARG(conf->pools[i].name), n.busy, n.slots, n.abandoned,
            n.queued_new, n.queued_ahead, n.servers, n.servers_paused,
            p && pool_is_held(p) ? json ? "true" : "yes"
            : json               ? "false"
                                 : "no");
    }
    buf_append_str(b, json ? STR("]\n") : STR(""));
}

static void control_show_endpoint(
    struct control *c, const struct upstream_conf *u, size_t k, struct buf *b, bool json)
{
    struct endpoint *e = endpoints_find(c->front->exchanges.endpoints, u, &u->endpoints[k]);
    struct endpoint_counts n = { 0 };
    struct verdict_view v = { VERDICT_READY, 0 };
    struct tally_sum calls = { 0, 0 };

    if (e) {
        n = endpoint_counts(e);
        v = endpoint_view(e, u);
        calls = endpoint_calls(e, u);
    }
    buf_printf(b,
        json ? "{\"upstream\":\"" STR_FMT "\",\"endpoint\":\"" STR_FMT
               "\",\"connections\":%zu,\"streams\":%zu,\"streams_per_connection\":%zu,"
               "\"waiting\":%zu,\"in_use\":%zu,\"state\":\"%s\",\"wait_ms\":%" PRIu64
               ",\"failed\":%" PRIu64 ",\"calls\":%" PRIu64 "}"
             : STR_FMT " " STR_FMT " %zu %zu %zu %zu %zu %s %" PRIu64 " %" PRIu64 "/%" PRIu64 "\n",
        STR_ARG(u->name), STR_ARG(u->endpoints[k].name), n.connections, n.streams, n.share,
        n.waiting, n.in_use, verdict_state_name(v.state), v.wait_ms, calls.marked, calls.all);
}

static void control_show_upstreams(struct control *c, struct buf *b, bool json)
{
    const struct conf *conf = front_conf(c->front);
    bool first = true;

    buf_append_str(b, json ? STR("[")
                           : STR("upstream endpoint connections streams streams_per_connection "
                                 "waiting in_use state wait_ms failed/calls\n"));
    for (size_t i = 0; i < conf->nupstreams; i++)
        for (size_t k = 0; k < conf->upstreams[i].nendpoints; k++, first = false) {
            buf_append_str(b, json && !first ? STR(",") : STR(""));
            control_show_endpoint(c, &conf->upstreams[i], k, b, json);
        }
    buf_append_str(b, json ? STR("]\n") : STR(""));
}

static void control_show_conf(struct control *c, struct buf *b, bool json)
{
    struct str text = front_conf(c->front)->text;

    if (json) {
        buf_append_str(b, STR("{\"conf\":"));
        json_string(b, text);
        buf_append_str(b, STR("}\n"));
    } else {
        buf_append_str(b, text);
    }
}

/* Passed along to the lines of the log. */
struct control_lines {
    struct buf *b;
    bool json, any;
};

static void control_put_line(void *owner, const char *line)
{
    struct control_lines *l = owner;

    if (l->json) {
        buf_append_str(l->b, l->any ? STR(",") : STR(""));
        json_string(l->b, str_of(line));
    } else {
        buf_printf(l->b, "%s\n", line);
    }
    l->any = true;
}

static void control_show_errors(struct control *c, struct buf *b, bool json)
{
    struct control_lines l = { .b = b, .json = json };

    buf_append_str(b, json ? STR("[") : STR(""));
    log_each_recent(control_put_line, &l);
    buf_append_str(b, json ? STR("]\n") : STR(""));
}

static void control_show_process(struct control *c, struct buf *b, bool json)
{
    buf_printf(b,
        json ? "{\"pid\":%d,\"in_flight\":%zu,\"stopping\":%s,\"log_level\":\"%s\"}\n"
             : "pid %d, in flight %zu, stopping %s, log level %s\n",
        (int)getpid(), front_in_flight(c->front),
        c->front->draining ? json ? "true" : "yes"
        : json             ? "false"
                           : "no",
        log_level_name());
}

/* ---- change ---- */

/* Each answers with a status and a line in `b`. */
typedef unsigned control_do_fn(struct control *c, struct str what, struct buf *b);

static unsigned control_drain(struct control *c, struct str what, struct buf *b)
{
    log_info(NULL, "drain: asked for over the control socket");
    buf_append_str(b, STR("draining\n"));
    c->on_drain(c->owner);
    return 200;
}

/* How many endpoints these were. `only` empty: all of the upstream. */
static size_t control_hold_endpoints(
    struct control *c, const struct upstream_conf *u, struct str only, bool held)
{
    size_t n = 0;

    for (size_t k = 0; k < u->nendpoints; k++) {
        struct endpoint *e = endpoints_find(c->front->exchanges.endpoints, u, &u->endpoints[k]);

        if (!e || (only.n > 0 && !str_eq(u->endpoints[k].name, only)))
            continue;
        endpoint_pause(e, held);
        log_info(NULL,
            "endpoint \"" STR_FMT "\" of upstream \"" STR_FMT "\" %s over the control socket",
            STR_ARG(u->endpoints[k].name), STR_ARG(u->name), held ? "paused" : "resumed");
        n++;
    }
    return n;
}

/* A pool; else an upstream, which is also NAME/ where a pool has its name; or UPSTREAM/ENDPOINT. */
static unsigned control_hold(struct control *c, struct str name, struct buf *b, bool held)
{
    struct str up, endpoint;
    bool one = str_cut(name, '/', &up, &endpoint);
    const struct upstream_conf *u = conf_find_upstream(front_conf(c->front), up);

    if (!one && pause_set(c->front, name, held)) {
        buf_printf(b, "%s\n", held ? "paused: requests wait" : "resumed");
        return 200;
    }
    if (!u || control_hold_endpoints(c, u, endpoint, held) == 0) {
        buf_printf(b, "there is no pool, upstream or endpoint \"" STR_FMT "\"\n", STR_ARG(name));
        return 404;
    }
    buf_printf(b, "%s\n", held ? "paused: calls go elsewhere, or wait" : "resumed");
    return 200;
}

static unsigned control_pause(struct control *c, struct str name, struct buf *b)
{
    return control_hold(c, name, b, true);
}

static unsigned control_resume(struct control *c, struct str name, struct buf *b)
{
    return control_hold(c, name, b, false);
}

static unsigned control_cancel(struct control *c, struct str id, struct buf *b)
{
    for (size_t i = 0; i < EX_DONE; i++)
        LIST_EACH(n, &c->front->exchanges.by_state[i]) {
            struct exchange *ex = LIST_OWNER(n, struct exchange, node);

            if (!str_eq(str_of(ex->id), id))
                continue;
            exchange_fail(ex, PROBLEM_CANCELLED, 0, "cancelled over the control socket");
            buf_append_str(b, STR("cancelled\n"));
            return 200;
        }
    buf_append_str(b, STR("no such exchange is in flight\n"));
    return 404;
}

static unsigned control_log(struct control *c, struct str level, struct buf *b)
{
    if (!log_set_level(level)) {
        buf_append_str(b, STR("the levels are error, warn, info and debug\n"));
        return 400;
    }
    log_info(NULL, "log level " STR_FMT " until the next reload", STR_ARG(level));
    buf_append_str(b, STR("until the next reload\n"));
    return 200;
}

/* ---- dispatch ---- */

static const struct {
    const char *path;
    void (*show)(struct control *c, struct buf *b, bool json);
} shows[] = { { "/exchanges", control_show_exchanges }, { "/workers", control_show_workers },
    { "/upstreams", control_show_upstreams }, { "/conf", control_show_conf },
    { "/errors", control_show_errors }, { "/process", control_show_process } };

static const struct {
    const char *prefix;
    control_do_fn *fn;
} actions[] = { { "/drain", control_drain }, { "/pause/", control_pause },
    { "/resume/", control_resume }, { "/cancel/", control_cancel }, { "/log/", control_log } };

static void control_answer_show(struct control *c, struct stream *s, struct str path, bool json)
{
    struct buf b = { 0 };

    for (size_t i = 0; i < sizeof(shows) / sizeof(*shows); i++)
        if (str_eq(path, str_of(shows[i].path))) {
            shows[i].show(c, &b, json);
            page_send(s, 200, json ? control_json : control_text, &b);
            return;
        }
    page_send_text(s, 404, "show exchanges, workers, upstreams, conf, errors or process\n");
}

static void control_answer_do(struct control *c, struct stream *s, struct str path)
{
    for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++) {
        struct str prefix = str_of(actions[i].prefix);
        struct buf b = { 0 };
        unsigned status;

        if (!str_starts_with(path, prefix))
            continue;
        status = actions[i].fn(c, str_make(path.p + prefix.n, path.n - prefix.n), &b);
        page_send(s, status, control_text, &b);
        return;
    }
    page_send_text(s, 404, "drain, pause NAME, resume NAME, cancel EXCHANGE or log LEVEL\n");
}

void control_answer(struct control *c, struct stream *s, const struct stream_request *r)
{
    struct str path, query;

    if (r->error_status) {
        page_send_text(s, r->error_status, "bad request\n");
        return;
    }
    str_cut(r->head->target, '?', &path, &query);
    if (str_eq(r->head->method, STR("GET")))
        control_answer_show(c, s, path, str_eq(query, STR("json")));
    else if (str_eq(r->head->method, STR("POST")))
        control_answer_do(c, s, path);
    else
        page_send_text(s, 405, "only GET and POST\n");
}
