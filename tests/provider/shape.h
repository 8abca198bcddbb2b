/* Answers that come in one piece, and the fields that each service puts on all its answers. */
#ifndef PROVIDER_SHAPE_H
#define PROVIDER_SHAPE_H

#include "head.h"
#include "plan.h"

/* A good answer to a plan that does not stream, of the services' routes only. With `filtered` the
 * service's content filter ended it. */
void shape_answer(const struct plan *plan, bool filtered, struct head *h, struct text *body);

/* Ids, rate limits, dates: what each service puts on good and bad answers alike. */
void shape_service_fields(const struct plan *plan, struct head *h);
/* The service's id of this request. */
void shape_request_id(const struct plan *plan, struct text *to);

/* Parts that streams are made of, too. */

/* An id of that prefix; equal for equal plan, prefix and length. */
void shape_id(const struct plan *plan, const char *prefix, unsigned length, struct text *to);
/* Token number `i` of the answer's text, or of its tool's arguments: a JSON string's content
 * without quotes. */
void shape_token(const struct plan *plan, unsigned i, struct text *to);
/* How many tokens the plan's document takes. */
unsigned shape_document_tokens(const struct plan *plan);
/* The whole text, or the tool's arguments, with quotes. */
void shape_text(const struct plan *plan, struct text *to);
/* `{…}` of usage as each service has it. */
void shape_usage(const struct plan *plan, struct text *to);
/* Why the answer ended, in the service's word. */
const char *shape_finish(const struct plan *plan, bool filtered);
/* The object of OpenAI's responses API; `status` as it has them ("in_progress", "completed", …). */
void shape_response(const struct plan *plan, const char *status, struct text *to);
/* The one item of such a response's output: a message or the call of a tool. Begins with
 * `{"id":"ID",`, the ID SHAPE_ITEM_ID bytes long. */
void shape_output_item(const struct plan *plan, bool done, struct text *to);
#define SHAPE_ITEM_ID 52
/* The first members of a tool's call, with its id and name: in chat completions up to its
 * arguments, in messages up to its input. */
void shape_tool_call(const struct plan *plan, struct text *to);
/* Gemini's whole part with a call of the tool. */
void shape_function_call(const struct plan *plan, struct text *to);

#endif
