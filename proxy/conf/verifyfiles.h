/* Checks of the files and folders that a conf names, and of the conf's own files. */
#ifndef TARRY_CONF_VERIFYFILES_H
#define TARRY_CONF_VERIFYFILES_H

#include "conf/draft.h"

/* The files that the section's options name. */
void verifyfiles_section(struct draft *d, const struct draft_section *s);

/* The conf's own files: with `user` no other account may be able to write them. */
void verifyfiles_conf(struct draft *d);

#endif
