/* Answers of the services beside the three large ones. */
#include "others.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "shape.h"

static void document(const struct plan *plan, struct text *to)
{
    text_puts(to, plan->document ? plan->document : "{}");
}

/* Bedrock's Converse. A stream is made of binary frames, each with an event's name in its headers
 * and JSON as payload. */

static void add_u32(struct text *to, size_t number)
{
    unsigned char b[4] = { (unsigned char)(number >> 24), (unsigned char)(number >> 16),
        (unsigned char)(number >> 8), (unsigned char)number };

    text_add(to, b, sizeof b);
}

static void add_crc(struct text *to, size_t from)
{
    add_u32(to, crc32(0, (const unsigned char *)to->p + from, (unsigned)(to->n - from)));
}

static void frame_header(struct text *to, const char *name, const char *value)
{
    size_t n = strlen(name), m = strlen(value);
    unsigned char lengths[3] = { 7, (unsigned char)(m >> 8), (unsigned char)m }; /* 7: a string */
    unsigned char first = (unsigned char)n;

    text_add(to, &first, 1);
    text_add(to, name, n);
    text_add(to, lengths, sizeof lengths);
    text_add(to, value, m);
}

/* `kind` is "event", or "exception" with the exception's name as type. */
static void frame(struct text *to, const char *kind, const char *type, const struct text *payload)
{
    struct text headers = { 0 };
    size_t from = to->n;
    char name[32];

    snprintf(name, sizeof name, ":%s-type", kind);
    frame_header(&headers, ":message-type", kind);
    frame_header(&headers, name, type);
    frame_header(&headers, ":content-type", "application/json");
    add_u32(to, 16 + headers.n + payload->n);
    add_u32(to, headers.n);
    add_crc(to, from);
    text_add(to, headers.p, headers.n);
    text_add(to, payload->p, payload->n);
    add_crc(to, from);
    text_free(&headers);
}

static void converse_usage(const struct plan *plan, struct text *to)
{
    text_printf(to,
        "\"usage\":{\"inputTokens\":%u,\"outputTokens\":%u,\"totalTokens\":%u},"
        "\"metrics\":{\"latencyMs\":%llu}}",
        plan->prompt_tokens, plan->tokens, plan->prompt_tokens + plan->tokens,
        (unsigned long long)plan->delay_ms + 1);
}

static const char *converse_stop(const struct plan *plan, bool filtered)
{
    return filtered       ? "content_filtered"
           : plan->capped ? "max_tokens"
           : plan->tool   ? "tool_use"
                          : "end_turn";
}

static void converse_tool(const struct plan *plan, struct text *to)
{
    text_puts(to, "{\"toolUse\":{\"toolUseId\":\"");
    shape_id(plan, "tooluse_", 22, to);
    text_puts(to, "\",\"name\":");
    text_json_str(to, plan->tool);
}

static void converse(const struct plan *plan, bool filtered, struct text *body)
{
    text_puts(body, "{\"output\":{\"message\":{\"role\":\"assistant\",\"content\":[");
    if (plan->tool) {
        converse_tool(plan, body);
        text_puts(body, ",\"input\":");
        document(plan, body);
        text_puts(body, "}}");
    } else {
        text_puts(body, "{\"text\":");
        shape_text(plan, body);
        text_puts(body, "}");
    }
    text_printf(body, "]}},\"stopReason\":\"%s\",", converse_stop(plan, filtered));
    converse_usage(plan, body);
}

static void converse_event(const char *type, struct text *payload, struct text *to)
{
    frame(to, "event", type, payload);
    text_free(payload);
}

static void converse_next(const struct plan *plan, struct stream *s, struct text *to)
{
    struct text data = { 0 };

    switch (s->part) {
    case STREAM_OPENING:
        text_puts(&data, "{\"role\":\"assistant\"}");
        converse_event("messageStart", &data, to);
        if (plan->tool) {
            text_puts(&data, "{\"contentBlockIndex\":0,\"start\":");
            converse_tool(plan, &data);
            text_puts(&data, "}}}");
            converse_event("contentBlockStart", &data, to);
        }
        break;
    case STREAM_TOKENS:
        text_puts(&data, "{\"contentBlockIndex\":0,\"delta\":");
        text_puts(&data, plan->tool ? "{\"toolUse\":{\"input\":\"" : "{\"text\":\"");
        shape_token(plan, s->token, &data);
        text_puts(&data, plan->tool ? "\"}}}" : "\"}}");
        converse_event("contentBlockDelta", &data, to);
        break;
    case STREAM_CLOSING:
    case STREAM_ENDED:
        text_puts(&data, "{\"contentBlockIndex\":0}");
        converse_event("contentBlockStop", &data, to);
        if (s->unfinished)
            break;
        text_printf(&data, "{\"stopReason\":\"%s\"}", converse_stop(plan, s->filtered));
        converse_event("messageStop", &data, to);
        text_puts(&data, "{");
        converse_usage(plan, &data);
        converse_event("metadata", &data, to);
    }
}

