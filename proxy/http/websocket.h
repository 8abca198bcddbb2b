/* The opening handshake of WebSocket (RFC 6455 4, RFC 9110 7.8), as far as a proxy takes part in
 * it: who asks for one, and whether the answer is the one to that request. What the two then say
 * to each other is theirs. */
#ifndef TARRY_HTTP_WEBSOCKET_H
#define TARRY_HTTP_WEBSOCKET_H

#include <stdbool.h>

#include "base/str.h"
#include "http/h1parse.h"
#include "http/head.h"

enum {
    WEBSOCKET_KEY_LEN = 24,    /* 16 bytes in base64 */
    WEBSOCKET_ACCEPT_LEN = 28, /* 20 bytes */
};

/* Whether an HTTP/1.1 request is a client's opening handshake: GET, Upgrade with "websocket" and
 * Connection with "upgrade", one well-formed key (RFC 6455 4.2.1). The version of the protocol is
 * between the two ends. */
bool websocket_is_asked(const struct head *request, const struct h1_message *m);

/* A new Sec-WebSocket-Key and a NUL. */
void websocket_make_key(char out[WEBSOCKET_KEY_LEN + 1]);

/* The Sec-WebSocket-Accept that answers `key`, and a NUL (RFC 6455 4.2.2). */
void websocket_accept(struct str key, char out[WEBSOCKET_ACCEPT_LEN + 1]);

/* Whether a 101 agrees to the handshake whose key has this accept: Upgrade names websocket and
 * nothing else, Connection says upgrade, and no field announces a body. */
bool websocket_is_agreed(
    const struct head *response, const struct h1_message *m, struct str accept);

#endif
