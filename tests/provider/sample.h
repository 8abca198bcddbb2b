/* A value that fits a JSON Schema, as a model with structured output makes one. */
#ifndef PROVIDER_SAMPLE_H
#define PROVIDER_SAMPLE_H

#include "json.h"

/* Adds a document that the schema allows: all properties, one item of each array, the first choice
 * of each enumeration, `words` for plain strings. Knows JSON Schema and Gemini's dialect of it;
 * references lead into the same schema. `pattern`, `not` and the like are not looked at. Without a
 * schema (n is 0) the document is an object that holds `words` as its one member, "text". */
void sample_add(struct json schema, const char *words, struct text *to);

#endif
