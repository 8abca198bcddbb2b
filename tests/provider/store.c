/* What was uploaded, and batches. */
#include "store.h"

#include <stdlib.h>
#include <string.h>

#include "ask.h"
#include "head.h"
#include "json.h"
#include "path.h"
#include "plan.h"
#include "shape.h"

#define ID_MAX 48

struct store_item {
    char id[ID_MAX];
    char *name;                /* of a file */
    struct text bytes;         /* the file, or what a batch came to */
    unsigned n;                /* requests of a batch */
    enum plan_service service; /* whose it is: other services do not see it */
    bool batch, complete;
};

/* A request that is being answered. */
struct visit {
    struct store *s;
    const struct plan *plan;
    const struct ask *ask;
    bool tls;
    struct head *h;
    struct text *body;
    bool raw; /* the body is no JSON */
};

static struct store_item *store_add(struct visit *v, const char *prefix, bool batch)
{
    struct store_item *item = text_alloc(sizeof *item);
    struct text id = { 0 };

    shape_id(v->plan, prefix, 20, &id);
    snprintf(item->id, sizeof item->id, "%s", id.p);
    text_free(&id);
    item->batch = batch;
    item->service = v->plan->service;
    v->s->items = realloc(v->s->items, (v->s->n + 1) * sizeof *v->s->items);
    if (!v->s->items)
        abort();
    v->s->items[v->s->n++] = item;
    return item;
}

static void item_free(struct store_item *item)
{
    free(item->name);
    text_free(&item->bytes);
    free(item);
}

/* The item whose id begins `at`, a place in the path. */
static struct store_item *store_find(const struct visit *v, const char *at, bool batch)
{
    size_t n = strcspn(at, "/:?&");

    for (size_t i = 0; i < v->s->n; i++) {
        struct store_item *item = v->s->items[i];

        if (item->batch == batch && item->service == v->plan->service && strlen(item->id) == n &&
            memcmp(item->id, at, n) == 0)
            return item;
    }
    return NULL;
}

static void store_remove(struct store *s, struct store_item *item)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i] == item) {
            s->items[i] = s->items[--s->n];
            break;
        }
    item_free(item);
}

static void url(struct visit *v, const char *path, const char *id, const char *end, struct text *to)
{
    text_printf(to, "%s://%s%s%s%s", v->tls ? "https" : "http",
        v->ask->authority ? v->ask->authority : "localhost", path, id, end);
}

static void say_file(struct visit *v, const struct store_item *item, struct text *to)
{
    struct text uri = { 0 };

    switch (v->plan->service) {
    case PLAN_OTHER: /* keep nothing */
    case PLAN_OPENAI:
        text_printf(to,
            "{\"id\":\"%s\",\"object\":\"file\",\"bytes\":%zu,\"created_at\":%lld,\"purpose\":"
            "\"batch\",\"status\":\"processed\",\"filename\":",
            item->id, item->bytes.n, (long long)v->plan->born);
        break;
    case PLAN_ANTHROPIC:
        text_printf(to,
            "{\"id\":\"%s\",\"type\":\"file\",\"size_bytes\":%zu,\"mime_type\":\"text/plain\","
            "\"created_at\":\"2026-01-31T12:00:00Z\",\"downloadable\":true,\"filename\":",
            item->id, item->bytes.n);
        break;
    case PLAN_GEMINI:
        url(v, "/v1beta/files/", item->id, "", &uri);
        text_printf(to,
            "{\"name\":\"files/%s\",\"sizeBytes\":\"%zu\",\"mimeType\":\"text/plain\",\"state\":"
            "\"ACTIVE\",\"uri\":\"%s\",\"downloadUri\":\"%s:download?alt=media\",\"displayName\":",
            item->id, item->bytes.n, uri.p, uri.p);
        text_free(&uri);
        break;
    }
    text_json_str(to, item->name);
    text_puts(to, "}");
}

static const char *find_bytes(const char *p, size_t n, const char *what, size_t length)
{
    return n ? memmem(p, n, what, length) : NULL;
}

