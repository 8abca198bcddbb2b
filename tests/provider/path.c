/* Telling paths apart. */
#include "path.h"

#include <string.h>

size_t path_length(const char *target)
{
    return strcspn(target, "?");
}

bool path_starts(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

bool path_is(const char *target, const char *path)
{
    size_t n = path_length(target);

    return n == strlen(path) && memcmp(target, path, n) == 0;
}

bool path_is_under(const char *target, const char *path)
{
    size_t n = strlen(path);

    return path_starts(target, path) && (target[n] == '/' || target[n] == '?' || target[n] == 0);
}

bool path_ends(const char *target, const char *with)
{
    size_t n = path_length(target), m = strlen(with);

    return n >= m && memcmp(target + n - m, with, m) == 0;
}

bool path_query_has(const char *target, const char *word)
{
    const char *query = target + path_length(target);

    return *query && strstr(query, word);
}

bool path_names(const char *target, const char *path)
{
    static const char *const prefixes[] = { "", "/openai", "/api", "/compatibility" };
    static const char deployments[] = "/openai/deployments/";

    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (path_starts(target, prefixes[i]) && path_is(target + strlen(prefixes[i]), path))
            return true;
    if (!path_starts(target, deployments))
        return false;
    target += sizeof deployments - 1;
    return path_is(target + strcspn(target, "/?"), path + strlen("/v1"));
}

const char *path_verb(const char *target)
{
    static const char *const folders[] = { "/v1beta/models/", "/v1/models/" };
    static const char vertex[] = "/publishers/google/models/";
    const char *name = NULL, *colon;

    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (path_starts(target, folders[i]))
            name = target + strlen(folders[i]);
    if (!name && (name = strstr(target, vertex)))
        name += sizeof vertex - 1;
    if (!name || name > target + path_length(target))
        return NULL;
    colon = memchr(name, ':', path_length(name));
    return colon ? colon + 1 : NULL;
}

bool path_verb_is(const char *target, const char *word)
{
    const char *verb = path_verb(target);

    return verb && path_is(verb, word);
}
