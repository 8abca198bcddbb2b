/* Error answers in the words of each service. */
#include "problem.h"

#include <string.h>

#include "others.h"
#include "shape.h"

/* One row a status. For OpenAI the second word is the `code`; for Google the last column is the
 * `status`. */
static const struct problem_row {
    int status;
    const char *openai_type, *openai_code, *anthropic, *gemini, *word;
} rows[] = {
    { 400, "invalid_request_error", NULL, "invalid_request_error", "INVALID_ARGUMENT",
        "The request is not valid." },
    { 401, "invalid_request_error", "invalid_api_key", "authentication_error", "UNAUTHENTICATED",
        "You didn't provide an API key." },
    { 402, "insufficient_quota", "billing_hard_limit_reached", "billing_error",
        "FAILED_PRECONDITION", "Your credit balance is too low." },
    { 403, "invalid_request_error", "unsupported_country_region_territory", "permission_error",
        "PERMISSION_DENIED", "Your key may not use this resource." },
    { 404, "invalid_request_error", "unknown_url", "not_found_error", "NOT_FOUND",
        "The requested resource was not found." },
    { 405, "invalid_request_error", "method_not_supported", "invalid_request_error",
        "INVALID_ARGUMENT", "This method is not allowed here." },
    { 408, "timeout", "request_timeout", "timeout_error", "DEADLINE_EXCEEDED",
        "The request took too long to arrive." },
    { 409, "conflict", "resource_conflict", "conflict_error", "ABORTED",
        "The resource was changed by another request." },
    { 413, "invalid_request_error", "request_too_large", "request_too_large", "INVALID_ARGUMENT",
        "Request exceeds the maximum size." },
    { 429, "requests", "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED",
        "Rate limit reached. Please try again later." },
    { 500, "server_error", NULL, "api_error", "INTERNAL", "The server had an error." },
    { 502, "server_error", NULL, "api_error", "UNAVAILABLE", "Bad gateway." },
    { 503, "server_error", "server_is_overloaded", "overloaded_error", "UNAVAILABLE",
        "The model is overloaded. Please try again later." },
    { 504, "server_error", NULL, "timeout_error", "DEADLINE_EXCEEDED", "The request timed out." },
    { 529, "server_error", "slow_down", "overloaded_error", "UNAVAILABLE", "Overloaded" },
};

static const struct problem_row quota_row = { 429, "insufficient_quota", "insufficient_quota",
    "rate_limit_error", "RESOURCE_EXHAUSTED", "You exceeded your current quota." };
static const struct problem_row context_row = { 400, "invalid_request_error",
    "context_length_exceeded", "invalid_request_error", "INVALID_ARGUMENT",
    "prompt is too long: the input exceeds the context window of this model." };

static bool hint_is(const char *hint, const char *word)
{
    return hint && strcmp(hint, word) == 0;
}

static struct problem_row row_of(int status, const char *hint)
{
    struct problem_row row = { status, "server_error", NULL, "api_error", "UNKNOWN", "Error." };

    if (hint_is(hint, "quota"))
        row = quota_row;
    else if (hint_is(hint, "context"))
        row = context_row;
    else
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            if (rows[i].status == status)
                row = rows[i];
    return row;
}

static void json_or_null(struct text *to, const char *s)
{
    if (s)
        text_json_str(to, s);
    else
        text_puts(to, "null");
}

static bool overload(int status)
{
    return status == 429 || status == 503 || status == 529;
}

/* When to come again, for Google's body: "17s". False: not said. */
static bool retry_delay(int status, const char *hint, char *to, size_t room)
{
    uint64_t ms;

    if (hint_is(hint, "none") || hint_is(hint, "context"))
        return false;
    if (hint_is(hint, "quota"))
        return snprintf(to, room, "39600s"), true; /* the day's quota is used up */
    if (!hint)
        return overload(status) && (snprintf(to, room, "1s"), true);
    if (!options_duration(strncmp(hint, "date:", 5) == 0 ? hint + 5 : hint, &ms))
        return false;
    if (ms % 1000)
        snprintf(to, room, "%.3fs", (double)ms / 1000);
    else
        snprintf(to, room, "%llus", (unsigned long long)(ms / 1000));
    return true;
}

