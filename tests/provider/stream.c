/* Answers in chunks. */
#include "stream.h"

#include "others.h"
#include "shape.h"

void stream_head(const struct plan *plan, struct head *h)
{
    h->status = 200;
    if (plan->service == PLAN_OTHER)
        head_add(h, "content-type", others_stream_type(plan));
    else if (!plan->sse)
        head_add(h, "content-type", "application/json; charset=UTF-8");
    else
        head_add(h, "content-type",
            plan->service == PLAN_GEMINI ? "text/event-stream"
                                         : "text/event-stream; charset=utf-8");
    head_add(h, "cache-control", "no-cache");
    shape_service_fields(plan, h);
}

/* Chat completions: unnamed events. */

static void chat_begin(const struct plan *plan, struct text *to)
{
    text_puts(to, "data: {\"id\":\"");
    shape_id(plan, "chatcmpl-", 29, to);
    text_printf(to, "\",\"object\":\"chat.completion.chunk\",\"created\":%lld,\"model\":",
        (long long)plan->born);
    text_json_str(to, plan->model);
    text_puts(
        to, ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0123456789\",\"choices\":[");
}

static void chat_end(const struct plan *plan, struct text *to)
{
    text_puts(to, plan->stream_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

static void chat_next(const struct plan *plan, struct stream *s, struct text *to)
{
    chat_begin(plan, to);
    switch (s->part) {
    case STREAM_OPENING:
        text_puts(to, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":");
        if (plan->tool) {
            text_puts(to, "null,\"tool_calls\":[{\"index\":0,");
            shape_tool_call(plan, to);
            text_puts(to, "\"\"}}]");
        } else {
            text_puts(to, "\"\"");
        }
        text_puts(to, ",\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}");
        chat_end(plan, to);
        break;
    case STREAM_TOKENS:
        text_puts(to, plan->tool
                          ? "{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":"
                            "{\"arguments\":\""
                          : "{\"index\":0,\"delta\":{\"content\":\"");
        shape_token(plan, s->token, to);
        text_puts(to, plan->tool ? "\"}}]" : "\"");
        text_puts(to, "},\"logprobs\":null,\"finish_reason\":null}");
        chat_end(plan, to);
        break;
    case STREAM_CLOSING:
    case STREAM_ENDED:
        text_printf(to, "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"%s\"}",
            shape_finish(plan, s->filtered));
        chat_end(plan, to);
        if (plan->stream_usage) {
            chat_begin(plan, to);
            text_puts(to, "],\"usage\":");
            shape_usage(plan, to);
            text_puts(to, "}\n\n");
        }
        if (!s->unfinished)
            text_puts(to, "data: [DONE]\n\n");
    }
}

/* Responses: named and numbered events. */

static void response_event(struct stream *s, const char *type, struct text *to)
{
    text_printf(
        to, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%u,", type, type, s->sequence++);
}

static void response_state(const struct plan *plan, struct stream *s, const char *type,
    const char *status, struct text *to)
{
    response_event(s, type, to);
    text_puts(to, "\"response\":");
    shape_response(plan, status, to);
    text_puts(to, "}\n\n");
}

/* Events within the one item: its id and places. */
static void response_item_event(
    const struct plan *plan, struct stream *s, const char *type, struct text *to)
{
    struct text item = { 0 };

    shape_output_item(plan, false, &item); /* begins with its id: {"id":"msg_…", */
    response_event(s, type, to);
    text_printf(to, "\"item_id\":\"%.*s\",\"output_index\":0,", SHAPE_ITEM_ID, item.p + 7);
    if (!plan->tool)
        text_puts(to, "\"content_index\":0,");
    text_free(&item);
}

static void response_text_done(const struct plan *plan, struct stream *s, struct text *to)
{
    response_item_event(plan, s, "response.output_text.done", to);
    text_puts(to, "\"logprobs\":[],\"text\":");
    shape_text(plan, to);
    text_puts(to, "}\n\n");
    response_item_event(plan, s, "response.content_part.done", to);
    text_puts(
        to, "\"part\":{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":");
    shape_text(plan, to);
    text_puts(to, "}}\n\n");
}

static void response_close(const struct plan *plan, struct stream *s, struct text *to)
{
    bool incomplete = plan->capped || s->filtered;

    if (plan->tool) {
        response_item_event(plan, s, "response.function_call_arguments.done", to);
        text_puts(to, "\"name\":");
        text_json_str(to, plan->tool);
        text_puts(to, ",\"arguments\":");
        shape_text(plan, to);
        text_puts(to, "}\n\n");
    } else {
        response_text_done(plan, s, to);
    }
    response_event(s, "response.output_item.done", to);
    text_puts(to, "\"output_index\":0,\"item\":");
    shape_output_item(plan, true, to);
    text_puts(to, "}\n\n");
    if (!s->unfinished)
        response_state(plan, s, incomplete ? "response.incomplete" : "response.completed",
            incomplete ? "incomplete" : "completed", to);
}

static void response_next(const struct plan *plan, struct stream *s, struct text *to)
{
    switch (s->part) {
    case STREAM_OPENING:
        response_state(plan, s, "response.created", "in_progress", to);
        response_state(plan, s, "response.in_progress", "in_progress", to);
        response_event(s, "response.output_item.added", to);
        text_puts(to, "\"output_index\":0,\"item\":");
        shape_output_item(plan, false, to);
        text_puts(to, "}\n\n");
        if (plan->tool)
            break;
        response_item_event(plan, s, "response.content_part.added", to);
        text_puts(to, "\"part\":{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],"
                      "\"text\":\"\"}}\n\n");
        break;
    case STREAM_TOKENS:
        response_item_event(plan, s,
            plan->tool ? "response.function_call_arguments.delta" : "response.output_text.delta",
            to);
        text_puts(to, plan->tool ? "\"delta\":\"" : "\"logprobs\":[],\"delta\":\"");
        shape_token(plan, s->token, to);
        text_puts(to, "\"}\n\n");
        break;
    case STREAM_CLOSING:
    case STREAM_ENDED:
        response_close(plan, s, to);
    }
}

/* Messages: named events. */

static void message_open(const struct plan *plan, struct text *to)
{
    text_puts(to, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"");
    shape_id(plan, "msg_01", 22, to);
    text_puts(to, "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    text_json_str(to, plan->model);
    text_printf(to,
        ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":%"
        "u,"
        "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":1,"
        "\"service_tier\":\"standard\"}}}\n\n",
        plan->prompt_tokens);
    text_puts(to, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
                  "\"content_block\":");
    if (plan->tool) {
        shape_tool_call(plan, to);
        text_puts(to, "{}}}\n\n");
    } else {
        text_puts(to, "{\"type\":\"text\",\"text\":\"\"}}\n\n");
    }
    stream_ping(plan, to);
}

static void message_next(const struct plan *plan, struct stream *s, struct text *to)
{
    switch (s->part) {
    case STREAM_OPENING:
        message_open(plan, to);
        break;
    case STREAM_TOKENS:
        text_puts(to,
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
            "\"delta\":{\"type\":");
        text_puts(to,
            plan->tool ? "\"input_json_delta\",\"partial_json\":\"" : "\"text_delta\",\"text\":\"");
        shape_token(plan, s->token, to);
        text_puts(to, "\"}}\n\n");
        break;
    case STREAM_CLOSING:
    case STREAM_ENDED:
        text_puts(to,
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n");
        text_printf(to,
            "event: message_delta\ndata: "
            "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"%s\","
            "\"stop_sequence\":null},\"usage\":{\"output_tokens\":%u}}\n\n",
            shape_finish(plan, s->filtered), plan->tokens);
        if (!s->unfinished)
            text_puts(to, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }
}

/* generateContent: whole objects, as events or as the members of an array. The last one ends with
 * the usage. */
static void generate_next(const struct plan *plan, struct stream *s, struct text *to)
{
    bool last = s->token + 1 == plan->tokens;

    if (plan->sse)
        text_puts(to, "data: ");
    else
        text_puts(to, s->token ? ",\r\n" : "[");
    text_puts(to, "{\"candidates\":[{\"content\":{\"parts\":[");
    if (plan->tool) {
        shape_function_call(plan, to);
    } else {
        text_puts(to, "{\"text\":\"");
        shape_token(plan, s->token, to);
        text_puts(to, "\"}");
    }
    text_puts(to, "],\"role\":\"model\"}");
    if (last && !s->unfinished)
        text_printf(to, ",\"finishReason\":\"%s\"", shape_finish(plan, s->filtered));
    text_puts(to, ",\"index\":0}],\"usageMetadata\":");
    if (last)
        shape_usage(plan, to);
    else
        text_printf(to, "{\"promptTokenCount\":%u,\"totalTokenCount\":%u}", plan->prompt_tokens,
            plan->prompt_tokens);
    text_puts(to, ",\"modelVersion\":");
    text_json_str(to, plan->model);
    text_puts(to, ",\"responseId\":\"");
    shape_id(plan, "", 22, to);
    text_puts(to, plan->sse ? "\"}\r\n\r\n" : last ? "\"}\r\n]" : "\"}");
}

void stream_next(const struct plan *plan, struct stream *s, struct text *to)
{
    if (plan->route == PLAN_GENERATE) { /* knows neither opening nor closing */
        s->part = STREAM_TOKENS;
        generate_next(plan, s, to);
        if (++s->token == plan->tokens)
            s->part = STREAM_ENDED;
        return;
    }
    if (plan->service == PLAN_OTHER)
        others_next(plan, s, to);
    else if (plan->route == PLAN_CHAT)
        chat_next(plan, s, to);
    else if (plan->route == PLAN_RESPONSES)
        response_next(plan, s, to);
    else
        message_next(plan, s, to);
    if (s->part == STREAM_TOKENS)
        s->token++;
    if (s->part != STREAM_TOKENS || s->token == plan->tokens)
        s->part++;
}

void stream_ping(const struct plan *plan, struct text *to)
{
    if (plan->service == PLAN_ANTHROPIC)
        text_puts(to, "event: ping\ndata: {\"type\": \"ping\"}\n\n");
    else if (plan->service != PLAN_OTHER || plan->sse)
        text_puts(to, ": keep-alive\n\n");
}
