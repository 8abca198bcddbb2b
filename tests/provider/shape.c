/* Answers in one piece. */
#include "shape.h"

#include <string.h>

#include "others.h"

static const char *const words[] = { "the", "river", "carries", "what", "it", "is", "given", "and",
    "keeps", "its", "own", "pace", "until", "morning", "comes", "again" };
#define WORDS (sizeof words / sizeof *words)

void shape_id(const struct plan *plan, const char *prefix, unsigned length, struct text *to)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint64_t salt = length, bits = 0;

    for (const char *p = prefix; *p; p++)
        salt = salt * 131 + (unsigned char)*p;
    text_puts(to, prefix);
    for (unsigned i = 0; i < length; i++) {
        if (i % 8 == 0)
            bits = plan_random(plan, salt + i);
        text_add(to, &digits[bits % 62], 1);
        bits /= 62;
    }
}

/* OpenAI's ids of response objects and its request ids are hexadecimal. */
static void hex_id(const struct plan *plan, const char *prefix, unsigned length, struct text *to)
{
    text_puts(to, prefix);
    for (unsigned i = 0; i < length; i += 16) {
        char part[17];

        snprintf(part, sizeof part, "%016llx",
            (unsigned long long)plan_random(plan, i + (unsigned char)prefix[0] * 256u));
        text_add(to, part, length - i < 16 ? length - i : 16);
    }
}

void shape_request_id(const struct plan *plan, struct text *to)
{
    if (plan->service == PLAN_ANTHROPIC)
        shape_id(plan, "req_011C", 20, to);
    else
        hex_id(plan, "req_", 32, to);
}

static void openai_fields(const struct plan *plan, struct head *h)
{
    struct text id = { 0 };

    shape_request_id(plan, &id);
    head_add(h, "x-request-id", id.p);
    text_free(&id);
    head_add(h, "openai-organization", "org-stand-in");
    head_add(h, "openai-version", "2020-10-01");
    head_addf(h, "openai-processing-ms", "%llu", (unsigned long long)plan->delay_ms + 1);
    head_add(h, "x-ratelimit-limit-requests", "10000");
    head_addf(h, "x-ratelimit-remaining-requests", "%u", (unsigned)(9999 - plan->serial % 9999));
    head_add(h, "x-ratelimit-reset-requests", "6ms");
    head_add(h, "x-ratelimit-limit-tokens", "2000000");
    head_addf(h, "x-ratelimit-remaining-tokens", "%u",
        2000000 - (plan->prompt_tokens + plan->tokens) % 2000000);
    head_add(h, "x-ratelimit-reset-tokens", "12ms");
}

static void anthropic_fields(const struct plan *plan, struct head *h)
{
    static const char *const kinds[] = { "requests", "tokens", "input-tokens", "output-tokens" };
    static const unsigned limits[] = { 4000, 480000, 400000, 80000 };
    const unsigned used[] = { 1, plan->prompt_tokens + plan->tokens, plan->prompt_tokens,
        plan->tokens };
    struct text id = { 0 };
    time_t reset = plan->born + 1;
    char name[64], at[32];
    struct tm tm;

    shape_request_id(plan, &id);
    head_add(h, "request-id", id.p);
    text_free(&id);
    head_add(h, "anthropic-organization-id", "00000000-0000-4000-8000-000000000000");
    gmtime_r(&reset, &tm);
    strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", &tm);
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "anthropic-ratelimit-%s-limit", kinds[i]);
        head_addf(h, name, "%u", limits[i]);
        snprintf(name, sizeof name, "anthropic-ratelimit-%s-remaining", kinds[i]);
        head_addf(h, name, "%u", limits[i] - used[i] % limits[i]);
        snprintf(name, sizeof name, "anthropic-ratelimit-%s-reset", kinds[i]);
        head_add(h, name, at);
    }
}

