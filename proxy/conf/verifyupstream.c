/* A section with `origin` is a group of one: its own endpoint. A section with endpoint sections has
 * no own endpoint; its headers, authorities and protocols apply to all of them. */
#include "conf/verifyupstream.h"

#include "conf/twins.h"
#include "conf/value.h"
#include "conf/verifylisten.h"

static const char *verifyupstream_quote(struct draft *d, struct str text)
{
    return mistake_quote(&d->scratch, text);
}

static void verifyupstream_headers(
    struct draft *d, const struct draft_section *s, const struct endpoint_conf *e)
{
    for (size_t i = 0; i < e->nset_header; i++)
        for (size_t j = 0; j < i; j++)
            /* A field without a name is already reported. */
            if (e->set_header[i].name.n > 0 &&
                str_eq_nocase(e->set_header[i].name, e->set_header[j].name)) {
                mistake_add(&d->mistakes, draft_place(s, "set_header"),
                    "set_header has %s twice; leave one of them out",
                    verifyupstream_quote(d, e->set_header[i].name));
                break;
            }
}

/* `s` has the options of `e`: an upstream's or an endpoint's section. */
static void verifyupstream_origin(
    struct draft *d, const struct draft_section *s, const struct endpoint_conf *e)
{
    if (e->origin.n == 0)
        return; /* already reported */
    if (!e->tls && !e->insecure && !value_host_is_private(e->host))
        mistake_add(&d->mistakes, draft_place(s, "origin"),
            "%s would carry keys and prompts unencrypted to an address that is neither "
            "loopback nor private; write "
            "https://, or insecure = true if you mean it",
            verifyupstream_quote(d, e->origin));
    if (e->tls && e->insecure && draft_find(s, "insecure"))
        mistake_add(&d->mistakes, draft_place(s, "insecure"),
            "insecure allows plain http only, and this origin is https (certificates are "
            "always verified); leave it "
            "out, or name the authority in ca_file");
    if (!e->tls && e->ca_file.n > 0 && draft_find(s, "ca_file"))
        mistake_add(&d->mistakes, draft_place(s, "ca_file"),
            "ca_file is of no use for a plain http origin; leave it out");
    if (!e->tls && e->certificate.n > 0 && draft_find(s, "certificate"))
        mistake_add(&d->mistakes, draft_place(s, "certificate"),
            "certificate is of no use for a plain http origin; leave it out");
    if (!e->tls && e->proxy.host.n > 0 && !e->insecure)
        mistake_add(&d->mistakes, draft_place(s, draft_find(s, "proxy") ? "proxy" : "origin"),
            "plain http through a proxy carries keys and prompts in the clear, wherever the proxy "
            "takes them; write https://, or insecure = true if you mean it");
}

/* The certificate that is shown to the service: the section's own, or the upstream's (NULL: this is
 * the upstream's section). */
static void verifyupstream_identity(struct draft *d, const struct draft_section *s,
    struct endpoint_conf *e, const struct endpoint_conf *from)
{
    bool certificate = draft_find(s, "certificate") != NULL, key = draft_find(s, "private_key");

    if (draft_lost_option(s, "certificate") || draft_lost_option(s, "private_key"))
        return;
    if (from && !certificate && !key) {
        e->certificate = from->certificate;
        e->private_key = from->private_key;
    } else if ((e->certificate.n > 0) != (e->private_key.n > 0)) {
        mistake_add(&d->mistakes, draft_place(s, certificate ? "certificate" : "private_key"),
            "certificate and private_key belong together; write both, or none");
    } else if (e->certificate.n > 0) {
        verifylisten_pair(d, s, e->certificate, e->private_key);
    }
}

static void verifyupstream_proxy(struct draft *d, const struct draft_section *s,
    struct endpoint_conf *e, const struct endpoint_conf *from)
{
    bool own = draft_find(s, "proxy") != NULL;
    struct str authorization = e->proxy_authorization;

