/* HTTP/1.1 heads to bytes. A part of what h1parse.h opens. */
#ifndef TARRY_HTTP_H1WRITE_H
#define TARRY_HTTP_H1WRITE_H

#include "base/buf.h"
#include "base/str.h"
#include "http/h1parse.h"

/* Writes the request or status line, the fields as they are, and the empty line, always as
 * HTTP/1.1. An H1_REQUEST gets head->target as written. Nothing is checked against the rules of
 * framing: that is the caller's. But nothing can be injected, and nothing is left out. `reason`
 * empty, or with a control octet: the standard one. 0, or -1 if there is no memory, or something
 * cannot be written safely: a method or field name that is no token; a target that is empty or has
 * a blank or control octet; a status that is not 100 to 599; a value with a control octet other
 * than TAB. Nothing was written then. */
int h1_write_head(struct buf *out, enum h1_kind kind, const struct head *h);

/* How many fields a head of ours may have: what came, and what we add. */
enum { H1_WRITE_FIELDS_MAX = H1_FIELDS_MAX + 64 };

/* "Not Found" for 404; "" for a status without a name. */
struct str h1_reason(unsigned status);

#endif