void shape_service_fields(const struct plan *plan, struct head *h)
{
    head_add_date(h, "date", time(NULL));
    switch (plan->service) {
    case PLAN_OPENAI:
        openai_fields(plan, h);
        break;
    case PLAN_ANTHROPIC:
        anthropic_fields(plan, h);
        break;
    case PLAN_GEMINI:
        head_add(h, "server", "scaffolding on HTTPServer2");
        head_add(h, "vary", "Origin");
        head_add(h, "x-content-type-options", "nosniff");
        break;
    case PLAN_OTHER:
        break;
    }
}

#define DOCUMENT_TOKEN 8 /* bytes, give or take those of one character */

unsigned shape_document_tokens(const struct plan *plan)
{
    return (unsigned)((strlen(plan->document) + DOCUMENT_TOKEN - 1) / DOCUMENT_TOKEN);
}

static void unquoted(const char *p, size_t n, struct text *to)
{
    struct text quoted = { 0 };

    text_json(&quoted, p, n, TEXT_UTF8);
    text_add(to, quoted.p + 1, quoted.n - 2);
    text_free(&quoted);
}

void shape_token(const struct plan *plan, unsigned i, struct text *to)
{
    if (plan->document) {
        size_t n = strlen(plan->document), at = (size_t)i * DOCUMENT_TOKEN;
        size_t from = text_utf8_cut(plan->document, n, at);

        at = text_utf8_cut(plan->document, n, at + DOCUMENT_TOKEN);
        unquoted(plan->document + from, at - from, to);
    } else if (i > 0) {
        text_printf(to, " %s", words[(i - 1) % WORDS]);
    } else {
        unquoted(plan->say, strlen(plan->say), to);
    }
}

void shape_text(const struct plan *plan, struct text *to)
{
    text_puts(to, "\"");
    for (unsigned i = 0; i < plan->tokens; i++)
        shape_token(plan, i, to);
    text_puts(to, "\"");
}

void shape_usage(const struct plan *plan, struct text *to)
{
    unsigned in = plan->prompt_tokens, out = plan->tokens;

    switch (plan->service) {
    case PLAN_ANTHROPIC:
        text_printf(to,
            "{\"input_tokens\":%u,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,"
            "\"cache_creation\":{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},"
            "\"output_tokens\":%u,\"service_tier\":\"standard\"}",
            in, out);
        break;
    case PLAN_GEMINI:
        text_printf(to,
            "{\"promptTokenCount\":%u,\"candidatesTokenCount\":%u,\"totalTokenCount\":%u,"
            "\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":%u}]}",
            in, out, in + out, in);
        break;
    case PLAN_OPENAI:
        if (plan->route == PLAN_RESPONSES)
            text_printf(to,
                "{\"input_tokens\":%u,\"input_tokens_details\":{\"cached_tokens\":0},"
                "\"output_tokens\":%u,\"output_tokens_details\":{\"reasoning_tokens\":0},"
                "\"total_tokens\":%u}",
                in, out, in + out);
        else
            text_printf(to,
                "{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,"
                "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
                "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"
                "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}",
                in, out, in + out);
        break;
    case PLAN_OTHER:
        break;
    }
}

const char *shape_finish(const struct plan *plan, bool filtered)
{
    switch (plan->service) {
    case PLAN_ANTHROPIC:
        return filtered       ? "refusal"
               : plan->capped ? "max_tokens"
               : plan->tool   ? "tool_use"
                              : "end_turn";
    case PLAN_GEMINI:
        return filtered ? "SAFETY" : plan->capped ? "MAX_TOKENS" : "STOP";
    case PLAN_OPENAI:
    case PLAN_OTHER:
        break;
    }
    return filtered       ? "content_filter"
           : plan->capped ? "length"
           : plan->tool   ? "tool_calls"
                          : "stop";
}

