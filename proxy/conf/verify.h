/* Checks beyond single values: references, contradictions, missing and duplicate parts, and whether
 * the files exist. */
#ifndef TARRY_CONF_VERIFY_H
#define TARRY_CONF_VERIFY_H

#include "conf/draft.h"

/* Adds mistakes to d->mistakes. Resolves the routes' references, adapts defaults that contradict
 * written values, and sorts the routes. */
void verify_draft(struct draft *d);

#endif
