/* An exchange's beginning and end, its state, and its client. */
#include "exchange/exchange.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/url.h"
#include "exchange/forward.h"
#include "exchange/front.h"
#include "http/fields.h"
#include "net/sni.h"
#include "observe/access.h"
#include "observe/counter.h"

#define MAY(s) (1u << EX_##s)
static const struct {
    const char *name;
    unsigned next;
} states[EX_NSTATES] = {
    [EX_READING] = { "reading", MAY(QUEUED) | MAY(PARKED) | MAY(ANSWERING) | MAY(DONE) },
    [EX_QUEUED] = { "queued", MAY(VISITING) | MAY(QUEUED) | MAY(ANSWERING) | MAY(DONE) },
    [EX_VISITING] = { "visiting",
        MAY(QUEUED) | MAY(PARKED) | MAY(ANSWERING) | MAY(TUNNELLING) | MAY(DONE) },
    [EX_PARKED] = { "parked", MAY(QUEUED) | MAY(ANSWERING) | MAY(NOTIFYING) | MAY(DONE) },
    [EX_ANSWERING] = { "answering", MAY(QUEUED) | MAY(NOTIFYING) | MAY(DONE) },
    [EX_TUNNELLING] = { "tunnelling", MAY(DONE) },
    [EX_NOTIFYING] = { "notifying", MAY(DONE) },
    [EX_DONE] = { "done", 0 },
};

const char *ex_state_name(enum ex_state s)
{
    return states[s].name;
}

void exchange_set_state(struct exchange *ex, enum ex_state to)
{
    uint64_t now = loop_precise_us(), spent = now - ex->mark_us;

    BUG_IF(!(states[ex->state].next & (1u << to)));
    switch (ex->state) {
    case EX_QUEUED:
        ex->queue_us += spent;
        break;
    case EX_VISITING:
    case EX_TUNNELLING:
        ex->worker_us += spent;
        break;
    case EX_PARKED:
        ex->parked_us += spent;
        break;
    case EX_READING:
    case EX_ANSWERING:
    case EX_NOTIFYING:
    case EX_DONE:
        break;
    }
    ex->mark_us = now;
    log_debug(&ex->log, "%s -> %s", states[ex->state].name, states[to].name);
    deadline_clear(&ex->timer);
    list_push(&ex->front->exchanges[to], &ex->node);
    ex->state = to;
}

void exchange_log(struct exchange *ex)
{
    char peer[ADDR_TEXT_MAX] = "unknown";
    struct access_entry e = {
        .exchange = ex->id,
        .peer = peer,
        .method = ex->request.method,
        .path = ex->request.target,
        .protocol = ex->protocol,
        .user_agent = head_value(&ex->request, STR("user-agent")),
        .referer = head_value(&ex->request, STR("referer")),
        .end = str_of(ex->end ? ex->end : "complete"),
        .started_wall_ms = ex->started_wall_ms,
        .status = ex->status,
        .bytes_in = ex->bytes_in,
        .bytes_out = ex->bytes_out,
        .hops = ex->nhops,
        .calls = ex->ncalls,
        .queue_us = ex->queue_us,
        .worker_us = ex->worker_us,
        .parked_us = ex->parked_us,
        .total_us = loop_precise_us() - ex->started_us,
    };

    if (ex->logged || !access_enabled())
        return;
    ex->logged = true;
    if (ex->nanswers > 0)
        e.upstream = ex->answers[ex->nanswers - 1]->enclosed->upstream->name;
    if (ex->gateway)
        e.route = e.upstream = ex->gateway->name;
    else if (ex->pool_conf)
        e.route = ex->pool_conf->name;
    addr_ip_text(&ex->peer, peer);
    access_write(&e);
    front_flush_access(ex->front);
}

static void free_exchange(void *what)
{
    struct exchange *ex = what;

    for (size_t i = 0; i < ex->nanswers; i++)
        answer_release(ex->answers[i]);
    if (ex->handoff)
        handoff_release(ex->handoff);
    body_release(&ex->body);
    if (ex->spool)
        body_release(ex->spool);
    arena_release(&ex->visit_arena);
    arena_release(&ex->arena);
    pool_unref(ex->pool);
    conf_unref(ex->conf);
    free(ex);
}

