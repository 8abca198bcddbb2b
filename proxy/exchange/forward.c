/* Filters of fields. What the outside says about itself is replaced by what Tarry has seen, unless
 * the conf trusts the peer or leaves that judgement to the workers. */
#include "exchange/forward.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "http/fields.h"
#include "http/forwarded.h"
#include "net/addr.h"
#include "net/sni.h"

static struct field *forward_array(struct arena *a, size_t n)
{
    return arena_alloc(a, n * sizeof(struct field));
}

/* Fields that say where a request came from: a peer that is not trusted does not get to say it. */
static bool forward_tells_origin(struct str name)
{
    return field_begins_folded(name, STR("x-forwarded-")) ||
           field_folds_to(name, STR("x-forwarded")) || field_folds_to(name, STR("x-real-ip")) ||
           field_folds_to(name, STR("forwarded"));
}

/* Those of a trusted peer that are kept only if they are in good form, or get something added. */
static bool forward_is_written_anew(struct str name)
{
    static const struct str names[] = { STR_INIT("x-forwarded-for"), STR_INIT("x-forwarded-proto"),
        STR_INIT("x-forwarded-host"), STR_INIT("x-forwarded-port"), STR_INIT("x-real-ip"),
        STR_INIT("forwarded") };

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (field_folds_to(name, names[i]))
            return true;
    return false;
}

/* Whether it is spelled with letters, digits and "-": with anything else an environment may take it
 * for another name. */
static bool forward_is_plain(struct str name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = str_lower_char(name.p[i]);

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return true;
}

static bool forward_has_underscore(struct str name)
{
    return str_find_char(name, '_') >= 0;
}

static bool forward_is_safe_id(struct str id)
{
    if (id.n == 0 || id.n > 128)
        return false;
    for (size_t i = 0; i < id.n; i++) {
        char c = id.p[i];

        if (!((c >= '0' && c <= '9') || (str_lower_char(c) >= 'a' && str_lower_char(c) <= 'z') ||
                c == '-' || c == '_' || c == '.' || c == ':' || c == '+' || c == '/' || c == '=' ||
                c == '@'))
            return false;
    }
    return true;
}

/* The scheme that one of the lesser known fields tells, for which nobody has written a standard.
 * p NULL: it is none of them, or malformed. */
static struct str forward_scheme_of(const struct field *f)
{
    static const struct {
        struct str name, value, scheme;
    } words[] = {
        { STR_INIT("x-forwarded-ssl"), STR_INIT("on"), STR_INIT("https") },
        { STR_INIT("x-forwarded-ssl"), STR_INIT("off"), STR_INIT("http") },
        { STR_INIT("x-forwarded-scheme"), STR_INIT("https"), STR_INIT("https") },
        { STR_INIT("x-forwarded-scheme"), STR_INIT("http"), STR_INIT("http") },
        { STR_INIT("x-forwarded-protocol"), STR_INIT("https"), STR_INIT("https") },
        { STR_INIT("x-forwarded-protocol"), STR_INIT("ssl"), STR_INIT("https") },
        { STR_INIT("x-forwarded-protocol"), STR_INIT("http"), STR_INIT("http") },
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (str_eq_nocase(f->name, words[i].name) && str_eq_nocase(f->value, words[i].value))
            return words[i].scheme;
    return (struct str){ 0 };
}

static bool forward_tells_scheme(struct str name)
{
    return field_folds_to(name, STR("x-forwarded-ssl")) ||
           field_folds_to(name, STR("x-forwarded-scheme")) ||
           field_folds_to(name, STR("x-forwarded-protocol"));
}

/* Whether a field about the origin comes along as it is. Never a stranger's; and none that says
 * another scheme than the one that is told: gunicorn refuses such requests, other servers would
 * believe one or the other. */
static bool forward_keeps_origin(const struct field *f, bool trusted, struct str scheme)
{
    if (!trusted || !forward_is_plain(f->name) || forward_is_written_anew(f->name))
        return false;
    return !forward_tells_scheme(f->name) || str_eq_nocase(forward_scheme_of(f), scheme);
}

/* Whether the field is Tarry's to write, or nobody's. */
static bool forward_is_refused(const struct conf *conf, const struct head *in,
    const struct field *f, bool trusted, struct str scheme)
{
    struct str name = f->name;

    if (field_ends_here(in, name) || field_is_tarry(name))
        return true;
    if (str_eq_nocase(name, STR("host")) || str_eq_nocase(name, STR("content-length")) ||
        str_eq_nocase(name, STR("expect")))
        return true;
    /* "Proxy: ..." would become HTTP_PROXY in a CGI environment. */
    if (field_folds_to(name, STR("proxy")))
        return true;
    if (forward_tells_origin(name) && conf->forwarded_headers == FORWARDED_REPLACE)
        return !forward_keeps_origin(f, trusted, scheme);
    if (field_folds_to(name, STR("x-request-id")))
        return true;
    /* X_Api_Key and X-Api-Key are one variable in a CGI environment. */
    return forward_has_underscore(name) && conf->underscore_headers != UNDERSCORE_PASS;
}

/* What a peer says about where the request came from. */
struct forward_word {
    struct str list;      /* X-Forwarded-For without the peer, or from Forwarded; empty: nothing */
    struct str forwarded; /* all of Forwarded */
    struct str proto, host, port, real_ip; /* empty: not said, or malformed */
};

/* The values of all fields of that name, as one list. */
static struct str forward_join(struct arena *a, const struct head *in, struct str name)
{
    struct str list = { 0 };

