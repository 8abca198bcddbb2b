/* Answers of the services, in one piece and cut at every byte: content, ends, errors, usage. */
#include "llm/reader.h"

#include <string.h>

#include "unit.h"

#define CHAT(delta)                                                                                \
    "data: {\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":null}]}\n\n"
#define U(...)                                                                                     \
    {                                                                                              \
        __VA_ARGS__, true                                                                          \
    }

static const struct {
    const char *name;
    enum llm_api api;
    bool stream;
    const char *text;
    bool content, complete;
    enum llm_error error;
    struct llm_usage usage;
} rows[] = {
    { "a role is no content", LLM_CHAT, true,
        ": hi\n\n" CHAT("{\"role\":\"assistant\",\"content\":\"\"}"), false, false, 0, { 0 } },
    { "neither are empty lists", LLM_CHAT, true,
        CHAT("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}"), false, false, 0,
        { 0 } },
    { "a field of some service's own", LLM_CHAT, true,
        CHAT("{\"reasoning_details\":[{\"text\":\"x\"}]}"), true, false, 0, { 0 } },
    { "a bare error instead of events", LLM_GEMINI, true,
        "[{\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\"}}]", false, false,
        LLM_ERROR_OVERLOADED, { 0 } },
    { "chat to its end", LLM_CHAT, true,
        CHAT("{\"role\":\"assistant\"}")
            CHAT("{\"content\":\"h\\\"i\"}") "data: "
                                             "{\"choices\":[],\"usage\":{\"prompt_tokens\":9,"
                                             "\"completion_tokens\":7,"
                                             "\"prompt_tokens_details\":{\"cached_tokens\":4},"
                                             "\"completion_tokens_details\":{\"reasoning_"
                                             "tokens\":3}}}\n\ndata: [DONE]\n\n",
        true, true, 0, U(9, 7, 4, 3, 15) },
    { "reasoning is content", LLM_CHAT, true, CHAT("{\"reasoning_content\":\"hm\"}"), true, false,
        0, { 0 } },
    { "a tool's call is content", LLM_CHAT, true, CHAT("{\"tool_calls\":[{\"id\":\"a\"}]}"), true,
        false, 0, { 0 } },
    { "carriage returns", LLM_CHAT, true,
        "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\r\rdata: [DONE]\r\r", true, true, 0,
        { 0 } },
    { "a byte order mark", LLM_CHAT, true,
        "\xef\xbb\xbf"
        "data:[DONE]\r\n\r\n",
        true, true, 0, { 0 } },
    { "an error in the stream", LLM_CHAT, true,
        "data: {\"error\":{\"message\":\"x\",\"type\":\"server_error\",\"code\":null}}\n\n", false,
        false, LLM_ERROR_SERVER, { 0 } },
    { "nearly done", LLM_CHAT, true, "data: [DONE]x\n\ndata: [DON\n\n", false, false, 0, { 0 } },
    { "chat in one piece", LLM_CHAT, false,
        "{\"choices\":[{\"message\":{\"content\":\"hi\"}}],\"usage\":{\"prompt_tokens\":2,"
        "\"completion_"
        "tokens\":1,\"total_tokens\":3}}",
        true, true, 0, U(2, 1, 0, 0, 3) },
    { "responses begin without content", LLM_RESPONSES, true,
        "event: response.created\ndata: "
        "{\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n",
        false, false, 0, { 0 } },
    { "responses to their end", LLM_RESPONSES, true,
        "event: response.output_text.delta\ndata: "
        "{\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n"
        "event: response.completed\ndata: "
        "{\"type\":\"response.completed\",\"response\":{\"usage\":{"
        "\"input_tokens\":5,\"input_tokens_details\":{\"cached_tokens\":2},\"output_tokens\":6,"
        "\"output_tokens_details\":{\"reasoning_tokens\":1}}}}\n\n",
        true, true, 0, U(5, 6, 2, 1, 15) },
    { "a quota that is out, behind response.created", LLM_RESPONSES, true,
        "data: {\"type\":\"response.created\"}\n\ndata: "
        "{\"type\":\"error\",\"code\":\"insufficient_quota\","
        "\"message\":\"m\"}\n\n",
        false, false, LLM_ERROR_QUOTA, { 0 } },
    { "pings", LLM_MESSAGES, true,
        "event: message_start\ndata: "
        "{\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{"
        "\"input_tokens\":3,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n",
        false, false, 0, U(3, 1, 0, 0, 3) },
    { "messages to their end; usage is cumulative", LLM_MESSAGES, true,
        "event: message_start\ndata: "
        "{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3,"
        "\"cache_creation_input_tokens\":10,\"cache_read_input_tokens\":100,\"output_tokens\":1}}}"
        "\n\n"
        "data: "
        "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":"
        "\"x\"}}\n\n"
        "data: "
        "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_"
        "tokens\":8}"
        "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        true, true, 0, U(113, 8, 100, 0, 7) },
    { "overloaded in a stream", LLM_MESSAGES, true,
        "event: error\ndata: "
        "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"O\"}}\n\n",
        false, false, LLM_ERROR_OVERLOADED, { 0 } },
    { "gemini to its end", LLM_GEMINI, true,
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\n\ndata: "
        "{\"candidates\":[{"
        "\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":7,"
        "\"candidatesTokenCount\":2,"
        "\"thoughtsTokenCount\":5,\"cachedContentTokenCount\":1}}\n\n",
        true, true, 0, U(7, 7, 1, 5, 15) },
    { "gemini as an array", LLM_GEMINI, false,
        "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\n,\n{\"usageMetadata\":{"
        "\"promptTokenCount\":7}}]",
        true, true, 0, U(7, 0, 0, 0, 1) },
    { "gemini's error in an array", LLM_GEMINI, false,
        "[{\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":\"x\"}"
        ",{"
        "\"retryDelay\":\"17s\"}]}}]",
        false, true, LLM_ERROR_RATE, { 0 } },
    { "a quota per day", LLM_GEMINI, false,
        "{\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"violations\":[{"
        "\"quotaId\":"
        "\"GenerateRequestsPerDayPerProject\"}]}]}}",
        false, true, LLM_ERROR_QUOTA, { 0 } },
    { "embeddings", LLM_EMBEDDINGS, false,
        "{\"data\":[{\"embedding\":[0.5,-1e-3]}],\"usage\":{\"prompt_tokens\":4}}", true, true, 0,
        U(4, 0, 0, 0, 1) },
    { "no JSON at all", LLM_CHAT, false, "<html>]]", false, true, 0, { 0 } },
};

START_TEST(reads_answers_cut_anywhere)
{
    size_t n = strlen(rows[_i].text);

    for (size_t cut = 0; cut <= n; cut++) {
        struct reader *r = reader_new(rows[_i].api, rows[_i].stream);
        struct llm_usage u;

        reader_feed(r, str_make(rows[_i].text, cut));
        reader_feed(r, str_make(rows[_i].text + cut, n - cut));
        u = reader_usage(r);
        ck_assert_msg(reader_has_content(r) == rows[_i].content, "%s, content", rows[_i].name);
        ck_assert_msg(reader_is_complete(r) == rows[_i].complete, "%s, end", rows[_i].name);
        ck_assert_msg(reader_error(r, 0) == rows[_i].error, "%s, error %s", rows[_i].name,
            api_error_name(reader_error(r, 0)));
        ck_assert_msg(u.known == rows[_i].usage.known && u.input == rows[_i].usage.input &&
                          u.output == rows[_i].usage.output && u.cached == rows[_i].usage.cached &&
                          u.reasoning == rows[_i].usage.reasoning && u.told == rows[_i].usage.told,
            "%s, usage", rows[_i].name);
        reader_free(r);
    }
}
END_TEST

START_TEST(reads_byte_by_byte)
{
    struct reader *r = reader_new(rows[_i].api, rows[_i].stream);

    for (const char *p = rows[_i].text; *p; p++)
        reader_feed(r, str_make(p, 1));
    ck_assert(reader_has_content(r) == rows[_i].content);
    ck_assert_uint_eq(reader_usage(r).output, rows[_i].usage.output);
    reader_free(r);
}
END_TEST

static const struct {
    unsigned status;
    const char *body;
    enum llm_error error;
} errors[] = {
    { 429,
        "{\"error\":{\"message\":\"Rate "
        "limit\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}",
        LLM_ERROR_RATE },
    { 429,
        "{\"error\":{\"message\":\"You exceeded your current "
        "quota\",\"type\":\"insufficient_quota\"}}",
        LLM_ERROR_QUOTA },
    { 429,
        "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"details\":{\"error_code\":"
        "\"enforced_spend_limit_reached\"}}}",
        LLM_ERROR_QUOTA },
    { 400, "{\"error\":{\"code\":\"context_length_exceeded\"}}", LLM_ERROR_CONTEXT },
    { 400,
        "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"prompt is "
        "too long: 9 tokens\"}}",
        LLM_ERROR_CONTEXT },
    { 400, "{\"error\":{\"code\":\"content_filter\"}}", LLM_ERROR_FILTER },
    { 400,
        "{\"error\":{\"status\":\"INVALID_ARGUMENT\",\"details\":[{\"reason\":\"API_KEY_INVALID\"}]"
        "}}",
        LLM_ERROR_AUTH },
    { 400, "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"bad\"}}",
        LLM_ERROR_INVALID },
    { 401, "", LLM_ERROR_AUTH },
    { 402, "no", LLM_ERROR_QUOTA },
    { 529, "", LLM_ERROR_OVERLOADED },
    { 500, "<html>", LLM_ERROR_SERVER },
    { 200, "{}", LLM_ERROR_NONE },
};

START_TEST(tells_errors_apart)
{
    for (int api = 0; api < LLM_NAPIS; api++) {
        struct reader *r = reader_new((enum llm_api)api, false);

        reader_feed(r, str_of(errors[_i].body));
        ck_assert_msg(reader_error(r, errors[_i].status) == errors[_i].error, "%s is %s",
            errors[_i].body, api_error_name(reader_error(r, errors[_i].status)));
        reader_free(r);
    }
}
END_TEST

START_TEST(reads_the_delay)
{
    struct reader *r = reader_new(LLM_GEMINI, false);
    uint64_t ms;

    ck_assert(!reader_retry_delay(r, &ms));
    reader_feed(r, STR("{\"error\":{\"details\":[{\"retryDelay\":\"17.5s\"}]}}"));
    ck_assert(reader_retry_delay(r, &ms));
    ck_assert_uint_eq(ms, 17500);
    reader_free(r);
}
END_TEST

static const struct {
    enum llm_family family;
    const char *target;
    enum llm_api api;
} targets[] = {
    { LLM_BY_PATH, "/v1/chat/completions?api-version=1", LLM_CHAT },
    { LLM_BY_PATH, "/openai/deployments/x/chat/completions", LLM_CHAT },
    { LLM_BY_PATH, "/v1/responses", LLM_RESPONSES },
    { LLM_BY_PATH, "/v1/responses/resp_1/cancel", LLM_OTHER },
    { LLM_BY_PATH, "/v1/embeddings", LLM_EMBEDDINGS },
    { LLM_BY_PATH, "/v1/messages", LLM_MESSAGES },
    { LLM_BY_PATH, "/v1/messages/count_tokens", LLM_OTHER },
    { LLM_BY_PATH, "/v1beta/models/gemini-2:streamGenerateContent?alt=sse", LLM_GEMINI },
    { LLM_BY_PATH, "/v1beta/models/gemini-2:generateContent", LLM_GEMINI },
    { LLM_BY_PATH, "/", LLM_OTHER },
    { LLM_OPENAI, "/v1/messages", LLM_OTHER },
    { LLM_ANTHROPIC, "/v1/messages", LLM_MESSAGES },
    { LLM_NO_FAMILY, "/v1/chat/completions", LLM_OTHER },
};

START_TEST(knows_an_api_by_its_path)
{
    ck_assert_int_eq(api_of(targets[_i].family, str_of(targets[_i].target)), targets[_i].api);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("reader");

    tcase_add_loop_test(t, reads_answers_cut_anywhere, 0, COUNT_OF(rows));
    tcase_add_loop_test(t, reads_byte_by_byte, 0, COUNT_OF(rows));
    tcase_add_loop_test(t, tells_errors_apart, 0, COUNT_OF(errors));
    tcase_add_test(t, reads_the_delay);
    tcase_add_loop_test(t, knows_an_api_by_its_path, 0, COUNT_OF(targets));
    return t;
}

UNIT_MAIN("reader")
