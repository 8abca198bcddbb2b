/* Clients' connections: what of a request reaches its owner, what of the response reaches the
 * client, and how both can end. */
#include "http/h1server.h"

#include <stdlib.h>
#include <sys/un.h>

#include "cuts.h"
#include "net/loop.h"
#include "unit.h"
#include "world.h"

/* The owner of one request at a time. */
static struct {
    struct stream *stream; /* NULL: none is open */
    unsigned requests;
    struct buf story; /* "METHOD target authority|" or "refused STATUS|", one after the other */
    struct buf body;  /* of the last one */
    unsigned pieces;  /* that it came in */
    unsigned error_status;
    bool expects_continue, ended, half_closed, drained;
    int failed; /* enum stream_error */
    int detail;
    const char *answer; /* not NULL: each whole request is answered with this body */
} app;

static struct acceptor acceptor;
static struct peer client;

static void answer(unsigned status, const char *fields, const char *body)
{
    struct field list[8];
    struct head h = { .status = status, .fields = list };
    struct str rest = str_of(fields), one;

    while (rest.n > 0) {
        str_cut(rest, '|', &one, &rest);
        str_cut(one, '=', &list[h.nfields].name, &list[h.nfields].value);
        h.nfields++;
    }
    stream_send_head(app.stream, &h, body == NULL);
    if (body) {
        stream_send_data(app.stream, body, strlen(body));
        stream_send_end(app.stream);
    }
}

static void let_go(void)
{
    struct stream *s = app.stream;

    app.stream = NULL;
    stream_close(s);
}

static void finish(void)
{
    app.ended = true;
    if (app.answer) {
        answer(200, "", app.answer);
        let_go();
    }
}

static void on_event(void *owner, struct stream *s, const struct message *m)
{
    ck_assert_ptr_eq(s, app.stream);
    ck_assert_int_eq(app.failed, 0); /* nothing else follows */
    switch (m->kind) {
    case MESSAGE_DATA:
        ck_assert(!app.ended);
        buf_append_str(&app.body, m->data);
        app.pieces++;
        break;
    case MESSAGE_END:
        ck_assert(!app.ended);
        finish();
        break;
    case MESSAGE_FAILED:
        app.failed = m->cause;
        app.detail = m->detail;
        break;
    case MESSAGE_HEAD:
        ck_abort();
    }
}

static void on_drained(void *owner, struct stream *s)
{
    app.drained = true;
}

static void on_half_closed(void *owner, struct stream *s)
{
    ck_assert(!app.half_closed);
    app.half_closed = true;
}

static const struct stream_handler handler = {
    .on_message = on_event, .on_drained = on_drained, .on_half_closed = on_half_closed
};

static void on_request(void *owner, struct stream *s, const struct stream_request *r)
{
    ck_assert_ptr_null(app.stream); /* one at a time */
    app.stream = s;
    app.requests++;
    app.ended = app.half_closed = app.drained = false;
    app.failed = 0;
    app.error_status = r->error_status;
    app.expects_continue = r->expects_continue;
    buf_release(&app.body);
    stream_set_owner(s, &handler, NULL);
    if (r->error_status) {
        buf_printf(&app.story, "refused %u|", r->error_status);
        answer(r->error_status, "Content-Length=2", "no");
        let_go();
        return;
    }
    buf_printf(&app.story, STR_FMT " " STR_FMT " " STR_FMT "|", STR_ARG(r->head->method),
        STR_ARG(r->head->target), STR_ARG(r->head->authority));
    if (!r->body)
        finish();
}

static void open_connection(bool tcp)
{
    struct sockaddr_storage sa = { .ss_family = tcp ? AF_INET : AF_UNIX };
    struct conn *c;

    c = conn_accept(tcp ? peer_tcp_pair(&client) : peer_pair(&client), (struct sockaddr *)&sa, NULL,
        NULL, NULL);
    ck_assert_int_eq(h1_server_open(c, &acceptor), 0);
}