/* The part of a form that has a file name (RFC 7578). */
static bool read_form(const struct ask *ask, struct store_item *item)
{
    const char *type = ask_field(ask, "content-type");
    const char *mark = type ? strstr(type, "boundary=") : NULL;
    const char *p = ask->body.p, *end = p + ask->body.n, *name, *from, *to;
    struct text line = { 0 };

    if (!mark)
        return false;
    mark += strlen("boundary=");
    mark += *mark == '"';
    text_puts(&line, "\r\n--");
    text_add(&line, mark, strcspn(mark, "\";"));
    name = find_bytes(p, ask->body.n, "filename=\"", 10);
    from = name ? find_bytes(name, (size_t)(end - name), "\r\n\r\n", 4) : NULL;
    to = from ? find_bytes(from + 4, (size_t)(end - from - 4), line.p, line.n) : NULL;
    text_free(&line);
    if (!to)
        return false;
    name += strlen("filename=\"");
    item->name = text_copy(name, strcspn(name, "\""));
    text_add(&item->bytes, from + 4, (size_t)(to - from - 4));
    item->complete = true;
    return true;
}

static int upload(struct visit *v)
{
    struct store_item *item =
        store_add(v, v->plan->service == PLAN_OPENAI ? "file-" : "file_", false);

    if (!read_form(v->ask, item)) {
        store_remove(v->s, item);
        return 400;
    }
    say_file(v, item, v->body);
    return 0;
}

static bool command_has(const struct ask *ask, const char *word)
{
    const char *command = ask_field(ask, "x-goog-upload-command");

    return command && strstr(command, word);
}

/* Gemini's: a first request that gets an address, and then the bytes, in one or several. */
static int upload_resumable(struct visit *v)
{
    const char *at = strstr(v->ask->target, "upload_id="), *name;
    struct store_item *item = at ? store_find(v, at + 10, false) : NULL;
    struct text where = { 0 };

    if (!at && command_has(v->ask, "start")) {
        item = store_add(v, "f", false);
        name = ask_field(v->ask, "x-goog-upload-file-name");
        item->name = text_copy(name ? name : "", name ? strlen(name) : 0);
        url(v, "/upload/v1beta/files?upload_protocol=resumable&upload_id=", item->id, "", &where);
        head_add(v->h, "x-goog-upload-url", where.p);
        head_add(v->h, "x-goog-upload-status", "active");
        text_free(&where);
        return 0;
    }
    if (!item)
        return 404;
    text_add(&item->bytes, v->ask->body.p, v->ask->body.n);
    item->complete = command_has(v->ask, "finalize");
    head_add(v->h, "x-goog-upload-status", item->complete ? "final" : "active");
    if (item->complete) {
        text_puts(v->body, "{\"file\":");
        say_file(v, item, v->body);
        text_puts(v->body, "}");
    }
    return 0;
}

/* What the path of one file says after its id. */
static int one_file(struct visit *v, const char *id)
{
    struct store_item *item = store_find(v, id, false);
    const char *rest = id + strcspn(id, "/:?");

    if (!item)
        return 404;
    if (strcmp(v->ask->method, "DELETE") == 0) {
        if (v->plan->service == PLAN_OPENAI)
            text_printf(v->body, "{\"id\":\"%s\",\"object\":\"file\",\"deleted\":true}", item->id);
        else if (v->plan->service == PLAN_ANTHROPIC)
            text_printf(v->body, "{\"id\":\"%s\",\"type\":\"file_deleted\"}", item->id);
        else
            text_puts(v->body, "{}");
        store_remove(v->s, item);
    } else if (path_is(rest, "/content") || path_is(rest, ":download")) {
        v->raw = true;
        head_add(v->h, "content-type", "application/octet-stream");
        text_add(v->body, item->bytes.p, item->bytes.n);
    } else {
        say_file(v, item, v->body);
    }
    return 0;
}

static void say_openai_batch(struct visit *v, const struct store_item *item)
{
    const struct store_item *results = store_find(v, item->name, false);

    text_printf(v->body,
        "{\"id\":\"%s\",\"object\":\"batch\",\"endpoint\":\"/v1/chat/completions\","
        "\"input_file_id\":\"file-in\",\"completion_window\":\"24h\",\"status\":\"completed\","
        "\"output_file_id\":\"%s\",\"created_at\":%lld,\"request_counts\":{\"total\":%u,"
        "\"completed\":%u,\"failed\":0}}",
        item->id, results ? results->id : "", (long long)v->plan->born, item->n, item->n);
}

