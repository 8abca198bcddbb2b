/* A request on its way to an endpoint. */
#include "upstream/rewrite.h"

#include "conf/value.h"

static const struct str query_credentials[] = { STR_INIT("key"), STR_INIT("api_key"),
    STR_INIT("api-key"), STR_INIT("access_token") };

static bool rewrite_is_query_credential(struct str parameter)
{
    struct str name, value;

    str_cut(parameter, '=', &name, &value);
    for (size_t i = 0; i < sizeof(query_credentials) / sizeof(*query_credentials); i++)
        if (str_eq_nocase(name, query_credentials[i]))
            return true;
    return false;
}

/* The target without the keys in its query. p is NULL if there is no memory. */
static struct str rewrite_without_keys(struct arena *a, struct str target)
{
    struct str path, query, one;
    char *p, *at;

    if (!str_cut(target, '?', &path, &query))
        return target;
    p = at = arena_alloc(a, target.n + 1);
    if (!p)
        return (struct str){ 0 };
    memcpy(at, path.p, path.n);
    at += path.n;
    for (char sep = '?'; query.n > 0;) {
        str_cut(query, '&', &one, &query);
        if (rewrite_is_query_credential(one))
            continue;
        *at++ = sep;
        memcpy(at, one.p, one.n);
        at += one.n;
        sep = '&';
    }
    return str_make(p, (size_t)(at - p));
}

static int rewrite_target(struct arena *a, const struct endpoint_conf *e, bool keys, struct head *h)
{
    if (!keys)
        h->target = rewrite_without_keys(a, h->target);
    if (h->target.p && e->path_prefix.n > 0 && !str_eq(h->target, STR("*")))
        h->target = arena_printf(a, STR_FMT STR_FMT, STR_ARG(e->path_prefix), STR_ARG(h->target));
    return h->target.p ? 0 : -1;
}

static bool rewrite_has_credential(const struct head *h)
{
    for (size_t i = 0; i < h->nfields; i++)
        if (value_is_credential(h->fields[i].name))
            return true;
    return false;
}

/* Whether the conf's field is to be set on this request. */
static bool rewrite_applies(const struct header_conf *f, const struct head *h)
{
    if (!f->unless_present)
        return true;
    return value_is_credential(f->name) ? !rewrite_has_credential(h) : !head_find(h, f->name);
}

int rewrite_head(struct arena *a, const struct endpoint_conf *e, struct head *h)
{
    struct head own = *h, sent = *h;
    bool injected = false;

    for (size_t i = 0; i < e->nset_header; i++)
        injected |=
            value_is_credential(e->set_header[i].name) && rewrite_applies(&e->set_header[i], h);
    sent.room = own.nfields + e->nset_header;
    sent.nfields = 0;
    sent.fields = arena_alloc(a, (sent.room + 1) * sizeof(*sent.fields));
    if (!sent.fields)
        return -1;
    for (size_t i = 0; i < own.nfields; i++)
        if (!injected || !value_is_credential(own.fields[i].name))
            sent.fields[sent.nfields++] = own.fields[i];
    for (size_t i = 0; i < e->nset_header; i++)
        if (!e->set_header[i].unless_present)
            head_remove(&sent, e->set_header[i].name);
    for (size_t i = 0; i < e->nset_header; i++)
        if (rewrite_applies(&e->set_header[i], &own) &&
            head_add(&sent, a, e->set_header[i].name, e->set_header[i].value) < 0)
            return -1;
    sent.authority = rewrite_authority(e);
    *h = sent;
    return rewrite_target(a, e, !injected, h);
}

struct str rewrite_authority(const struct endpoint_conf *e)
{
    /* The normalised origin has the default port left out already. */
    struct str scheme, rest;

    str_cut(e->origin, ':', &scheme, &rest);
    return rest.n > 2 ? str_make(rest.p + 2, rest.n - 2) : (struct str){ NULL, 0 };
}
