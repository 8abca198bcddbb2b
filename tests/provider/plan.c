/* Reading what a request wants. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "json.h"
#include "others.h"
#include "path.h"
#include "shape.h"
#include "want.h"

#define SAY_MAX 200
#define EMBEDDINGS_MAX 2048
#define DIMENSIONS_MAX 3072

static bool is_stored(const char *target)
{
    static const char *const folders[] = { "/v1/files", "/v1/batches", "/v1/messages/batches",
        "/v1beta/files", "/v1beta/batches", "/upload/v1beta/files", "/upload/v1/files" };

    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (path_is_under(target, folders[i]))
            return true;
    return path_verb_is(target, "batchGenerateContent");
}

static enum plan_route route_of_verb(const char *target)
{
    static const struct {
        const char *verb;
        enum plan_route route;
    } verbs[] = { { "generateContent", PLAN_GENERATE }, { "streamGenerateContent", PLAN_GENERATE },
        { "batchEmbedContents", PLAN_EMBEDDINGS }, { "countTokens", PLAN_COUNT_TOKENS } };

    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (path_verb_is(target, verbs[i].verb))
            return verbs[i].route;
    return PLAN_UNKNOWN;
}

enum plan_route plan_route(const struct ask *ask)
{
    static const struct {
        const char *path;
        enum plan_route route;
    } exact[] = { { "/v1/chat/completions", PLAN_CHAT }, { "/v1/completions", PLAN_COMPLETIONS },
        { "/v1/responses", PLAN_RESPONSES }, { "/v1/embeddings", PLAN_EMBEDDINGS },
        { "/v1/messages", PLAN_MESSAGES }, { "/v1/messages/count_tokens", PLAN_COUNT_TOKENS },
        { "/v2/chat", PLAN_COHERE }, { "/api/chat", PLAN_OLLAMA }, { "/v1/charges", PLAN_STRIPE },
        { "/v1/customers", PLAN_STRIPE }, { "/v1/payment_intents", PLAN_STRIPE } };

    if (path_is_under(ask->target, "/echo"))
        return PLAN_ECHO;
    if (path_is(ask->target, "/health"))
        return PLAN_HEALTH;
    if (path_is(ask->target, "/stats"))
        return PLAN_STATS;
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        if (path_names(ask->target, exact[i].path))
            return exact[i].route;
    if (path_starts(ask->target, "/model/") &&
        (path_ends(ask->target, "/converse") || path_ends(ask->target, "/converse-stream")))
        return PLAN_CONVERSE;
    if (path_is_under(ask->target, "/v1/predictions") ||
        (path_is_under(ask->target, "/v1/models") && path_ends(ask->target, "/predictions")))
        return PLAN_PREDICTIONS;
    if (is_stored(ask->target))
        return PLAN_STORED;
    if (path_verb(ask->target))
        return route_of_verb(ask->target);
    if (path_is_under(ask->target, "/v1/models") || path_is_under(ask->target, "/v1beta/models"))
        return PLAN_MODELS;
    return PLAN_UNKNOWN;
}

static enum plan_service service_of(const struct ask *ask, enum plan_route route)
{
    if (route >= PLAN_CONVERSE && route <= PLAN_STRIPE)
        return PLAN_OTHER;
    if (path_is_under(ask->target, "/v1beta") || path_verb(ask->target) ||
        path_is_under(ask->target, "/upload") || ask_field(ask, "x-goog-api-key"))
        return PLAN_GEMINI;
    if (path_names(ask->target, "/v1/messages") || path_is_under(ask->target, "/v1/messages") ||
        ask_field(ask, "anthropic-version"))
        return PLAN_ANTHROPIC;
    return PLAN_OPENAI;
}

const char *plan_fault_spec(const struct ask *ask, const struct options *o)
{
    const char *spec = ask_field(ask, "x-provider-fault");

    if (path_starts(ask->target, "/stats") || path_starts(ask->target, "/health"))
        return NULL;
    return spec ? spec : o->fault;
}

static void set_problem(struct plan *plan, int status, const char *word)
{
    if (plan->problem)
        return;
    plan->problem = status;
    plan->problem_word = word ? text_copy(word, strlen(word)) : NULL;
}

static void wrong_header(struct plan *plan, const char *name, const char *value)
{
    struct text word = { 0 };

    text_printf(&word, "the stand-in cannot read %s: %s", name, value);
    set_problem(plan, 400, word.p);
    text_free(&word);
}

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t hash(uint64_t h, const void *p, size_t n)
{
    const unsigned char *b = p;

    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 0x100000001b3u;
    return mix(h);
}

/* Requests are of one key if they name the same one, or else if they are the same request under the
 * same spec. */
