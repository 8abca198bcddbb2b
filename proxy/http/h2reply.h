/* The server's side of a stream: the response, and how it ends. */
#ifndef TARRY_HTTP_H2REPLY_H
#define TARRY_HTTP_H2REPLY_H

#include "http/stream.h"

extern const struct stream_ops h2_reply_ops;

#endif
