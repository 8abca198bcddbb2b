/* By the places of prompts in OpenAI's, Anthropic's and Google's APIs. */
#include "upstream/conversation.h"

#include "llm/scanner.h"

enum { BEGINNING = 2048 }; /* of a body without a message */

enum conversation_place { PLACE_ITEM, PLACE_ROLE, PLACE_TEXT };

static const struct {
    struct scanner_path path;
    enum conversation_place place;
} places[] = {
    { { { "system" } }, PLACE_TEXT },
    { { { "system", "*", "text" } }, PLACE_TEXT },
    { { { "instructions" } }, PLACE_TEXT },
    { { { "systemInstruction", "parts", "*", "text" } }, PLACE_TEXT },
    { { { "prompt" } }, PLACE_TEXT },
    { { { "input" } }, PLACE_TEXT },
    { { { "messages", "*" } }, PLACE_ITEM },
    { { { "messages", "*", "role" } }, PLACE_ROLE },
    { { { "messages", "*", "content" } }, PLACE_TEXT },
    { { { "messages", "*", "content", "*", "text" } }, PLACE_TEXT },
    { { { "input", "*" } }, PLACE_ITEM },
    { { { "input", "*", "role" } }, PLACE_ROLE },
    { { { "input", "*", "content" } }, PLACE_TEXT },
    { { { "input", "*", "content", "*", "text" } }, PLACE_TEXT },
    { { { "contents", "*" } }, PLACE_ITEM },
    { { { "contents", "*", "role" } }, PLACE_ROLE },
    { { { "contents", "*", "parts", "*", "text" } }, PLACE_TEXT },
};
enum { NPLACES = sizeof(places) / sizeof(*places) };

/* A message's own hash is added when the next one begins: by then its role is known. Fields outside
 * of messages may stand before or behind them, so these are summed, whatever their order. */
struct conversation {
    struct scanner json;
    uint64_t sum, message;
    unsigned items;
    bool is_users; /* the message at hand */
    bool had_user; /* the user's first message is over: what follows does not count */
    bool any;
};

static uint64_t conversation_hash(uint64_t h, struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * UINT64_C(1099511628211); /* FNV-1a */
    return h;
}

static void conversation_end_item(struct conversation *c)
{
    if (!c->had_user)
        c->sum += c->message * (c->items + 1);
    c->had_user = c->had_user || c->is_users;
    c->is_users = false;
    c->message = 0;
}

static void conversation_on_text(
    struct conversation *c, unsigned path, const struct scanner_value *v)
{
    const char *first = places[path].path.segments[0], *second = places[path].path.segments[1];
    bool in_item = second && second[0] == '*' && first[0] != 's';
    uint64_t h = conversation_hash(UINT64_C(14695981039346656037), v->text) + v->length;

    if (v->type != SCANNER_STRING || v->length == 0 || (in_item && c->had_user))
        return;
    c->any = true;
    if (in_item)
        c->message = c->message * 31 + h;
    else
        c->sum += h;
}

static void conversation_on_value(void *owner, unsigned path, const struct scanner_value *v)
{
    struct conversation *c = owner;

    switch (places[path].place) {
    case PLACE_ITEM:
        conversation_end_item(c);
        c->items++;
        break;
    case PLACE_ROLE:
        c->is_users = str_eq(v->text, STR("user"));
        break;
    case PLACE_TEXT:
        conversation_on_text(c, path, v);
        break;
    }
}

static bool conversation_take(void *owner, struct str piece)
{
    struct conversation *c = owner;

    return scanner_feed(&c->json, piece);
}

static bool conversation_of_beginning(const struct piece *body, uint64_t *key)
{
    char scratch[BEGINNING];
    size_t n = body->len < sizeof(scratch) ? (size_t)body->len : sizeof(scratch);
    struct str s = str_make(body->mem, n);

    if (n == 0 || (body->body && body_read(body->body, body->off, n, scratch, &s) < 0))
        return false;
    *key = conversation_hash(UINT64_C(14695981039346656037), s);
    return true;
}

bool conversation_key(const struct piece *body, uint64_t *key)
{
    struct scanner_path paths[NPLACES];
    struct conversation c = { 0 };

    for (size_t i = 0; i < NPLACES; i++)
        paths[i] = places[i].path;
    scanner_init(&c.json, paths, NPLACES, false, conversation_on_value, &c);
    if (piece_each(body, conversation_take, &c) < 0)
        return false;
    conversation_end_item(&c);
    if (!c.any)
        return conversation_of_beginning(body, key);
    *key = c.sum;
    return true;
}
