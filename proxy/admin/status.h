/* /status: what this process has, as JSON. */
#ifndef TARRY_ADMIN_STATUS_H
#define TARRY_ADMIN_STATUS_H

#include <stdbool.h>

#include "base/buf.h"

struct front;

/* What the page says of the process itself. */
struct status_process {
    bool stopping, seccomp;
    unsigned landlock; /* its version; 0: none */
};

void status_print(const struct front *f, const struct status_process *p, struct buf *b);

#endif
