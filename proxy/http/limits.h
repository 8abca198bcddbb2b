/* What of HTTP/1.1 the conf bounds, for parsers on every side. */
#ifndef TARRY_HTTP_LIMITS_H
#define TARRY_HTTP_LIMITS_H

#include "conf/snapshot.h"
#include "http/h1parse.h"

static inline struct h1_limits limits_of(const struct conf *c)
{
    return (struct h1_limits){
        .head_max = c->header_max,
        .fields_max = c->header_fields_max,
        .target_max = c->target_max,
        .interim_max = c->interim_max,
        .chunk_line_max = c->chunk_line_max,
        .chunk_overhead_max = c->chunk_overhead_max,
        .finish_ms = c->linger_timeout_ms,
    };
}

#endif
