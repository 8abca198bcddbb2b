/* Attributes have the names of OpenTelemetry's semantic conventions where there is one. */
#include "jobs/span.h"

#include <inttypes.h>
#include <stdbool.h>
#include <unistd.h>

#include "exchange/account.h"
#include "exchange/forward.h"
#include "observe/json.h"

/* SpanKind and StatusCode of the protocol. */
enum { KIND_INTERNAL = 1, KIND_SERVER = 2, KIND_CLIENT = 3, STATUS_ERROR = 2 };

/* Everything in a span except strings. */
enum { SPAN_FIXED_MAX = 2048 };

static void span_text(struct buf *b, const char *key, struct str value, bool *first)
{
    if (value.n == 0)
        return;
    buf_printf(b, "%s{\"key\":\"%s\",\"value\":{\"stringValue\":", *first ? "" : ",", key);
    json_string(b, value);
    buf_append(b, "}}", 2);
    *first = false;
}

static void span_number(struct buf *b, const char *key, uint64_t value, bool *first)
{
    buf_printf(b, "%s{\"key\":\"%s\",\"value\":{\"intValue\":\"%" PRIu64 "\"}}", *first ? "" : ",",
        key, value);
    *first = false;
}

/* The query may hold secrets and stays out. */
static struct str span_path(struct str target)
{
    ptrdiff_t query = str_find_char(target, '?');

    return query < 0 ? target : str_make(target.p, (size_t)query);
}

struct span_frame {
    const struct exchange *ex;
    const unsigned char *id;
    const unsigned char *parent; /* NULL: none */
    uint64_t began_us, ended_us;
    unsigned kind;
};

static bool span_is_zero(const unsigned char *id)
{
    unsigned char any = 0;

    for (size_t i = 0; i < TRACE_SPAN_BYTES; i++)
        any |= id[i];
    return any == 0;
}

/* Up to the name's value, which follows as a string. */
static void span_begin(struct buf *b, const struct span_frame *f)
{
    char trace[2 * TRACE_ID_BYTES + 1], id[2 * TRACE_SPAN_BYTES + 1];
    uint64_t started_ns = f->ex->started_wall_ms * 1000000;

    trace_hex(f->ex->trail->trace->own.trace, TRACE_ID_BYTES, trace);
    trace_hex(f->id, TRACE_SPAN_BYTES, id);
    buf_printf(b, "{\"traceId\":\"%s\",\"spanId\":\"%s\"", trace, id);
    if (f->parent && !span_is_zero(f->parent)) {
        trace_hex(f->parent, TRACE_SPAN_BYTES, id);
        buf_printf(b, ",\"parentSpanId\":\"%s\"", id);
    }
    buf_printf(b,
        ",\"kind\":%u,\"startTimeUnixNano\":\"%" PRIu64 "\",\"endTimeUnixNano\":\"%" PRIu64
        "\",\"name\":",
        f->kind, started_ns + (f->began_us - f->ex->started_us) * 1000,
        started_ns + (f->ended_us - f->ex->started_us) * 1000);
}

static void span_end(struct buf *b, const char *error)
{
    buf_append(b, "]", 1);
    if (error) {
        buf_printf(b, ",\"status\":{\"code\":%d,\"message\":", STATUS_ERROR);
        json_string(b, str_of(error));
        buf_append(b, "}", 1);
    }
    buf_append(b, "}", 1);
}

static void span_addresses(struct buf *b, const struct exchange *ex, bool *first)
{
    struct addr from = forward_client(ex->conf, &ex->request.head, &ex->request.peer);
    char text[ADDR_TEXT_MAX];

    span_text(b, "server.address", ex->request.head.authority, first);
    span_text(b, "network.peer.address", str_of(addr_ip_text(&ex->request.peer, text)), first);
    if (from.family)
        span_text(b, "client.address", str_of(addr_ip_text(&from, text)), first);
}

static void span_usage(struct buf *b, const struct exchange *ex, bool *first)
{
    const struct call_record *r = &ex->record;

    span_text(b, "tarry.upstream", account_upstream(ex), first);
    span_text(b, "tarry.upstream_request_id", ex->trail->service_id, first);
    if (!r->usage.known)
        return;
    span_number(b, "gen_ai.usage.input_tokens", r->usage.input, first);
    span_number(b, "gen_ai.usage.output_tokens", r->usage.output, first);
}

