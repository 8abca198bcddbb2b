/* override("FILE"): a file whose options and sections take the place of those above it. A program
 * that generates a conf puts its user's file at the end. */
#ifndef TARRY_CONF_OVERRIDE_H
#define TARRY_CONF_OVERRIDE_H

#include "conf/tree.h"

/* Moves all of `over` into `base`; both are sections of the same kind.
 *
 * An option of `over` replaces the values that `base` has for it, a whole list too. A section
 * without a title, or of a kind and title that `base` has, is merged in the same way; of a route
 * the host counts too. Other sections are added. An upstream of `base` gives way to one of another
 * title with the same origin, so that the one added here is found for it. */
void override_merge(struct tree_section *base, struct tree_section *over);

#endif
