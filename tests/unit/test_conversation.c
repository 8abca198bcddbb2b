/* The key of a conversation: the same for each of its turns, another for another one. */
#include "upstream/conversation.h"

#include <string.h>

#include "unit.h"

static uint64_t key_of(const char *json)
{
    struct piece body = { .mem = json, .len = strlen(json) };
    uint64_t key = 0;

    ck_assert(conversation_key(&body, &key));
    return key;
}

#define SYSTEM "{\"role\":\"system\",\"content\":\"be kind\"},"
#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define PARTS(text) "{\"content\":[{\"type\":\"text\",\"text\":\"" text "\"}],\"role\":\"user\"}"
#define REPLY ",{\"role\":\"assistant\",\"content\":\"hello\"},"

/* Two turns of one conversation, and one of another. */
static const struct {
    const char *first, *second, *other;
} rows[] = {
    { "{\"model\":\"m\",\"messages\":[" SYSTEM USER("hi") "]}",
        "{\"model\":\"m\",\"messages\":[" SYSTEM USER("hi") REPLY USER("and?") "],\"n\":1}",
        "{\"model\":\"m\",\"messages\":[" SYSTEM USER("ho") "]}" },
    { "{\"messages\":[" USER("hi") "]}", "{\"messages\":[" USER("hi") REPLY USER("and?") "]}",
        "{\"messages\":[" USER("hello") "]}" },
    { "{\"messages\":[" PARTS("hi") "]}", "{\"messages\":[" PARTS("hi") REPLY PARTS("and?") "]}",
        "{\"messages\":[" PARTS("ho") "]}" },
    { "{\"messages\":[" USER("hi") "],\"system\":\"be kind\"}",
        "{\"system\":\"be kind\",\"messages\":[" USER("hi") REPLY USER("and?") "]}",
        "{\"messages\":[" USER("hi") "],\"system\":\"be rude\"}" },
    { "{\"input\":\"hi\",\"instructions\":\"x\"}",
        "{\"instructions\":\"x\",\"input\":\"hi\",\"stream\":true}",
        "{\"input\":\"ho\",\"instructions\":\"x\"}" },
    { "{\"input\":[" USER("hi") "]}", "{\"input\":[" USER("hi") REPLY USER("and?") "]}",
        "{\"input\":[" USER("ho") "]}" },
    { "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"hi\"}]}]}",
        "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"hi\"}]},"
        "{\"role\":\"model\",\"parts\":[{\"text\":\"hello\"}]},"
        "{\"role\":\"user\",\"parts\":[{\"text\":\"and?\"}]}]}",
        "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"ho\"}]}]}" },
    { "{\"prompt\":\"once upon\"}", "{\"max_tokens\":5,\"prompt\":\"once upon\"}",
        "{\"prompt\":\"twice upon\"}" },
    { "no JSON at all", "no JSON at all", "other text" },
};

START_TEST(turns_have_one_key)
{
    ck_assert_uint_eq(key_of(rows[_i].first), key_of(rows[_i].second));
    ck_assert_uint_ne(key_of(rows[_i].first), key_of(rows[_i].other));
}
END_TEST

START_TEST(an_empty_body_has_none)
{
    struct piece body = { .len = 0 };
    uint64_t key;

    ck_assert(!conversation_key(&body, &key));
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("conversation");

    tcase_add_loop_test(t, turns_have_one_key, 0, COUNT_OF(rows));
    tcase_add_test(t, an_empty_body_has_none);
    return t;
}

UNIT_MAIN("conversation")
