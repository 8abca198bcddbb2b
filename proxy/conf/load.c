/* From the file to a snapshot: scan parses the files into a tree, this file turns its values into
 * the structs, and verify checks the whole. */
#include "conf/load.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "conf/draft.h"
#include "conf/file.h"
#include "conf/options.h"
#include "conf/print.h"
#include "conf/proxyurl.h"
#include "conf/secret.h"
#include "conf/value.h"
#include "conf/verify.h"

/* ---- single values ---- */

static void load_store_number(void *to, size_t width, uint64_t v)
{
    unsigned small = (unsigned)v;

    if (width == sizeof(small))
        memcpy(to, &small, sizeof(small));
    else
        memcpy(to, &v, sizeof(v));
}

static bool load_parse_number(enum opt_type type, struct str text, uint64_t *v)
{
    switch (type) {
    case OPT_SIZE:
        return num_parse_size(text, v);
    case OPT_DURATION:
        return num_parse_duration(text, v);
    default:
        return num_parse_u64(text, v);
    }
}

#define WHY(...) (snprintf(why, VALUE_WHY_MAX, __VA_ARGS__), false)

/* Why `text` is no value of the row: false with the reason in `why`. */
static bool load_explain_number(
    const struct opt *row, struct str text, const char *shown, char why[VALUE_WHY_MAX])
{
    struct str digits = text;
    uint64_t plain;

    if (text.n > 1 && text.p[0] == '-' && text.p[1] >= '0' && text.p[1] <= '9')
        return WHY("%s is negative; the least is %s", shown, row->min ? row->min : "0");
    while (digits.n > 0 && digits.p[0] >= '0' && digits.p[0] <= '9')
        digits = str_make(digits.p + 1, digits.n - 1);
    if (text.n - digits.n > NUM_DIGITS_MAX) /* whatever its unit is */
        return WHY("%s is too large a number%s%s", shown, row->max ? "; the most is " : "",
            row->max ? row->max : "");
    if (row->type == OPT_SIZE)
        return WHY(
            "%s is no size; write bytes, or a number with K, M or G, like \"64K\" or \"10M\"",
            shown);
    if (row->type == OPT_DURATION && num_parse_u64(text, &plain))
        return WHY("%s has no unit; write \"" STR_FMT "s\" or \"" STR_FMT "ms\"", shown,
            STR_ARG(text), STR_ARG(text));
    if (row->type == OPT_DURATION)
        return WHY("%s is no duration; write a number with ms, s, m, h or d, like \"250ms\" or "
                   "\"30s\"",
            shown);
    return WHY("%s is no whole number; write digits only", shown);
}

static bool load_read_number(
    struct draft *d, const struct opt *row, struct str text, void *to, char why[VALUE_WHY_MAX])
{
    const char *shown = mistake_quote(&d->scratch, text);
    uint64_t v, least, most;

    if (!load_parse_number(row->type, text, &v))
        return load_explain_number(row, text, shown, why);
    if (row->min && load_parse_number(row->type, str_of(row->min), &least) && v < least)
        return WHY("%s is too little; the least is %s", shown, row->min);
    if (row->max && load_parse_number(row->type, str_of(row->max), &most) && v > most)
        return WHY("%s is too much; the most is %s", shown, row->max);
    load_store_number(to, row->width, v);
    return true;
}

static bool load_read_bool(struct draft *d, struct str text, bool *to, char why[VALUE_WHY_MAX])
{
    static const char *const words[] = { "false", "true", "off", "on", "no", "yes" };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (str_eq_nocase(str_of(words[i]), text)) {
            *to = i % 2;
            return true;
        }
    }
    return WHY(
        "%s is neither true nor false; write true or false", mistake_quote(&d->scratch, text));
}

static bool load_read_word(
    struct draft *d, const struct opt *row, struct str text, void *to, char why[VALUE_WHY_MAX])
{
    const char *near;
    struct str all = STR("");

    for (unsigned i = 0; row->words[i]; i++) {
        if (str_eq_nocase(str_of(row->words[i]), text)) {
            load_store_number(to, row->width, i);
            return true;
        }
        all = arena_printf(&d->scratch, STR_FMT "%s\"%s\"", STR_ARG(all),
            i == 0              ? ""
            : row->words[i + 1] ? ", "
                                : " or ",
            row->words[i]);
    }
    near = options_nearest_word(row->words, text);
    if (near)
        return WHY("%s is unknown; did you mean \"%s\"? (" STR_FMT ")",
            mistake_quote(&d->scratch, text), near, STR_ARG(all));
    return WHY("%s is unknown; write " STR_FMT, mistake_quote(&d->scratch, text), STR_ARG(all));
}

