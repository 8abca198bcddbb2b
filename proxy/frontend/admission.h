/* What a request must satisfy before an exchange begins: a host that this connection was made for,
 * a path that can be read, fields without underscores where the conf says so, a route that is not
 * internal, no more body than may be. In one place, from one request head. */
#ifndef TARRY_FRONTEND_ADMISSION_H
#define TARRY_FRONTEND_ADMISSION_H

#include "exchange/exchange.h"

struct refusal {
    enum problem problem;
    unsigned status; /* 0: the problem's own */
    char why[300];   /* for the log */
};

/* True: `out` is filled, its head in `a`. False: `no` says why not; out->head is what is known of
 * the request (for the access log). `id` is the exchange's. */
bool admission_decide(const struct conf *conf, struct arena *a, const char *id,
    struct stream *client, const struct stream_request *r, struct admitted *out,
    struct refusal *no);

/* The route for the authority and target of `head`, internal ones included, or NULL with *bad set
 * if the path cannot be read. */
const struct route_conf *admission_find_route(
    const struct conf *conf, const struct head *head, bool *bad);

/* Whether `a` is one client's address, for which the limits of an address hold; others stand for
 * many: trusted proxies, unix sockets and, unless the conf says otherwise, loopback. */
bool admission_address_counts(const struct conf *conf, const struct addr *a);

#endif
