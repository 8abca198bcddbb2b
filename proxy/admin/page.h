/* One answer of the admin listeners: its head at once, its body as fast as the client takes it. */
#ifndef TARRY_ADMIN_PAGE_H
#define TARRY_ADMIN_PAGE_H

#include "base/buf.h"
#include "base/str.h"
#include "http/stream.h"

/* Answers and ends the stream. The bytes of `body` are taken over; it is empty afterwards. */
void page_send(struct stream *s, unsigned status, struct str type, struct buf *body);

/* The same with a short text. */
void page_send_text(struct stream *s, unsigned status, const char *text);

#endif