static bool load_read_path(
    struct draft *d, const char *file, struct str text, struct str *to, char why[VALUE_WHY_MAX])
{
    *to = file_resolve(&d->conf->arena, file, text);
    return to->p ? true : WHY("out of memory");
}

static bool load_read_secret(
    struct draft *d, const char *file, struct str text, struct str *to, char why[VALUE_WHY_MAX])
{
    struct str path;

    if (text.n == 0)
        return WHY("no file is named; leave the option out if there is no secret");
    return load_read_path(d, file, text, &path, why) &&
           secret_read(&d->conf->arena, path.p, to, why);
}

/* One value of an option that is no list. */
static bool load_read_value(struct draft *d, const struct draft_section *s, const struct opt *row,
    const char *file, struct str text, char why[VALUE_WHY_MAX])
{
    struct arena *a = &d->conf->arena;
    void *to = (char *)s->base + row->offset;

    switch (row->type) {
    case OPT_NUMBER:
    case OPT_SIZE:
    case OPT_DURATION:
        return load_read_number(d, row, text, to, why);
    case OPT_BOOL:
        return load_read_bool(d, text, to, why);
    case OPT_WORD:
        return load_read_word(d, row, text, to, why);
    case OPT_FOLDER:
    case OPT_FILE:
        return load_read_path(d, file, text, to, why);
    case OPT_SECRET:
        return load_read_secret(d, file, text, to, why);
    case OPT_TARGET:
        return value_target(a, file, text, to, why);
    case OPT_HOST:
        return value_host(a, text, to, why);
    case OPT_ORIGIN:
        return value_origin(
            a, text, (void *)((char *)to - offsetof(struct endpoint_conf, origin)), why);
    case OPT_TEXT:
        return value_text(a, text, to, why);
    case OPT_PATH:
        return value_path(a, text, to, why);
    case OPT_SELECTOR:
        return value_selector(a, text, to, why);
    case OPT_PROXY:
        return proxyurl_parse(a, text, to, why);
    case OPT_HIDDEN:
        return value_hidden(a, text, to, why);
    case OPT_MODE:
        return value_mode(text, to, why);
    case OPT_USER:
    case OPT_GROUP:
        *(struct str *)to = arena_copy(a, text);
        return ((struct str *)to)->p ? true : WHY("out of memory");
    case OPT_POOL:
    case OPT_UPSTREAM:
        return true; /* the note has the name; verify resolves it when all sections are known */
    case OPT_CIDRS:
    case OPT_HEADERS:
    case OPT_STATUSES:
    case OPT_WEIGHTS:
    case OPT_KINDS:
    case OPT_NAMES:
    case OPT_HOSTS:
    case OPT_TYPES:
    case OPT_ENCODINGS:
        break;
    }
    return WHY("is a list");
}

/* The words of the option in the order of enum encoding, which has "identity" before them. */
static bool load_read_encoding(struct draft *d, const struct opt *row, struct compression_conf *cc,
    struct str text, size_t i, size_t n, char why[VALUE_WHY_MAX])
{
    uint64_t word = 0;

    if (i == 0)
        cc->encodings = arena_alloc(&d->conf->arena, n * sizeof(*cc->encodings));
    if (!cc->encodings)
        return WHY("out of memory");
    cc->nencodings = i;
    if (!load_read_word(d, row, text, &word, why))
        return false;
    for (size_t k = 0; k < i; k++)
        if (cc->encodings[k] == (enum encoding)(word + 1))
            return WHY("%s stands twice; leave one of them out", mistake_quote(&d->scratch, text));
    cc->encodings[i] = (enum encoding)(word + 1);
    cc->nencodings = i + 1;
    return true;
}

/* A bit for each word. */
static bool load_read_kind(struct draft *d, const struct opt *row, unsigned *kinds, struct str text,
    size_t i, char why[VALUE_WHY_MAX])
{
    unsigned word = 0;

    if (i == 0)
        *kinds = 0;
    if (!load_read_word(d, row, text, &word, why))
        return false;
    *kinds |= 1u << word;
    return true;
}