static void span_exchange(struct buf *b, const struct exchange *ex)
{
    const struct head *head = &ex->request.head;
    const struct trail_trace *t = ex->trail->trace;
    struct span_frame f = { ex, t->own.span, t->parent, ex->started_us, ex->mark_us, KIND_SERVER };
    struct str route = account_route(ex);
    bool first = true, failed;
    char code[3], name[160], says[16];
    int n =
        snprintf(name, sizeof(name), STR_FMT " " STR_FMT, STR_ARG(head->method), STR_ARG(route));

    account_end_code(ex, code);
    failed = ex->reply.status >= 500 || code[0] != '-';
    span_begin(b, &f);
    json_string(b, str_make(name, (size_t)n < sizeof(name) ? (size_t)n : sizeof(name) - 1));
    buf_append(b, ",\"attributes\":[", 15);
    span_text(b, "http.request.method", head->method, &first);
    span_text(b, "url.path", span_path(head->target), &first);
    span_addresses(b, ex, &first);
    span_text(b, "user_agent.original", head_value(head, STR("user-agent")), &first);
    if (ex->reply.status)
        span_number(b, "http.response.status_code", ex->reply.status, &first);
    span_text(b, "tarry.exchange", str_of(ex->id), &first);
    span_text(b, "tarry.label", ex->trail->label, &first);
    span_text(b, "tarry.code", str_of(code), &first);
    span_usage(b, ex, &first);
    snprintf(says, sizeof(says), "status %u", ex->reply.status);
    span_end(b, !failed ? NULL : code[0] != '-' && ex->end ? ex->end : says);
}

/* A visit that was put back into the queue has the number of the one that follows: the span that
 * the worker was told of is that one's. */
static bool span_is_superseded(const struct trail *t, size_t i)
{
    for (size_t k = i + 1; k < t->nphases; k++)
        if (t->phases[k].kind == t->phases[i].kind && t->phases[k].number == t->phases[i].number)
            return true;
    return false;
}

static void span_phase(struct buf *b, const struct exchange *ex, size_t i)
{
    const struct trail *t = ex->trail;
    const struct phase *p = &t->phases[i];
    unsigned char id[TRACE_SPAN_BYTES];
    struct span_frame f = { ex, id, t->trace->own.span, p->began_us,
        p->ended_us ? p->ended_us : ex->mark_us, KIND_INTERNAL };
    bool told = p->kind == PHASE_ATTEMPT || (p->kind == PHASE_VISIT && !span_is_superseded(t, i)),
         first = true;
    char name[160];
    int n;

    trail_span(t, p->kind, told ? p->number : (unsigned)(UINT8_MAX + 1 + i), id);
    if (p->name)
        f.kind = KIND_CLIENT;
    n = snprintf(name, sizeof(name), "%s%s" STR_FMT, phase_name(p->kind), p->name ? " " : "",
        STR_ARG(p->name ? *p->name : STR("")));
    span_begin(b, &f);
    json_string(b, str_make(name, (size_t)n < sizeof(name) ? (size_t)n : sizeof(name) - 1));
    buf_append(b, ",\"attributes\":[", 15);
    if (p->number)
        span_number(
            b, p->kind == PHASE_ATTEMPT ? "tarry.attempt" : "tarry.visit", p->number, &first);
    if (p->status)
        span_number(b, "http.response.status_code", p->status, &first);
    if (p->error)
        span_text(b, "error.type", str_of(p->error), &first);
    span_end(b, p->error);
}

/* How long the spans may be, with every octet escaped. */
static size_t span_longest(const struct exchange *ex)
{
    const struct head *h = &ex->request.head;
    size_t n = h->method.n + h->target.n + h->authority.n + account_route(ex).n +
               account_upstream(ex).n + head_value(h, STR("user-agent")).n + ex->trail->label.n +
               ex->trail->service_id.n;

    return (1 + ex->trail->nphases) * SPAN_FIXED_MAX + n * strlen("\\u0000");
}

int span_write(struct buf *b, const struct exchange *ex)
{
    if (!buf_reserve(b, span_longest(ex), NULL))
        return -1;
    if (buf_len(b) > 0)
        buf_append(b, ",", 1);
    span_exchange(b, ex);
    for (size_t i = 0; i < ex->trail->nphases; i++) {
        buf_append(b, ",", 1);
        span_phase(b, ex, i);
    }
    return 0;
}

int span_open(struct buf *b, struct str service, const char *version)
{
    int rc = buf_printf(b, "{\"resourceSpans\":[{\"resource\":{\"attributes\":["
                           "{\"key\":\"service.name\",\"value\":{\"stringValue\":");

    json_string(b, service);
    return rc | buf_printf(b,
                    "}},{\"key\":\"process.pid\",\"value\":{\"intValue\":\"%d\"}}]},"
                    "\"scopeSpans\":[{\"scope\":{\"name\":\"tarry\",\"version\":\"%s\"},"
                    "\"spans\":[",
                    (int)getpid(), version);
}

int span_close(struct buf *b)
{
    return buf_append(b, "]}]}]}", 6);
}
