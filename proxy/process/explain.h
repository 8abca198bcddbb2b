/* tarry --explain URL: what becomes of a request, by the conf. */
#ifndef TARRY_PROCESS_EXPLAIN_H
#define TARRY_PROCESS_EXPLAIN_H

#include <stdbool.h>

struct draft;

struct explain {
    const char *url; /* absolute, or a path for any host */
    bool served;     /* out: a client gets further than a refusal by Tarry */
};

/* For conf_load_and_look(), with a struct explain: prints the route, where it leads, and the limits
 * on the way. */
void explain_look(void *owner, const struct draft *d);

#endif
