/* What no single value shows: references, contradictions, what is missing or stands twice, and
 * whether the files are there. */
#ifndef TARRY_CONF_VERIFY_H
#define TARRY_CONF_VERIFY_H

#include "conf/draft.h"

/* Adds what is wrong to d->mistakes. Resolves the routes' references, lets defaults give way to
 * written values that they would contradict, and sorts the routes; the sections' `base` pointers to
 * routes are not to be used after it. */
void verify_draft(struct draft *d);

/* ---- for the files of verify alone ---- */

/* Where an option is set, or the section's own place if it is not. */
struct place verify_place(const struct draft_section *s, const char *name);

/* The key of a section among those that must differ; n is 0 if it has none (because it is wrong
 * already). */
typedef struct str verify_key_fn(struct draft *d, const struct draft_section *s);

struct str verify_title_key(struct draft *d, const struct draft_section *s);

/* Adds a mistake for each section, among `n` from `from` on and of kind `id` (or `also`), whose key
 * another one before it has. `what` names the section, `remedy` says what to do. */
void verify_twins(struct draft *d, size_t from, size_t n, enum opt_section_id id,
    enum opt_section_id also, verify_key_fn *key, const char *what, const char *remedy);

/* In verifylisten.c: certificates of authorities; listen sections with their identities; session
 * tickets. */
void verify_authorities(
    struct draft *d, const struct draft_section *s, const char *name, struct str path);
void verify_listen(struct draft *d, struct draft_section *s);
void verify_tickets(struct draft *d, const struct draft_section *root);

#endif