static void exchange_release_client(struct exchange *ex)
{
    struct stream *s = ex->client;

    ex->client = NULL;
    encode_release(ex);
    if (s)
        stream_close(s);
}

void exchange_end(struct exchange *ex, const char *end)
{
    if (ex->state == EX_DONE)
        return;
    if (!ex->end)
        ex->end = end;
    visit_close(ex->visit);
    ex->visit = NULL;
    park_close_calls(ex);
    exchange_release_client(ex);
    exchange_set_state(ex, EX_DONE);
    exchange_log(ex);
    deadline_close(&ex->timer);
    loop_undefer(&ex->relay_flush);
    list_remove(&ex->node);
    front_exchange_ended(ex->front);
    loop_free_later(&ex->deferred_free, ex, free_exchange);
}

void exchange_send_head(struct exchange *ex, const struct head *head)
{
    struct arena scratch = { 0 };
    struct head encoded;
    int rc;

    if (ex->state != EX_ANSWERING)
        exchange_set_state(ex, EX_ANSWERING);
    if (ex->head_sent) /* keep-alive bytes have fixed it */
        return;
    ex->head_sent = true;
    ex->status = head->status;
    if (!ex->client)
        return;
    rc = stream_send_head(ex->client, encode_begin(ex, &scratch, head, &encoded), false);
    arena_release(&scratch);
    if (rc == STREAM_FULL)
        ex->client_full = true;
}

int exchange_pass_data(struct exchange *ex, struct str data)
{
    int rc = stream_send_data(ex->client, data.p, data.n);

    ex->bytes_out += data.n;
    if (rc == STREAM_FULL)
        ex->client_full = true;
    return rc < 0 && rc != STREAM_FULL ? -1 : 0;
}

bool exchange_send_data(struct exchange *ex, struct str data)
{
    int rc;

    if (data.n == 0)
        return ex->client_full;
    ex->body_begun = true;
    if (!ex->client) {
        ex->bytes_out += data.n;
        return false;
    }
    rc = ex->encoder ? encode_data(ex, data) : exchange_pass_data(ex, data);
    if (rc < 0)
        exchange_cut(ex, "out_of_memory");
    return ex->client_full;
}

void exchange_complete(struct exchange *ex)
{
    if (ex->encoder && encode_end(ex) < 0) {
        exchange_cut(ex, "out_of_memory");
        return;
    }
    if (ex->client)
        stream_send_end(ex->client);
    exchange_release_client(ex);
    if (notify_wanted(ex))
        notify_begin(ex);
    else
        exchange_end(ex, "complete");
}

void exchange_cut(struct exchange *ex, const char *end)
{
    struct stream *s = ex->client;

    if (!ex->end)
        ex->end = end;
    ex->client = NULL;
    encode_release(ex);
    if (s)
        stream_reset(s, STREAM_ABORT);
    if (notify_wanted(ex))
        notify_begin(ex);
    else
        exchange_end(ex, end);
}

/* The problem as the end of what keep-alive bytes began. */
static void exchange_send_late_problem(struct exchange *ex, enum problem p, unsigned status)
{
    struct str json = problem_json(&ex->arena, p, status, ex->id);

    if (ex->keep_alive_sent == KEEP_ALIVE_SSE)
        json = arena_printf(&ex->arena, "event: error\ndata: " STR_FMT "\n\n", STR_ARG(json));
    exchange_send_data(ex, json);
}

static void exchange_send_problem(struct exchange *ex, enum problem p, unsigned status)
{
    struct str json = problem_json(&ex->arena, p, status, ex->id);
    struct head head;

    if (problem_head(&ex->arena, p, status, loop_wall_ms(), json, &head) < 0 ||
        forward_add_cookies(&ex->arena, ex->cookies, &head) < 0 ||
        /* Who sends what is malformed may mean something else by what follows. */
        (p == PROBLEM_BAD_REQUEST &&
            head_add(&head, &ex->arena, STR("Connection"), STR("close")) < 0)) {
        exchange_cut(ex, "out_of_memory");
        return;
    }
    exchange_send_head(ex, &head);
    if (!ex->is_head)
        exchange_send_data(ex, json);
}

