/* A scanner of JSON that comes in pieces: it tells of the values at given paths as they pass, keeps
 * no tree and no text but the start of one value. What is no JSON is noticed, and the rest passed
 * over: services are not ours to correct.
 *
 * llm/ is what AI services say: event streams, JSON, and per API the places of content, ends,
 * errors and usage. It does no I/O and sees base/ only. Read sse.h and scanner.h, then api.h, then
 * reader.h. */
#ifndef TARRY_LLM_SCANNER_H
#define TARRY_LLM_SCANNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum {
    SCANNER_SEGMENTS_MAX = 7, /* of a path */
    SCANNER_PATHS_MAX = 64,   /* of a table */
    SCANNER_DEPTH_MAX = 16,   /* deeper values match nothing */
    SCANNER_TEXT_MAX = 96,    /* of a value, to be told */
};

/* From the outside in, ended by NULL. "*" is any key, and any element of an array. */
struct scanner_path {
    const char *segments[SCANNER_SEGMENTS_MAX];
};

enum scanner_type {
    SCANNER_STRING,
    SCANNER_NUMBER,
    SCANNER_TRUE,
    SCANNER_FALSE,
    SCANNER_NULL,
    SCANNER_OBJECT,
    SCANNER_ARRAY
};

struct scanner_value {
    enum scanner_type type;
    struct str
        text; /* as it stands, escapes too, without quotes; its first SCANNER_TEXT_MAX bytes */
    uint64_t length;     /* of the whole of it */
    uint64_t start, end; /* where it stands, quotes included, since scanner_init(); `end` is 0 for
                            an object or array, which are told when they begin */
};

/* `path`: its place in the table. */
typedef void scanner_value_fn(void *owner, unsigned path, const struct scanner_value *v);

struct scanner {
    const struct scanner_path *paths;
    unsigned npaths;
    scanner_value_fn *on_value;
    void *owner;
    uint64_t alive[SCANNER_DEPTH_MAX + 1]; /* by depth: the paths that match so far */
    uint64_t here;                         /* those that match with the value that comes */
    uint64_t at, start, length;
    unsigned depth;
    uint64_t objects; /* a bit for each open level: an object, not an array */
    bool unwrap;      /* the outermost value is an array: its elements count as outermost */
    unsigned char state, type;
    bool escaped;
    bool done; /* the outermost value is complete, whatever follows it */
    unsigned char text_len;
    char text[SCANNER_TEXT_MAX];
};

/* `paths` outlives it. With `unwrap` the elements of an outermost array are matched as if each
 * stood alone. */
void scanner_init(struct scanner *j, const struct scanner_path *paths, unsigned npaths, bool unwrap,
    scanner_value_fn *on_value, void *owner);

/* The next piece. False: what came is no JSON, and nothing more is told. */
bool scanner_feed(struct scanner *j, struct str piece);

/* Whether a string at one of the paths has begun and not ended; *start is where. */
bool scanner_is_in_match(const struct scanner *j, uint64_t *start);

/* The outermost value is complete, whatever follows it. */
bool scanner_complete(const struct scanner *j);

/* Begins anew, with the same table. */
void scanner_reset(struct scanner *j);

#endif
