/* Admission: the checks of a request, and its route. */
#include "frontend/admission.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/url.h"
#include "exchange/forward.h"
#include "exchange/routepath.h"
#include "http/fields.h"
#include "net/sni.h"

static bool admission_refuse(struct refusal *no, enum problem p, unsigned status, const char *fmt,
    ...) __attribute__((format(printf, 4, 5)));

static bool admission_refuse(
    struct refusal *no, enum problem p, unsigned status, const char *fmt, ...)
{
    va_list ap;

    no->problem = p;
    no->status = status;
    va_start(ap, fmt);
    vsnprintf(no->why, sizeof(no->why), fmt, ap);
    va_end(ap);
    return false;
}

bool admission_address_counts(const struct conf *conf, const struct addr *a)
{
    struct sockaddr_storage sa;

    addr_to_sockaddr(a, &sa);
    return (a->family == AF_INET || a->family == AF_INET6) &&
           (conf->address_limit_loopback || !addr_is_local(a)) &&
           !conf_trusts(conf, (const struct sockaddr *)&sa);
}

/* family 0: it is not known, or stands for many clients. */
static struct addr admission_client_address(
    const struct conf *conf, const struct head *kept, const struct addr *peer)
{
    struct addr at = forward_client(conf, kept, peer);

    return admission_address_counts(conf, &at) ? at : (struct addr){ 0 };
}

/* Whether TLS was set up for another host. A trusted proxy speaks for hosts of its own choice. */
static bool admission_is_misdirected(
    const struct conf *conf, struct stream *client, const struct head *head)
{
    const struct ssl_st *tls = stream_tls(client);
    struct sockaddr_storage sa;
    struct str host = { 0 };
    uint16_t port;
    bool ipv6;

    if (!tls || head->authority.n == 0)
        return false;
    url_parse_authority(head->authority, &host, &ipv6, &port);
    if (!sni_is_misdirected(tls, host))
        return false;
    addr_to_sockaddr(client->peer, &sa);
    return !conf_trusts(conf, (const struct sockaddr *)&sa);
}

static bool admission_has_underscored(const struct head *h)
{
    for (size_t i = 0; i < h->nfields; i++)
        if (str_find_char(h->fields[i].name, '_') >= 0 && !field_is_tarry(h->fields[i].name))
            return true;
    return false;
}

/* What a backend resolves that takes "//host/path" for a reference with a host (RFC 3986 4.2):
 * "/path". */
static struct str admission_without_host(struct str target)
{
    ssize_t slash;

    if (target.n < 2 || target.p[0] != '/' || target.p[1] != '/')
        return target;
    slash = str_find_char(str_make(target.p + 2, target.n - 2), '/');
    return slash < 0 ? STR("/") : str_make(target.p + 2 + slash, target.n - 2 - (size_t)slash);
}

/* The internal route that some reader of the target would come to, or NULL. It is forwarded as it
 * came, and a backend may resolve less of it than Tarry does ("/internal/../x"), or see a host in
 * it
 * ("//x/internal/"). */
static const struct route_conf *admission_find_internal(
    const struct conf *conf, struct arena *a, struct str host, struct str target)
{
    struct str rest = admission_without_host(target), path;
    bool (*const read[])(
        struct arena *, struct str, struct str *) = { url_decode_path, url_normalise_path };

    for (size_t i = 0; i < 4; i++) {
        const struct route_conf *r = NULL;

        if (read[i % 2](a, i < 2 ? target : rest, &path))
            r = conf_find_route(conf, host, path);
        if (r && r->internal)
            return r;
    }
    return NULL;
}

const struct route_conf *admission_find_route(
    const struct conf *conf, const struct head *head, bool *bad)
{
    struct str path, host = { 0 };
    struct arena scratch = { 0 };
    const struct route_conf *r = NULL, *internal;
    uint16_t port;
    bool ipv6;

    *bad = false;
    if (head->authority.n)
        url_parse_authority(head->authority, &host, &ipv6, &port);
    if (str_eq(head->target, STR("*"))) {
        r = conf_find_route(conf, host, STR("/"));
    } else if (!url_normalise_path(&scratch, head->target, &path)) {
        *bad = true;
    } else {
        r = conf_find_route(conf, host, path);
        internal = admission_find_internal(conf, &scratch, host, head->target);
        if (internal)
            r = internal;
    }
    arena_release(&scratch);
    return r;
}

/* The host of an origin ("https://host:port"); empty: it has none. */
static struct str admission_origin_host(struct str origin)
{
    struct url url;

    return url_parse(origin, &url) == 0 ? url.host : (struct str){ 0 };
}

/* Whether the page that asks for the WebSocket may have one: a browser lets every page open one
 * anywhere and read what comes. Programs send no Origin. */
