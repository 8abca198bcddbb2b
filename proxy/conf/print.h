/* The whole effective conf as text, for tarry -T. */
#ifndef TARRY_CONF_PRINT_H
#define TARRY_CONF_PRINT_H

#include <stdio.h>

#include "conf/draft.h"

/* Writes every option of every section with the value in force; options that the file does not set
 * are comments, so that the text is a conf again. Values of set_header are not shown, since they
 * hold keys, and of a secret only its file. `d` has been checked. */
void print_draft(const struct draft *d, FILE *out);

/* The same of one section, without those inside. */
void print_section(const struct draft *d, const struct draft_section *s, FILE *out);

#endif
