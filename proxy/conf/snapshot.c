/* Snapshots: references and look-ups. */
#include "conf/snapshot.h"

#include <netinet/in.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/url.h"
#include "conf/value.h"

struct conf *conf_ref(struct conf *c)
{
    c->refs++;
    return c;
}

/* Freed memory is not reused at once, so secrets are wiped first. */
static void snapshot_wipe(struct str secret)
{
    if (secret.n > 0)
        OPENSSL_cleanse((char *)secret.p, secret.n);
}

static void snapshot_wipe_headers(const struct endpoint_conf *e)
{
    for (size_t i = 0; i < e->nset_header; i++)
        snapshot_wipe(e->set_header[i].value);
}

void conf_unref(struct conf *c)
{
    if (!c || --c->refs > 0)
        return;
    snapshot_wipe(c->ticket_secret);
    for (size_t i = 0; i < c->npools; i++)
        snapshot_wipe(c->pools[i].secret);
    for (size_t i = 0; i < c->nupstreams; i++) {
        snapshot_wipe_headers(&c->upstreams[i].own);
        for (size_t k = 0; k < c->upstreams[i].nendpoints; k++)
            snapshot_wipe_headers(&c->upstreams[i].endpoints[k]);
    }
    arena_release(&c->arena);
    free(c);
}

const struct upstream_conf *conf_find_origin(
    const struct conf *c, struct str scheme, struct str host, uint16_t port)
{
    bool tls = str_eq_nocase(scheme, STR("https"));
    const struct upstream_conf *found = NULL;
    struct arena scratch = { 0 };

    if (!tls && !str_eq_nocase(scheme, STR("http")))
        return NULL;
    if (port == 0)
        port = url_default_port(scheme);
    /* An IPv6 literal may be written in more than one way. */
    if (str_find_char(host, ':') >= 0)
        host = value_canonical_host(&scratch, host, true);
    for (size_t i = 0; i < c->nupstreams && !found; i++) {
        const struct upstream_conf *u = &c->upstreams[i];

        for (size_t k = 0; k < u->nendpoints && !found; k++) {
            const struct endpoint_conf *e = &u->endpoints[k];

            if (e->tls == tls && e->port == port && str_eq_nocase(e->host, host))
                found = u;
        }
    }
    arena_release(&scratch);
    return found;
}

const struct upstream_conf *conf_find_upstream(const struct conf *c, struct str name)
{
    for (size_t i = 0; i < c->nupstreams; i++)
        if (str_eq(c->upstreams[i].name, name))
            return &c->upstreams[i];
    return NULL;
}

const struct pool_conf *conf_find_pool(const struct conf *c, struct str name)
{
    for (size_t i = 0; i < c->npools; i++)
        if (str_eq(c->pools[i].name, name))
            return &c->pools[i];
    return NULL;
}

const struct route_conf *conf_find_route(const struct conf *c, struct str host, struct str path)
{
    if (host.n > 1 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = str_make(host.p + 1, host.n - 2);
    else if (host.n > 1 &&
             host.p[host.n - 1] == '.') /* the fully qualified spelling of the same name */
        host.n--;
    for (size_t i = 0; i < c->nroutes; i++) {
        const struct route_conf *r = &c->routes[i];

        if ((r->host.n == 0 || str_eq_nocase(r->host, host)) && str_starts_with(path, r->prefix))
            return r;
    }
    return NULL;
}

/* Whether the first `bits` of both are the same. */
static bool snapshot_same_bits(const unsigned char *a, const unsigned char *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    if (memcmp(a, b, whole) != 0)
        return false;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

bool conf_trusts(const struct conf *c, const struct sockaddr *peer)
{
    unsigned char addr[16] = { 0 };
    int family = peer->sa_family;

    if (family == AF_INET) {
        memcpy(addr, &((const struct sockaddr_in *)(const void *)peer)->sin_addr, 4);
    } else if (family == AF_INET6) {
        const struct in6_addr *in6 = &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr;

        memcpy(addr, in6, 16);
        if (IN6_IS_ADDR_V4MAPPED(in6)) {
            memmove(addr, addr + 12, 4);
            family = AF_INET;
        }
    }
    for (size_t i = 0; i < c->ntrusted_proxies; i++) {
        const struct cidr_conf *t = &c->trusted_proxies[i];

        if (t->family == family &&
            (family == AF_UNIX || snapshot_same_bits(addr, t->addr, t->bits)))
            return true;
    }
    return false;
}

void conf_admin_address(const struct conf *c, const struct admin_conf *a, size_t slot,
    struct addr_conf *out, char text[CONF_ADDRESS_TEXT_MAX])
{
    struct sockaddr_un *un = (void *)&out->sa;
    size_t n;

    *out = a->addr;
    if (!a->control || c->processes == 1)
        return;
    snprintf(text, CONF_ADDRESS_TEXT_MAX, STR_FMT ".%zu", STR_ARG(a->addr.text), slot);
    out->text = str_of(text);
    n = strlen(un->sun_path);
    snprintf(un->sun_path + n, sizeof(un->sun_path) - n, ".%zu", slot);
    out->salen = (socklen_t)(out->salen + strlen(un->sun_path) - n);
}
