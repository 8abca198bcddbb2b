/* Just enough JSON to learn what a request wants: a value is a stretch of the document's own bytes,
 * and is looked into without building anything. */
#ifndef PROVIDER_JSON_H
#define PROVIDER_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "text.h"

struct json {
    const char *p; /* the value's first byte */
    size_t n;
};

/* The whole document is one well-formed value (RFC 8259), at most 64 levels deep. The other
 * functions want a value from a document that passed this. */
bool json_check(const char *p, size_t n, struct json *value);

/* The first member of that name; names with escapes in them are not found. If there is none,
 * `value` is left as it was. */
bool json_member(struct json object, const char *name, struct json *value);
/* Steps through an array: `*at` begins at 0. */
bool json_item(struct json array, size_t *at, struct json *value);
/* The same through an object; `name` is with its quotes. */
bool json_pair(struct json object, size_t *at, struct json *name, struct json *value);

bool json_is_string(struct json value);
bool json_is_array(struct json value);
bool json_is_true(struct json value);
/* The string's content is added to `to`, escapes decoded into UTF-8. False if it is no string. */
bool json_string(struct json value, struct text *to);
/* False if it is no whole number from 0 to `most`. */
bool json_whole(struct json value, unsigned long most, unsigned long *to);
/* The string's content is exactly `s`. */
bool json_equals(struct json value, const char *s);

#endif