void exchange_fail(struct exchange *ex, enum problem p, unsigned status, const char *fmt, ...)
{
    unsigned code = status ? status : problem_status(p);
    char why[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    if (code < 500) {
        log_info(&ex->log, "request refused with %u: %s", code, why);
        counter_add(COUNTER_REQUESTS_REFUSED, 1);
    } else {
        log_warn(&ex->log, "%s (%u, %s): %s", problem_title(p), code, problem_error(p), why);
    }
    visit_close(ex->visit);
    ex->visit = NULL;
    park_close_calls(ex);
    ex->source_ended = true;
    ex->end = problem_error(p);
    if (!ex->client) {
        ex->status = ex->head_sent ? ex->status : code;
        if (notify_wanted(ex))
            notify_begin(ex);
        else
            exchange_end(ex, ex->end);
        return;
    }
    if (ex->body_begun || (ex->head_sent && ex->keep_alive_sent == KEEP_ALIVE_OFF)) {
        exchange_cut(ex, ex->end);
        return;
    }
    if (ex->head_sent)
        exchange_send_late_problem(ex, p, status);
    else
        exchange_send_problem(ex, p, status);
    if (ex->state != EX_DONE)
        exchange_complete(ex);
}

/* The whole request has come. */
static void exchange_dispatch(struct exchange *ex)
{
    if (ex->gateway)
        park_gateway(ex);
    else
        hop_begin(ex, HOP_REQUEST, (struct str){ 0 });
}

static void exchange_client_gone(struct exchange *ex, const char *why)
{
    counter_add(COUNTER_CLIENTS_GONE, 1);
    log_debug(&ex->log, "client gone while %s: %s", states[ex->state].name, why);
    exchange_release_client(ex);
    if (!ex->end && ex->state != EX_NOTIFYING)
        ex->end = "client_gone";
    switch (ex->state) {
    case EX_READING:
        exchange_end(ex, "client_gone");
        break;
    case EX_QUEUED:
        /* It frees its place and never reaches a worker; but what has been paid for is finished. */
        if (ex->hop == 0)
            exchange_end(ex, "client_gone");
        break;
    case EX_VISITING:
        break; /* the worker works on it anyway; a handoff or a response is looked at when it comes
                */
    case EX_PARKED:
        park_client_gone(ex);
        break;
    case EX_ANSWERING:
        if (ex->relay)
            relay_client_gone(ex);
        else
            hop_on_client_gone(ex);
        break;
    case EX_TUNNELLING:
        exchange_end(ex, "client_gone");
        break;
    case EX_NOTIFYING:
    case EX_DONE:
        break;
    }
}

static void exchange_on_client_data(struct exchange *ex, struct str data)
{
    ex->bytes_in += data.n;
    if (ex->state == EX_TUNNELLING) {
        tunnel_on_client_data(ex, data);
        return;
    }
    if (ex->state != EX_READING)
        return; /* answered already; the rest is read and dropped until the connection ends */
    if (body_size(&ex->body) + data.n > ex->conf->body_max) {
        exchange_fail(ex, PROBLEM_BODY_TOO_LARGE, 0, "the body is larger than body_max");
        return;
    }
    if (body_append(&ex->body, data.p, data.n) < 0)
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "cannot keep the body in temp_dir");
}

static void exchange_on_client_failed(struct exchange *ex, const struct message *m)
{
    if (ex->state == EX_READING && m->cause == STREAM_E_BAD_REQUEST)
        exchange_fail(
            ex, PROBLEM_BAD_REQUEST, h1_error_status(m->detail), "%s", h1_strerror(m->detail));
    else if (ex->state == EX_READING && m->cause == STREAM_E_TIMEOUT)
        exchange_fail(ex, PROBLEM_REQUEST_TIMEOUT, 0,
            "the body came too slowly (body_timeout, body_rate_min)");
    else
        exchange_client_gone(ex, stream_strerror(m->cause));
}

/* The client is gone, or only done with sending: nobody can tell. Who waits for a slot, or for a
 * call, is taken for gone; but as long as the calls are to finish anyway, the answer is still
 * offered. */
static void exchange_on_half_closed(void *owner, struct stream *s)
{
    struct exchange *ex = owner;

    ex->half_closed = true;
    if (ex->state == EX_QUEUED && ex->hop == 0)
        exchange_client_gone(ex, "closed by the client");
    else if (ex->state != EX_PARKED && !(ex->state == EX_ANSWERING && ex->relay))
        return;
    else if (park_cancels(ex))
        exchange_client_gone(ex, "closed by the client");
    else
        log_debug(&ex->log, "client gone, or done with sending: the calls go on");
}

