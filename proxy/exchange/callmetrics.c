/* Names of outcomes: the class of a status ("2xx"), some statuses that operators look for by
 * themselves, or the error of the problem. */
#include "exchange/callmetrics.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "net/loop.h"
#include "observe/metric.h"

enum { TROUBLED_MAX = 64, NAME_MAX_BYTES = 64, TELL_EVERY_MS = 10000 };

/* Upstreams that have answered with errors: how many calls ended, and how many of them badly, since
 * the last line about it. One table a process, as the metrics are. */
static struct callmetrics_trouble {
    char name[NAME_MAX_BYTES]; /* "": free */
    uint64_t told_ms;
    unsigned calls, failed;
} troubled[TROUBLED_MAX];

static struct str callmetrics_outcome(unsigned status)
{
    static const struct {
        unsigned status;
        struct str name;
    } own[] = { { 401, STR_INIT("401") }, { 403, STR_INIT("403") }, { 429, STR_INIT("429") },
        { 503, STR_INIT("503") }, { 529, STR_INIT("529") } };
    static const struct str classes[] = { STR_INIT("none"), STR_INIT("1xx"), STR_INIT("2xx"),
        STR_INIT("3xx"), STR_INIT("4xx"), STR_INIT("5xx") };

    for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
        if (own[i].status == status)
            return own[i].name;
    return classes[status / 100 <= 5 ? status / 100 : 0];
}

void callmetrics_attempt_answered(
    const struct upstream_conf *u, struct str endpoint, unsigned status)
{
    metric_add(
        METRIC_UPSTREAM_ATTEMPTS, 1, METRIC_LABELS(u->name, endpoint, callmetrics_outcome(status)));
}

void callmetrics_attempt_failed(
    const struct upstream_conf *u, struct str endpoint, enum problem problem)
{
    metric_add(METRIC_UPSTREAM_ATTEMPTS, 1,
        METRIC_LABELS(u->name, endpoint, str_of(problem_error(problem))));
}

void callmetrics_first_content(const struct upstream_conf *u, uint64_t took_ms)
{
    metric_observe(METRIC_UPSTREAM_FIRST_CONTENT, took_ms * 1000, METRIC_LABELS(u->name));
}

static void callmetrics_call_ended(
    const struct upstream_conf *u, struct str outcome, uint64_t took_ms)
{
    metric_add(METRIC_UPSTREAM_CALLS, 1, METRIC_LABELS(u->name, outcome));
    metric_observe(METRIC_UPSTREAM_SECONDS, took_ms * 1000, METRIC_LABELS(u->name));
}

/* ---- the log line ---- */

/* The row of that upstream; a free one if `add`; NULL if there is none. */
static struct callmetrics_trouble *callmetrics_find(struct str name, bool add)
{
    size_t n = name.n < NAME_MAX_BYTES - 1 ? name.n : NAME_MAX_BYTES - 1;
    struct callmetrics_trouble *empty = NULL;

    for (size_t i = 0; i < TROUBLED_MAX; i++) {
        struct callmetrics_trouble *t = &troubled[i];

        if (t->name[0] && strlen(t->name) == n && memcmp(t->name, name.p, n) == 0)
            return t;
        if (!t->name[0] && !empty)
            empty = t;
    }
    if (!add || !empty)
        return NULL;
    memcpy(empty->name, name.p, n);
    return empty;
}

/* Errors of the service, or of its account; not of the single request, as 400 and 404 are. */
static bool callmetrics_is_trouble(unsigned status)
{
    return status == 401 || status == 402 || status == 403 || status == 408 || status == 429 ||
           status >= 500;
}

/* The first failure is told at once; afterwards one line in ten seconds sums up. */
static void callmetrics_note(
    const struct upstream_conf *u, bool failed, struct str what, const struct log_context *log)
{
    struct callmetrics_trouble *t = callmetrics_find(u->name, failed);
    uint64_t now = loop_now_ms();

    if (!t)
        return;
    t->calls++;
    t->failed += failed;
    if (!failed || (t->told_ms > 0 && now - t->told_ms < TELL_EVERY_MS))
        return;
    if (t->told_ms == 0 || t->calls == 1)
        log_warn(log, "upstream \"" STR_FMT "\" failed a call: " STR_FMT, STR_ARG(u->name),
            STR_ARG(what));
    else
        log_warn(log,
            "upstream \"" STR_FMT "\" failed %u of the last %u calls, this one with " STR_FMT,
            STR_ARG(u->name), t->failed, t->calls, STR_ARG(what));
    t->told_ms = now;
    t->calls = t->failed = 0;
}

void callmetrics_call_answered(
    const struct upstream_conf *u, unsigned status, uint64_t took_ms, const struct log_context *log)
{
    char what[32];
    int n = snprintf(what, sizeof(what), "status %u", status);

    callmetrics_call_ended(u, callmetrics_outcome(status), took_ms);
    callmetrics_note(u, callmetrics_is_trouble(status), str_make(what, (size_t)n), log);
}

void callmetrics_call_failed(const struct upstream_conf *u, enum problem problem, uint64_t took_ms,
    const struct log_context *log)
{
    struct str error = str_of(problem_error(problem));

    callmetrics_call_ended(u, error, took_ms);
    callmetrics_note(u, true, error, log);
}

void callmetrics_call_refused(const struct upstream_conf *u, const char *reason, uint64_t took_ms)
{
    callmetrics_call_ended(u, str_of(problem_error(PROBLEM_CALL_LIMIT)), took_ms);
    metric_add(METRIC_UPSTREAM_QUEUE_REFUSED, 1, METRIC_LABELS(u->name, str_of(reason)));
}

void callmetrics_call_cancelled(const struct upstream_conf *u, uint64_t took_ms)
{
    callmetrics_call_ended(u, STR("cancelled"), took_ms);
}

void callmetrics_tokens(const struct upstream_conf *u, const struct llm_usage *usage)
{
    const struct {
        struct str kind;
        uint32_t n;
    } kinds[] = { { STR_INIT("input"), usage->input }, { STR_INIT("output"), usage->output },
        { STR_INIT("cached"), usage->cached }, { STR_INIT("reasoning"), usage->reasoning } };

    for (size_t i = 0; usage->known && i < sizeof(kinds) / sizeof(*kinds); i++)
        if (kinds[i].n > 0)
            metric_add(METRIC_UPSTREAM_TOKENS, kinds[i].n, METRIC_LABELS(u->name, kinds[i].kind));
}
