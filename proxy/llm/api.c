/* The tables. A path stands with what it means; the two arrays of each API are made from one list.
 */
#include "llm/api.h"

#define PATH_OF(sense, ...) { { __VA_ARGS__ } },
#define SENSE_OF(sense, ...) SENSE_##sense,
#define TABLE(name, LIST)                                                                          \
    static const struct scanner_path name##_paths[] = { LIST(PATH_OF) };                           \
    static const enum llm_sense name##_senses[] = { LIST(SENSE_OF) };

#define ERRORS(X)                                                                                  \
    X(ERROR, "error")                                                                              \
    X(ERROR_TYPE, "error", "type")                                                                 \
    X(ERROR_TYPE, "error", "status")                                                               \
    X(ERROR_CODE, "error", "code")                                                                 \
    X(ERROR_MESSAGE, "error", "message")                                                           \
    X(ERROR_DETAIL, "error", "details", "*", "violations", "*", "quotaId")                         \
    X(ERROR_DETAIL, "error", "details", "error_code")                                              \
    X(ERROR_DETAIL, "error", "details", "*", "reason")                                             \
    X(RETRY_DELAY, "error", "details", "*", "retryDelay")                                          \
    X(ID, "request_id")

/* Services add fields of their own to a delta: whatever has text in it is content, but the role. */
#define CHAT(X)                                                                                    \
    ERRORS(X)                                                                                      \
    X(CONTENT, "choices", "*", "delta", "*")                                                       \
    X(CONTENT, "choices", "*", "delta", "*", "*")                                                  \
    X(ROLE, "choices", "*", "delta", "role")                                                       \
    X(CONTENT, "choices", "*", "message")                                                          \
    X(CONTENT, "choices", "*", "text")                                                             \
    X(FINISH, "choices", "*", "finish_reason")                                                     \
    X(INPUT, "usage", "prompt_tokens")                                                             \
    X(OUTPUT, "usage", "completion_tokens")                                                        \
    X(CACHED, "usage", "prompt_tokens_details", "cached_tokens")                                   \
    X(REASONING, "usage", "completion_tokens_details", "reasoning_tokens")

#define RESPONSES(X)                                                                               \
    ERRORS(X)                                                                                      \
    X(TYPE, "type")                                                                                \
    X(RESPONSE_ID, "id")                                                                           \
    X(RESPONSE_ID, "response", "id")                                                               \
    X(CONTENT, "output", "*")                                                                      \
    X(ERROR_CODE, "code")                                                                          \
    X(ERROR_MESSAGE, "message")                                                                    \
    X(ERROR_CODE, "response", "error", "code")                                                     \
    X(ERROR_TYPE, "response", "error", "type")                                                     \
    X(ERROR_MESSAGE, "response", "error", "message")                                               \
    X(INPUT, "response", "usage", "input_tokens")                                                  \
    X(OUTPUT, "response", "usage", "output_tokens")                                                \
    X(CACHED, "response", "usage", "input_tokens_details", "cached_tokens")                        \
    X(REASONING, "response", "usage", "output_tokens_details", "reasoning_tokens")                 \
    X(INPUT, "usage", "input_tokens")                                                              \
    X(OUTPUT, "usage", "output_tokens")                                                            \
    X(CACHED, "usage", "input_tokens_details", "cached_tokens")                                    \
    X(REASONING, "usage", "output_tokens_details", "reasoning_tokens")

#define EMBEDDINGS(X)                                                                              \
    ERRORS(X)                                                                                      \
    X(CONTENT, "data", "*")                                                                        \
    X(INPUT, "usage", "prompt_tokens")

#define MESSAGES(X)                                                                                \
    ERRORS(X)                                                                                      \
    X(TYPE, "type")                                                                                \
    X(CONTENT, "content", "*")                                                                     \
    X(CONTENT, "delta", "text")                                                                    \
    X(CONTENT, "delta", "thinking")                                                                \
    X(CONTENT, "delta", "partial_json")                                                            \
    X(FINISH, "delta", "stop_reason")                                                              \
    X(FINISH, "stop_reason")                                                                       \
    X(INPUT, "message", "usage", "input_tokens")                                                   \
    X(OUTPUT, "message", "usage", "output_tokens")                                                 \
    X(INPUT_MORE, "message", "usage", "cache_creation_input_tokens")                               \
    X(CACHED_BESIDE, "message", "usage", "cache_read_input_tokens")                                \
    X(INPUT, "usage", "input_tokens")                                                              \
    X(OUTPUT, "usage", "output_tokens")                                                            \
    X(INPUT_MORE, "usage", "cache_creation_input_tokens")                                          \
    X(CACHED_BESIDE, "usage", "cache_read_input_tokens")

