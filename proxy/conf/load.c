/* From the file to a snapshot: scan reads the files, libconfuse parses the text by arrays that are
 * made from the option table, this file turns its values into the structs, and verify checks the
 * whole. */
#include "conf/load.h"

#include <confuse.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "conf/draft.h"
#include "conf/options.h"
#include "conf/secret.h"
#include "conf/value.h"
#include "conf/verify.h"

/* ---- libconfuse's side ---- */

/* What libconfuse keeps for each value: the text as it stands, and the line that it was read in. */
struct load_raw_value {
    int line;
    char text[];
};

static int load_on_value(cfg_t *cfg, cfg_opt_t *opt, const char *text, void *result)
{
    size_t n = strlen(text) + 1;
    struct load_raw_value *v = malloc(sizeof(*v) + n);

    if (!v)
        return -1;
    v->line = cfg->line;
    memcpy(v->text, text, n);
    *(void **)result = v;
    return 0;
}

/* libconfuse would print to standard error; what can be wrong in the text that scan made is only
 * that memory ran out. */
static void load_on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
}

enum { ARRAY_MAX = OPT_ROWS_MAX + OPT_NSECTIONS + 3 };

/* What libconfuse takes, generously: a section is a copy of its array. */
enum { PARSER_NEEDS = 1 << 20, PARSER_NEEDS_A_BYTE = 256 };

struct arrays {
    cfg_opt_t of[OPT_NSECTIONS][ARRAY_MAX];
};

static void load_add_value(cfg_opt_t *array, size_t *n, const char *name, bool list)
{
    cfg_opt_t o = CFG_PTR_CB(name, NULL, CFGF_NODEFAULT, load_on_value, free);

    if (list)
        o.flags |= CFGF_LIST;
    array[(*n)++] = o;
}

/* All sections are many and without title for libconfuse, which would otherwise let one take the
 * place of another. */
static void load_make_array(struct arrays *arrays, enum opt_section_id id)
{
    const struct opt_section *sec = options_section(id);
    cfg_opt_t *array = arrays->of[id], end = CFG_END();
    size_t n = 0;

    load_add_value(array, &n, SCAN_TITLE, false);
    load_add_value(array, &n, SCAN_LOST, false);
    for (size_t i = 0; i < sec->nrows; i++)
        load_add_value(array, &n, sec->rows[i].name, options_is_list(sec->rows[i].type));
    for (int inner = SECTION_ROOT + 1; inner < OPT_NSECTIONS; inner++) {
        const struct opt_section *in = options_section((enum opt_section_id)inner);

        if (in->parent == id) {
            cfg_opt_t o = CFG_SEC(in->name, arrays->of[inner], CFGF_MULTI);

            array[n++] = o;
        }
    }
    array[n] = end;
}

/* The parsed tree, or NULL if there is no memory. Ended with cfg_free(). */
static cfg_t *load_parse(const char *text)
{
    struct arrays *arrays = calloc(1, sizeof(*arrays));
    cfg_t *cfg;

    if (!arrays)
        return NULL;
    for (int id = 0; id < OPT_NSECTIONS; id++)
        load_make_array(arrays, (enum opt_section_id)id);
    cfg = cfg_init(arrays->of[SECTION_ROOT], CFGF_NONE);
    free(arrays);
    if (!cfg)
        return NULL;
    cfg_set_error_function(cfg, load_on_error);
    if (cfg_parse_buf(cfg, text) != CFG_SUCCESS) {
        cfg_free(cfg);
        return NULL;
    }
    return cfg;
}

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

static bool load_read_number(
    struct draft *d, const struct opt *row, struct str text, void *to, char why[VALUE_WHY_MAX])
{
    const char *shown = mistake_quote(&d->scratch, text);
    uint64_t v, least, most, plain;

