/* What is kept of an exchange's way for those who look at it later: the access log, traces and the
 * pages. Phases follow each other (a queue, a visit, the time parked) or lie side by side (attempts
 * at upstreams). In the exchange's arena. */
#ifndef TARRY_EXCHANGE_TRAIL_H
#define TARRY_EXCHANGE_TRAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "conf/snapshot.h"
#include "http/head.h"
#include "observe/trace.h"

enum phase_kind {
    PHASE_READ, /* the client's request comes in */
    PHASE_QUEUE,
    PHASE_VISIT,
    PHASE_PARKED,
    PHASE_ANSWER, /* the response goes to the client */
    PHASE_TUNNEL,
    PHASE_NOTIFY,
    PHASE_ATTEMPT,
};
#define PHASE_COUNT (PHASE_ATTEMPT + 1)

const char *phase_name(enum phase_kind k);

/* Times are microseconds. */
struct phase {
    uint64_t began_us;
    uint64_t ended_us;      /* 0: it goes on */
    const struct str *name; /* of an attempt: the endpoint's; of a visit: the pool's; else NULL */
    const char *error;      /* NULL: none */
    uint16_t status;        /* of an attempt; 0: no answer */
    uint8_t kind;           /* enum phase_kind */
    uint8_t number;         /* of a visit or attempt: which one */
};

/* The exchange's place in a trace. */
struct trail_trace {
    struct trace_context own;               /* its span is the exchange's */
    unsigned char parent[TRACE_SPAN_BYTES]; /* zeroes: it is the root */
};

struct trail {
    struct arena *arena;
    bool detailed;         /* phases are kept */
    struct str label;      /* Tarry-Label: the app's own word for it; empty: none */
    struct str service_id; /* the upstream's id of the last call's request; empty: none */
    struct phase *phases;
    struct trail_trace *trace; /* NULL: it is in none */
    uint8_t nphases, room;
    uint8_t visits, attempts; /* begun so far: the numbers of phases */
};

enum {
    TRAIL_PHASES_MAX = 64, /* later ones are not kept */
    TRAIL_LABEL_MAX = 64,
    TRAIL_SERVICE_ID_MAX = 128,
};

/* Keeps a phase; the place of an open one for trail_end(), or -1 if it is not kept. `t` may be
 * NULL. */
int trail_add(struct trail *t, const struct phase *p);

/* An attempt begins now. As trail_add(). */
int trail_begin_attempt(struct trail *t, const struct str *endpoint);

/* What came of the phase at that place (a literal, or NULL), and its end; an end is kept. */
void trail_note(struct trail *t, int place, uint16_t status, const char *error);
void trail_end(struct trail *t, int place, uint64_t ended_us);

/* Tarry-Label of a worker's response; the last one counts. */
void trail_take_label(struct trail *t, const struct head *response);

/* The id under which a service knows the request: x-request-id, request-id and the like. */
void trail_take_service_id(struct trail *t, const struct head *answer);

/* Decides whether the exchange is traced, and sets the request's traceparent accordingly. `follow`:
 * the sender's decision counts. 0, or -1 if there is no memory. */
int trail_begin_trace(
    struct trail *t, const struct tracing_conf *conf, struct head *request, bool follow);

/* The span of a phase, which is known before the phase ends. */
void trail_span(const struct trail *t, enum phase_kind kind, unsigned number,
    unsigned char out[TRACE_SPAN_BYTES]);

/* Whether it is in a trace that is exported. */
static inline bool trail_is_sampled(const struct trail *t)
{
    return t && t->trace && t->trace->own.sampled;
}

#endif
