/* Changes the URLs that stand at known places of a JSON document, as it passes: Anthropic's
 * results_url, and next links. Only such a value is held until its end, up to a bound; all other
 * bytes pass as they came. */
#ifndef TARRY_LLM_LINKS_H
#define TARRY_LLM_LINKS_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"

enum { LINKS_URL_MAX = 8 << 10 }; /* a longer value passes as it is */

/* Appends what stands for `url`. False: it stays. */
typedef bool links_map_fn(void *owner, struct str url, struct buf *out);

struct links;

/* NULL if there is no memory. */
struct links *links_new(links_map_fn *map, void *owner);
void links_free(struct links *l);

/* Appends to `out` what passes. 0, or -1 if there is no memory. */
int links_feed(struct links *l, struct str piece, struct buf *out);

/* The document has ended: what is held passes. */
int links_end(struct links *l, struct buf *out);

#endif
