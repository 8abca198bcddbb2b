/* Reading a request's target. The services' own paths are known, and those of services that speak
 * the API of another: `/openai/v1/…`, `/openai/deployments/NAME/…`, `/api/v1/…`,
 * `/compatibility/v1/…`, and Vertex AI's `…/publishers/google/models/NAME:VERB`. */
#ifndef PROVIDER_PATH_H
#define PROVIDER_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* The path ends where the query begins. */
size_t path_length(const char *target);
bool path_starts(const char *s, const char *with);
bool path_is(const char *target, const char *path);
/* It is that path, or one below it. */
bool path_is_under(const char *target, const char *path);
bool path_ends(const char *target, const char *with);
bool path_query_has(const char *target, const char *word);

/* The target is `path`, a path that begins with "/v1", or stands for it at another service. */
bool path_names(const char *target, const char *path);

/* The verb of `/v1beta/models/NAME:VERB`, or NULL. */
const char *path_verb(const char *target);
bool path_verb_is(const char *target, const char *word);

#endif
