/* The levels of this process as metrics: connections, exchanges, slots, queues, memory. They are
 * published now and then, so that a scrape of another process sees them. */
#ifndef TARRY_ADMIN_LEVELS_H
#define TARRY_ADMIN_LEVELS_H

#include "base/buf.h"

struct front;

/* Opens what can be opened only before the sandbox is entered. */
void levels_open(void);
void levels_close(void);

void levels_publish(const struct front *f);

/* Lines that are not summed over processes: the certificates of the listeners, the build. `version`
 * and `commit` may be empty. */
void levels_print_own(
    const struct front *f, struct buf *b, const char *version, const char *commit);

#endif