/* The `i`th of `n` values of a list. */
static bool load_read_element(struct draft *d, const struct draft_section *s, const struct opt *row,
    struct str text, size_t i, size_t n, char why[VALUE_WHY_MAX])
{
    struct arena *a = &d->conf->arena;
    struct compression_conf *cc = s->base;
    struct upstream_conf *u = s->base;
    struct conf *c = d->conf;

    if (row->type == OPT_CIDRS) {
        if (i == 0)
            c->trusted_proxies = arena_alloc(a, n * sizeof(*c->trusted_proxies));
        if (!c->trusted_proxies)
            return WHY("out of memory");
        c->ntrusted_proxies = i + 1;
        return value_cidr(a, text, &c->trusted_proxies[i], why);
    }
    if (row->type == OPT_HEADERS) {
        struct endpoint_conf *e =
            (void *)((char *)s->base + row->offset - offsetof(struct endpoint_conf, set_header));

        if (i == 0)
            e->set_header = arena_alloc(a, n * sizeof(*e->set_header));
        if (!e->set_header)
            return WHY("out of memory");
        e->nset_header = i + 1;
        return value_header(a, text, &e->set_header[i], why);
    }
    if (row->type == OPT_STATUSES) {
        if (i == 0)
            u->retry_on = arena_alloc(a, n * sizeof(*u->retry_on));
        if (!u->retry_on)
            return WHY("out of memory");
        u->nretry_on = i + 1;
        return value_status(text, &u->retry_on[i], why);
    }
    if (row->type == OPT_WEIGHTS) {
        if (i == 0)
            u->tenant_weights = arena_alloc(a, n * sizeof(*u->tenant_weights));
        if (!u->tenant_weights)
            return WHY("out of memory");
        u->ntenant_weights = i + 1;
        return value_weight(a, text, &u->tenant_weights[i], why);
    }
    if (row->type == OPT_KINDS)
        return load_read_kind(d, row, (void *)((char *)s->base + row->offset), text, i, why);
    if (row->type == OPT_ENCODINGS)
        return load_read_encoding(d, row, cc, text, i, n, why);
    if (row->type == OPT_HOSTS) {
        struct hosts_conf *hosts = (void *)((char *)s->base + row->offset);

        if (i == 0)
            hosts->list = arena_alloc(a, n * sizeof(*hosts->list));
        if (!hosts->list)
            return WHY("out of memory");
        hosts->n = i + 1;
        return value_host(a, text, &hosts->list[i], why);
    }
    if (row->type == OPT_TYPES) {
        if (i == 0)
            cc->types = arena_alloc(a, n * sizeof(*cc->types));
        if (!cc->types)
            return WHY("out of memory");
        cc->ntypes = i + 1;
        return value_media_type(a, text, &cc->types[i], why);
    }
    if (i == 0)
        u->relay_headers = arena_alloc(a, n * sizeof(*u->relay_headers));
    if (!u->relay_headers)
        return WHY("out of memory");
    u->nrelay_headers = i + 1;
    return value_field_name(a, text, &u->relay_headers[i], why);
}

/* ---- sections ---- */

static void load_read_default(struct draft *d, struct draft_section *s, const struct opt *row)
{
    struct str rest = str_of(row->def), one;
    char why[VALUE_WHY_MAX];
    size_t n = 1;

    if (!options_is_list(row->type)) {
        load_read_value(d, s, row, "", rest, why);
        return;
    }
    for (size_t i = 0; i < rest.n; i++)
        n += rest.p[i] == ',';
    for (size_t i = 0; str_next_element(&rest, &one); i++)
        load_read_element(d, s, row, one, i, n, why);
}

static void load_read_row(
    struct draft *d, struct draft_section *s, const struct tree_section *in, const struct opt *row)
{
    size_t n = tree_count_values(in, row), i = 0;
    char why[VALUE_WHY_MAX];

    if (row->def)
        load_read_default(d, s, row);
    else if (row->width == sizeof(struct str) && !options_is_list(row->type))
        *(struct str *)(void *)((char *)s->base + row->offset) = STR("");
    for (const struct tree_value *v = in ? in->values : NULL; v; v = v->next) {
        bool good;

        if (v->row != row)
            continue;
        s->notes[s->nnotes++] = (struct draft_note){ row, v->place, v->text };
        good = options_is_list(row->type) ? load_read_element(d, s, row, v->text, i, n, why)
                                          : load_read_value(d, s, row, v->place.file, v->text, why);
        if (!good)
            mistake_add(&d->mistakes, v->place, "%s: %s", row->name, why);
        i++;
    }
}

