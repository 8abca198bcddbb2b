/* Limits and the resolver of all pools. */
#include "workers/poolshared.h"

#include <stdlib.h>
#include <string.h>

#include "http/limits.h"
#include "observe/log.h"

struct poolshared *poolshared_new(const struct conf *conf)
{
    struct poolshared *sh = calloc(1, sizeof(*sh));

    if (!sh)
        return NULL;
    sh->refs = 1;
    sh->limits = limits_of(conf);
    return sh;
}

struct poolshared *poolshared_ref(struct poolshared *sh)
{
    sh->refs++;
    return sh;
}

void poolshared_unref(struct poolshared *sh)
{
    if (!sh || --sh->refs > 0)
        return;
    resolver_close(sh->resolver);
    free(sh->name_servers);
    free(sh);
}

struct resolver *poolshared_resolver(struct poolshared *sh)
{
    if (!sh->resolver)
        sh->resolver = resolver_open(sh->name_servers);
    return sh->resolver;
}

int poolshared_set_name_servers(struct poolshared *sh, const char *name_servers)
{
    char *copy = name_servers ? strdup(name_servers) : NULL;

    if ((name_servers && !copy) || (sh->resolver && resolver_renew(sh->resolver, copy) < 0)) {
        free(copy);
        return -1;
    }
    free(sh->name_servers);
    sh->name_servers = copy;
    return 0;
}

void poolshared_renew(struct poolshared *sh)
{
    if (sh->resolver && resolver_renew(sh->resolver, sh->name_servers) < 0)
        log_warn(NULL, "cannot read the system's name servers again: the ones known so far are "
                       "asked on");
}
