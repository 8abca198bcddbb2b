/* What is known about header fields by name: which end at the next peer, which describe a body,
 * which may not be set. And the character classes of RFC 9110 5.5 and 5.6.2. */
#ifndef TARRY_HTTP_FIELDS_H
#define TARRY_HTTP_FIELDS_H

#include <stdbool.h>

#include "base/str.h"
#include "http/head.h"

/* A token (RFC 9110 5.6.2): what names of fields and methods are made of. Not empty. */
bool field_is_token(struct str s);

/* A request's method: a token without lower-case letters. Methods are case-sensitive (RFC
 * 9110 9.1), but servers exist that fold them, and what is no HEAD to one would be a HEAD to the
 * other. */
bool field_is_method(struct str s);

/* How many octets at the beginning of `s` belong to a token; or are text, that is no control octet
 * but TAB. What parsers walk with. */
size_t field_token_len(struct str s);
size_t field_text_len(struct str s);

/* Visible octets, blanks and obs-text inside: no CR, LF, NUL or other control octet but TAB, no
 * blank at either end. */
bool field_is_value(struct str s);

/* Fields that belong to one connection (RFC 9110 7.6.1), framing included: Connection, Keep-Alive,
 * Proxy-Connection, TE, Trailer, Transfer-Encoding, Upgrade, HTTP2-Settings, Proxy-Authenticate,
 * Proxy-Authorization, Proxy-Authentication-Info. */
bool field_is_hop_by_hop(struct str name);

/* Whether the field is to be dropped before `h` is forwarded: it is hop-by-hop, or `h`'s Connection
 * field names it. */
bool field_ends_here(const struct head *h, struct str name);

/* Names that begin with "Tarry-" in any case, with any octet but letters and digits read as "-":
 * CGI-style environments fold them together. */
bool field_is_tarry(struct str name);

/* Same name when any octet but letters and digits is read as "-" and case is ignored: what a
 * CGI-style environment cannot tell apart. */
bool field_folds_to(struct str name, struct str other);

/* The same for the beginning of the name. */
bool field_begins_folded(struct str name, struct str prefix);

#endif
