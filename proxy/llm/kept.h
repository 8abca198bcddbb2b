/* What services keep for an account: files, batches, stored responses and the like. A request that
 * names such a thing can be answered by that account alone. */
#ifndef TARRY_LLM_KEPT_H
#define TARRY_LLM_KEPT_H

#include "base/str.h"
#include "llm/scanner.h"

enum kept {
    KEPT_NOTHING,
    KEPT_RESPONSE, /* a response, by its id */
    KEPT_OTHER,    /* something else, or a list of it */
};

/* By the request's path. `id`: of a response. */
enum kept kept_by_path(struct str method, struct str target, struct str *id);

/* Places in a request's body. */
enum { KEPT_NPATHS = 13 };
extern const struct scanner_path kept_paths[KEPT_NPATHS];

/* By the value that stands at a place. Its text is the id. */
enum kept kept_by_value(unsigned path, const struct scanner_value *v);

#endif
