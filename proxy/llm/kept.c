/* The names are those of OpenAI's, Anthropic's and Google's references. */
#include "llm/kept.h"

static const struct str collections[] = { STR_INIT("assistants"), STR_INIT("batches"),
    STR_INIT("cachedContents"), STR_INIT("containers"), STR_INIT("conversations"),
    STR_INIT("evals"), STR_INIT("files"), STR_INIT("fine_tuning"), STR_INIT("skills"),
    STR_INIT("threads"), STR_INIT("tunedModels"), STR_INIT("uploads"), STR_INIT("vector_stores"),
    STR_INIT("videos") };

const struct scanner_path kept_paths[KEPT_NPATHS] = {
    { { "previous_response_id" } },
    { { "conversation" } },
    { { "conversation", "id" } },
    { { "input_file_id" } },
    { { "input", "*", "content", "*", "file_id" } },
    { { "tools", "*", "vector_store_ids", "*" } },
    { { "tools", "*", "container", "file_ids", "*" } },
    { { "messages", "*", "content", "*", "file", "file_id" } },
    { { "messages", "*", "content", "*", "source", "file_id" } },
    { { "container" } },
    { { "cachedContent" } },
    { { "contents", "*", "parts", "*", "fileData", "fileUri" } },
    { { "contents", "*", "parts", "*", "file_data", "file_uri" } },
};

static bool kept_is_collection(struct str segment)
{
    for (size_t i = 0; i < sizeof(collections) / sizeof(*collections); i++)
        if (str_eq(collections[i], segment))
            return true;
    return false;
}

/* What stands behind "responses" in a path, but is no id. */
static bool kept_is_verb(struct str segment)
{
    return segment.n == 0 || str_eq(segment, STR("compact")) ||
           str_eq(segment, STR("input_tokens"));
}

enum kept kept_by_path(struct str method, struct str target, struct str *id)
{
    struct str path, query, segment, next;

    str_cut(target, '?', &path, &query);
    while (path.n > 0) {
        str_cut(path, '/', &segment, &path);
        str_cut(path, '/', &next, &query);
        if (str_eq(segment, STR("responses")) && !kept_is_verb(next)) {
            *id = next;
            return KEPT_RESPONSE;
        }
        /* Chat completions that were stored: a list, or one of them. */
        if (str_eq(segment, STR("completions")) && (next.n > 0 || str_eq(method, STR("GET"))))
            return KEPT_OTHER;
        if (kept_is_collection(segment))
            return KEPT_OTHER;
    }
    return KEPT_NOTHING;
}

enum kept kept_by_value(unsigned path, const struct scanner_value *v)
{
    if (v->type != SCANNER_STRING || v->length == 0)
        return KEPT_NOTHING;
    /* Google's files have addresses; the others are the world's. */
    if (path >= KEPT_NPATHS - 2 && !str_starts_with(v->text, STR("https://generativelanguage.")))
        return KEPT_NOTHING;
    return path == 0 ? KEPT_RESPONSE : KEPT_OTHER;
}