static bool admission_origin_is_welcome(
    const struct hosts_conf *allowed, const struct head *head, struct str *origin)
{
    const struct field *f = head_find(head, STR("origin"));
    struct str host, own = { 0 };
    uint16_t port;
    bool ipv6;

    if (!f)
        return true;
    *origin = f->value;
    host = admission_origin_host(f->value);
    if (host.n == 0 || head_count(head, STR("origin")) > 1)
        return false;
    if (head->authority.n > 0)
        url_parse_authority(head->authority, &own, &ipv6, &port);
    if (str_eq_nocase(host, own))
        return true;
    for (size_t i = 0; i < allowed->n; i++)
        if (str_eq_nocase(host, allowed->list[i]))
            return true;
    return false;
}

static bool admission_check_websocket(const struct route_conf *route,
    const struct stream_request *r, struct admitted *out, struct refusal *no)
{
    struct str length, origin = { 0 };

    out->head.websocket = r->head->websocket && route->websocket;
    out->websocket_only = r->websocket_only;
    if (r->websocket_only && !route->websocket)
        return admission_refuse(no, PROBLEM_NO_WEBSOCKET, 0, "the route has no WebSockets");
    length = head_value(r->head, STR("content-length"));
    if (out->head.websocket && (r->body || (length.p && !str_eq(length, STR("0")))))
        return admission_refuse(
            no, PROBLEM_BAD_REQUEST, 0, "a WebSocket's opening handshake has a body");
    if (out->head.websocket && route->upstream &&
        !admission_origin_is_welcome(&route->websocket_origins, r->head, &origin))
        return admission_refuse(no, PROBLEM_FOREIGN_ORIGIN, 0,
            "a page of \"" STR_FMT "\" asked for a WebSocket; add its host to websocket_origins if "
            "it may have one",
            (int)(origin.n < 120 ? origin.n : 120), origin.p);
    return true;
}

/* Host and route: where the request would go. */
static const struct route_conf *admission_pick_route(
    const struct conf *conf, struct stream *client, const struct head *head, struct refusal *no)
{
    const struct route_conf *route;
    bool bad;

    if (admission_is_misdirected(conf, client, head)) {
        admission_refuse(no, PROBLEM_MISDIRECTED, 0,
            "the host \"" STR_FMT
            "\" is neither the name asked for in the TLS handshake nor in the certificate shown "
            "(listen: misdirected = \"serve\" would let it pass)",
            STR_ARG(head->authority));
        return NULL;
    }
    route = admission_find_route(conf, head, &bad);
    if (bad)
        admission_refuse(no, PROBLEM_BAD_REQUEST, 0,
            "the path climbs above the root, or holds a NUL or an overlong UTF-8 form");
    else if (conf->underscore_headers == UNDERSCORE_REFUSE && admission_has_underscored(head))
        admission_refuse(no, PROBLEM_BAD_REQUEST, 0, "a field's name has an underscore");
    else if (!route || route->internal)
        admission_refuse(no, PROBLEM_NOT_FOUND, 0, route ? "the route is internal" : "no route");
    else
        return route;
    return NULL;
}

bool admission_decide(const struct conf *conf, struct arena *a, const char *id,
    struct stream *client, const struct stream_request *r, struct admitted *out, struct refusal *no)
{
    const struct head *head = r->head;
    const struct route_conf *route;

    *out = (struct admitted){ 0 };
    if (r->error_status) {
        if (head)
            head_copy(a, &out->head, head, 0);
        return admission_refuse(no, PROBLEM_BAD_REQUEST, r->error_status, "%s", r->error);
    }
    BUG_IF(!head); /* every request that is not refused has one */
    if (forward_save_request(a, conf, head, client, id, &out->head) < 0)
        return admission_refuse(no, PROBLEM_INTERNAL, 0, "out of memory");
    route = admission_pick_route(conf, client, head, no);
    if (!route)
        return false;
    out->route = route;
    out->gateway = route->upstream;
    out->pool = route->pool;
    if (!admission_check_websocket(route, r, out, no))
        return false;
    if (!routepath_fits(route, out->head.target))
        return admission_refuse(no, PROBLEM_BAD_REQUEST, 0,
            "the path is not written in the form that the route's prefix_rewrite needs");
    if (r->body && r->length_known &&
        r->length > (route->body_max ? route->body_max : conf->body_max))
        return admission_refuse(no, PROBLEM_BODY_TOO_LARGE, 0, "the body is larger than body_max");
    out->compress = route->compress;
    /* A WebSocket's handshake may say that it has no body: charging stations and others do. */
    out->has_body = r->body || (head_find(head, STR("content-length")) && !out->head.websocket);
    out->body_follows = r->body;
    out->expects_continue = r->body && r->expects_continue;
    out->length = r->body && r->length_known ? r->length : 0;
    out->client = admission_client_address(conf, &out->head, client->peer);
    return true;
}
