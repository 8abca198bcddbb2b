/* A few descriptors that are kept for what must work when all others are taken: a reload, reopening
 * logs, and the admin listeners. They are open on nothing, and closed when they are needed.
 *
 * One a process, as the limit of descriptors is. */
#ifndef TARRY_NET_FDRESERVE_H
#define TARRY_NET_FDRESERVE_H

#include <stddef.h>

/* Keeps up to `n`, at most an eighth of what the process may have. To be called before the sandbox
 * is entered. */
void fdreserve_open(size_t n);

/* Gives all of them back to the process, for something that needs descriptors now. */
void fdreserve_lend(void);

/* Takes as many back as there are. */
void fdreserve_fill(void);

/* Closes some of them if no descriptor is left, so that the next accept succeeds. */
void fdreserve_make_room(void);

void fdreserve_close(void);

#endif
