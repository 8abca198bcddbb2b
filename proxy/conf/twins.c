/* Sorts sections by their key; equal neighbours are duplicates. */
#include "conf/twins.h"

#include <stdlib.h>
#include <string.h>

struct keyed {
    struct str key;
    const struct draft_section *section;
};

static int twins_by_key(const void *pa, const void *pb)
{
    const struct keyed *a = pa, *b = pb;
    size_t n = a->key.n < b->key.n ? a->key.n : b->key.n;
    int c = n > 0 ? memcmp(a->key.p, b->key.p, n) : 0;

    if (c != 0)
        return c;
    if (a->key.n != b->key.n)
        return a->key.n < b->key.n ? -1 : 1;
    return a->section->place.seq < b->section->place.seq ? -1 : 1;
}

/* Adds a mistake for each section whose key another one before it has. `what` names the section,
 * `remedy` says what to do. */
static void twins_report(
    struct draft *d, struct keyed *rows, size_t n, const char *what, const char *remedy)
{
    const struct draft_section *first;

    if (n < 2)
        return;
    qsort(rows, n, sizeof(*rows), twins_by_key);
    first = rows[0].section;
    for (size_t i = 1; i < n; i++) {
        const struct draft_section *s = rows[i].section;

        if (!str_eq(rows[i].key, rows[i - 1].key)) {
            first = s;
            continue;
        }
        mistake_add(&d->mistakes, s->place, "%s %s stands twice, first at %s:%u; %s", what,
            mistake_quote(&d->scratch, s->title), first->place.file, first->place.line, remedy);
    }
}

struct str twins_title_key(struct draft *d, const struct draft_section *s)
{
    return s->title;
}

void twins_refuse(struct draft *d, size_t from, size_t n, enum opt_section_id id,
    enum opt_section_id also, twins_key_fn *key, const char *what, const char *remedy)
{
    struct keyed *rows = arena_alloc(&d->scratch, n * sizeof(*rows));
    size_t count = 0;

    if (!rows) {
        d->mistakes.no_memory = true;
        return;
    }
    for (size_t i = from; i < from + n; i++) {
        const struct draft_section *s = &d->sections[i];
        struct str k;

        if (s->id != id && s->id != also)
            continue;
        k = key(d, s);
        if (k.n > 0)
            rows[count++] = (struct keyed){ k, s };
    }
    twins_report(d, rows, count, what, remedy);
}