static void exchange_on_client_message(void *owner, struct stream *s, const struct message *m)
{
    struct exchange *ex = owner;

    switch (m->kind) {
    case MESSAGE_HEAD:
        break;
    case MESSAGE_DATA:
        exchange_on_client_data(ex, m->data);
        break;
    case MESSAGE_END:
        if (ex->state == EX_READING)
            exchange_dispatch(ex);
        else if (ex->state == EX_TUNNELLING)
            tunnel_on_client_end(ex);
        break;
    case MESSAGE_FAILED:
        exchange_on_client_failed(ex, m);
        break;
    }
}

static void exchange_on_client_drained(void *owner, struct stream *s)
{
    struct exchange *ex = owner;

    ex->client_full = false;
    if (ex->state == EX_TUNNELLING)
        tunnel_on_client_drained(ex);
    if (ex->state != EX_ANSWERING)
        return;
    if (ex->relay)
        relay_on_client_drained(ex);
    else
        hop_on_client_drained(ex);
}

static const struct stream_handler exchange_client_handler = {
    .on_message = exchange_on_client_message,
    .on_drained = exchange_on_client_drained,
    .on_half_closed = exchange_on_half_closed,
};

static void exchange_on_timer(void *owner)
{
    struct exchange *ex = owner;

    switch (ex->state) {
    case EX_PARKED:
        park_on_timer(ex);
        break;
    case EX_QUEUED:
        hop_on_timer(ex);
        break;
    case EX_NOTIFYING:
        notify_on_timer(ex);
        break;
    case EX_TUNNELLING:
        tunnel_on_timer(ex);
        break;
    case EX_READING:
    case EX_VISITING:
    case EX_ANSWERING:
    case EX_DONE:
        break;
    }
}

/* The route for the request, or NULL with *bad set if the path cannot be read. A path that only
 * looks protected before it is normalised ("/internal/../x") is protected too: it is forwarded as
 * it came, and a backend may resolve nothing. */
static const struct route_conf *exchange_find_route(
    struct exchange *ex, const struct head *head, bool *bad)
{
    struct str path, raw, host = { 0 };
    struct arena scratch = { 0 };
    const struct route_conf *r = NULL, *seen;
    uint16_t port;
    bool ipv6;

    *bad = false;
    if (head->authority.n)
        url_parse_authority(head->authority, &host, &ipv6, &port);
    if (str_eq(head->target, STR("*"))) {
        r = conf_find_route(ex->conf, host, STR("/"));
    } else if (!url_normalise_path(&scratch, head->target, &path) ||
               !url_decode_path(&scratch, head->target, &raw)) {
        *bad = true;
    } else {
        r = conf_find_route(ex->conf, host, path);
        seen = conf_find_route(ex->conf, host, raw);
        if (seen && seen->internal)
            r = seen;
    }
    arena_release(&scratch);
    return r;
}

/* Takes over what is worth knowing of a request that is refused, for the access log. */
static void exchange_save_refused(struct exchange *ex, const struct head *head)
{
    if (head)
        head_copy(&ex->arena, &ex->request, head, 0);
    ex->is_head = head && str_eq(head->method, STR("HEAD"));
}

/* Whether TLS was set up for another host. A trusted proxy speaks for hosts of its own choice. */
static bool exchange_is_misdirected(const struct exchange *ex, const struct head *head)
{
    const struct ssl_st *tls = stream_tls(ex->client);
    struct sockaddr_storage sa;
    struct str host = { 0 };
    uint16_t port;
    bool ipv6;

    if (!tls || head->authority.n == 0)
        return false;
    url_parse_authority(head->authority, &host, &ipv6, &port);
    if (!sni_is_misdirected(tls, host))
        return false;
    addr_to_sockaddr(&ex->peer, &sa);
    return !conf_trusts(ex->conf, (const struct sockaddr *)&sa);
}

static bool exchange_has_underscored(const struct head *h)
{
    for (size_t i = 0; i < h->nfields; i++)
        if (str_find_char(h->fields[i].name, '_') >= 0 && !field_is_tarry(h->fields[i].name))
            return true;
    return false;
}

