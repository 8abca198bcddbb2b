/* The response of an HTTP/1.1 server's stream: what stream_ops says of each. */
#ifndef TARRY_HTTP_H1REPLY_H
#define TARRY_HTTP_H1REPLY_H

#include <stdbool.h>
#include <stddef.h>

#include "http/stream.h"

/* With status 101 the client's input is the tunnel's from now on (IN_TUNNEL): the caller goes on
 * with what of it has come. */
int h1_reply_head(struct stream *s, const struct head *head, bool last);
int h1_reply_data(struct stream *s, const void *p, size_t n);
int h1_reply_end(struct stream *s);
void h1_reply_continue(struct stream *s);

#endif
