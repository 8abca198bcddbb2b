/* URLs by the routes of the conf; comments between two events. */
#include "exchange/gateway.h"

#include <stdlib.h>

#include "base/url.h"
#include "exchange/apiproblem.h"
#include "exchange/forward.h"
#include "exchange/routepath.h"
#include "llm/links.h"
#include "upstream/rewrite.h"

/* Made with the answer's head, where something of its body may change. */
struct gateway_body {
    struct links *links; /* NULL: its URLs stay */
    bool event_stream;   /* comments may come in between */
    bool line_empty, between_events, after_cr;
};

/* ---- the service's URLs ---- */

/* Where clients reach Tarry, by this request. */
struct gateway_base {
    struct str scheme, host; /* host: with its port */
};

static struct str gateway_first(struct str list)
{
    struct str first;

    return str_next_element(&list, &first) ? first : (struct str){ 0 };
}

static struct gateway_base gateway_base_of(const struct exchange *ex)
{
    const struct head *h = &ex->request.head;
    struct gateway_base base = { head_value(h, STR("tarry-scheme")), h->authority };

    if (ex->conf->forwarded_headers == FORWARDED_REPLACE) { /* then these have been checked */
        base.scheme = gateway_first(head_value(h, STR("x-forwarded-proto")));
        base.host = gateway_first(head_value(h, STR("x-forwarded-host")));
    }
    return base;
}

/* The URL without the endpoint's origin and path prefix: a target. p is NULL if it is another's. */
static struct str gateway_target_of(const struct endpoint_conf *e, struct str url)
{
    static const struct str ports[] = { STR_INIT(":443"), STR_INIT(":80") };
    struct str rest = url;

    if (url.n == 0 || url.p[0] != '/') {
        if (!str_starts_with_nocase(url, e->origin))
            return (struct str){ 0 };
        rest = str_make(url.p + e->origin.n, url.n - e->origin.n);
        if (e->port == (e->tls ? 443 : 80) && str_starts_with(rest, ports[!e->tls]))
            rest = str_make(rest.p + ports[!e->tls].n, rest.n - ports[!e->tls].n);
    } else if (url.n > 1 && url.p[1] == '/') {
        return (struct str){ 0 }; /* "//host" */
    }
    if (rest.n == 0 || rest.p[0] != '/')
        return (struct str){ 0 };
    if (e->path_prefix.n == 0)
        return rest;
    if (!str_starts_with(rest, e->path_prefix))
        return (struct str){ 0 };
    rest = str_make(rest.p + e->path_prefix.n, rest.n - e->path_prefix.n);
    return rest.n > 0 && rest.p[0] == '/' ? rest : (struct str){ 0 };
}

/* Whether a client's target leads to the service's one, by the routes for that host. */
static bool gateway_leads_to(
    const struct exchange *ex, struct arena *a, struct str client, struct str service)
{
    struct str host = { 0 }, path, out;
    const struct route_conf *r;
    uint16_t port;
    bool ipv6;

    url_parse_authority(ex->request.head.authority, &host, &ipv6, &port);
    if (!url_is_origin_form(client) || !url_normalise_path(a, client, &path))
        return false;
    r = conf_find_route(ex->conf, host, path);
    if (!r || r->upstream != ex->gateway || !routepath_fits(r, client))
        return false;
    out = routepath_out(r, a, client);
    return out.p && str_eq(out, service);
}

/* The client's target for a target of the service: by its own route, or else by another that leads
 * to the same upstream. p is NULL if there is none. */
static struct str gateway_find_target(
    const struct exchange *ex, struct arena *a, struct str service)
{
    struct str target = routepath_back(ex->route, a, service);

    if (target.p && gateway_leads_to(ex, a, target, service))
        return target;
    for (size_t i = 0; i < ex->conf->nroutes; i++) {
        const struct route_conf *r = &ex->conf->routes[i];

        if (r->upstream != ex->gateway)
            continue;
        target = routepath_back(r, a, service);
        if (target.p && gateway_leads_to(ex, a, target, service))
            return target;
    }
    return (struct str){ 0 };
}

/* What stands for a URL of the service, in `a`. p is NULL if it stays. */
static struct str gateway_map_url(const struct exchange *ex, struct arena *a, struct str url)
{
    struct gateway_base base = gateway_base_of(ex);
    const struct upstream_conf *u = ex->gateway;

    for (size_t i = 0; url.n > 0 && i < u->nendpoints; i++) {
        struct str service = gateway_target_of(&u->endpoints[i], url), client;

        if (!service.p)
            continue;
        client = gateway_find_target(ex, a, service);
        if (!client.p)
            continue;
        if (url.p[0] == '/')
            return str_eq(client, url) ? (struct str){ 0 } : client;
        if (base.scheme.n == 0 || base.host.n == 0)
            return (struct str){ 0 };
        return arena_printf(a, STR_FMT "://" STR_FMT STR_FMT, STR_ARG(base.scheme),
            STR_ARG(base.host), STR_ARG(client));
    }
    return (struct str){ 0 };
}

