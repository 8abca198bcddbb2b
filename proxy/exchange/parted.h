/* A worker's response in parts, whichever visit brings it: its data goes to the client, and its
 * trailer says what follows. */
#ifndef TARRY_EXCHANGE_PARTED_H
#define TARRY_EXCHANGE_PARTED_H

#include "exchange/exchange.h"
#include "exchange/run.h"

/* Whether a response is one. The caller has seen that the request was no HEAD. */
bool parted_is(const struct head *response);

/* The exchange's run, made if there is none. NULL without memory: that ended the exchange. */
struct run *parted_run(struct exchange *ex);

/* Each: false: that was the end of the exchange. */
bool parted_head(struct exchange *ex, const struct head *head);
bool parted_data(struct exchange *ex, struct str data);

/* `server`: whose process has the run; `may_be_at`: whether Tarry-At may be what it is. */
bool parted_trailer(struct exchange *ex, const struct head *trailer);
bool parted_content(struct exchange *ex, struct str data);

/* All of it is there: goes on as it says. Last thing that a function does. */
void parted_end(struct exchange *ex);

#endif
