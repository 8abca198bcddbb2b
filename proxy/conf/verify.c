/* Checks across options and sections. */
#include "conf/verify.h"

#include <arpa/inet.h>
#include <grp.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "base/num.h"
#include "conf/twins.h"
#include "conf/value.h"
#include "conf/verifyfiles.h"
#include "conf/verifylisten.h"
#include "conf/verifyupstream.h"

enum { CONTROL_SUFFIX_MAX = 5 }; /* a dot and the number of a process */

static const char *verify_quote(struct draft *d, struct str s)
{
    return mistake_quote(&d->scratch, s);
}

/* ---- duplicates ---- */

static struct str verify_address_key(struct draft *d, const struct draft_section *s)
{
    const struct addr_conf *a =
        s->id == SECTION_LISTEN  ? &((const struct listen_conf *)s->base)->addr
        : s->id == SECTION_ADMIN ? &((const struct admin_conf *)s->base)->addr
                                 : &((const struct server_conf *)s->base)->addr;

    return a->salen > 0    ? str_make((const char *)&a->sa, a->salen)
           : a->host.n > 0 ? a->text
                           : a->host;
}

static struct str verify_route_key(struct draft *d, const struct draft_section *s)
{
    const struct route_conf *r = s->base;

    if (r->prefix.n == 0)
        return r->prefix;
    return arena_printf(&d->scratch, STR_FMT "\n" STR_FMT, STR_ARG(r->prefix), STR_ARG(r->host));
}

/* ---- servers that are Tarry itself ---- */

static bool verify_is_any(const struct sockaddr_storage *sa)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;

    return sa->ss_family == AF_INET
               ? in->sin_addr.s_addr == htonl(INADDR_ANY)
               : sa->ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
}

/* Whether it is an address of this machine. */
static bool verify_is_own_address(const struct sockaddr_storage *sa)
{
    const struct sockaddr_in *a = (const struct sockaddr_in *)(const void *)sa, *b;
    const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)(const void *)sa, *b6;
    struct ifaddrs *all;
    bool own = sa->ss_family == AF_INET ? ntohl(a->sin_addr.s_addr) >> 24 == 127
                                        : IN6_IS_ADDR_LOOPBACK(&a6->sin6_addr);

    if (own || getifaddrs(&all) < 0)
        return own;
    for (const struct ifaddrs *i = all; i && !own; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != sa->ss_family)
            continue;
        b = (const struct sockaddr_in *)(const void *)i->ifa_addr;
        b6 = (const struct sockaddr_in6 *)(const void *)i->ifa_addr;
        own = sa->ss_family == AF_INET ? a->sin_addr.s_addr == b->sin_addr.s_addr
                                       : IN6_ARE_ADDR_EQUAL(&a6->sin6_addr, &b6->sin6_addr);
    }
    freeifaddrs(all);
    return own;
}

/* Whether connections to `server` reach the listener `l`. */
static bool verify_leads_to(const struct addr_conf *server, const struct addr_conf *l)
{
    const struct sockaddr_in *a = (const struct sockaddr_in *)(const void *)&server->sa,
                             *b = (const struct sockaddr_in *)(const void *)&l->sa;

    if (server->salen == 0 || l->salen == 0)
        return false;
    if (server->salen == l->salen && memcmp(&server->sa, &l->sa, l->salen) == 0)
        return true;
    if (server->sa.ss_family == AF_UNIX || l->sa.ss_family == AF_UNIX)
        return false;
    /* The port is at the same offset in both families. */
    return a->sin_port == b->sin_port && verify_is_any(&l->sa) &&
           (server->sa.ss_family == l->sa.ss_family ||
               (l->sa.ss_family == AF_INET6 && !l->ipv6_only)) &&
           (verify_is_any(&server->sa) || verify_is_own_address(&server->sa));
}

static const struct addr_conf *verify_bound_address(const struct draft_section *s)
{
    return s->id == SECTION_LISTEN  ? &((const struct listen_conf *)s->base)->addr
           : s->id == SECTION_ADMIN ? &((const struct admin_conf *)s->base)->addr
                                    : NULL;
}

