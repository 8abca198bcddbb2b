/* Trees are small: each section of the file is looked up by walking along those above it. */
#include "conf/override.h"

#include <stdbool.h>

static const struct tree_value *override_find_value(const struct tree_section *s, const char *name)
{
    for (const struct tree_value *v = s->values; v; v = v->next)
        if (str_eq(str_of(v->row->name), str_of(name)))
            return v;
    return NULL;
}

static bool override_has_row(const struct tree_section *s, const struct opt *row)
{
    return tree_count_values(s, row) > 0;
}

static void override_values(struct tree_section *base, struct tree_section *over)
{
    struct tree_value **link = &base->values, *last = NULL;

    while (*link) {
        if (override_has_row(over, (*link)->row)) {
            *link = (*link)->next;
        } else {
            last = *link;
            link = &last->next;
        }
    }
    *link = over->values;
    base->last_value = over->values ? over->last_value : last;
}

static struct str override_host_of(const struct tree_section *s)
{
    const struct tree_value *host = override_find_value(s, "host");

    return host ? host->text : STR("");
}

static struct tree_section *override_find_same(
    struct tree_section *base, const struct tree_section *over)
{
    for (struct tree_section *s = base->first; s; s = s->next)
        if (s->id == over->id && str_eq(s->title, over->title) &&
            (s->id != SECTION_ROUTE || str_eq_nocase(override_host_of(s), override_host_of(over))))
            return s;
    return NULL;
}

/* Whether the section, or one inside, names this origin. */
static bool override_names_origin(const struct tree_section *s, struct str origin)
{
    const struct tree_value *v = override_find_value(s, "origin");

    if (v && str_eq(v->text, origin))
        return true;
    for (const struct tree_section *in = s->first; in; in = in->next)
        if (override_names_origin(in, origin))
            return true;
    return false;
}

/* Removes the upstreams that have the same origin as `over`, which is not in `base` yet. */
static void override_drop_origin(struct tree_section *base, const struct tree_section *over)
{
    struct tree_section **link = &base->first, *last = NULL;

    while (*link) {
        const struct tree_value *origin =
            (*link)->id == SECTION_UPSTREAM ? override_find_value(*link, "origin") : NULL;

        if (origin && override_names_origin(over, origin->text)) {
            *link = (*link)->next;
        } else {
            last = *link;
            link = &last->next;
        }
    }
    base->last = last;
}

static void override_append(struct tree_section *base, struct tree_section *s)
{
    s->next = NULL;
    if (base->last)
        base->last->next = s;
    else
        base->first = s;
    base->last = s;
}

void override_merge(struct tree_section *base, struct tree_section *over)
{
    struct tree_section *next, *same;

    override_values(base, over);
    base->lost |= over->lost;
    for (struct tree_section *s = over->first; s; s = next) {
        next = s->next;
        same = override_find_same(base, s);
        if (same) {
            override_merge(same, s);
            continue;
        }
        if (s->id == SECTION_UPSTREAM)
            override_drop_origin(base, s);
        override_append(base, s);
    }
}