    if (!load_parse_number(row->type, text, &v)) {
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
    if (row->min && load_parse_number(row->type, str_of(row->min), &least) && v < least)
        return WHY("%s is too little; the least is %s", shown, row->min);
    if (row->max && load_parse_number(row->type, str_of(row->max), &most) && v > most)
        return WHY("%s is too much; the most is %s", shown, row->max);
    load_store_number(to, row->width, v);
    return true;
}

static bool load_read_bool(struct draft *d, struct str text, bool *to, char why[VALUE_WHY_MAX])
{
    int v = cfg_parse_boolean(text.p);

    if (v < 0)
        return WHY("%s is neither true nor false", mistake_quote(&d->scratch, text));
    *to = v > 0;
    return true;
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
    *to = scan_resolve(&d->conf->arena, file, text);
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
        return value_origin(a, text, s->base, why);
    case OPT_USER:
    case OPT_GROUP:
        *(struct str *)to = arena_copy(a, text);
        return ((struct str *)to)->p ? true : WHY("out of memory");
    case OPT_POOL:
    case OPT_UPSTREAM:
        return true; /* the note has the name; verify resolves it when all sections are known */
    case OPT_CIDRS:
    case OPT_HEADERS:
    case OPT_NAMES:
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
        if (i == 0)
            u->set_header = arena_alloc(a, n * sizeof(*u->set_header));
        if (!u->set_header)
            return WHY("out of memory");
        u->nset_header = i + 1;
        return value_header(a, text, &u->set_header[i], why);
    }
    if (row->type == OPT_ENCODINGS)
        return load_read_encoding(d, row, cc, text, i, n, why);
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

static const struct load_raw_value *load_raw_value(cfg_t *cfg, const char *name, unsigned i)
{
    cfg_opt_t *opt = cfg_getopt(cfg, name);

    return opt && i < cfg_opt_size(opt) ? cfg_opt_getnptr(opt, i) : NULL;
}

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
    struct draft *d, struct draft_section *s, cfg_t *cfg, const struct opt *row)
{
    unsigned n = cfg_opt_size(cfg_getopt(cfg, row->name));
    char why[VALUE_WHY_MAX];

    if (row->def)
        load_read_default(d, s, row);
    else if (row->width == sizeof(struct str) && !options_is_list(row->type))
        *(struct str *)(void *)((char *)s->base + row->offset) = STR("");
    for (unsigned i = 0; i < n; i++) {
        const struct load_raw_value *v = load_raw_value(cfg, row->name, i);
        struct draft_note *note = &s->notes[s->nnotes];
        bool good;

        if (!v)
            continue;
        note->row = row;
        note->place = scan_place(&d->scan, v->line);
        note->text = arena_copy(&d->scratch, str_of(v->text));
        if (!note->text.p) {
            d->mistakes.no_memory = true;
            return;
        }
        s->nnotes++;
        good = options_is_list(row->type)
                   ? load_read_element(d, s, row, note->text, i, n, why)
                   : load_read_value(d, s, row, note->place.file, note->text, why);
        if (!good)
            mistake_add(&d->mistakes, note->place, "%s: %s", row->name, why);
    }
}

/* A new section of the draft with its options read into `base`. NULL if there is no memory. */
static struct draft_section *load_read_section(
    struct draft *d, enum opt_section_id id, cfg_t *cfg, void *base)
{
    const struct opt_section *sec = options_section(id);
    const struct load_raw_value *title = load_raw_value(cfg, SCAN_TITLE, 0),
                                *lost = load_raw_value(cfg, SCAN_LOST, 0);
    struct draft_section *s;
    size_t values = 0;

    if (d->nsections == d->sections_room) {
        size_t room = d->sections_room ? d->sections_room * 2 : 32;
        struct draft_section *p = realloc(d->sections, room * sizeof(*p));

        if (!p)
            goto no_memory;
        d->sections = p;
        d->sections_room = room;
    }
    for (size_t i = 0; i < sec->nrows; i++)
        values += cfg_opt_size(cfg_getopt(cfg, sec->rows[i].name));
    s = &d->sections[d->nsections];
    *s = (struct draft_section){ .id = id, .base = base, .place = d->scan.start, .title = STR("") };
    if (lost)
        num_parse_u64(str_of(lost->text), &s->lost);
    s->notes = arena_alloc(&d->scratch, (values + 1) * sizeof(*s->notes));
    if (!s->notes)
        goto no_memory;
    if (title) {
        s->title = arena_copy(&d->scratch, str_of(title->text));
        if (!s->title.p)
            goto no_memory;
        s->place = scan_place(&d->scan, title->line);
    }
    d->nsections++;
    for (size_t i = 0; i < sec->nrows; i++)
        load_read_row(d, s, cfg, &sec->rows[i]);
    return s;

no_memory:
    d->mistakes.no_memory = true;
    return NULL;
}

