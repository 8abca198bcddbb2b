/* The dashboard: one page with its script and style, all in the binary, and the data that it asks
 * for. It reads everything else from /metrics. */
#ifndef TARRY_ADMIN_DASHBOARD_H
#define TARRY_ADMIN_DASHBOARD_H

#include "base/buf.h"
#include "frontend/front.h"

struct dashboard_file {
    const char *path, *type, *text;
};

/* The page and what belongs to it. NULL: the path is none of them. */
const struct dashboard_file *dashboard_find(struct str path);

/* /dashboard.json */
void dashboard_print(const struct front *f, const char *version, struct buf *b);

#endif
