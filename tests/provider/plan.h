/* What a request will get: read once from its path, its X-Provider- headers and its JSON, small
 * enough to be kept by every request that waits. shape.c, stream.c and problem.c turn it into bytes
 * when its time has come. */
#ifndef PROVIDER_PLAN_H
#define PROVIDER_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "ask.h"
#include "fault.h"
#include "options.h"
#include "text.h"

enum plan_service {
    PLAN_OPENAI,
    PLAN_ANTHROPIC,
    PLAN_GEMINI,
    PLAN_OTHER /* one of those in others.c: the route says which */
};

enum plan_route {
    PLAN_ECHO,
    PLAN_HEALTH,
    PLAN_STATS,
    PLAN_CHAT,
    PLAN_COMPLETIONS, /* OpenAI's old ones, without streams */
    PLAN_RESPONSES,
    PLAN_EMBEDDINGS,
    PLAN_MODELS, /* the list, or the one that the path names */
    PLAN_MESSAGES,
    PLAN_COUNT_TOKENS,
    PLAN_GENERATE,
    PLAN_STORED,      /* files and batches: store.h */
    PLAN_CONVERSE,    /* Bedrock's */
    PLAN_COHERE,      /* chat, version 2 */
    PLAN_OLLAMA,      /* chat */
    PLAN_PREDICTIONS, /* Replicate's: one is made, or looked at again */
    PLAN_STRIPE,      /* an object is made */
    PLAN_UNKNOWN
};

struct plan {
    enum plan_route route;
    enum plan_service service;
    int problem;        /* a status other than 0: the answer is that error */
    char *problem_word; /* what the error says, or NULL for the usual words */

    bool head;         /* HEAD: the answer has no body */
    bool stream;       /* the answer comes in chunks */
    bool sse;          /* … as server-sent events (Gemini can do without) */
    bool stream_usage; /* OpenAI's stream_options.include_usage */
    bool base64;       /* embeddings as such */
    bool capped;       /* the request's own token limit ends the answer */
    unsigned tokens;   /* of the answer, at least one */
    unsigned prompt_tokens;
    uint64_t delay_ms, pace_ms;
    bool pending; /* a prediction that is not there yet */

    char *model;
    char *say;       /* "echo:" and the start of what the user, or the last tool, said */
    char *object;    /* Stripe's name of what was made, with its members as JSON; or NULL */
    char *tool;      /* the answer calls this one, with the document as arguments; or NULL */
    char *document;  /* JSON that stands in place of words; or NULL */
    uint64_t *seeds; /* embeddings: one for each input */
    unsigned n_seeds, dimensions;
    uint64_t serial; /* ids are made of it */
    time_t born;

    struct text extra;        /* X-Provider-Header: name, zero, value, zero, … */
    struct fault_set *faults; /* NULL: none */
    char *key;                /* X-Provider-Key, or NULL */
};

/* The route alone, known before the body has come. */
enum plan_route plan_route(const struct ask *ask);
/* The fault spec that the request falls under, or NULL. */
const char *plan_fault_spec(const struct ask *ask, const struct options *o);

/* The body must be complete. */
void plan_init(struct plan *plan, const struct ask *ask, const struct options *o,
    struct fault_counts *counts, uint64_t serial);
void plan_release(struct plan *plan);

/* A number that depends on the plan and `salt` alone, well mixed. */
uint64_t plan_random(const struct plan *plan, uint64_t salt);

#endif
