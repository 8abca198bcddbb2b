/* Access lines are gathered: the writer of a line defers a flush to the end of the loop's turn. */
#include "observe/access.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <syslog.h>
#include <time.h>

#include "base/buf.h"
#include "observe/json.h"
#include "observe/log.h"
#include "observe/sink.h"

enum { GATHER_MAX = 64 << 10, FIXED_MAX = 2048 /* everything in a line except strings */ };

static struct {
    struct sink sink;
    enum access_format format;
} access_state = { .sink = { .kind = LOG_TO_NOWHERE, .fd = -1 } };

bool access_flush(void)
{
    bool done = sink_pump(&access_state.sink);
    uint64_t dropped;

    /* Only when the log accepts lines again: the line about the loss must not be dropped as well.
     */
    if (access_state.sink.dropped == 0 || !done || !log_pump())
        return done && access_state.sink.dropped == 0;
    dropped = sink_take_dropped(&access_state.sink);
    log_warn(NULL,
        "%" PRIu64 " line(s) of the access log were dropped: its target did not take them",
        dropped);
    return done;
}

int access_open(const struct log_target *target, enum access_format format)
{
    if (sink_open(&access_state.sink, target) < 0)
        return -1;
    access_state.format = format;
    return 0;
}

void access_set_buffer_max(size_t n)
{
    access_state.sink.buffer_max = n;
}

int access_reopen(void)
{
    access_flush();
    return sink_reopen(&access_state.sink);
}

void access_close(void)
{
    sink_close(&access_state.sink);
}

static void access_json_pair(struct buf *b, const char *name, struct str s)
{
    buf_printf(b, ",\"%s\":", name);
    json_string(b, s);
}

static void access_format_time(char *out, size_t n, uint64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    size_t at;

    gmtime_r(&seconds, &tm);
    at = strftime(out, n, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + at, n - at, ".%03uZ", (unsigned)(wall_ms % 1000));
}

/* The numbers of tokens that a service has reported, and no others. */
static void access_usage(struct buf *b, const struct access_entry *e, bool json)
{
    const struct {
        const char *name;
        const struct access_tokens *tokens;
    } all[] = {
        { "input_tokens", &e->input_tokens },
        { "output_tokens", &e->output_tokens },
        { "cached_tokens", &e->cached_tokens },
        { "reasoning_tokens", &e->reasoning_tokens },
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        if (!all[i].tokens->known)
            continue;
        if (json)
            buf_printf(b, ",\"%s\":%" PRIu64, all[i].name, all[i].tokens->n);
        else
            buf_printf(b, " %s=%" PRIu64, all[i].name, all[i].tokens->n);
    }
}

#define MS_FMT "%" PRIu64 ".%03u"
#define MS_ARG(us) (us) / 1000, (unsigned)((us) % 1000)

static void access_write_json(struct buf *b, const struct access_entry *e)
{
    char when[40];

    access_format_time(when, sizeof(when), e->started_wall_ms);
    buf_printf(b, "{\"time\":\"%s\",\"exchange\":\"%s\",\"peer\":\"%s\",\"client\":\"%s\"", when,
        e->exchange, e->peer, e->client);
    access_json_pair(b, "request_id", e->request_id);
    if (e->trace[0])
        buf_printf(b, ",\"trace\":\"%s\"", e->trace);
    if (e->label.n > 0)
        access_json_pair(b, "label", e->label);
    access_json_pair(b, "host", e->host);
    access_json_pair(b, "method", e->method);
    access_json_pair(b, "path", e->path);
    access_json_pair(b, "protocol", e->protocol);
    buf_printf(b,
        ",\"status\":%u,\"bytes_in\":%" PRIu64 ",\"bytes_out\":%" PRIu64
        ",\"hops\":%u,\"calls\":%u,\"queue_ms\":" MS_FMT ",\"worker_ms\":" MS_FMT
        ",\"parked_ms\":" MS_FMT ",\"total_ms\":" MS_FMT,
        e->status, e->bytes_in, e->bytes_out, e->hops, e->calls, MS_ARG(e->queue_us),
        MS_ARG(e->worker_us), MS_ARG(e->parked_us), MS_ARG(e->total_us));
    access_json_pair(b, "route", e->route);
    access_json_pair(b, "upstream", e->upstream);
    if (e->endpoint.n > 0) {
        access_json_pair(b, "endpoint", e->endpoint);
        buf_printf(b, ",\"attempts\":%u,\"upstream_status\":%u,\"first_content_ms\":%" PRIu64,
            e->attempts, e->upstream_status, e->first_content_ms);
        access_json_pair(b, "upstream_request_id", e->service_id);
    }
    if (e->endpoint.n > 0 || e->upstream_queue_ms > 0)
        buf_printf(b, ",\"upstream_queue_ms\":%" PRIu64, e->upstream_queue_ms);
    access_usage(b, e, true);
    access_json_pair(b, "user_agent", e->user_agent);
    access_json_pair(b, "end", e->end);
    buf_printf(b, ",\"code\":\"%s\"}\n", e->code);
}