static void say_anthropic_batch(struct visit *v, const struct store_item *item)
{
    text_printf(v->body,
        "{\"id\":\"%s\",\"type\":\"message_batch\",\"processing_status\":\"ended\","
        "\"request_counts\":{\"processing\":0,\"succeeded\":%u,\"errored\":0,\"canceled\":0,"
        "\"expired\":0},\"created_at\":\"2026-01-31T12:00:00Z\",\"ended_at\":"
        "\"2026-01-31T12:00:01Z\",\"expires_at\":\"2026-02-01T12:00:00Z\",\"archived_at\":null,"
        "\"cancel_initiated_at\":null,\"results_url\":\"",
        item->id, item->n);
    url(v, "/v1/messages/batches/", item->id, "/results", v->body);
    text_puts(v->body, "\"}");
}

static void say_gemini_batch(struct visit *v, const struct store_item *item)
{
    text_printf(v->body,
        "{\"name\":\"batches/%s\",\"metadata\":{\"@type\":\"type.googleapis.com/"
        "google.ai.generativelanguage.v1main.GenerateContentBatch\",\"model\":\"models/%s\","
        "\"name\":\"batches/%s\",\"displayName\":\"batch\",\"state\":\"BATCH_STATE_SUCCEEDED\","
        "\"createTime\":\"2026-01-31T12:00:00Z\",\"batchStats\":{\"requestCount\":\"%u\"},"
        "\"output\":{\"inlinedResponses\":{\"inlinedResponses\":[%s]}}},\"done\":true}",
        item->id, v->plan->model ? v->plan->model : "gemini-2.5-flash", item->id, item->n,
        item->bytes.n ? item->bytes.p : "");
}

static void say_batch(struct visit *v, const struct store_item *item)
{
    switch (v->plan->service) {
    case PLAN_OTHER: /* keep nothing */
    case PLAN_OPENAI:
        say_openai_batch(v, item);
        break;
    case PLAN_ANTHROPIC:
        say_anthropic_batch(v, item);
        break;
    case PLAN_GEMINI:
        say_gemini_batch(v, item);
        break;
    }
}

static void result(struct visit *v, struct json request, struct store_item *to)
{
    struct text name = { 0 };
    struct json id;

    if (json_member(request, "custom_id", &id))
        json_string(id, &name);
    if (!name.n)
        text_puts(&name, "request");
    switch (v->plan->service) {
    case PLAN_OTHER: /* keep nothing */
    case PLAN_OPENAI:
        text_printf(&to->bytes,
            "{\"id\":\"batch_req_%u\",\"custom_id\":\"%s\",\"response\":{\"status_code\":200,"
            "\"request_id\":\"req_%u\",\"body\":{\"object\":\"chat.completion\",\"choices\":[{"
            "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"echo:%s\"},"
            "\"finish_reason\":\"stop\"}]}},\"error\":null}\n",
            to->n, name.p, to->n, name.p);
        break;
    case PLAN_ANTHROPIC:
        text_printf(&to->bytes,
            "{\"custom_id\":\"%s\",\"result\":{\"type\":\"succeeded\",\"message\":{\"id\":\"msg_%u"
            "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\","
            "\"content\":[{\"type\":\"text\",\"text\":\"echo:%s\"}],\"stop_reason\":\"end_turn\","
            "\"stop_sequence\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":7}}}}\n",
            name.p, to->n, name.p);
        break;
    case PLAN_GEMINI:
        text_printf(&to->bytes,
            "%s{\"response\":{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"echo:%s\"}],"
            "\"role\":\"model\"},\"finishReason\":\"STOP\"}]}}",
            to->n ? "," : "", name.p);
        break;
    }
    to->n++;
    text_free(&name);
}