/* Cohere's chat: named events, none of whose names is in the data of another service. */

static const char *cohere_finish(const struct plan *plan, bool filtered)
{
    return filtered       ? "ERROR_TOXIC"
           : plan->capped ? "MAX_TOKENS"
           : plan->tool   ? "TOOL_CALL"
                          : "COMPLETE";
}

static void cohere_usage(const struct plan *plan, struct text *to)
{
    text_printf(to,
        "\"usage\":{\"billed_units\":{\"input_tokens\":%u,\"output_tokens\":%u},"
        "\"tokens\":{\"input_tokens\":%u,\"output_tokens\":%u}}",
        plan->prompt_tokens, plan->tokens, plan->prompt_tokens, plan->tokens);
}

static void cohere(const struct plan *plan, bool filtered, struct text *body)
{
    text_puts(body, "{\"id\":\"");
    shape_id(plan, "", 36, body);
    text_printf(body, "\",\"finish_reason\":\"%s\",\"message\":{\"role\":\"assistant\",",
        cohere_finish(plan, filtered));
    if (plan->tool) {
        text_puts(body, "\"tool_plan\":\"I will ask.\",\"tool_calls\":[{");
        shape_tool_call(plan, body);
        shape_text(plan, body);
        text_puts(body, "}}]},");
    } else {
        text_puts(body, "\"content\":[{\"type\":\"text\",\"text\":");
        shape_text(plan, body);
        text_puts(body, "}]},");
    }
    cohere_usage(plan, body);
    text_puts(body, "}");
}

static void cohere_event(const char *type, struct text *to)
{
    text_printf(to, "event: %s\ndata: {\"type\":\"%s\"", type, type);
}

static void cohere_open(const struct plan *plan, struct text *to)
{
    cohere_event("message-start", to);
    text_puts(to, ",\"id\":\"");
    shape_id(plan, "", 36, to);
    text_puts(to, "\",\"delta\":{\"message\":{\"role\":\"assistant\",\"content\":[],\"tool_plan\":"
                  "\"\",\"tool_calls\":[],\"citations\":[]}}}\n\n");
    if (plan->tool) {
        cohere_event("tool-call-start", to);
        text_puts(to, ",\"index\":0,\"delta\":{\"message\":{\"tool_calls\":{");
        shape_tool_call(plan, to);
        text_puts(to, "\"\"}}}}}\n\n");
    } else {
        cohere_event("content-start", to);
        text_puts(to, ",\"index\":0,\"delta\":{\"message\":{\"content\":{\"type\":\"text\","
                      "\"text\":\"\"}}}}\n\n");
    }
}