/* Text inside quotes: quotes, backslashes and unprintable octets are escaped, so a request cannot
 * write two lines. */
static void access_quoted(struct buf *b, struct str s)
{
    buf_append(b, "\"", 1);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
            buf_printf(b, "\\x%02x", c);
        else
            buf_append(b, &s.p[i], 1);
    }
    buf_append(b, "\"", 1);
}

static void access_write_combined(struct buf *b, const struct access_entry *e)
{
    time_t seconds = (time_t)(e->started_wall_ms / 1000);
    char when[40];
    struct buf line = { 0 };
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(when, sizeof(when), "%d/%b/%Y:%H:%M:%S +0000", &tm);
    buf_append_str(&line, e->method);
    buf_append(&line, " ", 1);
    buf_append_str(&line, e->path);
    buf_append(&line, " ", 1);
    buf_append_str(&line, e->protocol);
    buf_printf(b, "%s - - [%s] ", e->client, when);
    access_quoted(b, buf_str(&line));
    buf_release(&line);
    buf_printf(b, " %u %" PRIu64 " ", e->status, e->bytes_out);
    access_quoted(b, e->referer.n ? e->referer : STR("-"));
    buf_append(b, " ", 1);
    access_quoted(b, e->user_agent.n ? e->user_agent : STR("-"));
    buf_append(b, "\n", 1);
}

static void access_write_logfmt(struct buf *b, const struct access_entry *e)
{
    char when[40];

    access_format_time(when, sizeof(when), e->started_wall_ms);
    buf_printf(b, "time=%s exchange=%s peer=%s client=%s request_id=", when, e->exchange, e->peer,
        e->client);
    access_quoted(b, e->request_id);
    if (e->trace[0])
        buf_printf(b, " trace=%s", e->trace);
    if (e->label.n > 0) {
        buf_append(b, " label=", 7);
        access_quoted(b, e->label);
    }
    buf_append(b, " host=", 6);
    access_quoted(b, e->host);
    buf_append(b, " method=", 8);
    access_quoted(b, e->method);
    buf_append(b, " path=", 6);
    access_quoted(b, e->path);
    buf_printf(b, " protocol=" STR_FMT, STR_ARG(e->protocol));
    buf_printf(b,
        " status=%u bytes_in=%" PRIu64 " bytes_out=%" PRIu64 " hops=%u calls=%u queue_ms=" MS_FMT
        " worker_ms=" MS_FMT " parked_ms=" MS_FMT " total_ms=" MS_FMT " route=" STR_FMT
        " upstream=" STR_FMT,
        e->status, e->bytes_in, e->bytes_out, e->hops, e->calls, MS_ARG(e->queue_us),
        MS_ARG(e->worker_us), MS_ARG(e->parked_us), MS_ARG(e->total_us), STR_ARG(e->route),
        STR_ARG(e->upstream));
    if (e->endpoint.n > 0) {
        buf_printf(b,
            " endpoint=" STR_FMT " attempts=%u upstream_status=%u first_content_ms=%" PRIu64
            " upstream_request_id=",
            STR_ARG(e->endpoint), e->attempts, e->upstream_status, e->first_content_ms);
        access_quoted(b, e->service_id);
    }
    if (e->endpoint.n > 0 || e->upstream_queue_ms > 0)
        buf_printf(b, " upstream_queue_ms=%" PRIu64, e->upstream_queue_ms);
    access_usage(b, e, false);
    buf_printf(b, " end=" STR_FMT " code=%s\n", STR_ARG(e->end), e->code);
}

bool access_enabled(void)
{
    return access_state.sink.kind != LOG_TO_NOWHERE;
}

/* How long a line about `e` may be, with every octet escaped. */
static size_t access_longest(const struct access_entry *e)
{
    size_t n = e->method.n + e->path.n + e->protocol.n + e->user_agent.n + e->referer.n +
               e->route.n + e->upstream.n + e->end.n + e->endpoint.n + e->host.n + e->request_id.n +
               e->label.n + e->service_id.n;

    return FIXED_MAX + strlen(e->exchange) + strlen(e->peer) + n * strlen("\\u0000");
}

void access_write(const struct access_entry *e)
{
    struct buf line = { 0 };

    if (access_state.sink.kind == LOG_TO_NOWHERE)
        return;
    /* Reserves room for the whole line at once; otherwise a line could lack a part in its middle.
     */
    if (!buf_reserve(&line, access_longest(e), NULL)) {
        sink_drop(&access_state.sink);
        return;
    }
    switch (access_state.format) {
    case ACCESS_JSON:
        access_write_json(&line, e);
        break;
    case ACCESS_COMBINED:
        access_write_combined(&line, e);
        break;
    case ACCESS_LOGFMT:
        access_write_logfmt(&line, e);
        break;
    }
    if (buf_len(&line) > 0)
        sink_put(&access_state.sink, LOG_INFO, buf_str(&line).p, buf_len(&line));
    buf_release(&line);
    if (buf_len(&access_state.sink.lines) >= GATHER_MAX)
        access_flush();
}
