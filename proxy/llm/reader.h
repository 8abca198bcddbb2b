/* What an answer of a service says, read as it passes: whether content has come, whether it is
 * complete, what went wrong, and what it used. The bytes are not changed. Belongs to the attempt
 * whose answer it is. */
#ifndef TARRY_LLM_READER_H
#define TARRY_LLM_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "llm/api.h"

/* Tokens; a number that the service did not say is unknown, never guessed. */
enum { LLM_TOLD_INPUT = 1, LLM_TOLD_OUTPUT = 2, LLM_TOLD_CACHED = 4, LLM_TOLD_REASONING = 8 };

struct llm_usage {
    uint32_t input;     /* of the prompt, those from the cache included */
    uint32_t output;    /* of the answer, reasoning included */
    uint32_t cached;    /* of the input */
    uint32_t reasoning; /* of the output */
    unsigned char told; /* of LLM_TOLD_…: which of them the service has said */
    bool known;         /* any */
};

struct reader;

/* `event_stream`: its type is text/event-stream. NULL if there is no memory. */
struct reader *reader_new(enum llm_api api, bool event_stream);
void reader_free(struct reader *r);

void reader_feed(struct reader *r, struct str piece);

/* The first content has come; and how many pieces of it in all. */
bool reader_has_content(const struct reader *r);
uint64_t reader_contents(const struct reader *r);

/* The terminal event has come, or the API or the kind of answer has none. */
bool reader_is_complete(const struct reader *r);

/* An event, or the document, is not what it should be. Said at the answer's end. */
bool reader_is_malformed(const struct reader *r);

/* The answer, or an event of it, is an error and complete. */
bool reader_has_error(const struct reader *r);

/* The answer, or an event of it, is an error: what it is, given the answer's status (0: 200). */
enum llm_error reader_error(const struct reader *r, unsigned status);

/* The service's word for it: its code or else its type. Good as long as the reader. */
struct str reader_error_word(const struct reader *r);

/* The id by which the service keeps the answer (OpenAI's responses), its first 96 bytes; empty: it
 * has not said one. Good as long as the reader. */
struct str reader_response_id(const struct reader *r);

/* How long the error asks to wait. False: it does not say. */
bool reader_retry_delay(const struct reader *r, uint64_t *ms);

struct llm_usage reader_usage(const struct reader *r);

#endif
