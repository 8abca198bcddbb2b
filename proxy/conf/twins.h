/* Finds sections that must differ but do not. */
#ifndef TARRY_CONF_TWINS_H
#define TARRY_CONF_TWINS_H

#include <stddef.h>

#include "conf/draft.h"

/* The key of a section among those that must differ; n is 0 if it has none (because it is wrong
 * already). */
typedef struct str twins_key_fn(struct draft *d, const struct draft_section *s);

struct str twins_title_key(struct draft *d, const struct draft_section *s);

/* Adds a mistake for each section, among `n` from `from` on and of kind `id` (or `also`), whose key
 * an earlier one has. `what` names the section, `remedy` says what to do. */
void twins_refuse(struct draft *d, size_t from, size_t n, enum opt_section_id id,
    enum opt_section_id also, twins_key_fn *key, const char *what, const char *remedy);

#endif
