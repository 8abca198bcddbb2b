/* Slow, failed and flying exchanges, the history, the errors of the log. */
#include "admin/dashboard.h"

#include <inttypes.h>
#include <unistd.h>

#include "admin/history.h"
#include "admin/recent.h"
#include "net/loop.h"
#include "observe/json.h"
#include "observe/log.h"

static const char dashboard_page[] =
#include "admin/dashboard.html.h"
    ;
static const char dashboard_script[] =
#include "admin/dashboard.js.h"
    ;
static const char dashboard_style[] =
#include "admin/dashboard.css.h"
    ;

static const struct dashboard_file files[] = {
    { "/", "text/html; charset=utf-8", dashboard_page },
    { "/dashboard.js", "text/javascript; charset=utf-8", dashboard_script },
    { "/dashboard.css", "text/css; charset=utf-8", dashboard_style },
};

const struct dashboard_file *dashboard_find(struct str path)
{
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        if (str_eq(path, str_of(files[i].path)))
            return &files[i];
    return NULL;
}

static void dashboard_text(struct buf *b, const char *name, const char *value)
{
    buf_printf(b, ",\"%s\":", name);
    json_string(b, str_of(value));
}

/* Passed along to the records, and to the lines of the log. */
struct dashboard_list {
    struct buf *b;
    bool any;
};

static void dashboard_put_record(void *owner, const struct recent_record *r)
{
    struct dashboard_list *l = owner;
    struct buf *b = l->b;

    buf_printf(b,
        "%s{\"id\":\"%s\",\"pid\":%" PRIu32 ",\"started_ms\":%" PRIu64 ",\"total_us\":%" PRIu64
        ",\"status\":%u,\"code\":\"%s\"",
        l->any ? "," : "", r->id, r->pid, r->started_wall_ms, r->total_us, r->status, r->code);
    dashboard_text(b, "state", r->state);
    dashboard_text(b, "method", r->method);
    dashboard_text(b, "path", r->path);
    dashboard_text(b, "route", r->route);
    dashboard_text(b, "upstream", r->upstream);
    dashboard_text(b, "endpoint", r->endpoint);
    dashboard_text(b, "label", r->label);
    dashboard_text(b, "end", r->end);
    buf_append_str(b, STR(",\"phases\":["));
    for (size_t i = 0; i < r->nphases; i++)
        buf_printf(b, "%s[\"%s\",%" PRIu64 ",%" PRIu64 ",%u]", i ? "," : "",
            phase_name(r->phases[i].kind), (uint64_t)r->phases[i].began * 10,
            (uint64_t)r->phases[i].took * 10, r->phases[i].status);
    buf_append_str(b, STR("]}"));
    l->any = true;
}

static void dashboard_put_records(struct buf *b, const char *name, enum recent_kind kind)
{
    struct dashboard_list l = { .b = b };

    buf_printf(b, ",\"%s\":[", name);
    recent_each(kind, dashboard_put_record, &l);
    buf_append_str(b, STR("]"));
}

static void dashboard_put_line(void *owner, const char *line)
{
    struct dashboard_list *l = owner;

    buf_append_str(l->b, l->any ? STR(",") : STR(""));
    json_string(l->b, str_of(line));
    l->any = true;
}

static void dashboard_put_history(struct buf *b)
{
    buf_printf(b, ",\"step_s\":%d,\"history\":[", HISTORY_STEP_S);
    for (size_t i = 0; i < history_count(); i++) {
        const struct history_point *p = history_point(i);

        buf_printf(b,
            "%s{\"t\":%" PRIu64 ",\"requests\":%" PRIu64 ",\"failed\":%" PRIu64
            ",\"parked\":%" PRIu64 ",\"busy\":%" PRIu64 ",\"queued\":%" PRIu64
            ",\"first_content_p50\":%" PRIu64 ",\"first_content_p95\":%" PRIu64
            ",\"call_p50\":%" PRIu64 ",\"call_p95\":%" PRIu64 ",\"queue_p95\":%" PRIu64 "}",
            i ? "," : "", p->wall_ms, p->requests, p->failed, p->parked, p->busy, p->queued,
            p->first_content_p50, p->first_content_p95, p->call_p50, p->call_p95, p->queue_p95);
    }
    buf_append_str(b, STR("]"));
}

void dashboard_print(const struct front *f, const char *version, struct buf *b)
{
    struct dashboard_list errors = { .b = b };

    buf_printf(b, "{\"version\":\"%s\",\"pid\":%d,\"now_ms\":%" PRIu64 ",\"stopping\":%s", version,
        (int)getpid(), loop_wall_ms(), f->draining ? "true" : "false");
    recent_publish(&f->exchanges);
    dashboard_put_records(b, "flying", RECENT_IS_FLYING);
    dashboard_put_records(b, "slow", RECENT_IS_SLOW);
    dashboard_put_records(b, "failed", RECENT_IS_FAILED);
    dashboard_put_history(b);
    buf_append_str(b, STR(",\"errors\":["));
    log_each_recent(dashboard_put_line, &errors);
    buf_append_str(b, STR("]}\n"));
}