static uint64_t fault_key(const struct plan *plan, const struct ask *ask, const char *spec)
{
    uint64_t h = 0xcbf29ce484222325u;

    if (plan->key)
        return hash(h, plan->key, strlen(plan->key));
    h = hash(h, spec, strlen(spec));
    h = hash(h, ask->target, strlen(ask->target));
    return hash(h, ask->digest, sizeof ask->digest);
}

static void read_headers(struct plan *plan, const struct ask *ask)
{
    const char *name, *value, *colon;
    uint64_t number;

    for (size_t at = 0; ask_next_field(ask, &at, &name, &value);) {
        if (strncasecmp(name, "x-provider-", 11) != 0)
            continue;
        if (strcasecmp(name + 11, "delay") == 0) {
            if (!options_duration(value, &plan->delay_ms))
                wrong_header(plan, name, value);
        } else if (strcasecmp(name + 11, "pace") == 0) {
            if (!options_duration(value, &plan->pace_ms))
                wrong_header(plan, name, value);
        } else if (strcasecmp(name + 11, "tokens") == 0) {
            if (!options_number(value, 10000000, &number) || !number)
                wrong_header(plan, name, value);
            else
                plan->tokens = (unsigned)number;
        } else if (strcasecmp(name + 11, "header") == 0) {
            if (!(colon = strchr(value, ':')) || colon == value) {
                wrong_header(plan, name, value);
                continue;
            }
            text_add(&plan->extra, value, (size_t)(colon - value));
            text_add(&plan->extra, "", 1);
            colon += 1 + strspn(colon + 1, " \t");
            text_add(&plan->extra, colon, strlen(colon) + 1);
        } else if (strcasecmp(name + 11, "key") == 0 && !plan->key) {
            plan->key = text_copy(value, strlen(value));
        }
    }
}

static void read_faults(
    struct plan *plan, const struct ask *ask, const struct options *o, struct fault_counts *counts)
{
    const char *spec = plan_fault_spec(ask, o);
    struct text why = { 0 };

    if (!spec)
        return;
    if (!fault_check(spec, &why))
        set_problem(plan, 400, why.p);
    else
        plan->faults = fault_choose(spec, fault_counts_next(counts, fault_key(plan, ask, spec)));
    text_free(&why);
}

/* A message's content: a string, or parts of which some have text. */
static void add_content(struct json content, struct text *to)
{
    struct json part, text;

    json_string(content, to);
    for (size_t at = 0; json_item(content, &at, &part);) {
        if (json_is_string(part))
            json_string(part, to);
        else if (json_member(part, "text", &text))
            json_string(text, to);
    }
}

/* What the last message of the user's says. Gemini's messages may lack a role, and are the user's
 * then. */
static void add_last_user(struct json messages, const char *content_name, struct text *to)
{
    struct json message, role, content;

    for (size_t at = 0; json_item(messages, &at, &message);) {
        if (json_member(message, "role", &role) && !json_equals(role, "user"))
            continue;
        if (!json_member(message, content_name, &content))
            continue;
        to->n = 0;
        add_content(content, to);
    }
}

static void add_prompt(const struct plan *plan, struct json body, struct text *to)
{
    struct json value;

    switch (plan->route) {
    case PLAN_CHAT:
    case PLAN_MESSAGES:
    case PLAN_COUNT_TOKENS:
    case PLAN_CONVERSE:
    case PLAN_COHERE:
    case PLAN_OLLAMA:
        if (json_member(body, "contents", &value))
            add_last_user(value, "parts", to);
        else if (json_member(body, "messages", &value))
            add_last_user(value, "content", to);
        break;
    case PLAN_COMPLETIONS:
        if (json_member(body, "prompt", &value))
            add_content(value, to);
        break;
    case PLAN_RESPONSES:
        if (!json_member(body, "input", &value))
            break;
        json_string(value, to);
        add_last_user(value, "content", to);
        break;
    case PLAN_GENERATE:
        if (json_member(body, "contents", &value))
            add_last_user(value, "parts", to);
        break;
    case PLAN_EMBEDDINGS:
        if (json_member(body, "input", &value))
            add_content(value, to);
        break;
    case PLAN_PREDICTIONS:
        if (json_member(body, "input", &value) && json_member(value, "prompt", &value))
            json_string(value, to);
        break;
    case PLAN_STRIPE:
    case PLAN_ECHO:
    case PLAN_HEALTH:
    case PLAN_STATS:
    case PLAN_MODELS:
    case PLAN_STORED:
    case PLAN_UNKNOWN:
        break;
    }
}

