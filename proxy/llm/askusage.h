/* Where "include_usage" goes in the body of a chat request, so that its stream tells what it used:
 * the body is read in pieces, and not changed. */
#ifndef TARRY_LLM_ASKUSAGE_H
#define TARRY_LLM_ASKUSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "llm/scanner.h"

struct askusage {
    struct scanner json;
    uint64_t root, options, options_end; /* where they begin; of null, where it ends */
    unsigned char streams, told;         /* how often each of the two fields stands there */
    bool object, stream, null, odd, open, empty, bad;
};

void askusage_init(struct askusage *q);
void askusage_feed(struct askusage *q, struct str piece);

/* `text` takes the place of the bytes from `start` to `end`. */
struct askusage_edit {
    uint64_t start, end;
    struct str text;
};

/* After the whole body. False: the body stays as it is, because it does not stream, the client has
 * decided already, or it is not what it should be. */
bool askusage_edit(const struct askusage *q, struct askusage_edit *edit);

#endif
