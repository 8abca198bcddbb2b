/* Spans of an exchange that has ended, in OTLP's JSON form (OpenTelemetry Protocol 1.x, the message
 * ExportTraceServiceRequest). Pure text: no I/O.
 *
 * jobs/ is work that outlives the client it is about. Read exporter.h next. */
#ifndef TARRY_JOBS_SPAN_H
#define TARRY_JOBS_SPAN_H

#include "base/buf.h"
#include "exchange/exchange.h"

/* Appends the spans, separated by commas; one comma goes before the first if `b` is not empty. The
 * exchange is one span; each visit, time in the queue or parked, and each attempt at an upstream is
 * a child of it. 0, or -1 without memory: then `b` is as it was. */
int span_write(struct buf *b, const struct exchange *ex);

/* What goes before and behind spans in a request. */
int span_open(struct buf *b, struct str service, const char *version);
int span_close(struct buf *b);

#endif