static void cohere_next(const struct plan *plan, struct stream *s, struct text *to)
{
    switch (s->part) {
    case STREAM_OPENING:
        cohere_open(plan, to);
        break;
    case STREAM_TOKENS:
        cohere_event(plan->tool ? "tool-call-delta" : "content-delta", to);
        text_puts(to, plan->tool ? ",\"index\":0,\"delta\":{\"message\":{\"tool_calls\":{"
                                   "\"function\":{\"arguments\":\""
                                 : ",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"");
        shape_token(plan, s->token, to);
        text_puts(to, plan->tool ? "\"}}}}}\n\n" : "\"}}}}\n\n");
        break;
    case STREAM_CLOSING:
    case STREAM_ENDED:
        cohere_event(plan->tool ? "tool-call-end" : "content-end", to);
        text_puts(to, ",\"index\":0}\n\n");
        if (s->unfinished)
            break;
        cohere_event("message-end", to);
        text_printf(to, ",\"delta\":{\"finish_reason\":\"%s\",", cohere_finish(plan, s->filtered));
        cohere_usage(plan, to);
        text_puts(to, "}}\n\ndata: [DONE]\n\n");
    }
}

/* Ollama's chat: an object a line. */

static void ollama_begin(const struct plan *plan, struct text *to)
{
    char at[32];
    struct tm tm;

    gmtime_r(&plan->born, &tm);
    strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", &tm);
    text_puts(to, "{\"model\":");
    text_json_str(to, plan->model);
    text_printf(to, ",\"created_at\":\"%s\",\"message\":{\"role\":\"assistant\",\"content\":", at);
}

static void ollama_tool(const struct plan *plan, struct text *to)
{
    text_puts(to, "\"\",\"tool_calls\":[{\"function\":{\"name\":");
    text_json_str(to, plan->tool);
    text_puts(to, ",\"arguments\":");
    document(plan, to);
    text_puts(to, "}}]");
}

static void ollama_end(const struct plan *plan, struct text *to)
{
    text_printf(to,
        "},\"done\":true,\"done_reason\":\"%s\",\"total_duration\":1000000,\"load_duration\":1000,"
        "\"prompt_eval_count\":%u,\"prompt_eval_duration\":1000,\"eval_count\":%u,"
        "\"eval_duration\":1000}\n",
        plan->capped ? "length" : "stop", plan->prompt_tokens, plan->tokens);
}

static void ollama(const struct plan *plan, struct text *body)
{
    ollama_begin(plan, body);
    if (plan->tool)
        ollama_tool(plan, body);
    else
        shape_text(plan, body);
    ollama_end(plan, body);
}

/* Knows no opening. */
static void ollama_next(const struct plan *plan, struct stream *s, struct text *to)
{
    if (s->part == STREAM_OPENING)
        s->part = STREAM_TOKENS;
    ollama_begin(plan, to);
    if (s->part != STREAM_TOKENS) {
        text_puts(to, "\"\"");
        ollama_end(plan, to);
        return;
    }
    if (plan->tool) {
        ollama_tool(plan, to);
    } else {
        text_puts(to, "\"");
        shape_token(plan, s->token, to);
        text_puts(to, "\"");
    }
    text_puts(to, "},\"done\":false}\n");
}

/* Replicate's predictions. An id is the number of looks that it still takes, and the question in
 * hexadecimal: so the stand-in need not remember any. */
#define PREDICTION_LOOKS 2

void others_begin_prediction(struct plan *plan, const struct ask *ask)
{
    const char *prefer = ask_field(ask, "prefer");
    struct text id = { 0 };

    plan->pending = !prefer || strncasecmp(prefer, "wait", 4) != 0;
    text_printf(&id, "%d", plan->pending ? PREDICTION_LOOKS : 0);
    text_hex(&id, (const unsigned char *)plan->say, strlen(plan->say));
    plan->object = id.p;
}

static unsigned char unhex(const char *two)
{
    char pair[3] = { two[0], two[1], 0 };

    return (unsigned char)strtoul(pair, NULL, 16);
}

/* Each answer but the last has the id of the look after it. */
void others_read_prediction(struct plan *plan, const struct ask *ask)
{
    const char *id = ask->target + strlen("/v1/predictions/");
    size_t n = strcspn(id, "?");
    struct text say = { 0 }, next = { 0 };

    if (n < 3) {
        plan->problem = 404;
        return;
    }
    for (size_t i = 1; i + 1 < n; i += 2) {
        unsigned char byte = unhex(id + i);

        text_add(&say, &byte, 1);
    }
    plan->say = say.p;
    plan->model = text_copy("a-model", strlen("a-model"));
    plan->pending = id[0] > '1';
    text_add(&next, id, n);
    if (next.p[0] > '0')
        next.p[0]--;
    plan->object = next.p;
}

static void prediction(const struct plan *plan, struct text *body)
{
    text_printf(body, "{\"id\":\"%s\",\"model\":", plan->object);
    text_json_str(body, plan->model);
    text_printf(body,
        ",\"version\":\"hidden\",\"input\":{},\"logs\":\"\",\"error\":null,\"data_removed\":false,"
        "\"created_at\":\"2026-01-01T00:00:00Z\",\"source\":\"api\",\"urls\":{"
        "\"get\":\"https://api.replicate.com/v1/predictions/%s\","
        "\"cancel\":\"https://api.replicate.com/v1/predictions/%s/cancel\"},\"status\":\"%s\"",
        plan->object, plan->object, plan->pending ? "processing" : "succeeded");
    text_puts(body, ",\"output\":");
    if (plan->pending) {
        text_puts(body, "null");
    } else {
        for (unsigned i = 0; i < plan->tokens; i++) {
            text_puts(body, i ? ",\"" : "[\"");
            shape_token(plan, i, body);
            text_puts(body, "\"");
        }
        text_puts(body, "]");
    }
    text_puts(body, "}");
}

/* Stripe's objects: what the form says comes back. */

static void unescaped(const char *p, size_t n, struct text *to)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)p[i];

        if (byte == '+') {
            byte = ' ';
        } else if (byte == '%' && i + 2 < n) {
            byte = unhex(p + i + 1);
            i += 2;
        }
        text_add(to, &byte, 1);
    }
}