/* What a section's title says goes to its struct. Reports with the section's place. */
static void load_read_title(struct draft *d, struct draft_section *s, struct str *name,
    struct addr_conf *addr, unsigned *line)
{
    struct arena *a = &d->conf->arena;
    char why[VALUE_WHY_MAX];
    bool good;

    *line = s->place.line;
    if (addr)
        good = value_address(a, s->place.file, s->title, addr, why);
    else if (s->id == SECTION_ROUTE)
        good = value_prefix(a, s->title, name, why);
    else
        good = value_name(a, s->title, name, why);
    if (!good) {
        mistake_add(&d->mistakes, s->place, "%s: %s", options_section(s->id)->name, why);
        if (addr)
            addr->salen = 0;
        else if (s->id != SECTION_ROUTE)
            *name = s->title; /* what refers to it is no second mistake */
    }
}

static void load_read_listen(struct draft *d, cfg_t *cfg, struct listen_conf *l)
{
    struct draft_section *s = load_read_section(d, SECTION_LISTEN, cfg, l);
    unsigned n = cfg_size(cfg, "identity");

    if (!s)
        return;
    load_read_title(d, s, NULL, &l->addr, &l->line);
    l->identities = arena_alloc(&d->conf->arena, (n + 1) * sizeof(*l->identities));
    if (!l->identities) {
        d->mistakes.no_memory = true;
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        struct identity_conf *identity = &l->identities[l->nidentities];
        struct draft_section *in =
            load_read_section(d, SECTION_IDENTITY, cfg_getnsec(cfg, "identity", i), identity);

        if (!in)
            return;
        load_read_title(d, in, &identity->name, NULL, &identity->line);
        l->nidentities++;
    }
}

static void load_read_pool(struct draft *d, cfg_t *cfg, struct pool_conf *p)
{
    struct draft_section *s = load_read_section(d, SECTION_WORKERS, cfg, p);
    unsigned n = cfg_size(cfg, "server");

    if (!s)
        return;
    load_read_title(d, s, &p->name, NULL, &p->line);
    p->servers = arena_alloc(&d->conf->arena, (n + 1) * sizeof(*p->servers));
    if (!p->servers) {
        d->mistakes.no_memory = true;
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        struct server_conf *server = &p->servers[p->nservers];
        struct draft_section *in =
            load_read_section(d, SECTION_SERVER, cfg_getnsec(cfg, "server", i), server);

        if (!in)
            return;
        load_read_title(d, in, NULL, &server->addr, &server->line);
        p->nservers++;
    }
}

/* Room for all sections of one kind. */
static void *load_make_list(
    struct draft *d, cfg_t *cfg, const char *name, size_t size, size_t *count)
{
    size_t n = cfg_size(cfg, name);
    void *p = arena_alloc(&d->conf->arena, (n + 1) * size);

    if (!p)
        d->mistakes.no_memory = true;
    *count = p ? n : 0;
    return p;
}