/* [::]:PORT is IPv4's port as well, unless it is told to be IPv6's alone. */
static void verify_check_families(struct draft *d)
{
    for (size_t i = 0; i < d->nsections; i++)
        for (size_t j = 0; j < d->nsections; j++) {
            const struct addr_conf *both = verify_bound_address(&d->sections[i]),
                                   *v4 = verify_bound_address(&d->sections[j]);

            if (!both || !v4 || both->salen == 0 || both->sa.ss_family != AF_INET6 ||
                both->ipv6_only || !verify_is_any(&both->sa) || v4->sa.ss_family != AF_INET ||
                ((const struct sockaddr_in6 *)(const void *)&both->sa)->sin6_port !=
                    ((const struct sockaddr_in *)(const void *)&v4->sa)->sin_port)
                continue;
            mistake_add(&d->mistakes, d->sections[i].place,
                "%s takes IPv4 clients too, and %s (%s:%u) has their port; write ipv6_only = true, "
                "or leave the other out",
                verify_quote(d, d->sections[i].title), verify_quote(d, d->sections[j].title),
                d->sections[j].place.file, d->sections[j].place.line);
        }
}

static void verify_check_loops(struct draft *d)
{
    for (size_t i = 0; i < d->nsections; i++)
        for (size_t j = 0; d->sections[i].id == SECTION_SERVER && j < d->nsections; j++) {
            const struct draft_section *server = &d->sections[i], *l = &d->sections[j];
            const struct addr_conf *at = verify_bound_address(l);

            if (!at || !verify_leads_to(&((const struct server_conf *)server->base)->addr, at))
                continue;
            mistake_add(&d->mistakes, server->place,
                "server %s is Tarry itself, which listens there (%s:%u); name the address of the "
                "app's server",
                verify_quote(d, server->title), l->place.file, l->place.line);
            break;
        }
}

/* ---- options of one section that must fit ---- */

/* `less` may not be more than `more`. If the file sets only one of them, the other's default gives
 * way. */
static const struct order {
    enum opt_section_id id;
    const char *less, *more;
} orders[] = {
    { SECTION_WORKERS, "call_max", "handoff_max" },
    { SECTION_WORKERS, "notify_first_pause", "notify_max_pause" },
    { SECTION_WORKERS, "unreachable_first_pause", "unreachable_max_pause" },
    { SECTION_UPSTREAM, "connect_timeout", "total_timeout" },
    { SECTION_UPSTREAM, "retry_first_pause", "retry_max_pause" },
    { SECTION_UPSTREAM, "hold_timeout", "total_timeout" },
};

static uint64_t verify_get_number(const struct draft_section *s, const struct opt *row)
{
    const void *at = (const char *)s->base + row->offset;
    uint64_t v64;
    unsigned v;

    if (row->width == sizeof(v)) {
        memcpy(&v, at, sizeof(v));
        return v;
    }
    memcpy(&v64, at, sizeof(v64));
    return v64;
}

static void verify_check_order(struct draft *d, struct draft_section *s, const struct order *o)
{
    const struct opt *less = options_find(s->id, str_of(o->less)),
                     *more = options_find(s->id, str_of(o->more));
    const struct draft_note *wrote_less = draft_find(s, o->less),
                            *wrote_more = draft_find(s, o->more);
    uint64_t a = verify_get_number(s, less), b = verify_get_number(s, more);

    if (a <= b)
        return;
    if (wrote_less && wrote_more)
        mistake_add(&d->mistakes, wrote_less->place,
            "%s (%s) is more than %s (%s, line %u); make it less or the other more", o->less,
            verify_quote(d, wrote_less->text), o->more, verify_quote(d, wrote_more->text),
            wrote_more->place.line);
    else if (wrote_less)
        memcpy((char *)s->base + more->offset, (char *)s->base + less->offset, less->width);
    else
        memcpy((char *)s->base + less->offset, (char *)s->base + more->offset, more->width);
}

static void verify_check_orders(struct draft *d, struct draft_section *s)
{
    for (size_t i = 0; i < sizeof(orders) / sizeof(*orders); i++)
        if (orders[i].id == s->id)
            verify_check_order(d, s, &orders[i]);
}

/* ---- files and folders ---- */

/* ---- accounts ---- */

