/* The generated parts of the manual: every option, from the table that the parser uses. */
#ifndef TARRY_TESTS_MANUAL_H
#define TARRY_TESTS_MANUAL_H

#include <stdio.h>

enum manual_form { MANUAL_MARKDOWN, MANUAL_MAN };

void manual_print(FILE *out, enum manual_form form);

/* The lines that stand before and behind the generated part of a page. */
const char *manual_begin(enum manual_form form);
const char *manual_end(enum manual_form form);

/* The page of that form in the source tree, from its root. */
const char *manual_page(enum manual_form form);

#endif
