/* Files and batches, kept in memory until the stand-in ends: uploads (OpenAI's and Anthropic's as
 * multipart forms, Gemini's resumable ones), downloads, and batches, which are done at once and
 * whose results echo each request's own id. */
#ifndef PROVIDER_STORE_H
#define PROVIDER_STORE_H

#include <stdbool.h>
#include <stddef.h>

struct ask;
struct head;
struct plan;
struct store_item;
struct text;

struct store {
    struct store_item **items;
    size_t n;
};

/* Answers a request of PLAN_STORED. 0, or the status of the error that is the answer. `tls` goes
 * into absolute URLs. */
int store_answer(struct store *s, const struct plan *plan, const struct ask *ask, bool tls,
    struct head *h, struct text *body);
void store_release(struct store *s);

#endif