/* Of a unix socket: who may connect. */
static void verify_check_access(
    struct draft *d, const struct draft_section *s, const struct addr_conf *a)
{
    static const char *const names[] = { "group", "mode" };

    for (size_t i = 0; i < 2; i++)
        if (a->salen > 0 && a->sa.ss_family != AF_UNIX && draft_find(s, names[i]))
            mistake_add(&d->mistakes, draft_place(s, names[i]),
                "%s is for unix sockets; leave it out", names[i]);
    if (a->group.n > 0 && !getgrnam(a->group.p))
        mistake_add(&d->mistakes, draft_place(s, "group"),
            "group: there is no group %s; make it (addgroup --system NAME), or name another",
            verify_quote(d, a->group));
}

/* It can end any request, so it must not be open to the network or to every account. */
static void verify_check_control(struct draft *d, const struct draft_section *s)
{
    const struct admin_conf *a = s->base;
    const struct sockaddr_un *un = (const void *)&a->addr.sa;

    if (!a->control || a->addr.salen == 0)
        return;
    if (a->addr.sa.ss_family != AF_UNIX)
        mistake_add(&d->mistakes, draft_place(s, "control"),
            "control is for unix sockets; write the address as \"unix:/run/tarry/control.sock\"");
    else if (strlen(un->sun_path) + CONTROL_SUFFIX_MAX >= sizeof(un->sun_path))
        mistake_add(&d->mistakes, draft_place(s, "control"),
            "control: the path is too long; with several processes a number follows it");
    if (a->addr.mode & 0002)
        mistake_add(&d->mistakes, draft_place(s, "control"),
            "control: every account of this machine could use it; write mode = \"0660\"");
}

static void verify_check_accounts(struct draft *d, const struct draft_section *root)
{
    const struct conf *c = d->conf;

    if (c->user.n > 0 && !getpwnam(c->user.p))
        mistake_add(&d->mistakes, draft_place(root, "user"),
            "user: there is no user %s; make it (adduser --system --group NAME), or name another",
            verify_quote(d, c->user));
    if (c->group.n > 0 && !getgrnam(c->group.p))
        mistake_add(&d->mistakes, draft_place(root, "group"),
            "group: there is no group %s; make it (addgroup --system NAME), or name another",
            verify_quote(d, c->group));
    if (c->group.n > 0 && c->user.n == 0 && !draft_lost_option(root, "user"))
        mistake_add(&d->mistakes, draft_place(root, "group"),
            "group without user; name the user too, or leave it out");
}

/* ---- sections ---- */

static void verify_check_workers(struct draft *d, struct draft_section *s)
{
    struct pool_conf *p = s->base;

    if (p->nservers == 0 && !draft_lost_section(s, SECTION_SERVER))
        mistake_add(&d->mistakes, s->place,
            "workers %s has no server; write server \"127.0.0.1:8001\" { }",
            verify_quote(d, s->title));
    /* One call of full size and the handoff's other heads must fit, whatever call_max is. */
    if (!draft_find(s, "handoff_max") && p->handoff_max < p->call_max + (1 << 20))
        p->handoff_max = p->call_max + (1 << 20);
}

/* Options of gateway routes, and the form of prefix_rewrite. */
static void verify_check_gateway(struct draft *d, const struct draft_section *s, bool gateway)
{
    static const char *const names[] = { "prefix_rewrite", "rewrite_urls", "keep_alive_interval" };
    const struct route_conf *r = s->base;
    struct str to = r->prefix_rewrite, checked;
    char why[VALUE_WHY_MAX];

    for (size_t i = 0; !gateway && i < sizeof(names) / sizeof(*names); i++)
        if (draft_find(s, names[i]))
            mistake_add(&d->mistakes, draft_place(s, names[i]),
                "%s is for routes with an upstream, and this one leads to workers; leave it out",
                names[i]);
    if (to.n == 0)
        return;
    if (r->prefix.n > 0 && r->prefix.p[r->prefix.n - 1] != '/')
        mistake_add(&d->mistakes, draft_place(s, "prefix_rewrite"),
            "prefix_rewrite needs a route whose prefix ends with a slash; write route \"" STR_FMT
            "/\"",
            STR_ARG(r->prefix));
    if (to.p[0] != '/' || to.p[to.n - 1] != '/')
        mistake_add(&d->mistakes, draft_place(s, "prefix_rewrite"),
            "prefix_rewrite %s does not begin and end with a slash; write one like \"/\" or "
            "\"/v1/\"",
            verify_quote(d, to));
    else if (!value_path(&d->conf->arena, str_make(to.p, to.n - 1), &checked, why))
        mistake_add(&d->mistakes, draft_place(s, "prefix_rewrite"), "prefix_rewrite: %s", why);
}