void others_read_form(struct plan *plan, const struct ask *ask)
{
    const char *p = ask->body.p ? ask->body.p : "", *kind = ask->target + strlen("/v1/");
    struct text object = { 0 };

    text_puts(&object, "{\"object\":");
    text_json(&object, kind, strcspn(kind, "?") - 1, TEXT_UTF8); /* one of several */
    while (*p) {
        size_t n = strcspn(p, "&"), name = strcspn(p, "=&");
        struct text value = { 0 };

        unescaped(p + name + (name < n), n - name - (name < n), &value);
        if (!memchr(p, '[', name) && !memchr(p, '%', name)) {
            text_puts(&object, ",");
            text_json(&object, p, name, TEXT_UTF8);
            text_puts(&object, ":");
            if (value.n && strspn(value.p, "0123456789") == value.n && value.n < 16)
                text_puts(&object, value.p);
            else
                text_json(&object, value.p ? value.p : "", value.n, TEXT_UTF8);
        }
        text_free(&value);
        p += n + (p[n] == '&');
    }
    plan->object = object.p;
}

static void stripe(const struct plan *plan, struct text *body)
{
    text_puts(body, plan->object);
    text_puts(body, ",\"id\":\"");
    shape_id(plan, "st_", 24, body);
    text_printf(body, "\",\"created\":%lld,\"livemode\":false}", (long long)plan->born);
}

void others_answer(const struct plan *plan, bool filtered, struct text *body)
{
    switch (plan->route) {
    case PLAN_CONVERSE:
        converse(plan, filtered, body);
        break;
    case PLAN_COHERE:
        cohere(plan, filtered, body);
        break;
    case PLAN_OLLAMA:
        ollama(plan, body);
        break;
    case PLAN_PREDICTIONS:
        prediction(plan, body);
        break;
    default:
        stripe(plan, body);
        break;
    }
}

const char *others_stream_type(const struct plan *plan)
{
    return plan->route == PLAN_CONVERSE ? "application/vnd.amazon.eventstream"
           : plan->route == PLAN_OLLAMA ? "application/x-ndjson"
                                        : "text/event-stream";
}

void others_next(const struct plan *plan, struct stream *s, struct text *to)
{
    if (plan->route == PLAN_CONVERSE)
        converse_next(plan, s, to);
    else if (plan->route == PLAN_OLLAMA)
        ollama_next(plan, s, to);
    else
        cohere_next(plan, s, to);
}

void others_problem(const struct plan *plan, const char *word, struct text *body)
{
    if (plan->route == PLAN_STRIPE)
        text_puts(body, "{\"error\":{\"type\":\"api_error\",\"message\":");
    else if (plan->route == PLAN_OLLAMA)
        text_puts(body, "{\"error\":");
    else if (plan->route == PLAN_PREDICTIONS)
        text_puts(body, "{\"title\":\"Error\",\"detail\":");
    else
        text_puts(body, "{\"message\":");
    text_json_str(body, word);
    text_puts(body, plan->route == PLAN_STRIPE ? "}}" : "}");
}

void others_problem_event(const struct plan *plan, const char *word, struct text *to)
{
    struct text data = { 0 };

    others_problem(plan, word, &data);
    if (plan->route == PLAN_CONVERSE) {
        frame(to, "exception", "serviceUnavailableException", &data);
    } else {
        text_puts(to, plan->sse ? "data: " : "");
        text_add(to, data.p, data.n);
        text_puts(to, plan->sse ? "\n\n" : "\n");
    }
    text_free(&data);
}
