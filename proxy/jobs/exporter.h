/* Sends the spans of exchanges that have ended to the collector of the conf's tracing section, in
 * batches, one request at a time. It never waits: what the collector does not take is dropped,
 * counted, and reported in the log. One a process; belongs to the child. */
#ifndef TARRY_JOBS_EXPORTER_H
#define TARRY_JOBS_EXPORTER_H

#include "conf/snapshot.h"
#include "exchange/exchange.h"

struct exporter;

/* `all` outlives it. `version` is a literal. NULL if there is no memory. */
struct exporter *exporter_open(struct exchanges *all, const char *version);

/* An exchange that is traced has ended. Takes the terms from the exchange's own conf. */
void exporter_add(struct exporter *x, const struct exchange *ex);

/* What waits is sent now; `on_done` follows, from the loop, when it has been taken or given up. */
void exporter_finish(struct exporter *x, void (*on_done)(void *owner), void *owner);

/* NULL: nothing. What is still in hand is lost. */
void exporter_close(struct exporter *x);

#endif
