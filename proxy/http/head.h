/* A message's head: the request or status line and the header fields, whatever version carried it.
 * Spans borrow: from the receive buffer while a head is being delivered, from an arena once
 * head_copy() has taken it.
 *
 * http/ turns bytes into messages and back: heads, the HTTP/1.1 codec, HTTP/2 sessions, the one
 * stream interface over both, and the store for bodies. It knows nothing of workers, upstreams or
 * handoffs. */
#ifndef TARRY_HTTP_HEAD_H
#define TARRY_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"

struct field {
    struct str name, value; /* the value without blanks around it */
};

struct head {
    /* A request's. `target` is in origin-form ("/path?query") or "*", whatever form it had on the
     * wire; `authority` is the Host field's value, :authority, or an absolute target's. */
    struct str method, target, authority;
    /* A response's. */
    unsigned status;
    struct str reason;

    unsigned minor; /* HTTP/1.minor; 1 for HTTP/2 */
    /* A request that asks for a WebSocket, however its version says so (RFC 6455 4.1, RFC 8441 4):
     * the method is GET, and Upgrade, Connection and their kin are the stream's to write. */
    bool websocket;
    uint16_t default_port; /* of the scheme, where the request names one; else 0 */
    struct field *fields;
    size_t nfields, room; /* room: of `fields`, if head_add() may write to it */
};

/* The first field of that name (any case), or NULL. */
const struct field *head_find(const struct head *h, struct str name);

/* Its value; p is NULL if there is no such field. */
struct str head_value(const struct head *h, struct str name);
size_t head_count(const struct head *h, struct str name);

/* Whether a field of that name, read as a comma-separated list over all its lines, has the token
 * (any case). */
bool head_has_token(const struct head *h, struct str name, struct str token);

/* Adds a field; the spans are borrowed, the array grows in `a`. 0, or -1 if there is no memory;
 * also if a span points nowhere, as one does whose text could not be made for lack of it. */
int head_add(struct head *h, struct arena *a, struct str name, struct str value);

/* The same into an array that the caller has given, with h->room: 0, or -1 if it is full. */
int head_append(struct head *h, struct str name, struct str value);

/* Replaces all fields of that name by this one, in the first one's place. 0, or -1 if there is no
 * memory. */
int head_set(struct head *h, struct arena *a, struct str name, struct str value);

/* Makes one Cookie field of several: HTTP/2 splits it for the sake of compression (RFC 9113 8.2.3),
 * and servers that fold repeated fields put a comma where only "; " is right. 0, or -1 if there is
 * no memory. */
int head_join_cookies(struct head *h, struct arena *a);

/* Takes all fields of that name out, in the array itself: not for a head that shares it with
 * another one. */
void head_remove(struct head *h, struct str name);

/* A copy in `a` that borrows from nothing outside of it, with room for `spare` more fields. In one
 * block of memory. `to` may be `from`. 0, or -1 if there is no memory (`to` is as it was). */
int head_copy(struct arena *a, struct head *to, const struct head *from, size_t spare);

/* Whether its body is text/event-stream. */
bool head_is_event_stream(const struct head *h);

#endif
