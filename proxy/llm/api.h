/* The services' APIs as tables: where in their JSON content, ends, errors and usage stand, and what
 * their words for errors mean. */
#ifndef TARRY_LLM_API_H
#define TARRY_LLM_API_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "llm/scanner.h"

enum llm_api {
    LLM_OTHER, /* unknown: only errors are read */
    LLM_CHAT,  /* OpenAI: chat completions, and completions */
    LLM_RESPONSES,
    LLM_EMBEDDINGS,
    LLM_MESSAGES, /* Anthropic */
    LLM_GEMINI,
};
#define LLM_NAPIS (LLM_GEMINI + 1)

/* Whose API an upstream speaks; LLM_BY_PATH: the path tells. */
enum llm_family { LLM_BY_PATH, LLM_OPENAI, LLM_ANTHROPIC, LLM_GOOGLE, LLM_NO_FAMILY };

/* The API of a request, by the path of its target. */
enum llm_api api_of(enum llm_family family, struct str target);

/* Whose API it is, by the target alone: also of requests that are no model's work, such as lists of
 * batches. LLM_NO_FAMILY: it does not tell. */
enum llm_family api_family(struct str target);

/* What stands at a path. */
enum llm_sense {
    SENSE_TYPE,    /* the name of the event */
    SENSE_CONTENT, /* content, if it is a string that is not empty, a number or an object */
    SENSE_ROLE,    /* told behind SENSE_CONTENT of the same value: it was none */
    SENSE_FINISH,  /* the reason why the answer is complete, if it is a string */
    SENSE_ERROR,   /* an error, if it is an object or a string */
    SENSE_ERROR_TYPE,
    SENSE_ERROR_CODE,
    SENSE_ERROR_MESSAGE,
    SENSE_ERROR_DETAIL,     /* a quota's name, or a detail code */
    SENSE_RETRY_DELAY,      /* "17s" */
    SENSE_INPUT,            /* tokens: of the prompt */
    SENSE_INPUT_MORE,       /* ... that count beside them: Anthropic's writes to the cache, tools */
    SENSE_CACHED,           /* of the prompt, read from the cache */
    SENSE_CACHED_BESIDE,    /* ... and not counted in the prompt's */
    SENSE_OUTPUT,           /* of the answer */
    SENSE_REASONING,        /* of the answer, spent on reasoning */
    SENSE_REASONING_BESIDE, /* ... and not counted in the answer's */
    SENSE_ID,               /* of the request, where errors have it */
    SENSE_RESPONSE_ID,      /* by which the service keeps the answer */
};

struct llm_table {
    const char *name;
    const struct scanner_path *paths;
    const enum llm_sense *senses;
    unsigned npaths;
    const char *done;    /* data of the terminal event, as it stands; NULL: none */
    bool needs_terminal; /* an event stream without its end is not complete */
};

const struct llm_table *api_table(enum llm_api api);

/* What an event's name says, by itself. */
enum llm_event { EVENT_PLAIN, EVENT_CONTENT, EVENT_TERMINAL, EVENT_ERROR };
enum llm_event api_event(enum llm_api api, struct str name);

/* What an error is. */
enum llm_error {
    LLM_ERROR_NONE,
    LLM_ERROR_OTHER,
    LLM_ERROR_RATE,       /* too many requests or tokens at a time: waiting cures it */
    LLM_ERROR_QUOTA,      /* credit or a spending limit is used up: waiting does not */
    LLM_ERROR_AUTH,       /* the key is not accepted */
    LLM_ERROR_OVERLOADED, /* the service has no room */
    LLM_ERROR_CONTEXT,    /* the prompt is too long for the model */
    LLM_ERROR_FILTER,     /* refused for its content */
    LLM_ERROR_INVALID,    /* the request is not understood */
    LLM_ERROR_SERVER,     /* the service failed */
};

/* By what the service says, and the status of its answer (0: none, it came in a stream). */
enum llm_error api_error(
    unsigned status, struct str type, struct str code, struct str message, struct str detail);
const char *api_error_name(enum llm_error e);

#endif
