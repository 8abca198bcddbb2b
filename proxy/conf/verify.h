/* What no single value shows: references, contradictions, what is missing or stands twice, and
 * whether the files are there. */
#ifndef TARRY_CONF_VERIFY_H
#define TARRY_CONF_VERIFY_H

#include "conf/draft.h"

/* Adds what is wrong to d->mistakes. Resolves the routes' references, lets defaults give way to
 * written values that they would contradict, and sorts the routes. */
void verify_draft(struct draft *d);

#endif