/* A new section of the draft with its options read into `base`; `in` NULL: all have their defaults.
 * NULL if there is no memory. */
static struct draft_section *load_read_section(
    struct draft *d, enum opt_section_id id, const struct tree_section *in, void *base)
{
    const struct opt_section *sec = options_section(id);
    struct draft_section *s;

    if (d->nsections == d->sections_room) {
        size_t room = d->sections_room ? d->sections_room * 2 : 32;
        struct draft_section *p = realloc(d->sections, room * sizeof(*p));

        if (!p)
            goto no_memory;
        d->sections = p;
        d->sections_room = room;
    }
    s = &d->sections[d->nsections];
    *s = (struct draft_section){ .id = id, .base = base, .place = d->scan.start, .title = STR("") };
    if (in) {
        s->lost = in->lost;
        s->title = in->title;
        s->place = in->place;
    }
    s->notes = arena_alloc(&d->scratch, (tree_count_values(in, NULL) + 1) * sizeof(*s->notes));
    if (!s->notes)
        goto no_memory;
    d->nsections++;
    for (size_t i = 0; i < sec->nrows; i++)
        load_read_row(d, s, in, &sec->rows[i]);
    return s;

no_memory:
    d->mistakes.no_memory = true;
    return NULL;
}

/* Stores a section's title in its struct. Reports mistakes at the section's place. */
static void load_read_title(struct draft *d, struct draft_section *s, struct str *name,
    struct addr_conf *addr, unsigned *line)
{
    struct arena *a = &d->conf->arena;
    char why[VALUE_WHY_MAX];
    bool good;

    *line = s->place.line;
    if (s->id == SECTION_SERVER)
        good = value_server_address(a, s->place.file, s->title, addr, why);
    else if (addr)
        good = value_listen_address(a, s->place.file, s->title, addr, why);
    else if (s->id == SECTION_ROUTE)
        good = value_prefix(a, s->title, name, why);
    else
        good = value_name(a, s->title, name, why);
    if (!good) {
        mistake_add(&d->mistakes, s->place, "%s: %s", options_section(s->id)->name, why);
        if (addr)
            addr->salen = 0;
        else if (s->id != SECTION_ROUTE)
            *name = s->title; /* a reference to it is not a second mistake */
    }
}

/* Room for all sections of kind `id` inside `in`; their number in *count, 0 if there is no memory.
 */
static void *load_make_list(struct draft *d, const struct tree_section *in, enum opt_section_id id,
    size_t size, size_t *count)
{
    size_t n = tree_count(in, id);
    void *p = arena_alloc(&d->conf->arena, (n + 1) * size);

    if (!p)
        d->mistakes.no_memory = true;
    *count = p ? n : 0;
    return p;
}

static void load_read_listen(struct draft *d, const struct tree_section *in, struct listen_conf *l)
{
    struct draft_section *s = load_read_section(d, SECTION_LISTEN, in, l);
    const struct tree_section *next = tree_find(in, SECTION_IDENTITY);

    if (!s)
        return;
    load_read_title(d, s, NULL, &l->addr, &l->line);
    l->identities =
        load_make_list(d, in, SECTION_IDENTITY, sizeof(*l->identities), &l->nidentities);
    for (size_t i = 0; i < l->nidentities; i++, next = tree_next(next))
        if ((s = load_read_section(d, SECTION_IDENTITY, next, &l->identities[i])))
            load_read_title(d, s, &l->identities[i].name, NULL, &l->identities[i].line);
}

/* The place of "%d" in a server's path, or -1. */
static ptrdiff_t load_find_number(struct str text)
{
    const char *at = text.n > 0 ? memmem(text.p, text.n, "%d", 2) : NULL;

    return at && str_starts_with(text, STR("unix:")) ? at - text.p : -1;
}

/* A server section stands for as many servers as its count says. Reports `count` or `first` without
 * a pattern in the path. */
static unsigned load_count_servers(
    struct draft *d, const struct draft_section *s, const struct server_conf *sc)
{
    bool numbered = load_find_number(sc->addr.text) >= 0;