/* The head is there and sound. */
static void exchange_accept_request(struct exchange *ex, const struct stream_request *r)
{
    const struct head *head = r->head;
    const struct route_conf *route;
    bool bad;

    BUG_IF(!head); /* every request that is not refused has one */
    if (forward_save_request(&ex->arena, ex->conf, head, ex->client, ex->id, &ex->request) < 0) {
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
        return;
    }
    ex->is_head = str_eq(head->method, STR("HEAD"));
    if (exchange_is_misdirected(ex, head)) {
        exchange_fail(ex, PROBLEM_MISDIRECTED, 0,
            "the host \"" STR_FMT
            "\" is neither the name asked for in the TLS handshake nor in the "
            "certificate shown (listen: misdirected = \"serve\" would let it pass)",
            STR_ARG(head->authority));
        return;
    }
    ex->has_body = r->body || head_find(head, STR("content-length"));
    route = exchange_find_route(ex, head, &bad);
    if (bad) {
        exchange_fail(ex, PROBLEM_BAD_REQUEST, 0,
            "the path climbs above the root, or holds a NUL or an overlong UTF-8 form");
        return;
    }
    if (ex->conf->underscore_headers == UNDERSCORE_REFUSE && exchange_has_underscored(head)) {
        exchange_fail(ex, PROBLEM_BAD_REQUEST, 0, "a field's name has an underscore");
        return;
    }
    if (!route || route->internal) {
        exchange_fail(ex, PROBLEM_NOT_FOUND, 0, route ? "the route is internal" : "no route");
        return;
    }
    ex->request.websocket = head->websocket && route->websocket;
    ex->websocket_only = r->websocket_only;
    ex->compress = route->compress;
    if (ex->websocket_only && !route->websocket) {
        exchange_fail(ex, PROBLEM_BAD_REQUEST, 501, "the route has no WebSockets");
        return;
    }
    if (ex->request.websocket && !r->body) /* "Content-Length: 0" says no more than nothing */
        ex->has_body = false;
    if (ex->request.websocket && ex->has_body) {
        exchange_fail(ex, PROBLEM_BAD_REQUEST, 0, "a WebSocket's opening handshake has a body");
        return;
    }
    ex->gateway = route->upstream;
    if (route->pool) {
        struct pool *pool = pools_find(ex->front->pools, route->pool->name);

        ex->pool_conf = route->pool;
        ex->pool = pool ? pool_ref(pool) : NULL;
    }
    if (r->body && r->length_known && r->length > ex->conf->body_max) {
        exchange_fail(ex, PROBLEM_BODY_TOO_LARGE, 0, "the body is larger than body_max");
        return;
    }
    if (!r->body) {
        exchange_dispatch(ex);
        return;
    }
    body_expect(&ex->body, r->length);
    if (r->expects_continue)
        stream_send_continue(ex->client);
}

void exchange_begin(struct front *f, struct stream *client, const struct stream_request *r)
{
    struct exchange *ex = calloc(1, sizeof(*ex));

    if (!ex) {
        stream_close(client);
        return;
    }
    counter_add(COUNTER_REQUESTS, 1);
    ex->front = f;
    ex->conf = conf_ref(f->conf);
    ex->client = client;
    ex->peer = *client->peer;
    ex->protocol = client->http2                    ? STR("HTTP/2.0")
                   : r->head && r->head->minor == 0 ? STR("HTTP/1.0")
                                                    : STR("HTTP/1.1");
    ex->state = EX_READING;
    ex->attempt = 1;
    entropy_id(ex->id);
    ex->log.exchange = ex->id;
    ex->started_wall_ms = loop_wall_ms();
    ex->started_us = ex->mark_us = loop_precise_us();
    body_init(&ex->body, ex->conf->body_memory_max, ex->conf->temp_dir.p);
    deadline_init(&ex->timer, exchange_on_timer, ex);
    list_push(&f->exchanges[EX_READING], &ex->node);
    stream_set_owner(client, &exchange_client_handler, ex);
    if (r->error_status) {
        exchange_save_refused(ex, r->head);
        exchange_fail(ex, PROBLEM_BAD_REQUEST, r->error_status, "%s", r->error);
        return;
    }
    exchange_accept_request(ex, r);
}