static void set_up(void)
{
    world_open();
    memset(&app, 0, sizeof(app));
    acceptor_init(&acceptor);
    acceptor.limits = (struct h1_limits){ .head_max = 4096,
        .fields_max = 50,
        .target_max = 1000,
        .interim_max = 16,
        .chunk_line_max = 4096,
        .chunk_overhead_max = 65536 };
    acceptor.header_timeout_ms = acceptor.body_timeout_ms = acceptor.send_timeout_ms =
        acceptor.keep_alive_timeout_ms = 3600000;
    acceptor.on_request = on_request;
    acceptor.draining = false;
    open_connection(false);
}

static void tear_down(void)
{
    if (app.stream)
        let_go();
    acceptor_close(&acceptor);
    ck_assert_uint_eq(acceptor.idle.count + acceptor.busy.count, 0);
    peer_close(&client);
    buf_release(&app.story);
    buf_release(&app.body);
    world_close();
}

static void expect_story(const char *want)
{
    WORLD_UNTIL(buf_len(&app.story) >= strlen(want));
    ck_assert_span_eq(buf_str(&app.story), want);
}

/* What the client got, without the Date that a response has. */
static const char *take_undated(void)
{
    static char text[1 << 16];
    const char *got = peer_take(&client), *date = strstr(got, "Date: ");

    if (!date)
        return got;
    ck_assert_int_eq(strncmp(date + 31, " GMT\r\n", 6), 0);
    snprintf(text, sizeof(text), "%.*s%s", (int)(date - got), got, date + 37);
    return text;
}

#define GET "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST(n) "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: " n "\r\n\r\n"