    for (size_t i = 0; i < in->nfields; i++) {
        struct str value = in->fields[i].value;

        if (!str_eq_nocase(in->fields[i].name, name) || value.n == 0)
            continue;
        list =
            list.n ? arena_printf(a, STR_FMT ", " STR_FMT, STR_ARG(list), STR_ARG(value)) : value;
    }
    return list;
}

/* The first element of a list: what the client's own proxy has said. */
static struct str forward_first(struct str list)
{
    struct str first;

    return str_next_element(&list, &first) ? first : (struct str){ 0 };
}

/* The first scheme that one of the lesser known fields tells, if X-Forwarded-Proto tells none. */
static struct str forward_find_scheme(const struct head *in)
{
    for (size_t i = 0; i < in->nfields; i++) {
        struct str scheme = forward_scheme_of(&in->fields[i]);

        if (scheme.p)
            return scheme;
    }
    return (struct str){ 0 };
}

/* Fills `w` from Forwarded (RFC 7239). What the older fields say has been filled in, and stays; if
 * the two differ in the scheme, Forwarded is not believed. Of the elements the first is the
 * client's own proxy's. */
static void forward_read_forwarded(struct arena *a, struct str all, struct forward_word *w)
{
    struct str rest = all;
    struct forwarded e, first = { 0 };
    struct buf list = { 0 };
    size_t n = 0;
    int rc;

    while ((rc = forwarded_next(&rest, &e)) > 0) {
        if (n++ == 0)
            first = e;
        if (e.node.p &&
            buf_printf(&list, "%s" STR_FMT, buf_len(&list) > 0 ? ", " : "", STR_ARG(e.node)) < 0)
            rc = -1;
        if (rc < 0)
            break;
    }
    if (rc == 0 && w->list.n == 0 && buf_len(&list) > 0)
        w->list = arena_copy(a, buf_str(&list));
    buf_release(&list);
    if (rc < 0 || n == 0)
        return;
    if (w->proto.n == 0)
        w->proto = first.proto;
    if (first.proto.n == 0 || str_eq_nocase(first.proto, forward_first(w->proto)))
        w->forwarded = all;
    if (w->host.n == 0)
        w->host = first.host;
}

/* A malformed value is as good as none: it could be read in more than one way. */
static struct forward_word forward_listen_to(struct arena *a, const struct head *in)
{
    static const struct str none = { 0 };
    struct str list = forward_join(a, in, STR("x-forwarded-for")),
               proto = forward_join(a, in, STR("x-forwarded-proto")),
               host = forward_join(a, in, STR("x-forwarded-host")),
               port = forward_join(a, in, STR("x-forwarded-port")),
               real_ip =
                   head_count(in, STR("x-real-ip")) == 1 ? head_value(in, STR("x-real-ip")) : none;
    struct forward_word w = {
        .list = forwarded_is_for(list) ? list : none,
        .proto = forwarded_is_proto(proto) ? proto : forward_find_scheme(in),
        .host = forwarded_is_host(host) ? host : none,
        .port = forwarded_is_port(port) ? port : none,
        .real_ip = forwarded_is_for(real_ip) ? real_ip : none,
    };

