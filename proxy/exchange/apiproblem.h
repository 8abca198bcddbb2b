/* Tarry's own errors on gateway routes, in the shape of the API that the client's SDK speaks: it
 * shows their type, code, message and request id as it shows the service's. */
#ifndef TARRY_EXCHANGE_APIPROBLEM_H
#define TARRY_EXCHANGE_APIPROBLEM_H

#include "base/arena.h"
#include "conf/snapshot.h"
#include "exchange/problem.h"
#include "http/head.h"
#include "llm/api.h"

/* Whose API a gateway route's request speaks: the upstream's `api`, or else what its path and
 * fields tell. LLM_NO_FAMILY: nobody's that is known. */
enum llm_family apiproblem_family(const struct route_conf *r, const struct head *request);

/* The error's body, in `a`: that of problem_json() for LLM_BY_PATH and LLM_NO_FAMILY. `status` 0:
 * the problem's own. */
struct str apiproblem_json(
    struct arena *a, enum llm_family family, enum problem p, unsigned status, const char *exchange);

/* Adds to the head of problem_head() what the family's SDKs read. 0, or -1 if there is no memory.
 */
int apiproblem_head(
    struct arena *a, enum llm_family family, const char *exchange, struct head *head);

#endif
