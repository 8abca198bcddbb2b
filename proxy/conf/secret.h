/* Files that hold one secret. Errors describe the problem and never show the content.
 */
#ifndef TARRY_CONF_SECRET_H
#define TARRY_CONF_SECRET_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/str.h"
#include "conf/value.h"

enum { SECRET_MAX = 1024 };

/* The secret in the file: one line of visible ASCII, without the line's end. In `a`. */
bool secret_read(struct arena *a, const char *path, struct str *out, char why[VALUE_WHY_MAX]);

#endif