/* The answer ends earlier if the request limits it, as the services do; X-Provider-Tokens overrules
 * that. */
static void read_limit(struct plan *plan, struct json body)
{
    static const char *const names[] = { "max_completion_tokens", "max_output_tokens", "max_tokens",
        "maxOutputTokens", "maxTokens" };
    struct json value, config;
    unsigned long most;

    if (json_member(body, "generationConfig", &config) ||
        json_member(body, "inferenceConfig", &config))
        body = config;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!json_member(body, names[i], &value) || !json_whole(value, 100000000, &most))
            continue;
        if (most > 0 && most < plan->tokens) {
            plan->tokens = (unsigned)most;
            plan->capped = true;
        }
        return;
    }
}

static void read_embeddings(struct plan *plan, struct json body)
{
    struct json input, item;
    unsigned long dimensions;
    size_t n = 0;

    plan->dimensions = 1536;
    if (json_member(body, "dimensions", &item) && json_whole(item, DIMENSIONS_MAX, &dimensions) &&
        dimensions > 0)
        plan->dimensions = (unsigned)dimensions;
    plan->base64 = json_member(body, "encoding_format", &item) && json_equals(item, "base64");
    if (!json_member(body, plan->service == PLAN_GEMINI ? "requests" : "input", &input)) {
        set_problem(plan, 400, "Missing required parameter: 'input'.");
        return;
    }
    for (size_t at = 0; json_item(input, &at, &item);)
        n++;
    if (n > EMBEDDINGS_MAX) {
        set_problem(plan, 400, "'input' has more than 2048 members.");
        return;
    }
    plan->seeds = text_alloc((n + 1) * sizeof *plan->seeds);
    for (size_t at = 0;
         json_item(input, &at, &item) &&
         (json_is_string(item) || json_is_array(item) || plan->service == PLAN_GEMINI);)
        plan->seeds[plan->n_seeds++] = hash(1, item.p, item.n);
    if (!plan->n_seeds) /* one string, or the tokens of one */
        plan->seeds[plan->n_seeds++] = hash(1, input.p, input.n);
}

static void read_model(struct plan *plan, const struct ask *ask, struct json body)
{
    static const char *const usual[] = { "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-flash",
        "a-model" };
    const char *name = strstr(ask->target, "/models/");
    struct text model = { 0 };
    struct json value;

    if (name && plan->service == PLAN_GEMINI)
        text_add(&model, name + 8, strcspn(name + 8, ":?"));
    else if (json_member(body, "model", &value))
        json_string(value, &model);
    if (!model.n)
        text_puts(&model,
            plan->route == PLAN_EMBEDDINGS ? "text-embedding-3-small" : usual[plan->service]);
    plan->model = model.p;
}

/* The answer begins with what was said, so that a test can tell whose answer it got. */
static void read_prompt(struct plan *plan, struct json body)
{
    struct text prompt = { 0 }, say = { 0 };

    if (!want_tool_result(plan, body, &prompt))
        add_prompt(plan, body, &prompt);
    plan->prompt_tokens = (unsigned)(prompt.n / 4) + 8;
    text_puts(&say, "echo:");
    if (prompt.n)
        text_add(&say, prompt.p, text_utf8_cut(prompt.p, prompt.n, SAY_MAX));
    plan->say = say.p;
    text_free(&prompt);
}