    if (numbered && !draft_find(s, "count") && !draft_lost_option(s, "count"))
        mistake_add(&d->mistakes, s->place,
            "server: the path has %%d but the section has no count; write count = 4, say");
    if (!numbered && (draft_find(s, "count") || draft_find(s, "first")))
        mistake_add(&d->mistakes, draft_place(s, draft_find(s, "count") ? "count" : "first"),
            "count and first are for a path with %%d; write server \"unix:/run/app/%%d.sock\"");
    return numbered ? sc->count : 1;
}

/* The servers themselves, in the place of their sections. */
static void load_expand_servers(
    struct draft *d, struct pool_conf *p, const struct place *places, size_t total)
{
    struct arena *a = &d->conf->arena;
    struct server_conf *all = arena_alloc(a, total * sizeof(*all));
    char why[VALUE_WHY_MAX];
    size_t n = 0;

    for (size_t i = 0; all && i < p->nservers; i++) {
        const struct server_conf *sc = &p->servers[i];
        ptrdiff_t at = load_find_number(sc->addr.text);
        struct str text = sc->addr.text;

        if (at < 0) {
            all[n++] = *sc;
            continue;
        }
        for (unsigned k = 0; k < sc->count; k++) {
            struct str each =
                arena_printf(a, STR_FMT "%u" STR_FMT, STR_ARG(str_make(text.p, (size_t)at)),
                    sc->first + k, STR_ARG(str_make(text.p + at + 2, text.n - (size_t)at - 2)));

            all[n] = *sc;
            if (each.p && !value_server_address(a, places[i].file, each, &all[n].addr, why))
                mistake_add(&d->mistakes, places[i], "server: %s", why);
            n++;
        }
    }
    if (!all)
        d->mistakes.no_memory = true;
    p->servers = all;
    p->nservers = n;
}

static void load_read_pool(struct draft *d, const struct tree_section *in, struct pool_conf *p)
{
    struct draft_section *s = load_read_section(d, SECTION_WORKERS, in, p);
    const struct tree_section *next = tree_find(in, SECTION_SERVER);
    struct place *places;
    size_t total = 0;

    if (!s)
        return;
    load_read_title(d, s, &p->name, NULL, &p->line);
    p->servers = load_make_list(d, in, SECTION_SERVER, sizeof(*p->servers), &p->nservers);
    places = arena_alloc(&d->scratch, (p->nservers + 1) * sizeof(*places));
    for (size_t i = 0; places && i < p->nservers; i++, next = tree_next(next)) {
        s = load_read_section(d, SECTION_SERVER, next, &p->servers[i]);
        if (!s) {
            p->nservers = i; /* no memory */
            break;
        }
        load_read_title(d, s, NULL, &p->servers[i].addr, &p->servers[i].line);
        total += load_count_servers(d, s, &p->servers[i]);
        places[i] = s->place;
    }
    if (places && total > p->nservers)
        load_expand_servers(d, p, places, total);
}

static void load_read_upstream(
    struct draft *d, const struct tree_section *in, struct upstream_conf *u)
{
    struct draft_section *s = load_read_section(d, SECTION_UPSTREAM, in, u);
    const struct tree_section *next = tree_find(in, SECTION_ENDPOINT);

    if (!s)
        return;
    load_read_title(d, s, &u->name, NULL, &u->line);
    u->endpoints = load_make_list(d, in, SECTION_ENDPOINT, sizeof(*u->endpoints), &u->nendpoints);
    for (size_t i = 0; i < u->nendpoints; i++, next = tree_next(next))
        if ((s = load_read_section(d, SECTION_ENDPOINT, next, &u->endpoints[i])))
            load_read_title(d, s, &u->endpoints[i].name, NULL, &u->endpoints[i].line);
    u->limits = load_make_list(d, in, SECTION_LIMIT, sizeof(*u->limits), &u->nlimits);
    next = tree_find(in, SECTION_LIMIT);
    for (size_t i = 0; i < u->nlimits; i++, next = tree_next(next))
        if ((s = load_read_section(d, SECTION_LIMIT, next, &u->limits[i])))
            u->limits[i].line = s->place.line;
}

