/* Reading the tools and the format that a request names, in each service's terms. */
#include "want.h"

#include <string.h>

#include "sample.h"

/* Steps into members of members: "a.b" is b of a, "" the object itself. */
static bool deep_member(struct json object, const char *path, struct json *value)
{
    char name[64];

    while (*path) {
        size_t n = strcspn(path, ".");

        memcpy(name, path, n);
        name[n] = 0;
        if (!json_member(object, name, &object))
            return false;
        path += n + (path[n] == '.');
    }
    *value = object;
    return true;
}

static bool last_item(struct json array, struct json *last)
{
    bool any = false;

    for (size_t at = 0; json_item(array, &at, last);)
        any = true;
    return any;
}

/* Text, or parts that have some; an object counts as its JSON. */
static void add_result(struct json content, struct text *to)
{
    struct json part, text;

    if (json_string(content, to))
        return;
    if (!json_is_array(content)) {
        text_add(to, content.p, content.n);
        return;
    }
    for (size_t at = 0; json_item(content, &at, &part);)
        if (json_member(part, "text", &text))
            json_string(text, to);
}

bool want_tool_result(const struct plan *plan, struct json body, struct text *to)
{
    static const struct {
        enum plan_route route;
        const char *messages, *kind, *word, *parts, *part, *result;
    } shapes[] = {
        { PLAN_CHAT, "messages", "role", "tool", NULL, NULL, "content" },
        { PLAN_COHERE, "messages", "role", "tool", NULL, NULL, "content" },
        { PLAN_OLLAMA, "messages", "role", "tool", NULL, NULL, "content" },
        { PLAN_RESPONSES, "input", "type", "function_call_output", NULL, NULL, "output" },
        { PLAN_CONVERSE, "messages", NULL, NULL, "content", "toolResult", "toolResult.content" },
        { PLAN_MESSAGES, "messages", NULL, NULL, "content", "tool_use_id", "content" },
        { PLAN_GENERATE, "contents", NULL, NULL, "parts", "functionResponse",
            "functionResponse.response" },
    };
    struct json messages, last, value;
    bool found = false;

    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (shapes[i].route != plan->route || !json_member(body, shapes[i].messages, &messages) ||
            !last_item(messages, &last))
            continue;
        if (shapes[i].kind) {
            if (!json_member(last, shapes[i].kind, &value) || !json_equals(value, shapes[i].word))
                return false;
            if (json_member(last, shapes[i].result, &value))
                add_result(value, to);
            return true;
        }
        if (!json_member(last, shapes[i].parts, &messages))
            return false;
        for (size_t at = 0; json_item(messages, &at, &last);) {
            if (!json_member(last, shapes[i].part, &value))
                continue;
            found = true;
            if (deep_member(last, shapes[i].result, &value))
                add_result(value, to);
        }
    }
    return found;
}

/* `a` is one of the words of `list`, a JSON array; an absent list has all. */
static bool allowed(struct json list, struct json a)
{
    struct json one;

    if (!list.n)
        return true;
    for (size_t at = 0; json_item(list, &at, &one);)
        if (one.n == a.n && memcmp(one.p, a.p, a.n) == 0)
            return true;
    return false;
}

/* The first function that has a name and that the request's choice allows. */
static bool pick(struct json tools, const char *function, struct json wanted, struct json names,
    struct json *tool, struct json *name)
{
    for (size_t at = 0; json_item(tools, &at, tool);)
        if (deep_member(*tool, function, tool) && json_member(*tool, "name", name) &&
            (!wanted.n || (name->n == wanted.n && memcmp(name->p, wanted.p, name->n) == 0)) &&
            allowed(names, *name))
            return true;
    return false;
}

