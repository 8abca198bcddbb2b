/* What tells one conversation from another in its requests: the instructions and the first message
 * of the user, which stay as they are while messages are added behind them. */
#ifndef TARRY_UPSTREAM_CONVERSATION_H
#define TARRY_UPSTREAM_CONVERSATION_H

#include <stdbool.h>
#include <stdint.h>

#include "http/body.h"

/* Of each text the first 96 bytes and the length count. A body in which there is none: its
 * beginning. False: there is no body, or it cannot be read. */
bool conversation_key(const struct piece *body, uint64_t *key);

#endif
