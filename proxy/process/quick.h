/* A conf from the command line: tarry --listen ADDRESS --backend ADDRESS --upstream ORIGIN. */
#ifndef TARRY_PROCESS_QUICK_H
#define TARRY_PROCESS_QUICK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* The file name under which messages name such a conf. */
#define QUICK_CONF "command line"

/* Most of each kind. */
enum { QUICK_MAX = 16 };

struct quick_options {
    const char *listens[QUICK_MAX], *backends[QUICK_MAX], *upstreams[QUICK_MAX];
    size_t nlistens, nbackends, nupstreams;
};

/* Adds one; false: there are too many. */
bool quick_add(const char **list, size_t *n, const char *value);

/* The conf's text, NUL-terminated, in `out`: all listeners lead to the backends, ADDRESS or
 * ADDRESS,SLOTS; upstreams are ORIGIN or NAME=ORIGIN. Without a backend the first upstream gets
 * everything, as a gateway. 0, or -1 with what is missing in `why`. */
int quick_make(const struct quick_options *o, struct buf *out, const char **why);

#endif