/* "<URL>; rel=next, <URL>; rel=last" (RFC 8288 3). p is NULL if it stays. */
static struct str gateway_map_link(const struct exchange *ex, struct arena *a, struct str value)
{
    struct str rest = value, before, after, url, all = { 0 };
    struct arena scratch = { 0 };
    struct buf out = { 0 };
    bool changed = false;
    int rc = 0;

    while (rc == 0 && str_cut(rest, '<', &before, &after) && str_cut(after, '>', &url, &rest)) {
        struct str mapped = gateway_map_url(ex, &scratch, url);

        changed = changed || mapped.p;
        rc = buf_printf(
            &out, STR_FMT "<" STR_FMT ">", STR_ARG(before), STR_ARG(mapped.p ? mapped : url));
        arena_release(&scratch);
    }
    if (changed && rc == 0 && buf_append_str(&out, rest) == 0)
        all = arena_copy(a, buf_str(&out));
    buf_release(&out);
    return all;
}

static bool gateway_is_url_field(struct str name)
{
    static const struct str names[] = { STR_INIT("location"), STR_INIT("content-location"),
        STR_INIT("operation-location"), STR_INIT("x-goog-upload-url"),
        STR_INIT("x-goog-upload-control-url") };

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (str_eq_nocase(name, names[i]))
            return true;
    return false;
}

static void gateway_map_fields(const struct exchange *ex, struct arena *a, struct head *h)
{
    for (size_t i = 0; i < h->nfields; i++) {
        struct field *f = &h->fields[i];
        struct str mapped = { 0 };

        if (gateway_is_url_field(f->name))
            mapped = gateway_map_url(ex, a, f->value);
        else if (str_eq_nocase(f->name, STR("link")))
            mapped = gateway_map_link(ex, a, f->value);
        if (mapped.p)
            f->value = mapped;
    }
}

static bool gateway_on_link(void *owner, struct str url, struct buf *out)
{
    struct arena scratch = { 0 };
    struct str mapped = gateway_map_url(owner, &scratch, url);
    bool done = mapped.p && buf_append_str(out, mapped) == 0;

    arena_release(&scratch);
    return done;
}

/* ---- heads ---- */

/* A model's answer: nothing in it is changed. */
static bool gateway_is_model_call(const struct exchange *ex)
{
    struct arena scratch = { 0 };
    struct str target = routepath_out(ex->route, &scratch, ex->request.head.target);
    bool is = target.p && api_of(rewrite_family(ex->gateway), target) != LLM_OTHER;

    arena_release(&scratch);
    return is;
}

/* Whether an answer with URLs in it may come, of a service that is known to have them. */
static bool gateway_expects_links(const struct exchange *ex)
{
    struct str accept = head_value(&ex->request.head, STR("accept")), one, type, rest;

    if (!ex->route->rewrite_urls || ex->reply.errors == LLM_BY_PATH ||
        ex->reply.errors == LLM_NO_FAMILY || gateway_is_model_call(ex))
        return false;
    if (accept.n == 0)
        return true;
    while (str_next_element(&accept, &one)) {
        str_cut(one, ';', &type, &rest);
        type = str_trim(type);
        if (str_eq_nocase(type, STR("application/json")) || str_eq(type, STR("*/*")))
            return true;
    }
    return false;
}

int gateway_make_request(struct exchange *ex, struct arena *a, struct head *out)
{
    if (forward_gateway_request(a, &ex->request.head, out) < 0)
        return -1;
    out->target = routepath_out(ex->route, a, out->target);
    if (!out->target.p)
        return -1;
    return gateway_expects_links(ex) ? head_set(out, a, STR("Accept-Encoding"), STR("identity"))
                                     : 0;
}

static bool gateway_is_plain(const struct head *h)
{
    struct str coding = head_value(h, STR("content-encoding"));

    return coding.n == 0 || str_eq_nocase(coding, STR("identity"));
}

static bool gateway_has_links(const struct exchange *ex, const struct head *h)
{
    struct str type, rest;

    str_cut(head_value(h, STR("content-type")), ';', &type, &rest);
    return ex->route->rewrite_urls && h->status >= 200 && h->status < 300 && h->status != 206 &&
           str_eq_nocase(str_trim(type), STR("application/json")) && gateway_is_plain(h) &&
           !gateway_is_model_call(ex);
}

/* Fields that would not hold for the changed body, nor for the answer to a HEAD that tells of it.
 * The entity tag becomes a weak one (RFC 9110 8.8.1): ranges are the service's bytes. */
static int gateway_fit_fields(struct arena *a, struct head *h)
{
    static const struct str names[] = { STR_INIT("content-length"), STR_INIT("content-digest"),
        STR_INIT("repr-digest"), STR_INIT("digest"), STR_INIT("content-md5"),
        STR_INIT("accept-ranges") };
    struct str tag = head_value(h, STR("etag"));

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        head_remove(h, names[i]);
    if (tag.n == 0 || tag.p[0] != '"')
        return 0;
    tag = arena_printf(a, "W/" STR_FMT, STR_ARG(tag));
    return tag.p ? head_set(h, a, STR("ETag"), tag) : -1;
}

