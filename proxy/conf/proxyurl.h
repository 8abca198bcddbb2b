/* The URL of an HTTP proxy, as the conf and the variable https_proxy have it. */
#ifndef TARRY_CONF_PROXYURL_H
#define TARRY_CONF_PROXYURL_H

#include <stdbool.h>

#include "base/arena.h"
#include "conf/snapshot.h"
#include "conf/value.h"

/* http://[USER:PASSWORD@]HOST[:PORT], percent signs of user and password decoded; empty: there is
 * no proxy. `why` shows neither of them. */
bool proxyurl_parse(
    struct arena *a, struct str text, struct proxy_conf *out, char why[VALUE_WHY_MAX]);

#endif