    if (draft_lost_option(s, "proxy"))
        return;
    if (from && !own)
        e->proxy = from->proxy;
    if (authorization.n == 0)
        return;
    if (e->proxy.host.n == 0 || (from && !own))
        mistake_add(&d->mistakes, draft_place(s, "proxy_authorization"),
            "proxy_authorization is of no use without proxy; write proxy = \"http://HOST:PORT\" "
            "beside it");
    else if (e->proxy.authorization.n > 0)
        mistake_add(&d->mistakes, draft_place(s, "proxy_authorization"),
            "the proxy has a user already; leave that or proxy_authorization out");
    else
        e->proxy.authorization = authorization;
}

static bool verifyupstream_has_credential(const struct endpoint_conf *e)
{
    for (size_t i = 0; i < e->nset_header; i++)
        if (value_is_credential(e->set_header[i].name))
            return true;
    return false;
}

static bool verifyupstream_has_header(const struct endpoint_conf *e, struct str name)
{
    for (size_t i = 0; i < e->nset_header; i++)
        if (str_eq_nocase(e->set_header[i].name, name))
            return true;
    return false;
}

/* The upstream's fields behind the endpoint's own. An endpoint with a key does not take over
 * another one. */
static void verifyupstream_inherit_headers(
    struct draft *d, struct endpoint_conf *e, const struct endpoint_conf *from)
{
    struct header_conf *all;
    bool keys = !verifyupstream_has_credential(e);
    size_t n = e->nset_header;

    if (from->nset_header == 0)
        return;
    all = arena_alloc(&d->conf->arena, (n + from->nset_header) * sizeof(*all));
    if (!all) {
        d->mistakes.no_memory = true;
        return;
    }
    for (size_t i = 0; i < n; i++)
        all[i] = e->set_header[i];
    for (size_t i = 0; i < from->nset_header; i++)
        if (!verifyupstream_has_header(e, from->set_header[i].name) &&
            (keys || !value_is_credential(from->set_header[i].name)))
            all[n++] = from->set_header[i];
    e->set_header = all;
    e->nset_header = n;
}

static void verifyupstream_endpoint(
    struct draft *d, const struct draft_section *s, const struct upstream_conf *u)
{
    struct endpoint_conf *e = s->base;

    if (!draft_find(s, "origin") && !draft_lost_option(s, "origin"))
        mistake_add(&d->mistakes, s->place,
            "endpoint %s has no origin; write origin = \"https://HOST\"",
            verifyupstream_quote(d, s->title));
    verifyupstream_headers(d, s, e);
    verifyupstream_inherit_headers(d, e, &u->own);
    if (!draft_find(s, "ca_file"))
        e->ca_file = u->own.ca_file;
    else
        verifylisten_authorities(d, s, "ca_file", e->ca_file);
    if (!draft_find(s, "http2"))
        e->http2 = u->own.http2;
    if (!draft_find(s, "insecure"))
        e->insecure = u->own.insecure;
    verifyupstream_identity(d, s, e, &u->own);
    verifyupstream_proxy(d, s, e, &u->own);
    verifyupstream_origin(d, s, e);
}

static void verifyupstream_plain(
    struct draft *d, const struct draft_section *s, struct upstream_conf *u)
{
    if (!draft_find(s, "origin") && !draft_lost_option(s, "origin") &&
        !draft_lost_section(s, SECTION_ENDPOINT))
        mistake_add(&d->mistakes, s->place,
            "upstream %s has no origin; write origin = \"https://HOST\"",
            verifyupstream_quote(d, s->title));
    verifyupstream_origin(d, s, &u->own);
    u->own.name = u->name;
    u->own.line = u->line;
    u->own.tier = u->own.weight = 1;
    u->own.model = u->own.path_prefix = STR("");
    u->own.in_flight = u->own.requests_per_minute = u->own.tokens_per_minute = 0;
    u->endpoints = &u->own;
    u->nendpoints = 1;
}

static bool verifyupstream_is_client(const struct selector_conf *s)
{
    return s->kind == SELECTOR_NONE || s->kind == SELECTOR_HEADER || s->kind == SELECTOR_ADDRESS ||
           s->kind == SELECTOR_CREDENTIAL;
}

/* A window must have room for at least one. */
static void verifyupstream_rate(
    struct draft *d, const struct draft_section *s, const char *option, size_t per_minute)
{
    const struct limit_conf *l = s->base;