static void load_read_all(struct draft *d, const struct tree_section *root)
{
    const struct tree_section *next;
    struct conf *c = d->conf;
    struct draft_section *s;

    load_read_section(d, SECTION_ROOT, root, c);
    load_read_section(d, SECTION_LOG, tree_find(root, SECTION_LOG), c);
    if ((next = tree_find(root, SECTION_ACCESS_LOG)))
        load_read_section(d, SECTION_ACCESS_LOG, next, c);
    if ((next = tree_find(root, SECTION_COMPRESSION)))
        load_read_section(d, SECTION_COMPRESSION, next, &c->compression);
    if ((next = tree_find(root, SECTION_TRACING)))
        load_read_section(d, SECTION_TRACING, next, &c->tracing);
    c->listens = load_make_list(d, root, SECTION_LISTEN, sizeof(*c->listens), &c->nlistens);
    next = tree_find(root, SECTION_LISTEN);
    for (size_t i = 0; i < c->nlistens; i++, next = tree_next(next))
        load_read_listen(d, next, &c->listens[i]);
    c->admins = load_make_list(d, root, SECTION_ADMIN, sizeof(*c->admins), &c->nadmins);
    next = tree_find(root, SECTION_ADMIN);
    for (size_t i = 0; i < c->nadmins; i++, next = tree_next(next))
        if ((s = load_read_section(d, SECTION_ADMIN, next, &c->admins[i])))
            load_read_title(d, s, NULL, &c->admins[i].addr, &c->admins[i].line);
    c->pools = load_make_list(d, root, SECTION_WORKERS, sizeof(*c->pools), &c->npools);
    next = tree_find(root, SECTION_WORKERS);
    for (size_t i = 0; i < c->npools; i++, next = tree_next(next))
        load_read_pool(d, next, &c->pools[i]);
    c->upstreams = load_make_list(d, root, SECTION_UPSTREAM, sizeof(*c->upstreams), &c->nupstreams);
    next = tree_find(root, SECTION_UPSTREAM);
    for (size_t i = 0; i < c->nupstreams; i++, next = tree_next(next))
        load_read_upstream(d, next, &c->upstreams[i]);
    c->routes = load_make_list(d, root, SECTION_ROUTE, sizeof(*c->routes), &c->nroutes);
    next = tree_find(root, SECTION_ROUTE);
    for (size_t i = 0; i < c->nroutes; i++, next = tree_next(next))
        if ((s = load_read_section(d, SECTION_ROUTE, next, &c->routes[i])))
            load_read_title(d, s, &c->routes[i].prefix, NULL, &c->routes[i].line);
}

/* ---- the whole ---- */

/* Whether memory has run out so far. A value or a default that could not be stored is null then. */
static bool load_lacks_memory(struct draft *d)
{
    d->mistakes.no_memory |=
        !d->conf || d->scan.words.no_memory || d->scratch.no_memory || d->conf->arena.no_memory;
    return d->mistakes.no_memory;
}

static void load_fill_draft(struct draft *d, const char *path)
{
    scan_read(&d->scan, path, &d->mistakes);
    d->conf = calloc(1, sizeof(*d->conf));
    if (d->conf)
        d->conf->refs = 1;
    if (load_lacks_memory(d))
        return;
    d->conf->file = arena_copy(&d->conf->arena, str_of(path));
    load_read_all(d, d->scan.root);
    if (!load_lacks_memory(d))
        verify_draft(d);
    load_lacks_memory(d);
}

struct conf *conf_load(const char *path, struct conf_errors *errors)
{
    return conf_load_and_look(path, errors, NULL, NULL);
}

/* For the control socket. Without memory it is empty. */
static void load_keep_text(struct draft *d)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);

    d->conf->text = STR("");
    if (!to)
        return;
    print_draft(d, to);
    if (fclose(to) == 0)
        d->conf->text = arena_copy(&d->conf->arena, str_make(text, n));
    if (!d->conf->text.p)
        d->conf->text = STR("");
    free(text);
}

struct conf *conf_load_and_look(
    const char *path, struct conf_errors *errors, conf_look_fn *look, void *owner)
{
    struct draft d = { 0 };
    struct conf *conf = NULL;

    *errors = (struct conf_errors){ 0 };
    load_fill_draft(&d, path);
    if (d.mistakes.count > d.mistakes.nwarnings || d.mistakes.no_memory)
        conf_unref(d.conf);
    else
        conf = d.conf;
    if (conf)
        load_keep_text(&d);
    if (conf && look)
        look(owner, &d);
    mistakes_hand_over(&d.mistakes, errors);
    mistakes_release(&d.mistakes);
    scan_release(&d.scan);
    arena_release(&d.scratch);
    free(d.sections);
    return conf;
}
