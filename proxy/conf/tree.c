/* Singly linked lists in the order of the file. */
#include "conf/tree.h"

struct tree_section *tree_add_section(struct arena *a, struct tree_section *parent,
    enum opt_section_id id, struct str title, struct place at)
{
    struct tree_section *s = arena_alloc(a, sizeof(*s));

    if (!s)
        return NULL;
    *s = (struct tree_section){ .id = id, .place = at, .title = arena_copy(a, title) };
    if (!s->title.p)
        return NULL;
    if (!parent)
        return s;
    if (parent->last)
        parent->last->next = s;
    else
        parent->first = s;
    parent->last = s;
    return s;
}

int tree_add_value(struct arena *a, struct tree_section *s, const struct opt *row, struct str text,
    struct place at)
{
    struct tree_value *v = arena_alloc(a, sizeof(*v));

    if (!v)
        return -1;
    *v = (struct tree_value){ .row = row, .place = at, .text = arena_copy(a, text) };
    if (!v->text.p)
        return -1;
    if (s->last_value)
        s->last_value->next = v;
    else
        s->values = v;
    s->last_value = v;
    return 0;
}

static const struct tree_section *tree_from(const struct tree_section *s, enum opt_section_id id)
{
    while (s && s->id != id)
        s = s->next;
    return s;
}

const struct tree_section *tree_find(const struct tree_section *s, enum opt_section_id id)
{
    return s ? tree_from(s->first, id) : NULL;
}

const struct tree_section *tree_next(const struct tree_section *s)
{
    return tree_from(s->next, s->id);
}

size_t tree_count(const struct tree_section *s, enum opt_section_id id)
{
    size_t n = 0;

    for (const struct tree_section *in = tree_find(s, id); in; in = tree_next(in))
        n++;
    return n;
}

size_t tree_count_values(const struct tree_section *s, const struct opt *row)
{
    size_t n = 0;

    for (const struct tree_value *v = s ? s->values : NULL; v; v = v->next)
        n += !row || v->row == row;
    return n;
}