    forward_read_forwarded(a, forward_join(a, in, STR("forwarded")), &w);
    return w;
}

/* Where the request came from, for the workers: the peer behind what it has said. 0, or -1 if there
 * is no memory. */
static int forward_add_origin(struct head *kept, struct arena *a, const struct head *in,
    const struct stream *client, const struct forward_word *w)
{
    bool ipv6 = client->peer->family == AF_INET6;
    struct str peer;
    char ip[ADDR_TEXT_MAX];
    int rc = 0;

    peer = arena_copy(a, str_of(addr_ip_text(client->peer, ip)));
    rc |= head_add(kept, a, STR("X-Forwarded-For"),
        w->list.n ? arena_printf(a, STR_FMT ", " STR_FMT, STR_ARG(w->list), STR_ARG(peer)) : peer);
    rc |= head_add(kept, a, STR("X-Forwarded-Proto"), w->proto);
    if (w->host.n || in->authority.n)
        rc |= head_add(kept, a, STR("X-Forwarded-Host"), w->host.n ? w->host : in->authority);
    if (w->port.n)
        rc |= head_add(kept, a, STR("X-Forwarded-Port"), w->port);
    if (head_find(in, STR("x-real-ip")))
        rc |= head_add(kept, a, STR("X-Real-IP"), w->real_ip.n ? w->real_ip : peer);
    if (w->forwarded.n)
        rc |= head_add(kept, a, STR("Forwarded"),
            arena_printf(a, STR_FMT ", for=%s%s%s", STR_ARG(w->forwarded), ipv6 ? "\"[" : "",
                client->peer->family == AF_UNIX ? "unknown" : peer.p, ipv6 ? "]\"" : ""));
    return rc;
}

/* For workers that judge by themselves: the address and the scheme as Tarry has seen them. */
static int forward_add_peer(struct head *kept, struct arena *a, const struct stream *client)
{
    char text[ADDR_TEXT_MAX];
    struct sockaddr_storage sa;
    struct str peer = STR("unix");

    if (client->peer->family == AF_INET || client->peer->family == AF_INET6) {
        addr_to_sockaddr(client->peer, &sa);
        peer = arena_copy(a, str_of(addr_text((struct sockaddr *)&sa, text, sizeof(text))));
    }
    return head_add(kept, a, STR("Tarry-Peer"), peer) |
           head_add(kept, a, STR("Tarry-Scheme"), client->secure ? STR("https") : STR("http"));
}

/* Of a list of fields' values, without the space around it. */
static struct str forward_last_element(struct str list)
{
    size_t from = list.n;

    while (from > 0 && list.p[from - 1] != ',')
        from--;
    return str_trim(str_make(list.p + from, list.n - from));
}

struct addr forward_client(
    const struct conf *conf, const struct head *kept, const struct addr *peer)
{
    struct str list = head_value(kept, STR("x-forwarded-for"));
    struct addr at = *peer, unknown = { 0 };
    struct sockaddr_storage sa;

    while (addr_to_sockaddr(&at, &sa), conf_trusts(conf, (const struct sockaddr *)&sa)) {
        /* What stands last is `at` itself. */
        while (list.n > 0 && list.p[list.n - 1] != ',')
            list.n--;
        if (list.n == 0)
            return unknown;
        list.n--;
        if (!addr_parse(forward_last_element(list), &at))
            return unknown;
    }
    return at;
}

int forward_save_request(struct arena *a, const struct conf *conf, const struct head *in,
    struct stream *client, const char *request_id, struct head *out)
{
    struct sockaddr_storage sa;
    struct head kept = *in;
    struct str id = head_value(in, STR("x-request-id")), subject, fingerprint;
    struct arena scratch = { 0 };
    struct forward_word w = { 0 };
    bool trusted;
    int rc = 0;

