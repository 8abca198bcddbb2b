/* Names and times of an exchange, put together for those who look at it from outside. */
#include "exchange/account.h"

#include <string.h>

#include "base/url.h"
#include "exchange/forward.h"
#include "net/loop.h"
#include "observe/access.h"
#include "observe/metric.h"

struct phase account_phase(const struct exchange *ex)
{
    static const enum phase_kind kinds[EX_NSTATES] = { [EX_READING] = PHASE_READ,
        [EX_QUEUED] = PHASE_QUEUE,
        [EX_VISITING] = PHASE_VISIT,
        [EX_PARKED] = PHASE_PARKED,
        [EX_ANSWERING] = PHASE_ANSWER,
        [EX_TUNNELLING] = PHASE_TUNNEL,
        [EX_NOTIFYING] = PHASE_NOTIFY };
    struct phase p = { .began_us = ex->mark_us, .kind = kinds[ex->state] };

    if (p.kind == PHASE_VISIT && ex->pool_conf) {
        p.name = &ex->pool_conf->name;
        p.number = ex->trail ? ex->trail->visits : 0;
    }
    return p;
}

/* The state that ends now, for those who look at the exchange's way later. */
void account_keep_phase(struct exchange *ex, uint64_t now)
{
    struct phase p = account_phase(ex);

    p.ended_us = now;
    trail_add(ex->trail, &p);
}

static void account_on_flush(void *owner)
{
    access_flush();
}

static struct str account_status_class(unsigned status)
{
    static const struct str classes[] = { STR_INIT("none"), STR_INIT("1xx"), STR_INIT("2xx"),
        STR_INIT("3xx"), STR_INIT("4xx"), STR_INIT("5xx") };
    unsigned c = status / 100;

    return classes[c < sizeof(classes) / sizeof(*classes) ? c : 0];
}

static void account_count(const struct exchange *ex)
{
    metric_add(METRIC_RESPONSES, 1, METRIC_LABELS(account_status_class(ex->reply.status)));
    if (!ex->pool_conf)
        return;
    metric_observe(METRIC_QUEUE_SECONDS, ex->queue_us, METRIC_LABELS(ex->pool_conf->name));
    metric_observe(METRIC_VISIT_SECONDS, ex->worker_us, METRIC_LABELS(ex->pool_conf->name));
    metric_add(METRIC_WORKER_BUSY, ex->worker_us, METRIC_LABELS(ex->pool_conf->name));
    metric_add(METRIC_PARKED, ex->parked_us, METRIC_LABELS(ex->pool_conf->name));
}

struct str account_route(const struct exchange *ex)
{
    if (ex->gateway)
        return ex->gateway->name;
    return ex->pool_conf ? ex->pool_conf->name : STR("");
}

struct str account_upstream(const struct exchange *ex)
{
    if (ex->gateway)
        return ex->gateway->name;
    return ex->answers.n > 0 ? ex->answers.list[ex->answers.n - 1]->enclosed->upstream->name
                             : STR("");
}

void account_end_code(const struct exchange *ex, char out[3])
{
    static const char letters[EX_NSTATES] = { 'R', 'Q', 'V', 'P', 'A', 'T', 'N', '-' };

    memcpy(out, "--", 3);
    if (!ex->end || str_eq(str_of(ex->end), STR("complete")))
        return;
    out[0] = ex->end_by;
    out[1] = letters[ex->end_state];
}

/* An answer that is complete may be an error all the same, which the budget kept from being tried
 * again. */
static struct str account_end_word(const struct exchange *ex)
{
    struct str end = str_of(ex->end ? ex->end : "complete");

    return ex->record.retry_denied && str_eq(end, STR("complete")) ? STR("retry_budget") : end;
}

/* The access log's line, and what is counted with it. */
void account_write(struct exchange *ex)
{
    const struct head *head = &ex->request.head;
    const struct llm_usage *used = &ex->record.usage;
    char peer[ADDR_TEXT_MAX] = "unknown", client[ADDR_TEXT_MAX] = "unknown", code[3];
    char trace[2 * TRACE_ID_BYTES + 1] = "";
    struct trace_context context;
    struct arena scratch = { 0 };
    struct addr from;
    struct access_entry e = {
        .exchange = ex->id,
        .peer = peer,
        .client = client,
        .code = code,
        .trace = trace,
        .host = head->authority,
        .request_id = head_value(head, STR("x-request-id")),
        .method = head->method,
        .path = head->target,
        .protocol = str_of(ex->request.protocol),
        .user_agent = head_value(head, STR("user-agent")),
        .referer = head_value(head, STR("referer")),
        .end = account_end_word(ex),
        .started_wall_ms = ex->started_wall_ms,
        .status = ex->reply.status,
        .bytes_in = ex->bytes_in,
        .bytes_out = ex->reply.bytes,
        .hops = ex->nhops,
        .calls = ex->ncalls,
        .queue_us = ex->queue_us,
        .worker_us = ex->worker_us,
        .parked_us = ex->parked_us,
        .total_us = loop_precise_us() - ex->started_us,
        .endpoint = ex->record.endpoint ? ex->record.endpoint->name : (struct str){ 0 },
        .attempts = ex->record.attempts,
        .upstream_status = ex->record.status,
        .first_content_ms = ex->record.first_content_ms,
        .upstream_queue_ms = ex->record.queued_ms,
        .input_tokens = { used->input, used->told & LLM_TOLD_INPUT },
        .output_tokens = { used->output, used->told & LLM_TOLD_OUTPUT },
        .cached_tokens = { used->cached, used->told & LLM_TOLD_CACHED },
        .reasoning_tokens = { used->reasoning, used->told & LLM_TOLD_REASONING },
        .upstream = account_upstream(ex),
        .route = account_route(ex),
    };

    account_count(ex);
    if (!access_enabled())
        return;
    if (ex->trail) {
        e.label = ex->trail->label;
        e.service_id = ex->trail->service_id;
    }
    if (e.request_id.n == 0)
        e.request_id = str_of(ex->id);
    if (trace_parse(head_value(head, STR("traceparent")), &context))
        trace_hex(context.trace, TRACE_ID_BYTES, trace);
    account_end_code(ex, code);
    addr_ip_text(&ex->request.peer, peer);
    from = forward_client(ex->conf, head, &ex->request.peer);
    addr_ip_text(from.family ? &from : &ex->request.peer, client);
    e.path = url_hide_keys(&scratch, head->target);
    access_write(&e);
    arena_release(&scratch);
    loop_defer(&ex->all->access_flush, account_on_flush, ex->all);
}
