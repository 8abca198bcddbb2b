/* W3C Trace Context: the traceparent field (https://www.w3.org/TR/trace-context/, level 1). */
#ifndef TARRY_OBSERVE_TRACE_H
#define TARRY_OBSERVE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum { TRACE_ID_BYTES = 16, TRACE_SPAN_BYTES = 8, TRACE_PARENT_LEN = 55 };

struct trace_context {
    unsigned char trace[TRACE_ID_BYTES];
    unsigned char span[TRACE_SPAN_BYTES]; /* the sender's: the parent of what is done about it */
    bool sampled;
};

/* Reads a traceparent field. False: it is malformed, or of the forbidden version ff. */
bool trace_parse(struct str traceparent, struct trace_context *out);

/* Writes one of version 00, with a NUL behind it. */
void trace_write(const struct trace_context *t, char out[TRACE_PARENT_LEN + 1]);

/* `n` bytes as 2n lower-case hexadecimal digits and a NUL. */
void trace_hex(const unsigned char *p, size_t n, char *out);

#endif
