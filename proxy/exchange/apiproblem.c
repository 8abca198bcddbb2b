/* The shapes, as the SDKs of autumn 2026 read them. */
#include "exchange/apiproblem.h"

#include "exchange/routepath.h"
#include "upstream/rewrite.h"

static bool apiproblem_is_shaped(enum llm_family family)
{
    return family == LLM_OPENAI || family == LLM_ANTHROPIC || family == LLM_GOOGLE;
}

enum llm_family apiproblem_family(const struct route_conf *r, const struct head *request)
{
    enum llm_family family = rewrite_family(r->upstream);
    struct arena scratch = { 0 };

    if (family != LLM_BY_PATH)
        return family;
    if (head_find(request, STR("anthropic-version")))
        return LLM_ANTHROPIC;
    if (head_find(request, STR("x-goog-api-key")))
        return LLM_GOOGLE;
    family = api_family(routepath_out(r, &scratch, request->target));
    arena_release(&scratch);
    return family;
}

/* Anthropic's words, by status. */
static const char *apiproblem_anthropic_type(unsigned status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 408:
    case 504:
        return "timeout_error";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_error";
    case 503:
    case 529:
        return "overloaded_error";
    default:
        return status < 500 ? "invalid_request_error" : "api_error";
    }
}

/* google.rpc.Code, by status. */
static const char *apiproblem_google_status(unsigned status)
{
    switch (status) {
    case 401:
        return "UNAUTHENTICATED";
    case 403:
        return "PERMISSION_DENIED";
    case 404:
        return "NOT_FOUND";
    case 408:
    case 504:
        return "DEADLINE_EXCEEDED";
    case 429:
        return "RESOURCE_EXHAUSTED";
    case 501:
        return "UNIMPLEMENTED";
    case 502:
    case 503:
        return "UNAVAILABLE";
    default:
        return status < 500 ? "INVALID_ARGUMENT" : "INTERNAL";
    }
}

static const char *apiproblem_openai_type(unsigned status)
{
    if (status == 429)
        return "rate_limit_error";
    return status < 500 ? "invalid_request_error" : "server_error";
}

struct str apiproblem_json(
    struct arena *a, enum llm_family family, enum problem p, unsigned status, const char *exchange)
{
    const char *title = problem_title(p), *error = problem_error(p);

    if (!status)
        status = problem_status(p);
    switch (family) {
    case LLM_OPENAI:
        return arena_printf(a,
            "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}",
            title, apiproblem_openai_type(status), error);
    case LLM_ANTHROPIC:
        return arena_printf(a,
            "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":\"%s\",\"code\":\"%s\"},"
            "\"request_id\":\"%s\"}",
            apiproblem_anthropic_type(status), title, error, exchange);
    case LLM_GOOGLE:
        return arena_printf(a,
            "{\"error\":{\"code\":%u,\"message\":\"%s\",\"status\":\"%s\",\"details\":[{\"@type\":"
            "\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"%s\",\"domain\":\"tarry\","
            "\"metadata\":{\"exchange\":\"%s\"}}]}}",
            status, title, apiproblem_google_status(status), error, exchange);
    case LLM_BY_PATH:
    case LLM_NO_FAMILY:
        break;
    }
    return problem_json(a, p, status, exchange);
}

int apiproblem_head(
    struct arena *a, enum llm_family family, const char *exchange, struct head *head)
{
    struct str id;

    if (!apiproblem_is_shaped(family))
        return 0;
    id = arena_copy(a, str_of(exchange));
    if (!id.p || head_set(head, a, STR("Content-Type"), STR("application/json")) < 0 ||
        head_add(head, a, STR("x-request-id"), id) < 0)
        return -1;
    /* Anthropic's SDKs read the id from here. */
    return family == LLM_ANTHROPIC ? head_add(head, a, STR("request-id"), id) : 0;
}
