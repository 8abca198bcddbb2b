/* What calls and attempts leave in the metrics, and the log line about an upstream that answers
 * with errors: a service that is down may answer each call, with 429, 500 or 529. */
#ifndef TARRY_EXCHANGE_CALLMETRICS_H
#define TARRY_EXCHANGE_CALLMETRICS_H

#include <stdint.h>

#include "conf/snapshot.h"
#include "exchange/problem.h"
#include "llm/reader.h"
#include "observe/log.h"

/* An attempt has brought an answer with this status, or failed. `endpoint`: its name. */
void callmetrics_attempt_answered(
    const struct upstream_conf *u, struct str endpoint, unsigned status);
void callmetrics_attempt_failed(
    const struct upstream_conf *u, struct str endpoint, enum problem problem);

/* The head of the answer that is passed on has come, so long after the call began. */
void callmetrics_first_content(const struct upstream_conf *u, uint64_t took_ms);

/* A call has ended, so long after it began: with an answer of this status, or without one. */
void callmetrics_call_answered(const struct upstream_conf *u, unsigned status, uint64_t took_ms,
    const struct log_context *log);
void callmetrics_call_failed(const struct upstream_conf *u, enum problem problem, uint64_t took_ms,
    const struct log_context *log);
/* It was not made because of a limit; `reason` is one of a few. */
void callmetrics_call_refused(const struct upstream_conf *u, const char *reason, uint64_t took_ms);
void callmetrics_call_cancelled(const struct upstream_conf *u, uint64_t took_ms);

/* What the service said that a call used. */
void callmetrics_tokens(const struct upstream_conf *u, const struct llm_usage *usage);

#endif
