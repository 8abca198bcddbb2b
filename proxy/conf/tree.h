/* A conf file as it was read: its sections, their options and the place of each value. scan.c
 * builds it, load.c turns it into a snapshot. Everything lives in the arena that the functions are
 * given. */
#ifndef TARRY_CONF_TREE_H
#define TARRY_CONF_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"
#include "conf/mistake.h"
#include "conf/options.h"

/* One value of an option; each element of a list is a value. */
struct tree_value {
    struct tree_value *next; /* in the same section, in the order of the file */
    const struct opt *row;
    struct str text; /* NUL-terminated */
    struct place place;
};

struct tree_section {
    struct tree_section *next;         /* in the same parent, in the order of the file */
    struct tree_section *first, *last; /* the sections inside */
    struct tree_value *values, *last_value;
    enum opt_section_id id;
    struct str title; /* NUL-terminated; "" if it has none */
    struct place place;
    uint64_t lost; /* SCAN_LOST_...: what was left out of it because of a known mistake */
};

/* A new section at the end of `parent` (NULL: the root). NULL if there is no memory. */
struct tree_section *tree_add_section(struct arena *a, struct tree_section *parent,
    enum opt_section_id id, struct str title, struct place at);

/* A new value at the end of the section. 0, or -1 if there is no memory. */
int tree_add_value(struct arena *a, struct tree_section *s, const struct opt *row, struct str text,
    struct place at);

/* The first section of kind `id` inside `s`, and the next of the same kind; NULL: there is none.
 * `s` may be NULL. */
const struct tree_section *tree_find(const struct tree_section *s, enum opt_section_id id);
const struct tree_section *tree_next(const struct tree_section *s);

/* How many sections of kind `id`, or values of `row` (NULL: of all options), are in `s`, which may
 * be NULL. */
size_t tree_count(const struct tree_section *s, enum opt_section_id id);
size_t tree_count_values(const struct tree_section *s, const struct opt *row);

#endif