static void load_read_all(struct draft *d, cfg_t *cfg)
{
    struct conf *c = d->conf;
    struct draft_section *s;

    load_read_section(d, SECTION_ROOT, cfg, c);
    if (d->nsections > 0)
        d->sections[0].lost = d->scan.root_lost;
    load_read_section(d, SECTION_LOG, cfg_size(cfg, "log") ? cfg_getsec(cfg, "log") : NULL, c);
    if (cfg_size(cfg, "access_log"))
        load_read_section(d, SECTION_ACCESS_LOG, cfg_getsec(cfg, "access_log"), c);
    if (cfg_size(cfg, "compression"))
        load_read_section(d, SECTION_COMPRESSION, cfg_getsec(cfg, "compression"), &c->compression);
    c->listens = load_make_list(d, cfg, "listen", sizeof(*c->listens), &c->nlistens);
    for (unsigned i = 0; i < c->nlistens; i++)
        load_read_listen(d, cfg_getnsec(cfg, "listen", i), &c->listens[i]);
    c->admins = load_make_list(d, cfg, "admin", sizeof(*c->admins), &c->nadmins);
    for (unsigned i = 0; i < c->nadmins; i++)
        if ((s = load_read_section(d, SECTION_ADMIN, cfg_getnsec(cfg, "admin", i), &c->admins[i])))
            load_read_title(d, s, NULL, &c->admins[i].addr, &c->admins[i].line);
    c->pools = load_make_list(d, cfg, "workers", sizeof(*c->pools), &c->npools);
    for (unsigned i = 0; i < c->npools; i++)
        load_read_pool(d, cfg_getnsec(cfg, "workers", i), &c->pools[i]);
    c->upstreams = load_make_list(d, cfg, "upstream", sizeof(*c->upstreams), &c->nupstreams);
    for (unsigned i = 0; i < c->nupstreams; i++)
        if ((s = load_read_section(
                 d, SECTION_UPSTREAM, cfg_getnsec(cfg, "upstream", i), &c->upstreams[i])))
            load_read_title(d, s, &c->upstreams[i].name, NULL, &c->upstreams[i].line);
    c->routes = load_make_list(d, cfg, "route", sizeof(*c->routes), &c->nroutes);
    for (unsigned i = 0; i < c->nroutes; i++)
        if ((s = load_read_section(d, SECTION_ROUTE, cfg_getnsec(cfg, "route", i), &c->routes[i])))
            load_read_title(d, s, &c->routes[i].prefix, NULL, &c->routes[i].line);
}

const struct draft_note *draft_find(const struct draft_section *s, const char *name)
{
    const struct opt *row = options_find(s->id, str_of(name));

    for (size_t i = 0; i < s->nnotes; i++)
        if (s->notes[i].row == row)
            return &s->notes[i];
    return NULL;
}

bool draft_lost_option(const struct draft_section *s, const char *name)
{
    const struct opt *row = options_find(s->id, str_of(name));

    return s->lost & SCAN_LOST_OPTION(row - options_section(s->id)->rows);
}

bool draft_lost_section(const struct draft_section *s, enum opt_section_id inner)
{
    return s->lost & SCAN_LOST_SECTION(inner);
}

/* ---- the whole ---- */

/* libconfuse ends the process when it gets no memory: what it needs for so long a text must be
 * there beforehand. */
static bool load_is_room_for(size_t n)
{
    void *volatile p =
        malloc(PARSER_NEEDS + n * PARSER_NEEDS_A_BYTE); /* volatile: really asked for */
    bool room = p != NULL;

    free(p);
    return room;
}

static void load_fill_draft(struct draft *d, const char *path)
{
    cfg_t *cfg;

    scan_read(&d->scan, path, &d->mistakes);
    d->conf = calloc(1, sizeof(*d->conf));
    if (d->conf)
        d->conf->refs = 1;
    if (!d->conf || d->scan.no_memory) {
        d->mistakes.no_memory = true;
        return;
    }
    d->conf->file = arena_copy(&d->conf->arena, str_of(path));
    cfg = load_is_room_for(buf_len(&d->scan.clean))
              ? load_parse(buf_len(&d->scan.clean) > 0 ? buf_str(&d->scan.clean).p : "")
              : NULL;
    if (!cfg) {
        d->mistakes.no_memory = true;
        return;
    }
    load_read_all(d, cfg);
    cfg_free(cfg);
    if (!d->mistakes.no_memory)
        verify_draft(d);
}

struct conf *conf_load(const char *path, struct conf_errors *errors)
{
    struct draft d = { 0 };
    struct conf *conf = NULL;

    *errors = (struct conf_errors){ 0 };
    load_fill_draft(&d, path);
    if (d.mistakes.count > 0 || d.mistakes.no_memory) {
        mistakes_hand_over(&d.mistakes, errors);
        conf_unref(d.conf);
    } else {
        conf = d.conf;
    }
    mistakes_release(&d.mistakes);
    scan_release(&d.scan);
    arena_release(&d.scratch);
    free(d.sections);
    return conf;
}

void conf_errors_release(struct conf_errors *errors)
{
    free(errors->list);
    arena_release(&errors->arena);
    *errors = (struct conf_errors){ 0 };
}
