/* Checks of upstream sections with their endpoints and limits. */
#ifndef TARRY_CONF_VERIFYUPSTREAM_H
#define TARRY_CONF_VERIFYUPSTREAM_H

#include "conf/draft.h"

/* An upstream section. Gives endpoints what they take over from it, and a plain upstream its one
 * endpoint. */
void verifyupstream_section(struct draft *d, struct draft_section *s);

#endif