    addr_to_sockaddr(client->peer, &sa);
    trusted = conf_trusts(conf, (struct sockaddr *)&sa);
    kept.room = in->nfields + 9;
    kept.fields = forward_array(&scratch, kept.room);
    kept.nfields = 0;
    if (!kept.fields)
        return -1;
    if (trusted)
        w = forward_listen_to(&scratch, in);
    if (w.proto.n == 0)
        w.proto = client->secure ? STR("https") : STR("http");
    for (size_t i = 0; i < in->nfields; i++)
        if (!forward_is_refused(conf, in, &in->fields[i], trusted, forward_first(w.proto)))
            rc |= head_add(&kept, &scratch, in->fields[i].name, in->fields[i].value);
    if (conf->forwarded_headers == FORWARDED_PASS)
        rc |= forward_add_peer(&kept, &scratch, client);
    else
        rc |= forward_add_origin(&kept, &scratch, in, client, &w);
    if (head_count(in, STR("x-request-id")) != 1 || !forward_is_safe_id(id))
        id = str_of(request_id);
    rc |= head_add(&kept, &scratch, STR("X-Request-Id"), id);
    if (sni_client(stream_tls(client), &scratch, &subject, &fingerprint)) {
        rc |= head_add(&kept, &scratch, STR("Tarry-Client-Subject"), subject);
        rc |= head_add(&kept, &scratch, STR("Tarry-Client-Fingerprint"), fingerprint);
    }
    if (rc == 0)
        rc = head_join_cookies(&kept, &scratch);
    /* Spans of `in` borrow from the receive buffer: everything is copied into one block. */
    if (rc == 0)
        rc = head_copy(a, out, &kept, 0);
    arena_release(&scratch);
    return rc;
}

bool forward_describes_body(struct str name)
{
    return str_starts_with_nocase(name, STR("content-")) ||
           str_starts_with_nocase(name, STR("if-")) || str_eq_nocase(name, STR("range")) ||
           str_eq_nocase(name, STR("expect")) || str_eq_nocase(name, STR("trailer")) ||
           str_eq_nocase(name, STR("transfer-encoding"));
}

/* Whether an origin stands on the list already: another key, say, by tarry://NAME. */
static bool forward_is_told(struct str list, struct str origin)
{
    struct str one;

    while (str_next_element(&list, &one))
        if (str_eq(one, origin))
            return true;
    return false;
}

static struct str forward_origins_text(struct arena *a, const struct conf *conf)
{
    struct str list = STR("");