/* The two services that say it in a header. A span in ms goes into retry-after-ms alone, so that a
 * test sees who reads it. */
static void add_retry_after(int status, const char *hint, struct head *h)
{
    uint64_t ms;

    if (!hint && overload(status))
        head_add(h, "retry-after", "1");
    if (!hint)
        return;
    if (strncmp(hint, "date:", 5) == 0) {
        if (options_duration(hint + 5, &ms))
            head_add_date(h, "retry-after", time(NULL) + (time_t)((ms + 999) / 1000));
    } else if (options_duration(hint, &ms)) {
        if (strstr(hint, "ms"))
            head_addf(h, "retry-after-ms", "%llu", (unsigned long long)ms);
        else
            head_addf(h, "retry-after", "%llu", (unsigned long long)((ms + 999) / 1000));
    }
}

static void gemini_body(const struct problem_row *row, int status, const char *word,
    const char *hint, struct text *body)
{
    char delay[32];

    text_printf(body, "{\"error\":{\"code\":%d,\"message\":", status);
    text_json_str(body, word);
    text_printf(body, ",\"status\":\"%s\",\"details\":[", row->gemini);
    if (hint_is(hint, "quota"))
        text_puts(body,
            "{\"@type\":\"type.googleapis.com/google.rpc.QuotaFailure\",\"violations\":["
            "{\"quotaId\":\"GenerateRequestsPerDayPerProjectPerModel\",\"quotaValue\":\"250\"}]},");
    if (retry_delay(status, hint, delay, sizeof delay))
        text_printf(body,
            "{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"%s\"}",
            delay);
    if (body->p[body->n - 1] == ',')
        body->n--;
    text_puts(body, "]}}");
}

void problem_answer(const struct plan *plan, int status, const char *word, const char *hint,
    struct head *h, struct text *body)
{
    struct problem_row row = row_of(status, hint);

    if (!word)
        word = row.word;
    h->status = status;
    head_add(h, "content-type",
        plan->service == PLAN_GEMINI ? "application/json; charset=UTF-8" : "application/json");
    shape_service_fields(plan, h);
    switch (plan->service) {
    case PLAN_OPENAI:
        add_retry_after(status, hint, h);
        text_puts(body, "{\"error\":{\"message\":");
        text_json_str(body, word);
        text_printf(body, ",\"type\":\"%s\",\"param\":null,\"code\":", row.openai_type);
        json_or_null(body, row.openai_code);
        text_puts(body, "}}");
        break;
    case PLAN_ANTHROPIC:
        add_retry_after(status, hint, h);
        text_printf(
            body, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", row.anthropic);
        text_json_str(body, word);
        if (hint_is(hint, "quota"))
            text_puts(body, ",\"details\":{\"error_code\":\"enforced_spend_limit_reached\"}");
        text_puts(body, "},\"request_id\":\"");
        shape_request_id(plan, body);
        text_puts(body, "\"}");
        break;
    case PLAN_GEMINI:
        gemini_body(&row, status, word, hint, body);
        break;
    case PLAN_OTHER:
        add_retry_after(status, hint, h);
        others_problem(plan, word, body);
        break;
    }
}

void problem_event(const struct plan *plan, unsigned sequence, struct text *to)
{
    struct problem_row row = row_of(plan->service == PLAN_ANTHROPIC ? 529 : 503, NULL);

    switch (plan->service) {
    case PLAN_ANTHROPIC:
        text_printf(to,
            "event: error\ndata: "
            "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":\"%s\"}}\n\n",
            row.anthropic, row.word);
        break;
    case PLAN_GEMINI: /* not within `data:` */
        gemini_body(&row, row.status, row.word, "none", to);
        text_puts(to, "\n");
        break;
    case PLAN_OPENAI:
        if (plan->route == PLAN_RESPONSES)
            text_printf(to,
                "event: error\ndata: {\"type\":\"error\",\"code\":\"%s\",\"message\":\"%s\","
                "\"param\":null,\"sequence_number\":%u}\n\n",
                row.openai_code, row.word, sequence);
        else
            text_printf(to,
                "data: {\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,"
                "\"code\":\"%s\"}}\n\n",
                row.word, row.openai_type, row.openai_code);
        break;
    case PLAN_OTHER:
        others_problem_event(plan, row.word, to);
        break;
    }
}
