/* HTTP/1.1 on one connection, strict as RFC 9112 is: what could be read in two ways is refused, so
 * that a proxy's mistake shows. One request at a time; what comes behind it waits. */
#ifndef PROVIDER_H1_H
#define PROVIDER_H1_H

#include "peer.h"

extern const struct peer_protocol h1_protocol;
void *h1_new(struct peer *peer);

#endif