void shape_tool_call(const struct plan *plan, struct text *to)
{
    if (plan->service == PLAN_ANTHROPIC) {
        text_puts(to, "{\"type\":\"tool_use\",\"id\":\"");
        shape_id(plan, "toolu_01", 22, to);
        text_puts(to, "\",\"name\":");
        text_json_str(to, plan->tool);
        text_puts(to, ",\"input\":");
        return;
    }
    text_puts(to, "\"id\":\"");
    shape_id(plan, "call_", 24, to);
    text_puts(to, "\",\"type\":\"function\",\"function\":{\"name\":");
    text_json_str(to, plan->tool);
    text_puts(to, ",\"arguments\":");
}

static void chat(const struct plan *plan, bool filtered, struct text *body)
{
    text_puts(body, "{\"id\":\"");
    shape_id(plan, "chatcmpl-", 29, body);
    text_printf(body,
        "\",\"object\":\"chat.completion\",\"created\":%lld,\"model\":", (long long)plan->born);
    text_json_str(body, plan->model);
    text_puts(body, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    if (plan->tool) {
        text_puts(body, "null,\"tool_calls\":[{");
        shape_tool_call(plan, body);
        shape_text(plan, body);
        text_puts(body, "}}]");
    } else {
        shape_text(plan, body);
    }
    text_printf(body,
        ",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"%s\"}],"
        "\"usage\":",
        shape_finish(plan, filtered));
    shape_usage(plan, body);
    text_puts(body, ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0123456789\"}");
}

static void completion(const struct plan *plan, bool filtered, struct text *body)
{
    text_puts(body, "{\"id\":\"");
    shape_id(plan, "cmpl-", 29, body);
    text_printf(body,
        "\",\"object\":\"text_completion\",\"created\":%lld,\"model\":", (long long)plan->born);
    text_json_str(body, plan->model);
    text_puts(body, ",\"choices\":[{\"index\":0,\"logprobs\":null,\"text\":");
    shape_text(plan, body);
    text_printf(body, ",\"finish_reason\":\"%s\"}],\"usage\":", shape_finish(plan, filtered));
    shape_usage(plan, body);
    text_puts(body, "}");
}

static void function_call_item(const struct plan *plan, bool done, struct text *to)
{
    text_puts(to, "{\"id\":\"");
    hex_id(plan, "fc_", 49, to);
    text_printf(to, "\",\"type\":\"function_call\",\"status\":\"%s\",\"call_id\":\"",
        done ? "completed" : "in_progress");
    shape_id(plan, "call_", 24, to);
    text_puts(to, "\",\"name\":");
    text_json_str(to, plan->tool);
    text_puts(to, ",\"arguments\":");
    if (done)
        shape_text(plan, to);
    else
        text_puts(to, "\"\"");
    text_puts(to, "}");
}

void shape_output_item(const struct plan *plan, bool done, struct text *to)
{
    if (plan->tool) {
        function_call_item(plan, done, to);
        return;
    }
    text_puts(to, "{\"id\":\"");
    hex_id(plan, "msg_", 48, to);
    text_printf(to,
        "\",\"type\":\"message\",\"status\":\"%s\",\"role\":\"assistant\",\"content\":[",
        !done          ? "in_progress"
        : plan->capped ? "incomplete"
                       : "completed");
    if (done) {
        text_puts(to, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":");
        shape_text(plan, to);
        text_puts(to, "}");
    }
    text_puts(to, "]}");
}

void shape_response(const struct plan *plan, const char *status, struct text *to)
{
    bool done = strcmp(status, "in_progress") != 0;

    text_puts(to, "{\"id\":\"");
    hex_id(plan, "resp_", 48, to);
    text_printf(to,
        "\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"background\":false,"
        "\"error\":null,\"incomplete_details\":",
        (long long)plan->born, status);
    if (strcmp(status, "incomplete") == 0)
        text_printf(
            to, "{\"reason\":\"%s\"}", plan->capped ? "max_output_tokens" : "content_filter");
    else
        text_puts(to, "null");
    text_puts(to, ",\"instructions\":null,\"max_output_tokens\":null,\"model\":");
    text_json_str(to, plan->model);
    text_puts(to, ",\"output\":[");
    if (done)
        shape_output_item(plan, true, to);
    text_puts(to, "],\"parallel_tool_calls\":true,\"previous_response_id\":null,\"store\":true,"
                  "\"temperature\":1.0,\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0,"
                  "\"truncation\":\"disabled\",\"metadata\":{},\"usage\":");
    if (done)
        shape_usage(plan, to);
    else
        text_puts(to, "null");
    text_puts(to, "}");
}

static void messages(const struct plan *plan, bool filtered, struct text *body)
{
    text_puts(body, "{\"id\":\"");
    shape_id(plan, "msg_01", 22, body);
    text_puts(body, "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    text_json_str(body, plan->model);
    text_puts(body, ",\"content\":[");
    if (plan->tool) {
        shape_tool_call(plan, body);
        text_puts(body, plan->document);
    } else {
        text_puts(body, "{\"type\":\"text\",\"text\":");
        shape_text(plan, body);
    }
    text_printf(body, "}],\"stop_reason\":\"%s\",\"stop_sequence\":null,\"usage\":",
        shape_finish(plan, filtered));
    shape_usage(plan, body);
    text_puts(body, "}");
}

void shape_function_call(const struct plan *plan, struct text *to)
{
    text_puts(to, "{\"functionCall\":{\"name\":");
    text_json_str(to, plan->tool);
    text_printf(to, ",\"args\":%s}}", plan->document);
}

static void generate(const struct plan *plan, bool filtered, struct text *body)
{
    text_puts(body, "{\"candidates\":[{\"content\":{\"parts\":[");
    if (plan->tool) {
        shape_function_call(plan, body);
    } else {
        text_puts(body, "{\"text\":");
        shape_text(plan, body);
        text_puts(body, "}");
    }
    text_printf(body,
        "],\"role\":\"model\"},\"finishReason\":\"%s\",\"index\":0}],\"usageMetadata\":",
        shape_finish(plan, filtered));
    shape_usage(plan, body);
    text_puts(body, ",\"modelVersion\":");
    text_json_str(body, plan->model);
    text_puts(body, ",\"responseId\":\"");
    shape_id(plan, "", 22, body);
    text_puts(body, "\"}");
}

/* Numbers from -1 to 1 that depend on the input alone. */
static void vector(const struct plan *plan, uint64_t seed, struct text *body)
{
    struct text raw = { 0 };

    for (unsigned i = 0; i < plan->dimensions; i++) {
        float x;

        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x = (float)(int32_t)(seed >> 32) / 2147483648.0f;
        if (plan->base64)
            text_add(&raw, &x, sizeof x);
        else
            text_printf(body, "%s%.8f", i ? "," : "[", (double)x);
    }
    if (plan->base64) {
        text_puts(body, "\"");
        text_base64(body, (const unsigned char *)raw.p, raw.n);
        text_puts(body, "\"");
    } else {
        text_puts(body, "]");
    }
    text_free(&raw);
}

static void gemini_embeddings(const struct plan *plan, struct text *body)
{
    text_puts(body, "{\"embeddings\":[");
    for (unsigned i = 0; i < plan->n_seeds; i++) {
        text_printf(body, "%s{\"values\":", i ? "," : "");
        vector(plan, plan->seeds[i], body);
        text_puts(body, "}");
    }
    text_puts(body, "]}");
}

static void embeddings(const struct plan *plan, struct text *body)
{
    text_puts(body, "{\"object\":\"list\",\"data\":[");
    for (unsigned i = 0; i < plan->n_seeds; i++) {
        text_printf(
            body, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", i ? "," : "", i);
        vector(plan, plan->seeds[i], body);
        text_puts(body, "}");
    }
    text_puts(body, "],\"model\":");
    text_json_str(body, plan->model);
    text_printf(body, ",\"usage\":{\"prompt_tokens\":%u,\"total_tokens\":%u}}", plan->prompt_tokens,
        plan->prompt_tokens);
}

static void model(const struct plan *plan, const char *name, struct text *body)
{
    switch (plan->service) {
    case PLAN_OPENAI:
        text_puts(body, "{\"id\":");
        text_json_str(body, name);
        text_puts(body, ",\"object\":\"model\",\"created\":1721172741,\"owned_by\":\"system\"}");
        break;
    case PLAN_ANTHROPIC:
        text_puts(body, "{\"type\":\"model\",\"id\":");
        text_json_str(body, name);
        text_puts(body, ",\"display_name\":");
        text_json_str(body, name);
        text_puts(body, ",\"created_at\":\"2025-09-29T00:00:00Z\"}");
        break;
    case PLAN_GEMINI:
        text_printf(body, "{\"name\":\"models/%s\",\"displayName\":\"%s\",", name, name);
        text_puts(body,
            "\"inputTokenLimit\":1048576,\"outputTokenLimit\":65536,"
            "\"supportedGenerationMethods\":[\"generateContent\",\"streamGenerateContent\"]}");
        break;
    case PLAN_OTHER:
        break;
    }
}

static void models(const struct plan *plan, struct text *body)
{
    static const char *const names[][2] = { [PLAN_OPENAI] = { "gpt-4o", "gpt-4o-mini" },
        [PLAN_ANTHROPIC] = { "claude-sonnet-4-5", "claude-haiku-4-5" },
        [PLAN_GEMINI] = { "gemini-2.5-pro", "gemini-2.5-flash" },
        [PLAN_OTHER] = { "a-model", "another-model" } };

    if (plan->model) {
        model(plan, plan->model, body);
        return;
    }
    text_puts(body, plan->service == PLAN_OPENAI   ? "{\"object\":\"list\",\"data\":["
                    : plan->service == PLAN_GEMINI ? "{\"models\":["
                                                   : "{\"data\":[");
    model(plan, names[plan->service][0], body);
    text_puts(body, ",");
    model(plan, names[plan->service][1], body);
    text_puts(body, "]");
    if (plan->service == PLAN_ANTHROPIC)
        text_printf(body, ",\"has_more\":false,\"first_id\":\"%s\",\"last_id\":\"%s\"",
            names[PLAN_ANTHROPIC][0], names[PLAN_ANTHROPIC][1]);
    text_puts(body, "}");
}

void shape_answer(const struct plan *plan, bool filtered, struct head *h, struct text *body)
{
    h->status = 200;
    head_add(h, "content-type",
        plan->service == PLAN_GEMINI ? "application/json; charset=UTF-8" : "application/json");
    shape_service_fields(plan, h);
    switch (plan->route) {
    case PLAN_CHAT:
        chat(plan, filtered, body);
        break;
    case PLAN_COMPLETIONS:
        completion(plan, filtered, body);
        break;
    case PLAN_RESPONSES:
        shape_response(plan, plan->capped || filtered ? "incomplete" : "completed", body);
        break;
    case PLAN_EMBEDDINGS:
        if (plan->service == PLAN_GEMINI)
            gemini_embeddings(plan, body);
        else
            embeddings(plan, body);
        break;
    case PLAN_MODELS:
        models(plan, body);
        break;
    case PLAN_MESSAGES:
        messages(plan, filtered, body);
        break;
    case PLAN_COUNT_TOKENS:
        text_printf(body,
            plan->service == PLAN_GEMINI ? "{\"totalTokens\":%u}" : "{\"input_tokens\":%u}",
            plan->prompt_tokens);
        break;
    case PLAN_GENERATE:
        generate(plan, filtered, body);
        break;
    case PLAN_CONVERSE:
    case PLAN_COHERE:
    case PLAN_OLLAMA:
    case PLAN_PREDICTIONS:
    case PLAN_STRIPE:
        others_answer(plan, filtered, body);
        break;
    case PLAN_ECHO:
    case PLAN_HEALTH:
    case PLAN_STATS:
    case PLAN_STORED:
    case PLAN_UNKNOWN:
        break;
    }
}