START_TEST(serves_requests_one_after_the_other)
{
    app.answer = "yes";
    for (int i = 0; i < 3; i++) {
        peer_send(&client, GET);
        WORLD_UNTIL(peer_has(&client, "yes"));
        ck_assert_str_eq(take_undated(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n");
        ck_assert_uint_eq(acceptor.idle.count, 1);
    }
    expect_story("GET /a h|GET /a h|GET /a h|");
}
END_TEST

START_TEST(holds_pipelined_requests_back)
{
    peer_send(&client, GET POST("3") "abc" GET "GET /last HTTP/1.1\r\nHost: h\r\n\r\n");
    WORLD_UNTIL(app.stream);
    world_settle();
    expect_story("GET /a h|");
    answer(200, "Content-Length=1", "1");
    let_go();
    expect_story("GET /a h|POST /p h|");
    WORLD_UNTIL(app.ended);
    ck_assert_span_eq(buf_str(&app.body), "abc");
    ck_assert_uint_eq(app.requests, 2);
    app.answer = "";
    answer(200, "Content-Length=1", "2");
    let_go();
    expect_story("GET /a h|POST /p h|GET /a h|GET /last h|");
    ck_assert_uint_eq(acceptor.idle.count, 1);
}
END_TEST

#define WEBSOCKET                                                                                  \
    "GET /w HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                  \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

START_TEST(becomes_a_tunnel)
{
    peer_send(&client, WEBSOCKET GET); /* what follows is the tunnel's, whatever it looks like */
    WORLD_UNTIL(app.stream);
    world_settle();
    ck_assert_uint_eq(buf_len(&app.body), 0);
    app.ended = false; /* of the request; now of the tunnel */
    answer(101, "Sec-WebSocket-Accept=x|Upgrade=y|Content-Length=3", NULL);
    WORLD_UNTIL(buf_len(&app.body) == strlen(GET));
    ck_assert_span_eq(buf_str(&app.body), GET);
    WORLD_UNTIL(peer_has(&client, "\r\n\r\n"));
    ck_assert_str_eq(peer_take(&client),
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\n\r\n");
    stream_send_data(app.stream, "raw", 3);
    WORLD_UNTIL(peer_has(&client, "raw"));
    ck_assert_str_eq(peer_take(&client), "raw");
    stream_pause(app.stream, true);
    peer_send(&client, "more");
    peer_finish(&client);
    world_settle();
    ck_assert_uint_eq(buf_len(&app.body), strlen(GET));
    stream_pause(app.stream, false);
    WORLD_UNTIL(app.ended);
    ck_assert_span_eq(buf_str(&app.body), GET "more");
    stream_send_data(app.stream, "late", 4); /* its other direction still stands */
    stream_send_end(app.stream);
    let_go();
    WORLD_UNTIL(peer_ended(&client));
    ck_assert_str_eq(peer_take(&client), "late");
    expect_story("GET /w h|");
    ck_assert_uint_eq(app.requests, 1);
}
END_TEST

START_TEST(serves_nothing_after_a_tunnel_that_was_refused)
{
    peer_send(&client, WEBSOCKET GET);
    WORLD_UNTIL(app.stream);
    answer(403, "Content-Length=2", "no");
    let_go();
    WORLD_UNTIL(peer_ended(&client));
    ck_assert_str_eq(take_undated(),
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    ck_assert_uint_eq(app.requests, 1);
}
END_TEST

/* RFC 9110 6.6.1 */
START_TEST(adds_a_date_where_there_is_none)
{
    peer_send(&client, GET);
    WORLD_UNTIL(app.stream);
    answer(200, _i == 0 ? "" : "date=then", NULL);
    let_go();
    WORLD_UNTIL(peer_has(&client, "\r\n\r\n"));
    ck_assert_int_eq(peer_has(&client, "\r\nDate: "), _i == 0);
    ck_assert_int_eq(peer_has(&client, " GMT\r\n"), _i == 0);
    ck_assert_int_eq(peer_has(&client, "\r\ndate: then\r\n"), _i == 1);
}
END_TEST

/* Issue 8, point 9: chunks of one byte cost their owner one call a read. */
START_TEST(hands_over_what_one_read_brings)
{
    struct buf b = { 0 };

    buf_printf(&b, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "1\r\nx\r\n");
    buf_printf(&b, "0\r\n\r\n%c", '\0');
    peer_send(&client, buf_str(&b).p);
    WORLD_UNTIL(app.ended);
    ck_assert_uint_eq(buf_len(&app.body), 1000);
    ck_assert_uint_le(app.pieces, 10);
    buf_release(&b);
    let_go();
}
END_TEST

/* A field that is left out might be the framing. */
START_TEST(sends_a_head_whole_or_not_at_all)
{
    static struct field fields[2000];
    struct head h = { .status = 200, .fields = fields, .nfields = (size_t)_i };
    int rc;

    peer_send(&client, GET);
    WORLD_UNTIL(app.stream);
    for (int i = 0; i < _i; i++)
        fields[i] = (struct field){ STR("A"), STR("b") };
    fields[_i - 1] = (struct field){ STR("Content-Length"), STR("0") };
    rc = stream_send_head(app.stream, &h, true);
    world_settle();
    if (rc == 0) {
        ck_assert(peer_has(&client, " GMT\r\nContent-Length: 0\r\n\r\n"));
    } else {
        ck_assert_int_eq(rc, STREAM_E_HEAD_TOO_LARGE);
        ck_assert_int_gt(_i, H1_FIELDS_MAX + 50);
        ck_assert_uint_eq(peer_got(&client), 0);
    }
    let_go();
}
END_TEST

START_TEST(tells_how_a_tunnel_ends)
{
    peer_send(&client, WEBSOCKET);
    WORLD_UNTIL(app.stream);
    if (_i == 0) { /* the end came before the answer */
        peer_finish(&client);
        WORLD_UNTIL(app.half_closed);
    }
    app.ended = false;
    answer(101, "", NULL);
    if (_i == 0) {
        WORLD_UNTIL(app.ended);
    } else if (_i == 1) {
        peer_send(&client, "x");
        WORLD_UNTIL(buf_len(&app.body) == 1);
        peer_close(&client); /* unread bytes of ours: a reset */
        stream_send_data(app.stream, "y", 1);
        WORLD_UNTIL(app.ended || app.failed);
    } else {
        WORLD_UNTIL(peer_has(&client, "\r\n\r\n"));
        stream_send_data(app.stream, "all of it arrives", 17);
        stream_reset(app.stream, STREAM_ABORT);
        app.stream = NULL;
        WORLD_UNTIL(peer_ended(&client));
        ck_assert(peer_has(&client, "all of it arrives"));
    }
}
END_TEST

START_TEST(reads_the_same_however_it_is_cut)
{
    static const char in[] =
        POST("4") "abcd" GET "PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
                  "chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n" GET;
    static const char want[] = "POST /p h|GET /a h|PUT /c h|GET /a h|";
    struct cuts c = { .n = sizeof(in) - 1 };

    app.answer = "";
    while (cuts_next(&c)) {
        buf_release(&app.story);
        for (size_t at = 0, end; at < c.n; at = end) {
            end = cuts_end(&c, at);
            peer_send_bytes(&client, in + at, end - at);
            world_settle();
        }
        expect_story(want);
        peer_take(&client);
    }
}
END_TEST

/* After a refusal nothing on the connection is read as a request. */
static const struct {
    const char *in, *story;
} refused[] = {
    { "GET / HTTP/1.1\r\n\r\n" GET, "refused 400|" },
    { "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" GET,
        "refused 400|" },
    { "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n" GET, "refused 501|" },
    { "GET / HTTP/3.0\r\nHost: h\r\n\r\n" GET, "refused 505|" },
    { "GET / HTTP/1.1\nHost: h\n\n" GET, "refused 400|" },
    { "\x16\x03\x01\x02\x00" GET, "refused 400|" },
    { "GET / HTTP/1.1\r\nHost: h\r\nExpect: more\r\n\r\n" GET, "refused 417|" },
    { "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n" GET, "refused 400|" },
};

START_TEST(serves_nothing_after_a_refusal)
{
    peer_send(&client, refused[_i].in);
    expect_story(refused[_i].story);
    WORLD_UNTIL(peer_ended(&client));
    ck_assert(peer_has(&client, "Connection: close\r\n\r\nno"));
    ck_assert_uint_eq(app.requests, 1);
    ck_assert_uint_eq(acceptor.busy.count + acceptor.idle.count, 0);
}
END_TEST

START_TEST(refuses_a_head_over_the_limit_while_it_comes)
{
    static char filler[5000];

    memset(filler, 'x', sizeof(filler) - 1);
    peer_send(&client, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
    peer_send(&client, filler);
    expect_story("refused 431|");
    WORLD_UNTIL(peer_ended(&client));
}
END_TEST

/* The body is malformed: the owner hears of it and can answer; the connection ends. */
START_TEST(tells_of_a_malformed_body)
{
    peer_send(&client,
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nz\r\n" GET);
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, STREAM_E_BAD_REQUEST);
    ck_assert_int_eq(app.detail, H1_E_CHUNK);
    ck_assert_span_eq(buf_str(&app.body), "ab");
    answer(400, "Content-Length=3", "bad");
    let_go();
    WORLD_UNTIL(peer_ended(&client));
    ck_assert(peer_has(&client, " GMT\r\nContent-Length: 3\r\nConnection: close"));
    ck_assert_uint_eq(app.requests, 1);
}
END_TEST

/* A response that is complete before the request is: the client can read it, and nothing more is
 * served. */
START_TEST(answers_early)
{
    peer_send(&client, POST("100") "begin");
    WORLD_UNTIL(buf_len(&app.body) == 5);
    answer(413, "Content-Length=5", "large");
    let_go();
    peer_send(&client, "the rest of the body, " GET);
    WORLD_UNTIL(peer_ended(&client));
    ck_assert(!client.reset);
    ck_assert(peer_has(&client, "Connection: close\r\n\r\nlarge"));
    ck_assert_uint_eq(app.requests, 1);
}
END_TEST

/* How a response is framed: of what the owner says and who asks. */
static const struct {
    const char *request;
    unsigned status;
    const char *fields, *body;
    const char *want; /* after the status line */
    bool stays;
} framed[] = {
    { GET, 200, "Content-Length=2", "ab", "Content-Length: 2\r\n\r\nab", true },
    { GET, 200, "", "ab", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", true },
    { GET, 200, "", NULL, "Content-Length: 0\r\n\r\n", true },
    { GET, 204, "", NULL, "\r\n", true },
    { GET, 204, "Content-Length=0", NULL, "\r\n", true },
    { GET, 304, "Content-Length=5|ETag=x", NULL, "ETag: x\r\nContent-Length: 5\r\n\r\n", true },
    /* Framing is the stream's: what else the head says of it is left out. */
    { GET, 200, "Transfer-Encoding=gzip|Connection=x|Keep-Alive=1|A=b|Content-Length=2", "ab",
        "A: b\r\nContent-Length: 2\r\n\r\nab", true },
    { GET, 200, "Connection=close|Content-Length=2", "ab",
        "Content-Length: 2\r\nConnection: close\r\n\r\nab", false },
    /* Never more than was announced */
    { GET, 200, "Content-Length=2", "abHTTP/1.1 200 OK\r\n\r\n", "Content-Length: 2\r\n\r\nab",
        true },
    { "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", 200, "Content-Length=2", "ab",
        "Content-Length: 2\r\n\r\n", true },
    { "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", 200, "", "ab", "\r\n", true },
    { "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 200, "Content-Length=2", "ab",
        "Content-Length: 2\r\nConnection: close\r\n\r\nab", false },
    /* HTTP/1.0 knows no chunks. */
    { "GET / HTTP/1.0\r\n\r\n", 200, "Content-Length=2", "ab",
        "Content-Length: 2\r\nConnection: close\r\n\r\nab", false },
    { "GET / HTTP/1.0\r\n\r\n", 200, "", "ab", "Connection: close\r\n\r\nab", false },
    { "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, "Content-Length=2", "ab",
        "Content-Length: 2\r\nConnection: keep-alive\r\n\r\nab", true },
    { "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, "", "ab",
        "Connection: close\r\n\r\nab", false },
};

START_TEST(frames_responses)
{
    const char *got;

    peer_send(&client, framed[_i].request);
    WORLD_UNTIL(app.stream && app.ended);
    answer(framed[_i].status, framed[_i].fields, framed[_i].body);
    let_go();
    world_settle();
    ck_assert_int_eq(peer_ended(&client), !framed[_i].stays);
    ck_assert_uint_eq(acceptor.idle.count, framed[_i].stays);
    got = take_undated();
    ck_assert_int_eq(strncmp(got, "HTTP/1.1 ", 9), 0);
    ck_assert_str_eq(strchr(got, '\n') + 1, framed[_i].want);
}
END_TEST

/* A response that is given up must not look whole. */
static const struct {
    const char *request, *fields;
    bool reset; /* the owner says so; otherwise it just closes */
    bool head;  /* the head was sent */
    bool client_reset;
    const char *tail; /* the last that comes */
} cut[] = {
    { GET, "Content-Length=10", false, true, false, "\r\n\r\nabc" },
    { GET, "Content-Length=10", true, true, false, "\r\n\r\nabc" },
    { GET, "", false, true, false, "\r\n3\r\nabc\r\n" },
    { GET, "", true, true, false, "\r\n3\r\nabc\r\n" },
    { "GET / HTTP/1.0\r\n\r\n", "", false, true, true, "" },
    { "GET / HTTP/1.0\r\n\r\n", "", true, true, true, "" },
    { GET, "", false, false, false, "" },
    { GET, "", true, false, false, "" },
};

START_TEST(does_not_let_a_cut_response_look_whole)
{
    struct head h = { .status = 200 };
    struct field f;
    const char *got;

    peer_close(&client);
    open_connection(true);
    peer_send(&client, cut[_i].request);
    WORLD_UNTIL(app.stream && app.ended);
    if (cut[_i].fields[0]) {
        f = (struct field){ STR("Content-Length"), STR("10") };
        h.fields = &f;
        h.nfields = 1;
    }
    if (cut[_i].head) {
        stream_send_head(app.stream, &h, false);
        stream_send_data(app.stream, "abc", 3);
        if (!cut[_i].client_reset)
            WORLD_UNTIL(peer_has(&client, "abc"));
    }
    if (cut[_i].reset) {
        struct stream *s = app.stream;

        app.stream = NULL;
        stream_reset(s, STREAM_ABORT);
    } else {
        if (!cut[_i].client_reset && h.nfields > 0)
            stream_send_end(app.stream); /* too early: not believed */
        let_go();
    }
    WORLD_UNTIL(peer_ended(&client));
    ck_assert_int_eq(client.reset, cut[_i].client_reset);
    got = peer_take(&client);
    if (!cut[_i].client_reset)
        ck_assert_str_eq(got + strlen(got) - strlen(cut[_i].tail), cut[_i].tail);
    ck_assert_uint_eq(acceptor.busy.count + acceptor.idle.count, 0);
}
END_TEST

START_TEST(sends_continue_when_asked)
{
    peer_send(
        &client, "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    WORLD_UNTIL(app.stream);
    ck_assert(app.expects_continue);
    world_settle();
    ck_assert_uint_eq(peer_got(&client), 0);
    stream_send_continue(app.stream);
    stream_send_continue(app.stream); /* once */
    world_settle();
    ck_assert_str_eq(peer_take(&client), "HTTP/1.1 100 Continue\r\n\r\n");
    peer_send(&client, "ab");
    WORLD_UNTIL(app.ended);
    stream_send_continue(app.stream);
    world_settle();
    ck_assert_uint_eq(peer_got(&client), 0);
}
END_TEST

START_TEST(tells_of_the_clients_fin)
{
    peer_send(&client, GET);
    peer_finish(&client);
    WORLD_UNTIL(app.half_closed);
    world_settle();
    answer(200, "Content-Length=3", "yes"); /* it may still read */
    let_go();
    WORLD_UNTIL(peer_ended(&client));
    ck_assert(peer_has(&client, "\r\n\r\nyes"));
    ck_assert_uint_eq(acceptor.idle.count, 0);
}
END_TEST

START_TEST(serves_what_was_pipelined_before_the_fin)
{
    app.answer = "yes";
    peer_send(&client, GET GET GET);
    peer_finish(&client);
    expect_story("GET /a h|GET /a h|GET /a h|");
    WORLD_UNTIL(peer_ended(&client));
}
END_TEST

START_TEST(tells_that_the_client_is_gone)
{
    peer_close(&client);
    open_connection(true);
    peer_send(&client, _i == 0 ? POST("9") "abc" : GET);
    WORLD_UNTIL(app.stream);
    if (_i == 2)
        answer(200, "Content-Length=9", "abc");
    world_settle();
    if (_i == 0)
        peer_finish(&client); /* in the middle of the body */
    else
        peer_reset(&client);
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, STREAM_E_GONE);
    let_go();
    WORLD_UNTIL(acceptor.busy.count + acceptor.idle.count == 0);
}
END_TEST

START_TEST(forgets_who_leaves_between_requests)
{
    if (_i == 1)
        peer_send(&client, "GET / HT");
    world_settle();
    peer_finish(&client);
    WORLD_UNTIL(acceptor.busy.count + acceptor.idle.count == 0);
    ck_assert_uint_eq(app.requests, 0);
}
END_TEST

START_TEST(holds_a_body_back_while_paused)
{
    peer_send(&client, POST("6") "abc");
    WORLD_UNTIL(buf_len(&app.body) == 3);
    stream_pause(app.stream, true);
    peer_send(&client, "def");
    world_settle();
    ck_assert_uint_eq(buf_len(&app.body), 3);
    stream_pause(app.stream, false);
    WORLD_UNTIL(app.ended);
    ck_assert_span_eq(buf_str(&app.body), "abcdef");
}
END_TEST

START_TEST(says_when_the_client_takes_no_more)
{
    static char block[30000];
    struct head h = { .status = 200 };
    size_t sent = 0, got = 0;
    int rc;

    memset(block, 'x', sizeof(block));
    peer_send(&client, GET);
    WORLD_UNTIL(app.stream);
    stream_send_head(app.stream, &h, false);
    do {
        rc = stream_send_data(app.stream, block, sizeof(block));
        sent += sizeof(block);
        world_settle();
    } while (rc != STREAM_FULL);
    ck_assert(!app.drained);
    WORLD_UNTIL((got += peer_skip(&client, 16384), app.drained));
    stream_send_end(app.stream);
    let_go();
    WORLD_UNTIL((got += peer_skip(&client, 16384), acceptor.idle.count == 1 && got > sent));
}
END_TEST

/* Deadlines */

START_TEST(limits_the_time_of_a_head)
{
    peer_close(&client);
    acceptor.header_timeout_ms = 40;
    open_connection(false);
    peer_send(&client, "GET / HTTP/1.1\r\nHost");
    expect_story("refused 408|");
    WORLD_UNTIL(peer_ended(&client));
    peer_close(&client);
    open_connection(false); /* who sends nothing at all gets no answer */
    WORLD_UNTIL(peer_ended(&client));
    ck_assert_uint_eq(peer_got(&client), 0);
    ck_assert_uint_eq(app.requests, 1);
}
END_TEST

START_TEST(limits_the_time_between_requests)
{
    app.answer = "yes";
    acceptor.keep_alive_timeout_ms = 40;
    peer_send(&client, GET);
    WORLD_UNTIL(peer_ended(&client));
    ck_assert_uint_eq(app.requests, 1);
    ck_assert(!client.reset);
}
END_TEST

START_TEST(limits_the_silence_within_a_body)
{
    acceptor.body_timeout_ms = 40;
    peer_send(&client, POST("9") "abc");
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, STREAM_E_TIMEOUT);
    answer(408, "Content-Length=0", NULL); /* it can be told */
    let_go();
    WORLD_UNTIL(peer_ended(&client));
    ck_assert(peer_has(&client, "408"));
}
END_TEST

START_TEST(does_not_count_the_time_it_is_paused)
{
    uint64_t from;

    acceptor.body_timeout_ms = 60;
    peer_send(&client, POST("9") "abc");
    WORLD_UNTIL(buf_len(&app.body) == 3);
    stream_pause(app.stream, true);
    from = loop_now_ms();
    WORLD_UNTIL(loop_now_ms() > from + 150);
    ck_assert_int_eq(app.failed, 0);
    peer_send(&client, "defghi");
    stream_pause(app.stream, false);
    WORLD_UNTIL(app.ended);
}
END_TEST

START_TEST(cuts_off_who_takes_nothing)
{
    static char block[500000];
    struct head h = { .status = 200 };

    acceptor.send_timeout_ms = 40;
    peer_send(&client, GET);
    WORLD_UNTIL(app.stream);
    stream_send_head(app.stream, &h, false);
    stream_send_data(app.stream, block, sizeof(block));
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, STREAM_E_TIMEOUT);
    let_go();
    WORLD_UNTIL(acceptor.busy.count == 0);
}
END_TEST

/* The end of the process */

START_TEST(drains)
{
    struct peer busy = client;

    peer_send(&client, GET);
    WORLD_UNTIL(app.stream);
    open_connection(false); /* has not sent anything yet: it owes a request */
    acceptor_drain(&acceptor);
    world_settle();
    ck_assert_uint_eq(acceptor.busy.count, 2);
    answer(200, "Content-Length=0", NULL);
    let_go();
    WORLD_UNTIL(peer_ended(&busy));
    ck_assert(peer_has(&busy, "Connection: close\r\n"));
    peer_close(&busy);
    app.answer = "late";
    peer_send(&client, GET);
    WORLD_UNTIL(peer_has(&client, "late"));
    WORLD_UNTIL(peer_ended(&client));
}
END_TEST

START_TEST(ends_idle_connections_when_it_drains)
{
    app.answer = "yes";
    peer_send(&client, GET);
    WORLD_UNTIL(acceptor.idle.count == 1);
    acceptor_drain(&acceptor);
    WORLD_UNTIL(peer_ended(&client));
    ck_assert_uint_eq(acceptor.idle.count, 0);
}
END_TEST

START_TEST(tells_owners_when_it_is_closed)
{
    peer_send(&client, _i == 0 ? GET : POST("5") "a");
    WORLD_UNTIL(app.stream);
    if (_i == 2)
        answer(200, "Content-Length=3", "a");
    acceptor_close(&acceptor);
    ck_assert_int_eq(app.failed, STREAM_E_GONE);
    app.stream = NULL; /* it went with its connection */
    WORLD_UNTIL(peer_ended(&client));
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("h1server");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, serves_requests_one_after_the_other);
    tcase_add_test(t, holds_pipelined_requests_back);
    tcase_add_test(t, becomes_a_tunnel);
    tcase_add_test(t, serves_nothing_after_a_tunnel_that_was_refused);
    tcase_add_loop_test(t, adds_a_date_where_there_is_none, 0, 2);
    tcase_add_test(t, hands_over_what_one_read_brings);
    tcase_add_loop_test(t, sends_a_head_whole_or_not_at_all, 1015, 1100);
    tcase_add_loop_test(t, tells_how_a_tunnel_ends, 0, 3);
    tcase_add_test(t, reads_the_same_however_it_is_cut);
    tcase_add_loop_test(t, serves_nothing_after_a_refusal, 0, COUNT_OF(refused));
    tcase_add_test(t, refuses_a_head_over_the_limit_while_it_comes);
    tcase_add_test(t, tells_of_a_malformed_body);
    tcase_add_test(t, answers_early);
    tcase_add_loop_test(t, frames_responses, 0, COUNT_OF(framed));
    tcase_add_loop_test(t, does_not_let_a_cut_response_look_whole, 0, COUNT_OF(cut));
    tcase_add_test(t, sends_continue_when_asked);
    tcase_add_test(t, tells_of_the_clients_fin);
    tcase_add_test(t, serves_what_was_pipelined_before_the_fin);
    tcase_add_loop_test(t, tells_that_the_client_is_gone, 0, 3);
    tcase_add_loop_test(t, forgets_who_leaves_between_requests, 0, 2);
    tcase_add_test(t, holds_a_body_back_while_paused);
    tcase_add_test(t, says_when_the_client_takes_no_more);
    tcase_add_test(t, limits_the_time_of_a_head);
    tcase_add_test(t, limits_the_time_between_requests);
    tcase_add_test(t, limits_the_silence_within_a_body);
    tcase_add_test(t, does_not_count_the_time_it_is_paused);
    tcase_add_test(t, cuts_off_who_takes_nothing);
    tcase_add_test(t, drains);
    tcase_add_test(t, ends_idle_connections_when_it_drains);
    tcase_add_loop_test(t, tells_owners_when_it_is_closed, 0, 3);
    return t;
}

UNIT_MAIN("h1server")
