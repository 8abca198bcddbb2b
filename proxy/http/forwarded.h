/* What proxies say about where a request came from: Forwarded (RFC 7239), and whether the values of
 * its older kin (X-Forwarded-...) are in the form that those who read them expect. Only the form:
 * whose word is believed is decided elsewhere. */
#ifndef TARRY_HTTP_FORWARDED_H
#define TARRY_HTTP_FORWARDED_H

#include <stdbool.h>

#include "base/str.h"

/* One element: what one proxy has said. Without quotation marks; p NULL: not said. */
struct forwarded {
    struct str node;  /* for=: the client's address without port and brackets, "unknown", or a name
                         that begins with "_" */
    struct str proto; /* http or https, any case */
    struct str host;  /* a Host field's value */
};

/* Takes the next element off `rest`. 1; 0 at the end; -1: malformed, and none of it is to be
 * believed. */
int forwarded_next(struct str *rest, struct forwarded *out);

/* Whether each element of a list, one at least, has the form of X-Forwarded-For (an address, with
 * or without port, "unknown", or a name); -Proto; -Host; -Port. */
bool forwarded_is_for(struct str list);
bool forwarded_is_proto(struct str list);
bool forwarded_is_host(struct str list);
bool forwarded_is_port(struct str list);

#endif