static const struct upstream_conf *verify_find_upstream(
    struct draft *d, const struct draft_note *named)
{
    const struct upstream_conf *u = conf_find_upstream(d->conf, named->text);

    if (!u && !scan_lost(&d->scan, named->text))
        mistake_add(&d->mistakes, named->place,
            "there is no upstream section %s; write one, or name one that exists",
            verify_quote(d, named->text));
    return u;
}

static void verify_check_route(struct draft *d, struct draft_section *s)
{
    struct route_conf *r = s->base;
    const struct draft_note *workers = draft_find(s, "workers"),
                            *upstream = draft_find(s, "upstream");

    if ((workers != NULL) + (upstream != NULL) + (r->health != ROUTE_HEALTH_OFF) > 1)
        mistake_add(&d->mistakes, draft_place(s, upstream ? "upstream" : "health"),
            "route %s has more than one of workers, upstream and health; leave all but one out",
            verify_quote(d, s->title));
    if (!workers && !upstream && r->health == ROUTE_HEALTH_OFF &&
        !draft_lost_option(s, "workers") && !draft_lost_option(s, "upstream") &&
        !draft_lost_option(s, "health"))
        mistake_add(&d->mistakes, s->place,
            "route %s leads nowhere; write workers = \"NAME\", upstream = \"NAME\" or health = "
            "\"ready\"",
            verify_quote(d, s->title));
    if (r->internal && r->health != ROUTE_HEALTH_OFF)
        mistake_add(&d->mistakes, draft_place(s, "internal"),
            "internal is for resumes and notifies, which go to workers, and this route answers by "
            "itself; leave it out");
    if (r->internal && upstream)
        mistake_add(&d->mistakes, draft_place(s, "internal"),
            "internal is for resumes and notifies, which go to workers, and this route has an "
            "upstream; leave one of "
            "them out");
    if ((workers != NULL) != (upstream != NULL))
        verify_check_gateway(d, s, upstream != NULL);
    if (r->websocket_origins.n > 0 && !(r->websocket && upstream))
        mistake_add(&d->mistakes, draft_place(s, "websocket_origins"),
            "websocket_origins is for WebSockets to an upstream; leave it out, or write "
            "websocket = true on a route with an upstream");
    if (r->websocket && r->internal)
        mistake_add(&d->mistakes, draft_place(s, "websocket"),
            "a WebSocket comes from a client, and no client reaches an internal route; leave one "
            "of them out");
    if (workers) {
        r->pool = conf_find_pool(d->conf, workers->text);
        if (!r->pool && !scan_lost(&d->scan, workers->text))
            mistake_add(&d->mistakes, workers->place,
                "there is no workers section %s; write one, or name one that exists",
                verify_quote(d, workers->text));
    }
    if (upstream)
        r->upstream = verify_find_upstream(d, upstream);
}

static void verify_check_tracing(struct draft *d, const struct draft_section *s)
{
    struct tracing_conf *t = s->base;
    const struct draft_note *upstream = draft_find(s, "upstream");

    if (upstream)
        t->upstream = verify_find_upstream(d, upstream);
    if (t->buffer_max < t->batch_max)
        mistake_add(&d->mistakes, draft_place(s, "buffer_max"),
            "buffer_max is less than batch_max; a batch must fit");
}

static void verify_check_compression(struct draft *d, const struct draft_section *s)
{
    const struct compression_conf *cc = s->base;

    if (cc->ntypes == 0 && !draft_lost_option(s, "types"))
        mistake_add(&d->mistakes, s->place,
            "compression has no types; write types = { \"text/html\", \"application/json\" }, or "
            "leave the section out");
}