#define GEMINI(X)                                                                                  \
    ERRORS(X)                                                                                      \
    X(CONTENT, "candidates", "*", "content", "parts", "*", "text")                                 \
    X(CONTENT, "candidates", "*", "content", "parts", "*", "functionCall")                         \
    X(CONTENT, "candidates", "*", "content", "parts", "*", "inlineData")                           \
    X(CONTENT, "candidates", "*", "content", "parts", "*", "executableCode")                       \
    X(CONTENT, "embedding")                                                                        \
    X(CONTENT, "embeddings", "*")                                                                  \
    X(CONTENT, "totalTokens")                                                                      \
    X(FINISH, "candidates", "*", "finishReason")                                                   \
    X(FINISH, "promptFeedback", "blockReason")                                                     \
    X(INPUT, "usageMetadata", "promptTokenCount")                                                  \
    X(INPUT_MORE, "usageMetadata", "toolUsePromptTokenCount")                                      \
    X(CACHED, "usageMetadata", "cachedContentTokenCount")                                          \
    X(OUTPUT, "usageMetadata", "candidatesTokenCount")                                             \
    X(REASONING_BESIDE, "usageMetadata", "thoughtsTokenCount")

TABLE(other, ERRORS)
TABLE(chat, CHAT)
TABLE(responses, RESPONSES)
TABLE(embeddings, EMBEDDINGS)
TABLE(messages, MESSAGES)
TABLE(gemini, GEMINI)