    for (size_t i = 0; i < conf->nupstreams && list.p; i++)
        for (size_t k = 0; k < conf->upstreams[i].nendpoints && list.p; k++) {
            struct str o = conf->upstreams[i].endpoints[k].origin;

            if (!forward_is_told(list, o))
                list = arena_printf(
                    a, STR_FMT "%s" STR_FMT, STR_ARG(list), list.n ? ", " : "", STR_ARG(o));
        }
    return list;
}

struct str forward_features(bool single_slot)
{
    return single_slot
               ? STR("relay, resume, replay, notify, on-error, keep-alive, wait, sticky, pieces")
               : STR("relay, resume, replay, notify, on-error, keep-alive, wait");
}

int forward_add_tarry(struct head *h, struct arena *a, const struct conf *conf,
    const struct pool_conf *pool, const struct forward_hop *hop)
{
    int rc = 0;

    rc |= head_add(h, a, STR("Tarry-Version"), STR("1"));
    rc |= head_add(h, a, STR("Tarry-Features"), forward_features(false));
    if (hop->exchange) {
        rc |= head_add(h, a, STR("Tarry-Exchange"), str_of(hop->exchange));
        rc |= head_add(h, a, STR("Tarry-Hop"), arena_printf(a, "%u", hop->hop));
        rc |= head_add(h, a, STR("Tarry-Started"),
            arena_printf(a, "%" PRIu64 ".%03u", hop->started_wall_ms / 1000,
                (unsigned)(hop->started_wall_ms % 1000)));
    }
    rc |= head_add(h, a, STR("Tarry-Kind"), hop->kind);
    rc |= head_add(h, a, STR("Tarry-Limits"),
        arena_printf(a,
            "max-hops=%zu, max-calls=%zu, replay-body=%zu, call=%zu, state=%zu, wait=%" PRIu64,
            pool->max_hops, pool->max_calls, pool->replay_body_max, pool->call_max, pool->state_max,
            pool->wait_max_ms / 1000));
    rc |= head_add(h, a, STR("Tarry-Origins"), forward_origins_text(a, conf));
    if (hop->state.p)
        rc |= head_add(h, a, STR("Tarry-State"), hop->state);
    if (hop->attempt > 1 && !str_eq(hop->kind, STR("request")))
        rc |= head_add(h, a, STR("Tarry-Attempt"), arena_printf(a, "%u", hop->attempt));
    if (hop->outcome.p)
        rc |= head_add(h, a, STR("Tarry-Outcome"), hop->outcome);
    if (hop->truncated.p)
        rc |= head_add(h, a, STR("Tarry-Truncated"), hop->truncated);
    if (pool->secret.n)
        rc |= head_add(h, a, STR("Tarry-Auth"), pool->secret);
    return rc;
}

/* End-to-end fields without Tarry-* and without what `drop` (may be NULL) says. */
static int forward_filter(
    struct arena *a, const struct head *in, struct head *out, bool (*drop)(struct str name))
{
    int rc = 0;

    *out = *in;
    out->room = in->nfields + 8;
    out->nfields = 0;
    out->fields = forward_array(a, out->room);
    if (!out->fields)
        return -1;
    for (size_t i = 0; i < in->nfields; i++) {
        struct str name = in->fields[i].name;

        if (!field_ends_here(in, name) && !field_is_tarry(name) && !(drop && drop(name)))
            rc |= head_add(out, a, name, in->fields[i].value);
    }
    return rc;
}

int forward_worker_response(struct arena *a, const struct head *in, struct head *out)
{
    return forward_filter(a, in, out, NULL);
}

/* What tells of the handoff's own body and must not be told of the relayed one. */
static bool forward_describes_handoff(struct str name)
{
    return str_starts_with_nocase(name, STR("content-")) ||
           str_eq_nocase(name, STR("cache-control")) || str_eq_nocase(name, STR("retry-after")) ||
           str_eq_nocase(name, STR("etag")) || str_eq_nocase(name, STR("last-modified")) ||
           str_eq_nocase(name, STR("accept-ranges")) || str_eq_nocase(name, STR("expires")) ||
           str_eq_nocase(name, STR("digest")) || str_eq_nocase(name, STR("repr-digest"));
}

/* Content-Security-Policy and its kin begin with "Content-" and describe no body. */
static bool forward_is_policy(struct str name)
{
    return str_starts_with_nocase(name, STR("content-security-policy"));
}

static bool forward_drop_from_handoff(struct str name)
{
    return forward_describes_handoff(name) && !forward_is_policy(name);
}

/* The service's Cache-Control where it has one, otherwise the handoff's; and never less strict than
 * the application, which alone knows whom the response is for. */
static int forward_put_cache_control(
    struct arena *a, const struct head *upstream, const struct head *handoff, struct head *out)
{
    static const struct str strict[] = { STR_INIT("no-store"), STR_INIT("private") };
    struct str name = STR("Cache-Control");
    const struct head *from = head_find(upstream, name) ? upstream : handoff;