int gateway_make_response(
    struct exchange *ex, struct arena *a, const struct head *in, struct head *out)
{
    bool comments = ex->route->keep_alive_interval_ms > 0 && head_is_event_stream(in) &&
                    gateway_is_plain(in) && in->status == 200,
         links = gateway_has_links(ex, in);

    if (forward_gateway_response(a, in, out) < 0)
        return -1;
    if (ex->route->rewrite_urls)
        gateway_map_fields(ex, a, out);
    if (!links && !comments)
        return 0;
    if (gateway_fit_fields(a, out) < 0)
        return -1;
    if (ex->reply.head_only)
        return 0;
    ex->gateway_body = calloc(1, sizeof(*ex->gateway_body));
    if (!ex->gateway_body)
        return -1;
    ex->gateway_body->event_stream = comments;
    ex->gateway_body->line_empty = ex->gateway_body->between_events = true;
    if (links)
        ex->gateway_body->links = links_new(gateway_on_link, ex);
    return links && !ex->gateway_body->links ? -1 : 0;
}

/* ---- the body ---- */

/* Where the client is in an event stream: after an empty line, an event has ended. */
static void gateway_track(struct gateway_body *b, struct str data)
{
    size_t at = data.n;

    /* Nothing before the last byte of a line matters. */
    while (at > 0 && (data.p[at - 1] == '\n' || data.p[at - 1] == '\r'))
        at--;
    if (at > 0)
        b->line_empty = b->between_events = b->after_cr = false;
    for (; at < data.n; at++) {
        if (data.p[at] == '\n' && b->after_cr) {
            b->after_cr = false;
            continue;
        }
        b->between_events = b->line_empty;
        b->line_empty = true;
        b->after_cr = data.p[at] == '\r';
    }
}

int gateway_data(struct exchange *ex, struct str data)
{
    struct gateway_body *b = ex->gateway_body;
    struct buf out = { 0 };
    int rc;

    if (b)
        gateway_track(b, data);
    if (!b || !b->links)
        return reply_data(&ex->reply, data);
    rc = links_feed(b->links, data, &out) < 0 ? REPLY_E_MEMORY
                                              : reply_data(&ex->reply, buf_str(&out));
    buf_release(&out);
    return rc;
}

int gateway_end(struct exchange *ex)
{
    struct gateway_body *b = ex->gateway_body;
    struct buf out = { 0 };
    int rc = REPLY_OK;

    if (b && b->links)
        rc = links_end(b->links, &out) < 0 ? REPLY_E_MEMORY : reply_data(&ex->reply, buf_str(&out));
    buf_release(&out);
    return rc < 0 ? rc : REPLY_OK;
}

/* ---- silence ---- */

void gateway_arm(struct exchange *ex)
{
    if (ex->route->keep_alive_interval_ms > 0)
        exchange_set_timer(ex, ex->route->keep_alive_interval_ms);
}

/* The head that the first comment fixes. */
static int gateway_begin_stream(struct exchange *ex)
{
    struct arena scratch = { 0 };
    struct head head = { .status = 200 };
    int rc = 0;

    rc |= head_add(&head, &scratch, STR("Content-Type"), STR("text/event-stream"));
    rc |= head_add(&head, &scratch, STR("Cache-Control"), STR("no-cache"));
    rc |= head_add(&head, &scratch, STR("X-Request-Id"), str_of(ex->id));
    if (rc == 0)
        rc = reply_keep_alive(&ex->reply, KEEP_ALIVE_SSE, &head);
    arena_release(&scratch);
    return rc;
}

void gateway_on_silence(struct exchange *ex)
{
    const struct piece body = { .body = &ex->request.body, .len = body_size(&ex->request.body) };
    int rc = 0;

    /* One answer, whatever the client says that it accepts: a handshake's, and a HEAD's. */
    if (ex->request.head.websocket || ex->reply.head_only)
        return;
    if (ex->gateway_body && ex->gateway_body->event_stream) {
        if (ex->gateway_body->between_events)
            reply_comment(&ex->reply);
    } else if (!reply_may_answer(&ex->reply) ||
               (ex->reply.state == REPLY_NONE &&
                   !rewrite_asks_for_stream(&ex->request.head, &body))) {
        return; /* no event stream, now or later */
    } else {
        rc = gateway_begin_stream(ex);
    }
    if (rc < 0)
        exchange_fail(ex, PROBLEM_INTERNAL, 0, "out of memory");
    else
        gateway_arm(ex);
}

void gateway_release(struct exchange *ex)
{
    if (!ex->gateway_body)
        return;
    links_free(ex->gateway_body->links);
    free(ex->gateway_body);
    ex->gateway_body = NULL;
}
