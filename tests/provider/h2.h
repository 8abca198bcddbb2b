/* HTTP/2 on one connection, by nghttp2, which also refuses what RFC 9113 8.1.1 calls malformed. */
#ifndef PROVIDER_H2_H
#define PROVIDER_H2_H

#include "peer.h"

extern const struct peer_protocol h2_protocol;
void *h2_new(struct peer *peer);

#endif