    for (size_t i = 0; i < from->nfields; i++)
        if (str_eq_nocase(from->fields[i].name, name) && !field_ends_here(from, name) &&
            head_add(out, a, from->fields[i].name, from->fields[i].value) < 0)
            return -1;
    for (size_t i = 0; i < sizeof(strict) / sizeof(*strict); i++)
        if (head_has_token(handoff, name, strict[i]) && !head_has_token(out, name, strict[i]) &&
            head_add(out, a, name, strict[i]) < 0)
            return -1;
    return 0;
}

static bool forward_relayed(const struct upstream_conf *conf, struct str name)
{
    static const struct str always[] = { STR_INIT("content-type"), STR_INIT("content-encoding"),
        STR_INIT("content-length"), STR_INIT("content-range"), STR_INIT("retry-after") };

    for (size_t i = 0; i < sizeof(always) / sizeof(*always); i++)
        if (str_eq_nocase(name, always[i]))
            return true;
    for (size_t i = 0; i < conf->nrelay_headers; i++)
        if (str_eq_nocase(name, conf->relay_headers[i]))
            return true;
    return false;
}

int forward_relay_response(struct arena *a, const struct head *upstream, const struct head *handoff,
    const struct upstream_conf *conf, struct head *out)
{
    if (forward_filter(a, handoff, out, forward_drop_from_handoff) < 0)
        return -1;
    for (size_t i = 0; i < conf->nrelay_headers; i++)
        head_remove(out, conf->relay_headers[i]);
    out->status = upstream->status;
    out->reason = (struct str){ 0 };
    for (size_t i = 0; i < upstream->nfields; i++) {
        const struct field *f = &upstream->fields[i];

        if (!field_ends_here(upstream, f->name) && !field_is_tarry(f->name) &&
            forward_relayed(conf, f->name) && !str_eq_nocase(f->name, STR("cache-control")) &&
            head_add(out, a, f->name, f->value) < 0)
            return -1;
    }
    return forward_put_cache_control(a, upstream, handoff, out);
}

/* Cookies are the application's, and who its users are is no service's business. */
static bool forward_drop_for_gateway(struct str name)
{
    return str_eq_nocase(name, STR("cookie")) || forward_tells_origin(name);
}

int forward_gateway_request(struct arena *a, const struct head *saved, struct head *out)
{
    return forward_filter(a, saved, out, forward_drop_for_gateway);
}

int forward_gateway_response(struct arena *a, const struct head *in, struct head *out)
{
    return forward_filter(a, in, out, NULL);
}

static struct str forward_cookie_name(struct str set_cookie)
{
    struct str name, rest;

    str_cut(set_cookie, '=', &name, &rest);
    return str_trim(name);
}

static bool forward_sets_cookie(const struct head *h, struct str name)
{
    for (size_t i = 0; i < h->nfields; i++)
        if (str_eq_nocase(h->fields[i].name, STR("set-cookie")) &&
            str_eq(forward_cookie_name(h->fields[i].value), name))
            return true;
    return false;
}

int forward_keep_cookies(struct arena *a, struct head **all, const struct head *response)
{
    struct head *kept = *all;
    size_t n = 0;

    if (!kept) {
        if (!head_find(response, STR("set-cookie")))
            return 0;
        kept = *all = arena_alloc(a, sizeof(*kept));
        if (!kept)
            return -1;
    }

    for (size_t i = 0; i < kept->nfields; i++)
        if (!forward_sets_cookie(response, forward_cookie_name(kept->fields[i].value)))
            kept->fields[n++] = kept->fields[i];
    kept->nfields = n;
    for (size_t i = 0; i < response->nfields; i++) {
        const struct field *f = &response->fields[i];
        struct str value;

        if (!str_eq_nocase(f->name, STR("set-cookie")))
            continue;
        value = arena_copy(a, f->value);
        if (!value.p || head_add(kept, a, STR("Set-Cookie"), value) < 0)
            return -1;
    }
    return 0;
}

int forward_add_cookies(struct arena *a, const struct head *kept, struct head *response)
{
    size_t own = response->nfields;

    for (size_t i = 0; kept && i < kept->nfields; i++) {
        struct head mine = *response;

        mine.nfields = own;
        if (!forward_sets_cookie(&mine, forward_cookie_name(kept->fields[i].value)) &&
            head_add(response, a, kept->fields[i].name, kept->fields[i].value) < 0)
            return -1;
    }
    return 0;
}