/* OpenAI's batches are files, one request a line. */
static int batch_of_file(struct visit *v, struct json body)
{
    struct store_item *batch, *results, *input;
    struct text id = { 0 };
    struct json value, request;
    const char *p, *end;

    if (json_member(body, "input_file_id", &value))
        json_string(value, &id);
    input = id.n ? store_find(v, id.p, false) : NULL;
    text_free(&id);
    if (!input)
        return 400;
    results = store_add(v, "file-out-", false);
    results->name = text_copy("results.jsonl", 13);
    for (p = input->bytes.p, end = p + input->bytes.n; p && p < end;) {
        const char *line = memchr(p, '\n', (size_t)(end - p));
        size_t n = line ? (size_t)(line - p) : (size_t)(end - p);

        if (json_check(p, n, &request))
            result(v, request, results);
        p += n + 1;
    }
    batch = store_add(v, "batch_", true);
    batch->n = results->n;
    batch->name = text_copy(results->id, strlen(results->id));
    say_batch(v, batch);
    return 0;
}

static int batch_of_list(struct visit *v, struct json list, const char *prefix)
{
    struct store_item *batch = store_add(v, prefix, true);
    struct json request;

    for (size_t at = 0; json_item(list, &at, &request);)
        result(v, request, batch);
    say_batch(v, batch);
    return 0;
}

static int make_batch(struct visit *v)
{
    static const char *const gemini[] = { "batch", "input_config", "requests", "requests" };
    static const char *const camel[] = { "batch", "inputConfig", "requests", "requests" };
    struct json body, value;
    bool found = true;

    if (!json_check(v->ask->body.p, v->ask->body.n, &body))
        return 400;
    if (v->plan->service == PLAN_OPENAI)
        return batch_of_file(v, body);
    if (v->plan->service == PLAN_ANTHROPIC)
        return json_member(body, "requests", &value) ? batch_of_list(v, value, "msgbatch_") : 400;
    value = body;
    for (size_t i = 0; i < 4 && found; i++)
        found = json_member(value, gemini[i], &value) || json_member(value, camel[i], &value);
    return found ? batch_of_list(v, value, "b") : 400;
}

static int one_batch(struct visit *v, const char *id)
{
    struct store_item *item = store_find(v, id, true);

    if (!item)
        return 404;
    if (path_is(id + strcspn(id, "/?"), "/results")) {
        v->raw = true;
        head_add(v->h, "content-type", "application/x-jsonl");
        text_add(v->body, item->bytes.p, item->bytes.n);
    } else {
        say_batch(v, item);
    }
    return 0;
}

static int find_answer(struct visit *v)
{
    static const struct {
        const char *folder;
        int (*make)(struct visit *v);
        int (*one)(struct visit *v, const char *id);
    } folders[] = { { "/v1/files", upload, one_file }, { "/v1beta/files", NULL, one_file },
        { "/upload/v1beta/files", upload_resumable, NULL },
        { "/upload/v1/files", upload_resumable, NULL }, { "/v1/batches", make_batch, one_batch },
        { "/v1/messages/batches", make_batch, one_batch }, { "/v1beta/batches", NULL, one_batch } };
    const char *target = v->ask->target;

    if (path_verb(target))
        return make_batch(v);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        size_t n = strlen(folders[i].folder);

        if (!path_is_under(target, folders[i].folder))
            continue;
        if (target[n] == '/')
            return folders[i].one ? folders[i].one(v, target + n + 1) : 404;
        if (strcmp(v->ask->method, "GET") == 0 || !folders[i].make)
            return 405;
        return folders[i].make(v);
    }
    return 404;
}

int store_answer(struct store *s, const struct plan *plan, const struct ask *ask, bool tls,
    struct head *h, struct text *body)
{
    struct visit v = { .s = s, .plan = plan, .ask = ask, .tls = tls, .h = h, .body = body };
    int problem = find_answer(&v);

    if (problem)
        return problem;
    h->status = 200;
    shape_service_fields(plan, h);
    if (!v.raw)
        head_add(h, "content-type", "application/json");
    return 0;
}

void store_release(struct store *s)
{
    while (s->n > 0)
        item_free(s->items[--s->n]);
    free(s->items);
}
