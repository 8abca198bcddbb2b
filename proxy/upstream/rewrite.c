/* A request on its way to an endpoint. */
#include "upstream/rewrite.h"

#include <stdlib.h>

#include "base/url.h"
#include "conf/value.h"
#include "llm/askusage.h"
#include "llm/scanner.h"

static bool rewrite_is_query_credential(struct str parameter)
{
    struct str name, value;

    str_cut(parameter, '=', &name, &value);
    return url_is_credential(name);
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

/* "/v1beta/models/NAME:method" with another name. */
static struct str rewrite_model_in_path(struct arena *a, struct str target, struct str model)
{
    static const struct str mark = STR_INIT("/models/");
    struct str path, query;

    str_cut(target, '?', &path, &query);
    for (size_t i = 0; i + mark.n < path.n; i++) {
        struct str rest = str_make(path.p + i + mark.n, target.n - i - mark.n), name, method;

        if (!str_starts_with(str_make(path.p + i, path.n - i), mark) ||
            !str_cut(rest, ':', &name, &method))
            continue;
        return arena_printf(a, STR_FMT STR_FMT STR_FMT, (int)(i + mark.n), target.p, STR_ARG(model),
            (int)(rest.n - name.n), name.p + name.n);
    }
    return target;
}

static int rewrite_target(struct arena *a, const struct endpoint_conf *e, bool keys, struct head *h)
{
    if (!keys)
        h->target = rewrite_without_keys(a, h->target);
    if (h->target.p && e->model.n > 0)
        h->target = rewrite_model_in_path(a, h->target, e->model);
    if (h->target.p && e->path_prefix.n > 0 && !str_eq(h->target, STR("*")))
        h->target = arena_printf(a, STR_FMT STR_FMT, STR_ARG(e->path_prefix), STR_ARG(h->target));
    return h->target.p ? 0 : -1;
}

/* Browsers cannot set fields of a WebSocket's handshake: OpenAI takes their key as a subprotocol.
 */
static bool rewrite_is_protocol_credential(struct str protocol)
{
    return str_starts_with_nocase(protocol, STR("openai-insecure-api-key."));
}

static bool rewrite_names_protocols(const struct field *f)
{
    return str_eq_nocase(f->name, STR("sec-websocket-protocol"));
}

static bool rewrite_is_credential(const struct field *f)
{
    struct str rest = f->value, one;

    if (rewrite_names_protocols(f))
        while (str_next_element(&rest, &one))
            if (rewrite_is_protocol_credential(one))
                return true;
    return value_is_credential(f->name);
}

static bool rewrite_has_credential(const struct head *h)
{
    for (size_t i = 0; i < h->nfields; i++)
        if (rewrite_is_credential(&h->fields[i]))
            return true;
    return false;
}

/* Takes the credential out of the field. 1: the rest of it stays; 0: nothing is left; -1: no
 * memory.
 */
static int rewrite_strip_credential(struct arena *a, struct field *f)
{
    struct str rest = f->value, one;
    size_t n = 0;
    char *p;

    if (!rewrite_is_credential(f))
        return 1;
    if (!rewrite_names_protocols(f))
        return 0;
    p = arena_alloc(a, 2 * f->value.n + 2);
    if (!p)
        return -1;
    while (str_next_element(&rest, &one)) {
        if (rewrite_is_protocol_credential(one))
            continue;
        if (n > 0) {
            p[n++] = ',';
            p[n++] = ' ';
        }
        memcpy(p + n, one.p, one.n);
        n += one.n;
    }
    f->value = str_make(p, n);
    return n > 0;
}

/* A page's origin has been looked at when the request was admitted; the service would compare it
 * with its own host. */
static int rewrite_origin(struct arena *a, const struct endpoint_conf *e, struct head *h)
{
    return h->websocket && head_find(h, STR("origin")) ? head_set(h, a, STR("Origin"), e->origin)
                                                       : 0;
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
    for (size_t i = 0; i < own.nfields; i++) {
        struct field f = own.fields[i];

        int stays = injected ? rewrite_strip_credential(a, &f) : 1;

        if (stays < 0)
            return -1;
        if (stays)
            sent.fields[sent.nfields++] = f;
    }
    for (size_t i = 0; i < e->nset_header; i++)
        if (!e->set_header[i].unless_present)
            head_remove(&sent, e->set_header[i].name);
    for (size_t i = 0; i < e->nset_header; i++)
        if (rewrite_applies(&e->set_header[i], &own) &&
            head_add(&sent, a, e->set_header[i].name, e->set_header[i].value) < 0)
            return -1;
    sent.authority = rewrite_authority(e);
    if (rewrite_origin(a, e, &sent) < 0)
        return -1;
    *h = sent;
    return rewrite_target(a, e, !injected, h);
}

bool rewrite_has_key(const struct endpoint_conf *e)
{
    for (size_t i = 0; i < e->nset_header; i++)
        if (!e->set_header[i].unless_present && value_is_credential(e->set_header[i].name))
            return true;
    return false;
}

/* A value of a body. */
struct found {
    uint64_t start, end; /* end 0: not found */
    uint64_t hash;
};

static void rewrite_on_value(void *owner, unsigned path, const struct scanner_value *v)
{
    struct found *f = owner;

    if ((v->type != SCANNER_STRING && v->type != SCANNER_NUMBER) || f->end)
        return;
    f->start = v->start;
    f->end = v->end;
    f->hash = UINT64_C(14695981039346656037); /* FNV-1a */
    for (size_t i = 0; i < v->text.n; i++)
        f->hash = (f->hash ^ (unsigned char)v->text.p[i]) * UINT64_C(1099511628211);
}

/* Looks for the value at a path. */
struct seeking {
    struct scanner json;
    struct found found;
};

static bool rewrite_seek(void *owner, struct str piece)
{
    struct seeking *k = owner;

    return scanner_feed(&k->json, piece) && !k->found.end;
}

static int rewrite_find(
    const struct piece *body, const struct scanner_path *path, struct found *found)
{
    struct seeking k = { .found = { 0 } };
    int rc;

    scanner_init(&k.json, path, 1, false, rewrite_on_value, &k.found);
    rc = piece_each(body, rewrite_seek, &k);
    *found = k.found;
    return rc;
}

bool rewrite_field_hash(const struct piece *body, struct str path, uint64_t *hash)
{
    struct found f = { 0 };
    struct arena arena = { 0 };
    struct scanner_path p = { 0 };
    struct str one;

    for (int i = 0; i < SCANNER_SEGMENTS_MAX - 1 && path.n > 0; i++) {
        str_cut(path, '.', &one, &path);
        p.segments[i] = arena_cstr(&arena, one);
    }
    if (p.segments[0] && rewrite_find(body, &p, &f) == 0)
        *hash = f.hash;
    arena_release(&arena);
    return f.end > 0;
}

struct streaming {
    struct scanner json;
    bool told, streams;
};

static void rewrite_on_stream(void *owner, unsigned path, const struct scanner_value *v)
{
    struct streaming *t = owner;

    t->told = true;
    t->streams = v->type == SCANNER_TRUE;
}

static bool rewrite_look_for_stream(void *owner, struct str piece)
{
    struct streaming *t = owner;

    return scanner_feed(&t->json, piece) && !t->told;
}

static bool rewrite_has_parameter(struct str target, struct str parameter)
{
    struct str path, query, one;

    str_cut(target, '?', &path, &query);
    while (query.n > 0) {
        str_cut(query, '&', &one, &query);
        if (str_eq(one, parameter))
            return true;
    }
    return false;
}

bool rewrite_asks_for_stream(const struct head *h, const struct piece *body)
{
    static const struct scanner_path path = { { "stream" } };
    struct streaming t = { .told = false };

    if (head_has_token(h, STR("accept"), STR("text/event-stream")) ||
        rewrite_has_parameter(h->target, STR("alt=sse")))
        return true;
    if (body->len == 0)
        return false;
    scanner_init(&t.json, &path, 1, false, rewrite_on_stream, &t);
    return piece_each(body, rewrite_look_for_stream, &t) == 0 && t.streams;
}

static struct piece rewrite_part(const struct piece *body, uint64_t from, uint64_t to)
{
    struct piece part = *body;

    if (part.body)
        part.off += from;
    else
        part.mem += from;
    part.len = to - from;
    return part;
}

static int rewrite_find_model(
    const struct endpoint_conf *e, const struct piece *body, struct askusage_edit *edit)
{
    static const struct scanner_path model = { { "model" } };
    struct found found = { 0 };

    if (e->model.n == 0 || rewrite_find(body, &model, &found) < 0)
        return e->model.n == 0 ? 0 : -1;
    *edit = (struct askusage_edit){ .start = found.start, .end = found.end };
    return found.end > 0;
}

static bool rewrite_ask(void *owner, struct str piece)
{
    askusage_feed(owner, piece);
    return true;
}

static int rewrite_find_usage(const struct piece *body, struct askusage_edit *edit)
{
    struct askusage q;

    askusage_init(&q);
    if (piece_each(body, rewrite_ask, &q) < 0)
        return -1;
    return askusage_edit(&q, edit);
}

/* The body with the edits, which are in order. */
static void rewrite_put(
    struct rewritten_body *b, const struct piece *body, const struct askusage_edit *edits, size_t n)
{
    uint64_t at = 0;

    for (size_t i = 0; i < n; i++) {
        if (edits[i].start > at)
            b->pieces[b->n++] = rewrite_part(body, at, edits[i].start);
        b->pieces[b->n++] = (struct piece){ .mem = edits[i].text.p, .len = edits[i].text.n };
        at = edits[i].end;
    }
    if (at < body->len)
        b->pieces[b->n++] = rewrite_part(body, at, body->len);
}

struct rewritten_body *rewrite_body(
    const struct endpoint_conf *e, bool ask_usage, const struct piece *body, int *rc)
{
    struct askusage_edit edits[REWRITE_EDITS_MAX], first;
    struct rewritten_body *b;
    int model = 0, usage = 0;

    *rc = 0;
    if (body->len == 0)
        return NULL;
    model = rewrite_find_model(e, body, &edits[0]);
    if (model >= 0 && ask_usage)
        usage = rewrite_find_usage(body, &edits[model]);
    *rc = model < 0 || usage < 0 ? -1 : 0;
    if (*rc < 0 || model + usage == 0)
        return NULL;
    b = malloc(sizeof(*b) + e->model.n + 3);
    if (!b) {
        *rc = -1;
        return NULL;
    }
    b->n = 0;
    b->asks_usage = usage > 0;
    b->model[0] = '"';
    memcpy(b->model + 1, e->model.p ? e->model.p : "", e->model.n);
    b->model[e->model.n + 1] = '"';
    if (model)
        edits[0].text = str_make(b->model, e->model.n + 2);
    if (model + usage == 2 && edits[1].start < edits[0].start) {
        first = edits[1];
        edits[1] = edits[0];
        edits[0] = first;
    }
    rewrite_put(b, body, edits, (size_t)model + (size_t)usage);
    return b;
}

enum llm_family rewrite_family(const struct upstream_conf *u)
{
    switch (u->api) {
    case API_OPENAI:
        return LLM_OPENAI;
    case API_ANTHROPIC:
        return LLM_ANTHROPIC;
    case API_GEMINI:
        return LLM_GOOGLE;
    case API_NONE:
        return LLM_NO_FAMILY;
    case API_AUTO:
        break;
    }
    return LLM_BY_PATH;
}

bool rewrite_may_ask_usage(const struct upstream_conf *u, const struct head *h)
{
    struct str path, query, coding = head_value(h, STR("content-encoding")),
                            end = STR("/chat/completions");

    str_cut(h->target, '?', &path, &query);
    return u->include_usage && (coding.n == 0 || str_eq_nocase(coding, STR("identity"))) &&
           api_of(rewrite_family(u), h->target) == LLM_CHAT && path.n >= end.n &&
           str_eq(str_make(path.p + path.n - end.n, end.n), end);
}

struct str rewrite_authority(const struct endpoint_conf *e)
{
    /* The normalised origin has the default port left out already. */
    struct str scheme, rest;

    str_cut(e->origin, ':', &scheme, &rest);
    return rest.n > 2 ? str_make(rest.p + 2, rest.n - 2) : (struct str){ NULL, 0 };
}
