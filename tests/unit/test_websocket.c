/* WebSocket's opening handshake: who asks for one, and who agrees to it. */
#include "http/websocket.h"

#include <string.h>

#include "unit.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

START_TEST(answers_the_key_of_the_rfc) /* RFC 6455 1.3 */
{
    char accept[WEBSOCKET_ACCEPT_LEN + 1];

    websocket_accept(STR(KEY), accept);
    ck_assert_str_eq(accept, ACCEPT);
}
END_TEST

START_TEST(makes_keys_that_differ)
{
    char one[WEBSOCKET_KEY_LEN + 1], other[WEBSOCKET_KEY_LEN + 1];

    websocket_make_key(one);
    websocket_make_key(other);
    ck_assert_uint_eq(strlen(one), WEBSOCKET_KEY_LEN);
    ck_assert_str_ne(one, other);
    ck_assert_str_eq(one + WEBSOCKET_KEY_LEN - 2, "==");
}
END_TEST

/* "Name=value|…" */
static size_t split(const char *text, struct field *list)
{
    struct str rest = str_of(text), one;
    size_t n = 0;

    while (rest.n > 0) {
        str_cut(rest, '|', &one, &rest);
        str_cut(one, '=', &list[n].name, &list[n].value);
        n++;
    }
    return n;
}

#define FIELDS "Host=h|Upgrade=websocket|Connection=Upgrade|Sec-WebSocket-Key=" KEY

static const struct {
    const char *method, *fields;
    int minor;
    bool asks;
} asked[] = {
    { "GET", FIELDS, 1, true },
    { "GET", FIELDS "|Sec-WebSocket-Version=8", 1, true }, /* the worker's to refuse */
    { "GET", "Host=h|upgrade=x, WebSocket|connection=keep-alive, UPGRADE|sec-websocket-key=" KEY, 1,
        true },
    { "GET", FIELDS, 0, false }, /* RFC 9110 7.8 */
    { "POST", FIELDS, 1, false },
    { "HEAD", FIELDS, 1, false },
    { "get", FIELDS, 1, false },
    { "GET", "Host=h|Upgrade=h2c|Connection=Upgrade|Sec-WebSocket-Key=" KEY, 1, false },
    { "GET", "Host=h|Upgrade=websockets|Connection=Upgrade|Sec-WebSocket-Key=" KEY, 1, false },
    { "GET", "Host=h|Connection=Upgrade|Sec-WebSocket-Key=" KEY, 1, false },
    { "GET", "Host=h|Upgrade=websocket|Sec-WebSocket-Key=" KEY, 1, false },
    { "GET", "Host=h|Upgrade=websocket|Connection=close|Sec-WebSocket-Key=" KEY, 1, false },
    { "GET", "Host=h|Upgrade=websocket|Connection=Upgrade", 1, false },
    { "GET", FIELDS "|Sec-WebSocket-Key=" KEY, 1, false },
    { "GET", "Host=h|Upgrade=websocket|Connection=Upgrade|Sec-WebSocket-Key=", 1, false },
    { "GET", "Host=h|Upgrade=websocket|Connection=Upgrade|Sec-WebSocket-Key=dGhlIHNhbXBs", 1,
        false },
    { "GET", "Host=h|Upgrade=websocket|Connection=Upgrade|Sec-WebSocket-Key=" KEY "A", 1, false },
    { "GET",
        "Host=h|Upgrade=websocket|Connection=Upgrade|Sec-WebSocket-Key=dGhl!HNhbXBsZSBub25jZQ==", 1,
        false },
    { "GET",
        "Host=h|Upgrade=websocket|Connection=Upgrade|Sec-WebSocket-Key=dGhlIHNhbXBsZSBub25jZQA=", 1,
        false },
};

START_TEST(knows_who_asks)
{
    struct field list[8];
    struct head h = { .method = str_of(asked[_i].method),
        .target = STR("/"),
        .minor = (unsigned)asked[_i].minor,
        .fields = list };
    struct h1_message m;

    h.nfields = split(asked[_i].fields, list);
    ck_assert_int_eq(h1_check_request(&h, &m), 0);
    ck_assert_int_eq(websocket_is_asked(&h, &m), asked[_i].asks);
}
END_TEST

static const struct {
    const char *fields;
    bool agrees;
} agreed[] = {
    { "Upgrade=websocket|Connection=Upgrade|Sec-WebSocket-Accept=" ACCEPT, true },
    { "Upgrade=WebSocket|Connection=upgrade, x|Sec-WebSocket-Accept=" ACCEPT "|X=y", true },
    { "Upgrade=x|Connection=Upgrade|Sec-WebSocket-Accept=" ACCEPT, false },
    { "Upgrade=websocket, x|Connection=Upgrade|Sec-WebSocket-Accept=" ACCEPT, false },
    { "Upgrade=websocket|Upgrade=x|Connection=Upgrade|Sec-WebSocket-Accept=" ACCEPT, false },
    { "Connection=Upgrade|Sec-WebSocket-Accept=" ACCEPT, false },
    { "Upgrade=websocket|Sec-WebSocket-Accept=" ACCEPT, false },
    { "Upgrade=websocket|Connection=Upgrade", false },
    { "Upgrade=websocket|Connection=Upgrade|Sec-WebSocket-Accept=" KEY, false },
    { "Upgrade=websocket|Connection=Upgrade|Sec-WebSocket-Accept=" ACCEPT
      "|Sec-WebSocket-Accept=" ACCEPT,
        false },
    { "Upgrade=websocket|Connection=Upgrade|Sec-WebSocket-Accept=" ACCEPT "|Content-Length=0",
        true },
    { "Upgrade=websocket|Connection=Upgrade|Sec-WebSocket-Accept=" ACCEPT "|Content-Length=1",
        false },
    { "Upgrade=websocket|Connection=Upgrade|Sec-WebSocket-Accept=" ACCEPT
      "|Transfer-Encoding=chunked",
        false },
};

START_TEST(knows_who_agrees) /* RFC 9110 7.8 */
{
    struct field list[8];
    struct head h = { .status = 101, .minor = 1, .fields = list };
    struct h1_message m;

    h.nfields = split(agreed[_i].fields, list);
    ck_assert_int_eq(h1_check_response(&h, STR("GET"), &m), 0);
    ck_assert_int_eq(websocket_is_agreed(&h, &m, STR(ACCEPT)), agreed[_i].agrees);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("websocket");

    tcase_add_test(t, answers_the_key_of_the_rfc);
    tcase_add_test(t, makes_keys_that_differ);
    tcase_add_loop_test(t, knows_who_asks, 0, COUNT_OF(asked));
    tcase_add_loop_test(t, knows_who_agrees, 0, COUNT_OF(agreed));
    return t;
}

UNIT_MAIN("websocket")
