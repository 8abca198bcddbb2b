/* Heads: finding, adding, replacing and copying fields. Heads are short (20 fields are many), so
 * everything is a walk. */
#include "http/head.h"

enum { ROOM_MIN = 16 };

const struct field *head_find(const struct head *h, struct str name)
{
    for (size_t i = 0; i < h->nfields; i++)
        if (str_eq_nocase(h->fields[i].name, name))
            return &h->fields[i];
    return NULL;
}

struct str head_value(const struct head *h, struct str name)
{
    const struct field *f = head_find(h, name);

    return f ? f->value : (struct str){ NULL, 0 };
}

size_t head_count(const struct head *h, struct str name)
{
    size_t n = 0;

    for (size_t i = 0; i < h->nfields; i++)
        n += str_eq_nocase(h->fields[i].name, name);
    return n;
}

bool head_has_token(const struct head *h, struct str name, struct str token)
{
    for (size_t i = 0; i < h->nfields; i++) {
        struct str rest = h->fields[i].value, element;

        if (!str_eq_nocase(h->fields[i].name, name))
            continue;
        while (str_next_element(&rest, &element))
            if (str_eq_nocase(element, token))
                return true;
    }
    return false;
}

/* An array of its own with at least one free place. The old one stays as it is: another head may
 * read it. */
static int head_grow(struct head *h, struct arena *a)
{
    size_t room = h->nfields < ROOM_MIN / 2 ? ROOM_MIN : h->nfields * 2;
    struct field *fields = arena_alloc(a, room * sizeof(*fields));

    if (!fields)
        return -1;
    if (h->nfields > 0)
        memcpy(fields, h->fields, h->nfields * sizeof(*fields));
    h->fields = fields;
    h->room = room;
    return 0;
}

int head_add(struct head *h, struct arena *a, struct str name, struct str value)
{
    if (!name.p || !value.p)
        return -1;
    if (h->nfields >= h->room && head_grow(h, a) < 0)
        return -1;
    h->fields[h->nfields++] = (struct field){ name, value };
    return 0;
}

int head_append(struct head *h, struct str name, struct str value)
{
    if (!value.p || h->nfields >= h->room)
        return -1;
    h->fields[h->nfields++] = (struct field){ name, value };
    return 0;
}

/* Takes the fields of that name at and after `from` out, the others keep their order. */
static void head_remove_from(struct head *h, size_t from, struct str name)
{
    size_t n = from;

    for (size_t i = from; i < h->nfields; i++)
        if (!str_eq_nocase(h->fields[i].name, name))
            h->fields[n++] = h->fields[i];
    h->nfields = n;
}

int head_set(struct head *h, struct arena *a, struct str name, struct str value)
{
    const struct field *first = head_find(h, name);
    size_t at;

    if (!first || !value.p)
        return head_add(h, a, name, value);
    at = (size_t)(first - h->fields);
    if (h->room < h->nfields && head_grow(h, a) < 0)
        return -1;
    h->fields[at] = (struct field){ name, value };
    head_remove_from(h, at + 1, name);
    return 0;
}

int head_join_cookies(struct head *h, struct arena *a)
{
    size_t n = 0, crumbs = 0, at = 0;
    char *joined;

    for (size_t i = 0; i < h->nfields; i++) {
        if (str_eq_nocase(h->fields[i].name, STR("cookie"))) {
            crumbs++;
            n += h->fields[i].value.n + 2;
        }
    }
    if (crumbs < 2)
        return 0;
    joined = arena_alloc(a, n);
    if (!joined)
        return -1;
    for (size_t i = 0; i < h->nfields; i++) {
        struct str crumb = h->fields[i].value;

        if (!str_eq_nocase(h->fields[i].name, STR("cookie")) || crumb.n == 0)
            continue;
        if (at > 0) {
            joined[at++] = ';';
            joined[at++] = ' ';
        }
        memcpy(joined + at, crumb.p, crumb.n);
        at += crumb.n;
    }
    return head_set(h, a, STR("cookie"), str_make(joined, at));
}

void head_remove(struct head *h, struct str name)
{
    const struct field *first = head_find(h, name);

    if (first)
        head_remove_from(h, (size_t)(first - h->fields), name);
}

/* Copies `s` to *at and moves it on. What points nowhere ("no such thing") goes on pointing
 * nowhere. */
static struct str head_put(char **at, struct str s)
{
    struct str copy = { *at, s.n };

    if (!s.p)
        return s;
    if (s.n > 0)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return copy;
}

int head_copy(struct arena *a, struct head *to, const struct head *from, size_t spare)
{
    struct head h = *from;
    size_t bytes = h.method.n + h.target.n + h.authority.n + h.reason.n;
    struct field *fields;
    char *at;

    for (size_t i = 0; i < h.nfields; i++)
        bytes += h.fields[i].name.n + h.fields[i].value.n;
    /* A byte more: what is empty must not point behind the block. */
    fields = arena_alloc(a, (h.nfields + spare) * sizeof(*fields) + bytes + 1);
    if (!fields)
        return -1;
    at = (char *)(fields + h.nfields + spare);
    h.method = head_put(&at, h.method);
    h.target = head_put(&at, h.target);
    h.authority = head_put(&at, h.authority);
    h.reason = head_put(&at, h.reason);
    for (size_t i = 0; i < h.nfields; i++) {
        fields[i].name = head_put(&at, h.fields[i].name);
        fields[i].value = head_put(&at, h.fields[i].value);
    }
    h.fields = fields;
    h.room = h.nfields + spare;
    *to = h;
    return 0;
}

bool head_is_event_stream(const struct head *h)
{
    struct str type, parameters;

    str_cut(head_value(h, STR("content-type")), ';', &type, &parameters);
    return str_eq_nocase(str_trim(type), STR("text/event-stream"));
}
