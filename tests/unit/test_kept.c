/* Which requests name what an account keeps. */
#include "llm/kept.h"

#include "unit.h"

static const struct {
    const char *method, *target;
    enum kept kept;
    const char *id;
} paths[] = {
    { "POST", "/v1/responses", KEPT_NOTHING, NULL },
    { "POST", "/v1/responses?x=/files/", KEPT_NOTHING, NULL },
    { "GET", "/v1/responses/resp_1", KEPT_RESPONSE, "resp_1" },
    { "DELETE", "/openai/v1/responses/resp_1?api-version=1", KEPT_RESPONSE, "resp_1" },
    { "GET", "/v1/responses/resp_1/input_items", KEPT_RESPONSE, "resp_1" },
    { "POST", "/v1/responses/resp_1/cancel", KEPT_RESPONSE, "resp_1" },
    { "POST", "/v1/responses/input_tokens", KEPT_NOTHING, NULL },
    { "POST", "/v1/responses/compact", KEPT_NOTHING, NULL },
    { "POST", "/v1/responses/", KEPT_NOTHING, NULL },
    { "POST", "/v1/chat/completions", KEPT_NOTHING, NULL },
    { "GET", "/v1/chat/completions", KEPT_OTHER, NULL },
    { "POST", "/v1/chat/completions/chatcmpl-1", KEPT_OTHER, NULL },
    { "POST", "/v1/embeddings", KEPT_NOTHING, NULL },
    { "POST", "/v1/messages", KEPT_NOTHING, NULL },
    { "POST", "/v1/files", KEPT_OTHER, NULL },
    { "GET", "/v1/files/file-1/content", KEPT_OTHER, NULL },
    { "POST", "/v1/batches", KEPT_OTHER, NULL },
    { "GET", "/v1/messages/batches/msgbatch_1/results", KEPT_OTHER, NULL },
    { "POST", "/v1/threads/thread_1/runs", KEPT_OTHER, NULL },
    { "GET", "/v1/vector_stores/vs_1/files", KEPT_OTHER, NULL },
    { "POST", "/upload/v1beta/files?uploadType=resumable", KEPT_OTHER, NULL },
    { "GET", "/v1beta/files/abc", KEPT_OTHER, NULL },
    { "POST", "/v1beta/cachedContents", KEPT_OTHER, NULL },
    { "POST", "/v1beta/models/gemini-x:generateContent", KEPT_NOTHING, NULL },
    { "GET", "/v1/profiles", KEPT_NOTHING, NULL },
    { "GET", "/", KEPT_NOTHING, NULL },
    { "OPTIONS", "*", KEPT_NOTHING, NULL },
};

START_TEST(knows_paths)
{
    struct str id = { NULL, 0 };

    ck_assert_int_eq(
        kept_by_path(str_of(paths[_i].method), str_of(paths[_i].target), &id), paths[_i].kept);
    if (paths[_i].id)
        ck_assert_span_eq(id, paths[_i].id);
}
END_TEST

static enum kept found;

static void on_value(void *owner, unsigned path, const struct scanner_value *v)
{
    enum kept k = kept_by_value(path, v);

    if (k != KEPT_NOTHING)
        found = k;
}

static const struct {
    const char *body;
    enum kept kept;
} bodies[] = {
    { "{\"model\":\"m\",\"input\":\"hi\"}", KEPT_NOTHING },
    { "{\"previous_response_id\":\"resp_1\"}", KEPT_RESPONSE },
    { "{\"previous_response_id\":null,\"conversation\":null}", KEPT_NOTHING },
    { "{\"previous_response_id\":\"\"}", KEPT_NOTHING },
    { "{\"metadata\":{\"previous_response_id\":\"resp_1\"}}", KEPT_NOTHING },
    { "{\"conversation\":\"conv_1\"}", KEPT_OTHER },
    { "{\"conversation\":{\"id\":\"conv_1\"}}", KEPT_OTHER },
    { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_file\",\"file_id\":\"f\"}]}]}",
        KEPT_OTHER },
    { "{\"tools\":[{\"type\":\"file_search\",\"vector_store_ids\":[\"vs_1\"]}]}", KEPT_OTHER },
    { "{\"messages\":[{\"content\":[{\"type\":\"file\",\"file\":{\"file_id\":\"f\"}}]}]}",
        KEPT_OTHER },
    { "{\"messages\":[{\"content\":[{\"type\":\"image\",\"source\":{\"type\":\"file\",\"file_id\":"
      "\"f\"}}]}]}",
        KEPT_OTHER },
    { "{\"cachedContent\":\"cachedContents/1\"}", KEPT_OTHER },
    { "{\"contents\":[{\"parts\":[{\"fileData\":{\"fileUri\":\"https://generativelanguage."
      "googleapis.com/v1beta/files/1\"}}]}]}",
        KEPT_OTHER },
    { "{\"contents\":[{\"parts\":[{\"file_data\":{\"file_uri\":\"https://youtube.example/x\"}}]}]}",
        KEPT_NOTHING },
};

START_TEST(knows_places_in_bodies)
{
    struct scanner j;

    found = KEPT_NOTHING;
    scanner_init(&j, kept_paths, KEPT_NPATHS, false, on_value, NULL);
    ck_assert(scanner_feed(&j, str_of(bodies[_i].body)));
    ck_assert_int_eq(found, bodies[_i].kept);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("kept");

    tcase_add_loop_test(t, knows_paths, 0, COUNT_OF(paths));
    tcase_add_loop_test(t, knows_places_in_bodies, 0, COUNT_OF(bodies));
    return t;
}

UNIT_MAIN("kept")
