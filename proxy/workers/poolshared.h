/* What the pools of a registry share: limits and the resolver. Counted, since a pool may outlive
 * the registry. */
#ifndef TARRY_WORKERS_POOLSHARED_H
#define TARRY_WORKERS_POOLSHARED_H

#include "conf/snapshot.h"
#include "http/h1parse.h"
#include "net/resolver.h"

struct poolshared {
    unsigned refs;
    struct h1_limits limits;   /* of responses' heads */
    struct resolver *resolver; /* NULL until a server has a host name */
    char *name_servers;        /* NULL: the system's */
};

/* With one reference. NULL if there is no memory. */
struct poolshared *poolshared_new(const struct conf *conf);
struct poolshared *poolshared_ref(struct poolshared *sh);
void poolshared_unref(struct poolshared *sh); /* NULL is allowed */

/* The resolver, opened when it is first needed; NULL if there is no memory. */
struct resolver *poolshared_resolver(struct poolshared *sh);

/* 0, or -1 with nothing changed. NULL: the system's. */
int poolshared_set_name_servers(struct poolshared *sh, const char *name_servers);

/* Reads the system's name servers again. */
void poolshared_renew(struct poolshared *sh);

#endif