static void verify_check_root(struct draft *d)
{
    const struct draft_section *root = &d->sections[0];

    if (d->conf->nlistens == 0 && !draft_lost_section(root, SECTION_LISTEN))
        mistake_add(
            &d->mistakes, d->scan.start, "no listen section; write listen \"127.0.0.1:8080\" { }");
    verifylisten_tickets(d, root);
    if (d->conf->nroutes == 0 && !draft_lost_section(root, SECTION_ROUTE))
        mistake_add(&d->mistakes, d->scan.start,
            "no route section; write route \"/\" { workers = \"NAME\" }");
    verify_check_accounts(d, root);
}

struct ranked_route {
    struct route_conf route;
    struct draft_section *section;
};

/* Routes with host first, then the longest prefix; otherwise as in the file. */
static int verify_by_rank(const void *pa, const void *pb)
{
    const struct ranked_route *ra = pa, *rb = pb;
    const struct route_conf *a = &ra->route, *b = &rb->route;

    if ((a->host.n > 0) != (b->host.n > 0))
        return a->host.n > 0 ? -1 : 1;
    if (a->prefix.n != b->prefix.n)
        return a->prefix.n > b->prefix.n ? -1 : 1;
    return ra->section->place.seq < rb->section->place.seq ? -1 : 1;
}

static void verify_sort_routes(struct draft *d)
{
    struct conf *c = d->conf;
    struct ranked_route *all = arena_alloc(&d->scratch, (c->nroutes + 1) * sizeof(*all));
    size_t n = 0;

    if (!all) {
        d->mistakes.no_memory = true;
        return;
    }
    for (size_t i = 0; i < d->nsections; i++)
        if (d->sections[i].id == SECTION_ROUTE && n < c->nroutes) {
            const struct route_conf *r = d->sections[i].base;

            all[n++] = (struct ranked_route){ *r, &d->sections[i] };
        }
    if (n > 1)
        qsort(all, n, sizeof(*all), verify_by_rank);
    for (size_t i = 0; i < n; i++) {
        c->routes[i] = all[i].route;
        all[i].section->base = &c->routes[i];
    }
}

void verify_draft(struct draft *d)
{
    verify_check_root(d);
    for (size_t i = 0; i < d->nsections; i++) {
        struct draft_section *s = &d->sections[i];

        verify_check_orders(d, s);
        verifyfiles_section(d, s);
        if (s->id == SECTION_LISTEN)
            verify_check_access(d, s, &((const struct listen_conf *)s->base)->addr);
        else if (s->id == SECTION_ADMIN) {
            verify_check_access(d, s, &((const struct admin_conf *)s->base)->addr);
            verify_check_control(d, s);
        }
        if (s->id == SECTION_LISTEN)
            verifylisten_section(d, s);
        else if (s->id == SECTION_COMPRESSION)
            verify_check_compression(d, s);
        else if (s->id == SECTION_WORKERS)
            verify_check_workers(d, s);
        else if (s->id == SECTION_UPSTREAM)
            verifyupstream_section(d, s);
        else if (s->id == SECTION_ROUTE)
            verify_check_route(d, s);
        else if (s->id == SECTION_TRACING)
            verify_check_tracing(d, s);
    }
    twins_refuse(d, 0, d->nsections, SECTION_WORKERS, SECTION_WORKERS, twins_title_key, "workers",
        "give it another name");
    twins_refuse(d, 0, d->nsections, SECTION_UPSTREAM, SECTION_UPSTREAM, twins_title_key,
        "upstream", "give it another name");
    twins_refuse(d, 0, d->nsections, SECTION_LISTEN, SECTION_ADMIN, verify_address_key,
        "the address", "take another");
    twins_refuse(d, 0, d->nsections, SECTION_SERVER, SECTION_SERVER, verify_address_key, "server",
        "name it once, with all its slots: a server belongs to one pool, which counts them");
    verify_check_families(d);
    verify_check_loops(d);
    verifyfiles_conf(d);
    twins_refuse(d, 0, d->nsections, SECTION_ROUTE, SECTION_ROUTE, verify_route_key,
        "a route of the prefix", "leave one out, or give it another host");
    verify_sort_routes(d);
}
