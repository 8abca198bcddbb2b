/* Requests of HTTP/2 clients: what asks for a WebSocket (RFC 8441), and what stays CONNECT. */
#include "http/h2request.h"

#include "unit.h"

static const struct h1_limits limits = { .head_max = 4096, .fields_max = 50, .target_max = 1000 };

static const struct {
    const char *method, *protocol, *target, *fields;
    enum h2_verdict verdict;
    int error;
    bool websocket;
} requests[] = {
    { "CONNECT", "websocket", "/chat?a", "", H2_SERVE, 0, true },
    { "CONNECT", "websocket", "/", "content-length=5", H2_SERVE, 0,
        true }, /* the route's to refuse */
    { "CONNECT", "websocket", "chat", "", H2_ANSWER, H1_E_TARGET, true },
    { "CONNECT", "websocket", "*", "", H2_ANSWER, H1_E_TARGET, true },
    { "CONNECT", "websocket", "/", "host=other", H2_ANSWER, H1_E_HOST, true },
    { "CONNECT", "WebSocket", "/", "", H2_ANSWER, H1_E_CONNECT, false },
    { "CONNECT", "connect-udp", "/", "", H2_ANSWER, H1_E_CONNECT, false },
    { "CONNECT", "", "", "", H2_ANSWER, H1_E_CONNECT, false },
    { "GET", "websocket", "/", "", H2_SERVE, 0, false }, /* which nghttp2 does not let pass */
    { "GET", "", "/", "", H2_SERVE, 0, false },
};

START_TEST(knows_who_asks_for_a_websocket)
{
    struct h2_inbox inbox = { .scheme = STR("http"), .protocol = str_of(requests[_i].protocol) };
    struct str name, value;
    struct h1_message m;
    int error;

    inbox.head = (struct head){ .method = str_of(requests[_i].method),
        .target = str_of(requests[_i].target),
        .authority = STR("site"),
        .minor = 1 };
    str_cut(str_of(requests[_i].fields), '=', &name, &value);
    if (name.n > 0)
        ck_assert_int_eq(head_add(&inbox.head, &inbox.arena, name, value), 0);
    ck_assert_int_eq(head_add(&inbox.head, &inbox.arena, STR("sec-websocket-key"), STR("k")), 0);
    ck_assert_int_eq(
        h2_check_request(&inbox, &limits, false, false, &m, &error), requests[_i].verdict);
    ck_assert_int_eq(error, requests[_i].error);
    ck_assert_int_eq(inbox.head.websocket, requests[_i].websocket);
    ck_assert_int_eq(!head_find(&inbox.head, STR("sec-websocket-key")), requests[_i].websocket);
    if (requests[_i].websocket)
        ck_assert_span_eq(inbox.head.method, "GET");
    arena_release(&inbox.arena);
}
END_TEST

START_TEST(tells_of_a_tunnel_as_200)
{
    struct field list[] = { { STR_INIT("Sec-WebSocket-Accept"), STR_INIT("x") },
        { STR_INIT("Sec-WebSocket-Protocol"), STR_INIT("chat") },
        { STR_INIT("Upgrade"), STR_INIT("websocket") } };
    struct head h = { .status = 101, .fields = list, .nfields = COUNT_OF(list) };
    char status[4];
    size_t n;
    nghttp2_nv *nv = h2_head_response(&h, status, STR("now"), &n);

    ck_assert_uint_eq(n, 2);
    ck_assert_span_eq(str_make((char *)nv[0].value, nv[0].valuelen), "200");
    ck_assert_span_eq(str_make((char *)nv[1].value, nv[1].valuelen), "chat");
    free(nv);
}
END_TEST

/* RFC 9110 6.6.1 */
START_TEST(adds_a_date_where_there_is_none)
{
    struct field own = { STR_INIT("Date"), STR_INIT("then") };
    struct head h = { .status = 200, .fields = &own, .nfields = (size_t)_i };
    char status[4];
    size_t n;
    nghttp2_nv *nv = h2_head_response(&h, status, STR("now"), &n);

    ck_assert_uint_eq(n, 2);
    ck_assert_span_eq(str_make((char *)nv[1].value, nv[1].valuelen), _i == 0 ? "now" : "then");
    free(nv);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("h2request");

    tcase_add_loop_test(t, knows_who_asks_for_a_websocket, 0, COUNT_OF(requests));
    tcase_add_test(t, tells_of_a_tunnel_as_200);
    tcase_add_loop_test(t, adds_a_date_where_there_is_none, 0, 2);
    return t;
}

UNIT_MAIN("h2request")