    if (per_minute > 0 && per_minute * l->window_ms < 60000)
        mistake_add(&d->mistakes, draft_place(s, "window"),
            "%s = %zu is less than one in this window; write window = \"1m\"", option, per_minute);
}

static void verifyupstream_limit(struct draft *d, const struct draft_section *s)
{
    static const char *const options[] = { "in_flight", "requests_per_minute",
        "tokens_per_minute" };
    const struct limit_conf *l = s->base;
    bool lost = false;

    for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++)
        lost |= draft_lost_option(s, options[i]);
    if (l->in_flight == 0 && l->requests_per_minute == 0 && l->tokens_per_minute == 0 && !lost)
        mistake_add(&d->mistakes, s->place,
            "limit limits nothing; write in_flight = N, requests_per_minute = N or "
            "tokens_per_minute = N");
    if (!verifyupstream_is_client(&l->key) && l->key.kind != SELECTOR_TENANT)
        mistake_add(&d->mistakes, draft_place(s, "key"),
            "calls are not counted by this; write key = \"header:NAME\", \"address\", "
            "\"credential\" or \"tenant\"");
    verifyupstream_rate(d, s, options[1], l->requests_per_minute);
    verifyupstream_rate(d, s, options[2], l->tokens_per_minute);
}

static void verifyupstream_queue(struct draft *d, const struct draft_section *s)
{
    const struct upstream_conf *u = s->base;

    if (!verifyupstream_is_client(&u->tenant))
        mistake_add(&d->mistakes, draft_place(s, "tenant"),
            "tenants are not told apart by this; write tenant = \"header:NAME\", \"address\" or "
            "\"credential\"");
    if (u->affinity.kind == SELECTOR_TENANT)
        mistake_add(&d->mistakes, draft_place(s, "affinity"),
            "affinity goes by the request itself; write \"header:NAME\", \"field:PATH\", "
            "\"prompt\", \"address\" or \"credential\"");
    if (u->nlimits > LIMITS_MAX)
        mistake_add(&d->mistakes, s->place, "upstream %s has more than %d limits; leave some out",
            verifyupstream_quote(d, s->title), LIMITS_MAX);
}

static void verifyupstream_home(
    struct draft *d, const struct draft_section *s, struct upstream_conf *u)
{
    u->home_place = 0;
    for (unsigned i = 0; i < u->nendpoints; i++)
        if (u->home.n > 0 && str_eq(u->endpoints[i].name, u->home)) {
            u->home_place = i;
            return;
        }
    if (u->home.n > 0)
        mistake_add(&d->mistakes, draft_place(s, "home"),
            "home is %s, which is no endpoint of upstream %s", verifyupstream_quote(d, u->home),
            verifyupstream_quote(d, u->name));
}

void verifyupstream_section(struct draft *d, struct draft_section *s)
{
    struct upstream_conf *u = s->base;
    size_t first = (size_t)(s - d->sections) + 1;

    verifylisten_authorities(d, s, "ca_file", u->own.ca_file);
    verifyupstream_headers(d, s, &u->own);
    verifyupstream_identity(d, s, &u->own, NULL);
    verifyupstream_proxy(d, s, &u->own, NULL);
    u->idle_for_streams = draft_find(s, "idle_timeout") != NULL;
    /* An upstream's endpoints follow it directly, and then its limits. */
    if (u->nendpoints > 0 && draft_find(s, "origin"))
        mistake_add(&d->mistakes, draft_place(s, "origin"),
            "upstream %s has an origin and endpoints; give each endpoint its origin and leave "
            "this one out",
            verifyupstream_quote(d, s->title));
    for (size_t i = 0; i < u->nendpoints; i++)
        verifyupstream_endpoint(d, &d->sections[first + i], u);
    for (size_t i = 0; i < u->nlimits; i++)
        verifyupstream_limit(d, &d->sections[first + u->nendpoints + i]);
    verifyupstream_queue(d, s);
    twins_refuse(d, first, u->nendpoints, SECTION_ENDPOINT, SECTION_ENDPOINT, twins_title_key,
        "endpoint", "give it another name");
    if (u->nendpoints == 0)
        verifyupstream_plain(d, s, u);
    verifyupstream_home(d, s, u);
}