/* OpenAI and Anthropic say the choice beside the tools, Gemini in a config of its own. */
static bool pick_tool(
    const struct plan *plan, struct json body, struct json *tool, struct json *name)
{
    struct json tools, choice, word, wanted = { 0 }, names = { 0 }, group, functions;

    if (plan->route == PLAN_CONVERSE)
        return deep_member(body, "toolConfig.tools", &tools) &&
               pick(tools, "toolSpec", wanted, names, tool, name);
    if (!json_member(body, "tools", &tools))
        return false;
    if (plan->route == PLAN_GENERATE) {
        if (deep_member(body, "toolConfig.functionCallingConfig", &choice)) {
            if (json_member(choice, "mode", &word) && json_equals(word, "NONE"))
                return false;
            json_member(choice, "allowedFunctionNames", &names);
        }
        for (size_t at = 0; json_item(tools, &at, &group);)
            if (json_member(group, "functionDeclarations", &functions) &&
                pick(functions, "", wanted, names, tool, name))
                return true;
        return false;
    }
    if (json_member(body, "tool_choice", &choice)) {
        if (!json_member(choice, "type", &word))
            word = choice;
        if (json_equals(word, "none"))
            return false;
        if (!json_member(choice, "name", &wanted))
            deep_member(choice, "function.name", &wanted);
    }
    return pick(tools,
        plan->route == PLAN_RESPONSES || plan->route == PLAN_MESSAGES ? "" : "function", wanted,
        names, tool, name);
}

static void read_tool(struct plan *plan, struct json tool, struct json name)
{
    static const char *const schemas[] = { "parameters", "parametersJsonSchema",
        "parameters_json_schema", "input_schema", "inputSchema.json" };
    struct json schema = { "{\"type\":\"object\"}", 17 };
    struct text called = { 0 }, arguments = { 0 };

    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++)
        if (deep_member(tool, schemas[i], &schema))
            break;
    json_string(name, &called);
    plan->tool = called.p;
    sample_add(schema, plan->say, &arguments);
    plan->document = arguments.p;
}

/* Whether the text is to be JSON, and of which schema, if of any. */
static bool pick_format(const struct plan *plan, struct json body, struct json *schema)
{
    static const struct {
        enum plan_route route;
        const char *format, *schema;
    } places[] = { { PLAN_CHAT, "response_format", "json_schema.schema" },
        { PLAN_COHERE, "response_format", "json_schema" },
        { PLAN_RESPONSES, "text.format", "schema" },
        { PLAN_MESSAGES, "output_config.format", "schema" },
        { PLAN_MESSAGES, "output_format", "schema" } };
    struct json format, type;

    *schema = (struct json){ 0 };
    if (plan->route == PLAN_GENERATE) {
        if (!json_member(body, "generationConfig", &body) ||
            !json_member(body, "responseMimeType", &type) || !json_equals(type, "application/json"))
            return false;
        if (!json_member(body, "responseJsonSchema", schema) &&
            !json_member(body, "response_json_schema", schema))
            json_member(body, "responseSchema", schema);
        return true;
    }
    if (plan->route == PLAN_OLLAMA) { /* the schema, or the word "json" */
        if (!json_member(body, "format", &format) || *format.p == 'n')
            return false;
        if (!json_is_string(format))
            *schema = format;
        return true;
    }
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (places[i].route != plan->route || !deep_member(body, places[i].format, &format) ||
            !json_member(format, "type", &type))
            continue;
        if (json_equals(type, "json_object")) {
            if (plan->route == PLAN_COHERE)
                deep_member(format, places[i].schema, schema);
            return true;
        }
        if (json_equals(type, "json_schema"))
            return deep_member(format, places[i].schema, schema);
    }
    return false;
}

void want_read(struct plan *plan, struct json body)
{
    struct text document = { 0 }, result = { 0 };
    struct json tool, name, schema;
    bool told = want_tool_result(plan, body, &result);

    text_free(&result);
    if (!told && pick_tool(plan, body, &tool, &name)) {
        read_tool(plan, tool, name);
    } else if (pick_format(plan, body, &schema)) {
        sample_add(schema, plan->say, &document);
        plan->document = document.p;
    }
}
