/* The mistakes of a conf, as they are shown to its author. */
#ifndef TARRY_CONF_ERRORS_H
#define TARRY_CONF_ERRORS_H

#include <stddef.h>

#include "base/arena.h"
#include "base/str.h"

/* The mistakes found, each "FILE:LINE: the mistake, and the correction", in the order of the file;
 * and warnings in the same form, which do not keep a conf from being used. Filled by conf_load().
 */
struct conf_errors {
    struct arena arena;
    struct str *list;
    size_t count;
    struct str *warnings;
    size_t nwarnings;
};

void conf_errors_release(struct conf_errors *errors);

#endif
