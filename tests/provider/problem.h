/* Error answers in the words of each service. */
#ifndef PROVIDER_PROBLEM_H
#define PROVIDER_PROBLEM_H

#include "head.h"
#include "plan.h"

/* Sets the status, adds fields and body. `word` is what the error says, or NULL for the usual
 * words. `hint` is the argument of a status fault, or NULL: when to come again ("2", "250ms",
 * "date:2", "none"), or a kind of error that shares its status with others ("quota", "context"). */
void problem_answer(const struct plan *plan, int status, const char *word, const char *hint,
    struct head *h, struct text *body);

/* An error event in the middle of a stream that began well. `sequence` is OpenAI's number of the
 * event. */
void problem_event(const struct plan *plan, unsigned sequence, struct text *to);

#endif
