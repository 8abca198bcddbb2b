/* The callbacks and the allocator that both sides of HTTP/2 give to nghttp2. */
#ifndef TARRY_HTTP_H2CALLBACKS_H
#define TARRY_HTTP_H2CALLBACKS_H

#include <nghttp2/nghttp2.h>

/* Where sessions have their memory from, for nghttp2_session_*_new3(): never none, while there is a
 * reserve. */
nghttp2_mem *h2_memory(void);

/* The callbacks and options that both sides use; the caller deletes them. 0, or -1 if there is no
 * memory. */
int h2_library_setup(nghttp2_session_callbacks **cbs, nghttp2_option **options);

#endif