#define ROW(id, table, done, needs)                                                                \
    [id] = { #table, table##_paths, table##_senses,                                                \
        sizeof(table##_paths) / sizeof(*table##_paths), done, needs }

static const struct llm_table tables[LLM_NAPIS] = {
    ROW(LLM_OTHER, other, NULL, false),
    ROW(LLM_CHAT, chat, "[DONE]", true),
    ROW(LLM_RESPONSES, responses, NULL, true),
    ROW(LLM_EMBEDDINGS, embeddings, NULL, false),
    ROW(LLM_MESSAGES, messages, NULL, true),
    ROW(LLM_GEMINI, gemini, NULL, true),
};

const struct llm_table *api_table(enum llm_api api)
{
    return &tables[api];
}

static bool api_ends_with(struct str s, struct str end)
{
    return s.n >= end.n && memcmp(s.p + s.n - end.n, end.p, end.n) == 0;
}

static bool api_contains(struct str s, struct str what)
{
    for (size_t i = 0; i + what.n <= s.n; i++)
        if (str_eq_nocase(str_make(s.p + i, what.n), what))
            return true;
    return false;
}

static bool api_is_gemini(struct str path)
{
    struct str at, method;
    ptrdiff_t slash;

    if (!str_cut(path, ':', &at, &method))
        return false;
    slash = str_find_char(method, '/');
    return slash < 0 &&
           (api_ends_with(method, STR("enerateContent")) ||
               api_ends_with(method, STR("mbedContent")) ||
               api_ends_with(method, STR("mbedContents")) || str_eq(method, STR("countTokens")));
}

enum llm_api api_of(enum llm_family family, struct str target)
{
    struct str path, query;
    bool any = family == LLM_BY_PATH;

    str_cut(target, '?', &path, &query);
    if ((any || family == LLM_GOOGLE) && api_is_gemini(path))
        return LLM_GEMINI;
    if ((any || family == LLM_ANTHROPIC) && api_ends_with(path, STR("/messages")))
        return LLM_MESSAGES;
    if (!any && family != LLM_OPENAI)
        return LLM_OTHER;
    if (api_ends_with(path, STR("/completions")))
        return LLM_CHAT;
    if (api_ends_with(path, STR("/responses")))
        return LLM_RESPONSES;
    if (api_ends_with(path, STR("/embeddings")))
        return LLM_EMBEDDINGS;
    return LLM_OTHER;
}

enum llm_family api_family(struct str target)
{
    struct str path, query;

    str_cut(target, '?', &path, &query);
    if (api_is_gemini(path) || api_contains(path, STR("/v1beta/")) ||
        api_contains(path, STR("/v1alpha/")))
        return LLM_GOOGLE;
    if (api_contains(path, STR("/v1/messages")))
        return LLM_ANTHROPIC;
    if (api_of(LLM_OPENAI, target) != LLM_OTHER || api_contains(path, STR("/v1/")) ||
        api_contains(path, STR("/openai/")))
        return LLM_OPENAI;
    return LLM_NO_FAMILY;
}

enum llm_event api_event(enum llm_api api, struct str name)
{
    switch (api) {
    case LLM_RESPONSES:
        if (str_eq(name, STR("response.completed")) || str_eq(name, STR("response.incomplete")))
            return EVENT_TERMINAL;
        if (str_eq(name, STR("error")) || str_eq(name, STR("response.failed")))
            return EVENT_ERROR;
        return api_ends_with(name, STR(".delta")) ? EVENT_CONTENT : EVENT_PLAIN;
    case LLM_MESSAGES:
        if (str_eq(name, STR("message_stop")))
            return EVENT_TERMINAL;
        return str_eq(name, STR("error")) ? EVENT_ERROR : EVENT_PLAIN;
    case LLM_CHAT:
    case LLM_GEMINI:
    case LLM_EMBEDDINGS:
    case LLM_OTHER:
        break;
    }
    return str_eq(name, STR("error")) ? EVENT_ERROR : EVENT_PLAIN;
}

/* What a word in an error's type, code, message or detail means: the first that is found counts. */
static const struct {
    const char *word;
    enum llm_error means;
} words[] = {
    { "insufficient_quota", LLM_ERROR_QUOTA },
    { "billing", LLM_ERROR_QUOTA },
    { "spend_limit", LLM_ERROR_QUOTA },
    { "spending limit", LLM_ERROR_QUOTA },
    { "credit balance", LLM_ERROR_QUOTA },
    { "usage_limit", LLM_ERROR_QUOTA },
    { "PerDay", LLM_ERROR_QUOTA },
    { "context_length_exceeded", LLM_ERROR_CONTEXT },
    { "context length", LLM_ERROR_CONTEXT },
    { "context window", LLM_ERROR_CONTEXT },
    { "prompt is too long", LLM_ERROR_CONTEXT },
    { "string_above_max_length", LLM_ERROR_CONTEXT },
    { "maximum number of tokens", LLM_ERROR_CONTEXT },
    { "content_filter", LLM_ERROR_FILTER },
    { "content_policy_violation", LLM_ERROR_FILTER },
    { "content management policy", LLM_ERROR_FILTER },
    { "ResponsibleAIPolicyViolation", LLM_ERROR_FILTER },
    { "API_KEY_INVALID", LLM_ERROR_AUTH },
    { "invalid_api_key", LLM_ERROR_AUTH },
    { "authentication_error", LLM_ERROR_AUTH },
    { "permission_error", LLM_ERROR_AUTH },
    { "PERMISSION_DENIED", LLM_ERROR_AUTH },
    { "UNAUTHENTICATED", LLM_ERROR_AUTH },
    { "overloaded", LLM_ERROR_OVERLOADED },
    { "slow_down", LLM_ERROR_OVERLOADED },
    { "UNAVAILABLE", LLM_ERROR_OVERLOADED },
    { "rate_limit", LLM_ERROR_RATE },
    { "RESOURCE_EXHAUSTED", LLM_ERROR_RATE },
    { "invalid_request_error", LLM_ERROR_INVALID },
    { "INVALID_ARGUMENT", LLM_ERROR_INVALID },
    { "api_error", LLM_ERROR_SERVER },
    { "server_error", LLM_ERROR_SERVER },
    { "INTERNAL", LLM_ERROR_SERVER },
};

static enum llm_error api_error_of_status(unsigned status)
{
    switch (status) {
    case 401:
    case 403:
        return LLM_ERROR_AUTH;
    case 402:
        return LLM_ERROR_QUOTA;
    case 429:
        return LLM_ERROR_RATE;
    case 503:
    case 529:
        return LLM_ERROR_OVERLOADED;
    default:
        return status >= 500   ? LLM_ERROR_SERVER
               : status >= 400 ? LLM_ERROR_INVALID
                               : LLM_ERROR_OTHER;
    }
}

enum llm_error api_error(
    unsigned status, struct str type, struct str code, struct str message, struct str detail)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        struct str w = str_of(words[i].word);

        if (api_contains(type, w) || api_contains(code, w) || api_contains(detail, w) ||
            api_contains(message, w))
            return words[i].means;
    }
    return api_error_of_status(status);
}

const char *api_error_name(enum llm_error e)
{
    static const char *const names[] = {
        [LLM_ERROR_NONE] = "none",
        [LLM_ERROR_OTHER] = "other",
        [LLM_ERROR_RATE] = "rate_limit",
        [LLM_ERROR_QUOTA] = "quota",
        [LLM_ERROR_AUTH] = "auth",
        [LLM_ERROR_OVERLOADED] = "overloaded",
        [LLM_ERROR_CONTEXT] = "context_length",
        [LLM_ERROR_FILTER] = "content_filter",
        [LLM_ERROR_INVALID] = "invalid_request",
        [LLM_ERROR_SERVER] = "server_error",
    };

    return names[e];
}