static void read_body(struct plan *plan, const struct ask *ask, bool tokens_given)
{
    struct json body = { 0 }, value, more;

    if (!json_check(ask->body.p, ask->body.n, &body) || *body.p != '{') {
        set_problem(plan, 400, "We could not parse the JSON body of your request.");
        body = (struct json){ "{}", 2 };
    }
    read_model(plan, ask, body);
    read_prompt(plan, body);
    want_read(plan, body);
    if (plan->document) {
        /* The call of a tool is always whole, and Gemini and Ollama have it in one piece. */
        tokens_given = plan->tool != NULL;
        plan->tokens = plan->tool && (plan->route == PLAN_GENERATE || plan->route == PLAN_OLLAMA)
                           ? 1
                           : shape_document_tokens(plan);
    }
    if (!tokens_given)
        read_limit(plan, body);
    if (plan->route == PLAN_EMBEDDINGS)
        read_embeddings(plan, body);
    if (plan->route == PLAN_CHAT || plan->route == PLAN_RESPONSES || plan->route == PLAN_MESSAGES ||
        plan->route == PLAN_COHERE)
        plan->stream = plan->sse = json_member(body, "stream", &value) && json_is_true(value);
    plan->stream_usage = json_member(body, "stream_options", &value) &&
                         json_member(value, "include_usage", &more) && json_is_true(more);
    if (plan->route == PLAN_GENERATE) {
        plan->stream = path_verb_is(ask->target, "streamGenerateContent");
        plan->sse = plan->stream && path_query_has(ask->target, "alt=sse");
    }
    if (plan->route == PLAN_CONVERSE)
        plan->stream = path_ends(ask->target, "/converse-stream");
    if (plan->route == PLAN_OLLAMA)
        plan->stream = !json_member(body, "stream", &value) || json_is_true(value);
}

static bool has_key(const struct ask *ask)
{
    return ask_field(ask, "authorization") || ask_field(ask, "x-api-key") ||
           ask_field(ask, "x-goog-api-key") || ask_field(ask, "api-key") ||
           path_query_has(ask->target, "key=") ||
           path_query_has(ask->target, "upload_id="); /* what Google sends may upload */
}

static void read_service(struct plan *plan, const struct ask *ask, const struct options *o)
{
    bool get = strcmp(ask->method, "GET") == 0 || plan->head;
    const char *name = strstr(ask->target, "/models/");

    if (!o->no_auth && plan->route != PLAN_OLLAMA && !has_key(ask))
        set_problem(plan, 401, NULL);
    if (plan->route == PLAN_UNKNOWN) {
        set_problem(plan, 404, NULL);
    } else if (plan->route == PLAN_MODELS) {
        if (!get)
            set_problem(plan, 405, NULL);
        if (name)
            plan->model = text_copy(name + 8, path_length(name + 8));
    } else if (plan->route == PLAN_STORED) {
        return; /* store.c reads it */
    } else if (get && plan->route == PLAN_PREDICTIONS) {
        others_read_prediction(plan, ask);
    } else if (strcmp(ask->method, "POST") != 0) {
        set_problem(plan, 405, NULL);
    } else if (plan->route == PLAN_STRIPE) {
        others_read_form(plan, ask);
    } else {
        read_body(plan, ask, ask_field(ask, "x-provider-tokens"));
        if (plan->route == PLAN_PREDICTIONS)
            others_begin_prediction(plan, ask);
    }
}

void plan_init(struct plan *plan, const struct ask *ask, const struct options *o,
    struct fault_counts *counts, uint64_t serial)
{
    enum plan_route route = plan_route(ask);

    *plan = (struct plan){ .route = route,
        .service = service_of(ask, route),
        .head = strcmp(ask->method, "HEAD") == 0,
        .tokens = o->tokens,
        .delay_ms = o->delay_ms,
        .pace_ms = o->pace_ms,
        .serial = serial,
        .born = time(NULL) };
    if (plan->route == PLAN_HEALTH || plan->route == PLAN_STATS) {
        plan->delay_ms = 0;
        return;
    }
    read_headers(plan, ask);
    read_faults(plan, ask, o, counts);
    if (plan->route != PLAN_ECHO)
        read_service(plan, ask, o);
}

void plan_release(struct plan *plan)
{
    free(plan->problem_word);
    free(plan->model);
    free(plan->say);
    free(plan->object);
    free(plan->tool);
    free(plan->document);
    free(plan->seeds);
    text_free(&plan->extra);
    free(plan->faults);
    free(plan->key);
}

uint64_t plan_random(const struct plan *plan, uint64_t salt)
{
    return mix(mix(plan->serial) + salt);
}
