/* A hop: the request to a worker is put together, and its visit opened. Works on ex->hop. */
#ifndef TARRY_EXCHANGE_HOP_H
#define TARRY_EXCHANGE_HOP_H

#include "exchange/exchange.h"

/* Prepares the next visit: a step that makes it is to be entered. `path` is of a resume or notify;
 * it is for the next hop number, unless this is hop 0. */
void hop_prepare(struct exchange *ex, enum hop_kind kind, struct str path);

/* The same hop once more, whole, with the next attempt's number: in the place of a visit with
 * pieces. */
void hop_prepare_again(struct exchange *ex);

/* Opens the visit; its owner is `ex`. 0, or -1 without memory. */
int hop_open(struct exchange *ex, const struct visit_handler *handler);

void hop_close(struct exchange *ex);

#endif
