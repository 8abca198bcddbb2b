/* The services beside the three large ones: Bedrock's Converse, Cohere's and Ollama's chat,
 * Replicate's predictions, and Stripe, which is no model and whose calls nobody may make twice. */
#ifndef PROVIDER_OTHERS_H
#define PROVIDER_OTHERS_H

#include "plan.h"
#include "stream.h"

/* A prediction that is asked for: without `Prefer: wait` it is there after a second look. */
void others_begin_prediction(struct plan *plan, const struct ask *ask);
/* One that is looked at again: its id has all that is to be known. */
void others_read_prediction(struct plan *plan, const struct ask *ask);
/* Stripe's bodies are forms. */
void others_read_form(struct plan *plan, const struct ask *ask);

void others_answer(const struct plan *plan, bool filtered, struct text *body);
const char *others_stream_type(const struct plan *plan);
void others_next(const struct plan *plan, struct stream *s, struct text *to);
void others_problem(const struct plan *plan, const char *word, struct text *body);
/* In the middle of a stream. */
void others_problem_event(const struct plan *plan, const char *word, struct text *to);

#endif
