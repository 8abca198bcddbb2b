/* The form in which a request wants its answer: words, a JSON document, or a call of a tool. */
#ifndef PROVIDER_WANT_H
#define PROVIDER_WANT_H

#include "json.h"
#include "plan.h"

/* Sets the plan's tool and document from the request's body, and makes its words those of the
 * tool's result if that is what was said last. The plan knows its route and what it says. */
void want_read(struct plan *plan, struct json body);

/* What the last message says a tool has found, as text. False if it is no tool's result. */
bool want_tool_result(const struct plan *plan, struct json body, struct text *to);

#endif
