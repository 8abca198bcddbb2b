/* The head of an answer on its way to either version of HTTP. Framing (Content-Length, chunks,
 * Connection) is not among the fields: the connection adds it from `length`. */
#ifndef PROVIDER_HEAD_H
#define PROVIDER_HEAD_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "text.h"

#define HEAD_LENGTH_UNKNOWN (-1)

struct head {
    int status;
    int64_t length;     /* of the body, or HEAD_LENGTH_UNKNOWN */
    struct text fields; /* name, zero, value, zero, … */
};

void head_release(struct head *h);
void head_add(struct head *h, const char *name, const char *value);
void head_addf(struct head *h, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void head_add_date(struct head *h, const char *name, time_t when); /* as RFC 9110 5.6.7 */
/* Fields in the same form: each takes the place of what the head has of that name. */
void head_replace(struct head *h, const struct text *fields);
/* Steps through all fields of that form: `*at` begins at 0. */
bool head_next(const struct text *fields, size_t *at, const char **name, const char **value);

#endif
