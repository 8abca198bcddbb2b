/* Clients' HTTP/2 connections, from the first byte on: what of their requests reaches the owner
 * however the bytes are cut, what of the responses reaches them, and how streams and connections
 * end. */
#include "http/arrival.h"

#include <stdlib.h>

#include "http/h2.h"
#include "net/loop.h"
#include "unit.h"
#include "world.h"

enum { REQUESTS = 64, BIG = 200000 };

/* One request and what came of it. */
struct request {
    struct stream *s; /* NULL: closed */
    size_t bytes;
    unsigned refused;
    bool ended, drained;
    int failed; /* enum stream_error */
};

static struct {
    struct request requests[REQUESTS];
    size_t n;
    struct buf
        story; /* "METHOD target authority|" or "refused STATUS|", "+bytes|", "end|", "failed|" */
    bool answers; /* whole requests at once, and lets go */
    bool pauses;  /* at the first data */
} app;

static struct acceptor acceptor;
static struct peer client;

/* The client's frames, by hand */

static struct buf script;

static void add_frame(unsigned type, unsigned flags, uint32_t id, const void *p, size_t n)
{
    unsigned char h[9] = { (unsigned char)(n >> 16), (unsigned char)(n >> 8), (unsigned char)n,
        (unsigned char)type, (unsigned char)flags, (unsigned char)(id >> 24),
        (unsigned char)(id >> 16), (unsigned char)(id >> 8), (unsigned char)id };

    buf_append(&script, h, sizeof(h));
    buf_append(&script, p, n);
}

static void add_text(struct buf *b, const char *text)
{
    unsigned char n = (unsigned char)strlen(text);

    ck_assert_uint_lt(strlen(text), 127);
    buf_append(b, &n, 1);
    buf_append(b, text, n);
}

/* "name=value|name=value": literals that nothing is remembered of (RFC 7541 6.2.2). */
static void add_head(uint32_t id, unsigned flags, const char *fields)
{
    struct str rest = str_of(fields), one, name, value;
    struct buf block = { 0 };

    while (rest.n > 0) {
        char text[2][128];

        str_cut(rest, '|', &one, &rest);
        str_cut(one, '=', &name, &value);
        snprintf(text[0], sizeof(text[0]), STR_FMT, STR_ARG(name));
        snprintf(text[1], sizeof(text[1]), STR_FMT, STR_ARG(value));
        buf_append(&block, "\0", 1);
        add_text(&block, text[0]);
        add_text(&block, text[1]);
    }
    add_frame(
        NGHTTP2_HEADERS, flags | NGHTTP2_FLAG_END_HEADERS, id, buf_str(&block).p, buf_len(&block));
    buf_release(&block);
}

static void add_u32(unsigned type, uint32_t id, uint32_t value)
{
    unsigned char p[4] = { (unsigned char)(value >> 24), (unsigned char)(value >> 16),
        (unsigned char)(value >> 8), (unsigned char)value };

    add_frame(type, 0, id, p, 4);
}

static void add_greeting(void)
{
    buf_append(&script, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    add_frame(NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    add_frame(NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
}

static void send_script(void)
{
    peer_send_bytes(&client, buf_str(&script).p, buf_len(&script));
    buf_release(&script);
}

#define HEAD(method, path) ":method=" method "|:scheme=http|:authority=h|:path=" path
#define LAST NGHTTP2_FLAG_END_STREAM

/* What has come to the client: how many frames of that type on that stream (0: any), the last one's
 * payload. */
static size_t got(unsigned type, uint32_t id, struct str *last)
{
    size_t n = 0, at = 0;
    struct str in;

    peer_got(&client);
    in = buf_str(&client.in);
    while (in.n - at >= 9) {
        const unsigned char *p = (const unsigned char *)in.p + at;
        size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        uint32_t on = (uint32_t)p[5] << 24 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8];

        if (in.n - at - 9 < len)
            break;
        if (p[3] == type && (id == 0 || on == id)) {
            n++;
            if (last)
                *last = str_make(in.p + at + 9, len);
        }
        at += 9 + len;
    }
    return n;
}

static uint32_t code_of(struct str payload, size_t off)
{
    const unsigned char *p = (const unsigned char *)payload.p + off;

    ck_assert_uint_ge(payload.n, off + 4);
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t reset_code(uint32_t id)
{
    struct str last;

    WORLD_UNTIL(got(NGHTTP2_RST_STREAM, id, &last) > 0);
    return code_of(last, 0);
}

static uint32_t goaway_code(void)
{
    struct str last;

    WORLD_UNTIL(got(NGHTTP2_GOAWAY, 0, &last) > 0);
    return code_of(last, 4);
}

/* Bytes of DATA on the stream so far. */
static size_t got_data(uint32_t id)
{
    size_t n = 0, at = 0;
    struct str in;

    peer_got(&client);
    in = buf_str(&client.in);
    while (in.n - at >= 9) {
        const unsigned char *p = (const unsigned char *)in.p + at;
        size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];

        if (in.n - at - 9 < len)
            break;
        if (p[3] == NGHTTP2_DATA && p[8] == id)
            n += len;
        at += 9 + len;
    }
    return n;
}

/* The owner */

static void let_go(struct request *r)
{
    struct stream *s = r->s;

    r->s = NULL;
    stream_close(s);
}

static void answer(struct request *r, unsigned status, size_t n)
{
    static char body[BIG];
    struct head h = { .status = status };

    memset(body, 'x', sizeof(body));
    stream_send_head(r->s, &h, n == 0);
    stream_send_data(r->s, body, n);
    stream_send_end(r->s);
    let_go(r);
}

static void on_event(void *owner, struct stream *s, const struct message *m)
{
    struct request *r = owner;

    ck_assert_ptr_eq(s, r->s);
    ck_assert_int_eq(r->failed, 0);
    switch (m->kind) {
    case MESSAGE_DATA:
        ck_assert(!r->ended);
        r->bytes += m->data.n;
        buf_append_str(&app.story, m->data);
        if (app.pauses)
            stream_pause(s, true);
        break;
    case MESSAGE_END:
        ck_assert(!r->ended);
        r->ended = true;
        buf_printf(&app.story, "<end|");
        if (app.answers)
            answer(r, 200, 3);
        break;
    case MESSAGE_FAILED:
        r->failed = m->cause;
        break;
    case MESSAGE_HEAD:
    }
}

static void on_drained(void *owner, struct stream *s)
{
    struct request *r = owner;

    r->drained = true;
}

static void on_half_closed(void *owner, struct stream *s)
{
    ck_abort();
}

static const struct stream_handler handler = {
    .on_message = on_event, .on_drained = on_drained, .on_half_closed = on_half_closed
};

static void on_request(void *owner, struct stream *s, const struct stream_request *q)
{
    struct request *r = &app.requests[app.n++];

    ck_assert_uint_le(app.n, REQUESTS);
    *r = (struct request){ .s = s, .refused = q->error_status };
    stream_set_owner(s, &handler, r);
    if (q->error_status) {
        buf_printf(&app.story, "refused %u|", q->error_status);
        answer(r, q->error_status, 2);
        return;
    }
    buf_printf(&app.story, STR_FMT " " STR_FMT " " STR_FMT "|", STR_ARG(q->head->method),
        STR_ARG(q->head->target), STR_ARG(q->head->authority));
    if (!q->body && app.answers)
        answer(r, 200, 3);
}

static void open_connection(void)
{
    struct sockaddr_storage sa = { .ss_family = AF_UNIX };
    struct conn *c = conn_accept(peer_pair(&client), (struct sockaddr *)&sa, NULL, NULL, NULL);

    ck_assert_int_eq(arrival_take(&acceptor, c, true), 0);
}

static void set_up(void)
{
    const struct h2_server_limits http2 = {
        .common = { .stream_window = 65536,
            .connection_window = 1 << 20,
            .out_max = 16384,
            .queue_max = 1000,
            .head_max = 4096,
            .fields_max = 20,
            .ping_interval_ms = 3600000,
            .ping_timeout_ms = 3600000,
            .finish_ms = 5000,
            .calm_ms = 500 },
        .streams_max = 32,
        .stalled_max = 10,
        .stalled_timeout_ms = 3600000,
        .goaway_wait_ms = 1000,
        .unread_timeout_ms = 3600000,
        .head_excess = 64,
        .abuse = { .max = { 20, 20, 20, 20, 20, 20 }, .window_ms = 30000, .tiny_write = 256 },
    };

    world_open();
    memset(&app, 0, sizeof(app));
    acceptor_init(&acceptor);
    acceptor.limits = (struct h1_limits){ .head_max = 4096, .fields_max = 20, .target_max = 100 };
    acceptor.http2 = http2;
    acceptor.header_timeout_ms = acceptor.body_timeout_ms = acceptor.send_timeout_ms =
        acceptor.keep_alive_timeout_ms = 3600000;
    acceptor.body_rate_min = acceptor.send_rate_min = 0;
    acceptor.requests_max = 0;
    acceptor.on_request = on_request;
    acceptor.draining = false;
    open_connection();
}

static void close_all(void)
{
    acceptor_close(&acceptor);
    for (size_t i = 0; i < app.n; i++) {
        if (app.requests[i].s)
            let_go(&app.requests[i]);
    }
    ck_assert_uint_eq(acceptor_count(&acceptor), 0);
    peer_close(&client);
}

static void tear_down(void)
{
    close_all();
    buf_release(&app.story);
    buf_release(&script);
    world_close();
}

static void expect_story(const char *want)
{
    WORLD_UNTIL(buf_len(&app.story) >= strlen(want));
    ck_assert_span_eq(buf_str(&app.story), want);
}

START_TEST(reads_requests_however_they_are_cut)
{
    const char *want = "POST /a h|helloworld<end|GET /b h|";
    struct buf whole;

    app.answers = true;
    add_greeting();
    add_head(1, 0, HEAD("POST", "/a") "|content-length=10|cookie=a=1|cookie=b=2");
    add_frame(NGHTTP2_DATA, 0, 1, "hello", 5);
    add_frame(NGHTTP2_DATA, LAST, 1, "world", 5);
    add_head(3, LAST, HEAD("GET", "/b"));
    whole = script;
    script = (struct buf){ 0 };
    for (size_t cut = 0; cut <= buf_len(&whole); cut++) {
        peer_send_bytes(&client, buf_str(&whole).p, cut);
        world_turn();
        world_turn();
        peer_send_bytes(&client, buf_str(&whole).p + cut, buf_len(&whole) - cut);
        expect_story(want);
        WORLD_UNTIL(got(NGHTTP2_DATA, 1, NULL) == 1 && got(NGHTTP2_DATA, 3, NULL) == 1);
        ck_assert_uint_eq(got(NGHTTP2_RST_STREAM, 0, NULL) + got(NGHTTP2_GOAWAY, 0, NULL), 0);
        close_all();
        buf_release(&app.story);
        app.n = 0;
        open_connection();
    }
    buf_release(&whole);
}
END_TEST

START_TEST(knows_http1_from_its_first_bytes) /* wherever they are cut */
{
    static const char *const requests[] = { "GET /p HTTP/1.1\r\nHost: h\r\n\r\n",
        "PRIX /p HTTP/1.1\r\nHost: h\r\n\r\n", "P /p HTTP/1.1\r\nHost: h\r\n\r\n" };
    const char *text = requests[_i];

    app.answers = true;
    for (size_t cut = 0; cut < strlen(text); cut++) {
        peer_send_bytes(&client, text, cut);
        world_turn();
        world_turn();
        peer_send(&client, text + cut);
        WORLD_UNTIL(peer_has(&client, "HTTP/1.1 200"));
        close_all();
        app.n = 0;
        open_connection();
    }
}
END_TEST

START_TEST(a_client_that_says_nothing_is_let_go)
{
    close_all();
    acceptor.header_timeout_ms = 30;
    open_connection();
    if (_i > 0)
        peer_send_bytes(&client, NGHTTP2_CLIENT_MAGIC, 10);
    WORLD_UNTIL(peer_ended(&client));
    ck_assert_uint_eq(acceptor_count(&acceptor), 0);
    ck_assert_uint_eq(app.n, 0);
}
END_TEST

/* RFC 9113 6.3: a connection error. */
START_TEST(refuses_priority_on_stream_0)
{
    static const uint8_t priority[] = { 0, 0, 5, NGHTTP2_PRIORITY, 0, 0, 0, 0, (uint8_t)0, 0, 0, 0,
        0, 16 };
    struct buf b = { 0 };

    add_greeting();
    send_script();
    world_settle();
    memcpy(buf_reserve(&b, sizeof(priority), NULL), priority, sizeof(priority));
    b.mem[8] = (char)_i;
    ck_assert_int_eq(write(client.fd, b.mem, sizeof(priority)), sizeof(priority));
    buf_settle(&b);
    add_head(3, LAST, HEAD("GET", "/next"));
    app.answers = true;
    send_script();
    if (_i == 0) {
        WORLD_UNTIL(got(NGHTTP2_GOAWAY, 0, NULL) == 1);
        ck_assert_uint_eq(app.n, 0);
    } else {
        WORLD_UNTIL(got(NGHTTP2_DATA, 3, NULL) == 1);
    }
}
END_TEST

/* What is refused, and how: a status, or the code of a reset. */
static const struct {
    const char *fields;
    unsigned status;
    uint32_t code;
} refused[] = {
    { HEAD("GET", "/#x"), 400, 0 },
    { HEAD("get", "/"), 400, 0 },
    { HEAD("GET", "/") "|host=other", 400, 0 },
    { ":method=GET|:scheme=http|:authority=u@h|:path=/", 400, 0 },
    { ":method=GET|:scheme=http|:authority=a,b|:path=/", 400, 0 },
    { ":method=CONNECT|:authority=h", 501, 0 },
    { HEAD("GET", "/") "|expect=x", 417, 0 },
    { HEAD("GET", "/") "|content_length=5", 400, 0 },
    { HEAD("GET", "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                  "aaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        414, 0 },
    { HEAD(
          "GET", "/") "|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1"
                      "|a=1|a=1",
        431, 0 },
    { HEAD("GET", "/") "|http2-settings=x", 0, NGHTTP2_PROTOCOL_ERROR },
    { HEAD("GET", "/") "|proxy-connection=x", 0, NGHTTP2_PROTOCOL_ERROR },
    { ":method=GET|:scheme=ftp|:authority=h|:path=/", 0, NGHTTP2_PROTOCOL_ERROR },
    { HEAD("GET", "/") "|x-a= b", 0, NGHTTP2_PROTOCOL_ERROR },
    { HEAD("GET", "/") "|content-length=5", 0, NGHTTP2_PROTOCOL_ERROR },
};

START_TEST(refuses)
{
    char want[32];

    add_greeting();
    add_head(1, LAST, refused[_i].fields);
    send_script();
    if (refused[_i].status) {
        snprintf(want, sizeof(want), "refused %u|", refused[_i].status);
        expect_story(want);
        WORLD_UNTIL(got(NGHTTP2_HEADERS, 1, NULL) == 1);
    } else {
        ck_assert_uint_eq(reset_code(1), refused[_i].code);
        ck_assert_uint_eq(app.n, 0);
    }
    app.answers = true;
    add_head(3, LAST, HEAD("GET", "/next"));
    send_script();
    WORLD_UNTIL(got(NGHTTP2_DATA, 3, NULL) == 1);
}
END_TEST

START_TEST(sends_all_of_a_response_whose_owner_has_gone)
{
    add_greeting();
    add_head(1, LAST, HEAD("GET", "/"));
    send_script();
    expect_story("GET / h|");
    answer(&app.requests[0], 200, BIG);
    WORLD_UNTIL(got_data(1) == 65535); /* all that its window takes */
    world_settle();
    ck_assert_uint_eq(got_data(1), 65535);
    add_u32(NGHTTP2_WINDOW_UPDATE, 1, BIG);
    add_u32(NGHTTP2_WINDOW_UPDATE, 0, BIG);
    send_script();
    WORLD_UNTIL(got_data(1) == BIG);
    ck_assert_uint_eq(got(NGHTTP2_RST_STREAM, 0, NULL), 0);
}
END_TEST

START_TEST(says_when_a_reader_is_slow)
{
    struct request *r = &app.requests[0];
    static char body[20000];
    struct head h = { .status = 200 };

    add_greeting();
    add_head(1, LAST, HEAD("GET", "/"));
    send_script();
    expect_story("GET / h|");
    stream_send_head(r->s, &h, false);
    while (stream_send_data(r->s, body, sizeof(body)) != STREAM_FULL || got_data(1) < 65535) {
        world_settle();
        if (got_data(1) == 65535)
            break;
    }
    ck_assert_int_eq(stream_send_data(r->s, body, sizeof(body)), STREAM_FULL);
    r->drained = false;
    world_settle();
    ck_assert(!r->drained);
    add_u32(NGHTTP2_WINDOW_UPDATE, 1, BIG);
    add_u32(NGHTTP2_WINDOW_UPDATE, 0, BIG);
    send_script();
    WORLD_UNTIL(r->drained);
}
END_TEST

START_TEST(a_response_that_is_not_whole_is_reset_after_what_came)
{
    struct request *r = &app.requests[0];
    struct field length = { STR("Content-Length"), STR("100") };
    struct head h = { .status = 200, .fields = &length, .nfields = _i == 0 ? 1 : 0 };

    add_greeting();
    add_head(1, LAST, HEAD("GET", "/"));
    send_script();
    expect_story("GET / h|");
    stream_send_head(r->s, &h, false);
    stream_send_data(r->s, "short", 5);
    if (_i == 0) {
        stream_send_end(r->s); /* of which 95 bytes are missing */
        let_go(r);
    } else if (_i == 1) {
        stream_reset(r->s, STREAM_ABORT);
        r->s = NULL;
    } else {
        let_go(r);
    }
    ck_assert_uint_eq(reset_code(1), NGHTTP2_INTERNAL_ERROR);
    ck_assert_uint_eq(got_data(1), 5);
}
END_TEST

START_TEST(never_sends_more_than_was_announced)
{
    struct request *r = &app.requests[0];
    struct field length = { STR("Content-Length"), STR("3") };
    struct head h = { .status = 200, .fields = &length, .nfields = 1 };

    add_greeting();
    add_head(1, LAST, HEAD("GET", "/"));
    send_script();
    expect_story("GET / h|");
    stream_send_head(r->s, &h, false);
    stream_send_data(r->s, "longer", 6);
    stream_send_end(r->s);
    let_go(r);
    WORLD_UNTIL(got_data(1) == 3);
    world_settle();
    ck_assert_uint_eq(got_data(1), 3);
    ck_assert_uint_eq(got(NGHTTP2_RST_STREAM, 0, NULL), 0);
}
END_TEST

START_TEST(holds_back_a_client_whose_owner_has_paused)
{
    static char body[16384];
    size_t updates;

    app.pauses = true;
    add_greeting();
    add_head(1, 0, HEAD("POST", "/"));
    for (int i = 0; i < 3; i++)
        add_frame(NGHTTP2_DATA, 0, 1, body, sizeof(body));
    send_script();
    WORLD_UNTIL(app.n == 1 && app.requests[0].bytes > 0);
    world_settle();
    ck_assert_uint_eq(app.requests[0].bytes, sizeof(body)); /* a step, and no more */
    updates = got(NGHTTP2_WINDOW_UPDATE, 1, NULL);
    world_settle();
    ck_assert_uint_eq(got(NGHTTP2_WINDOW_UPDATE, 1, NULL), updates);
    app.pauses = false;
    stream_pause(app.requests[0].s, false);
    WORLD_UNTIL(app.requests[0].bytes == 3 * sizeof(body));
    WORLD_UNTIL(got(NGHTTP2_WINDOW_UPDATE, 1, NULL) > updates);
}
END_TEST

START_TEST(a_request_taken_back_at_once_is_not_seen)
{
    add_greeting();
    add_head(1, LAST, HEAD("GET", "/"));
    add_u32(NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
    send_script();
    world_settle();
    ck_assert_uint_eq(app.n, 0);
    app.answers = true;
    add_head(3, LAST, HEAD("GET", "/next"));
    send_script();
    expect_story("GET /next h|");
}
END_TEST

START_TEST(a_client_that_leaves_is_told_to_each_owner)
{
    add_greeting();
    add_head(1, LAST, HEAD("GET", "/1"));
    add_head(3, 0, HEAD("POST", "/3"));
    send_script();
    WORLD_UNTIL(app.n == 2);
    switch (_i) {
    case 0:
        peer_close(&client);
        break;
    case 1:
        peer_finish(&client);
        break;
    case 2:
        add_u32(NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
        add_u32(NGHTTP2_RST_STREAM, 3, NGHTTP2_CANCEL);
        send_script();
        break;
    default:
        acceptor_close(&acceptor);
        break;
    }
    WORLD_UNTIL(app.requests[0].failed && app.requests[1].failed);
    ck_assert_int_eq(app.requests[0].failed, STREAM_E_GONE);
    ck_assert_int_eq(app.requests[1].failed, STREAM_E_GONE);
}
END_TEST

START_TEST(the_rest_of_a_body_is_not_wanted_after_the_answer) /* RFC 9113 8.1 */
{
    acceptor.http2.early_answer_wait_ms = _i == 0 ? 0 : 3600000;
    add_greeting();
    add_head(1, 0, HEAD("POST", "/"));
    send_script();
    expect_story("POST / h|");
    answer(&app.requests[0], 200, 3);
    if (_i == 0)
        ck_assert_uint_eq(reset_code(1), NGHTTP2_NO_ERROR);
    WORLD_UNTIL(got_data(1) == 3);
    /* A client that ends by itself in time is not reset: some lose the response by that. */
    if (_i == 1)
        ck_assert_uint_eq(got(NGHTTP2_RST_STREAM, 0, NULL), 0);
    add_frame(NGHTTP2_DATA, LAST, 1, "late", 4);
    app.answers = true;
    add_head(3, LAST, HEAD("GET", "/next"));
    send_script();
    WORLD_UNTIL(got(NGHTTP2_DATA, 3, NULL) == 1);
    ck_assert_uint_eq(got(NGHTTP2_RST_STREAM, 0, NULL), _i == 0);
}
END_TEST

START_TEST(limits_the_silence_within_a_body)
{
    acceptor.body_timeout_ms = 30;
    add_greeting();
    add_head(1, 0, HEAD("POST", "/"));
    send_script();
    WORLD_UNTIL(app.n == 1 && app.requests[0].failed);
    ck_assert_int_eq(app.requests[0].failed, STREAM_E_TIMEOUT);
    answer(&app.requests[0], 408, 3); /* it can be told */
    WORLD_UNTIL(got_data(1) == 3);
    ck_assert_uint_eq(reset_code(1), NGHTTP2_NO_ERROR);
}
END_TEST

START_TEST(says_goodbye_twice)
{
    struct str last;
    uint32_t code;

    app.answers = false;
    add_greeting();
    add_head(1, LAST, HEAD("GET", "/1"));
    send_script();
    WORLD_UNTIL(app.n == 1);
    acceptor_drain(&acceptor);
    WORLD_UNTIL(got(NGHTTP2_GOAWAY, 0, &last) == 1);
    ck_assert_uint_eq(code_of(last, 0), INT32_MAX);
    WORLD_UNTIL(got(NGHTTP2_PING, 0, &last) == 1);
    add_head(3, LAST, HEAD("GET", "/2")); /* it was on its way */
    add_frame(NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, last.p, 8);
    send_script();
    WORLD_UNTIL(got(NGHTTP2_GOAWAY, 0, &last) == 2);
    code = code_of(last, 4);
    ck_assert_uint_eq(code_of(last, 0), 3);
    ck_assert_uint_eq(code, NGHTTP2_NO_ERROR);
    ck_assert_uint_eq(app.n, 2);
    ck_assert(!peer_ended(&client));
    answer(&app.requests[0], 200, 3);
    answer(&app.requests[1], 200, 3);
    WORLD_UNTIL(got_data(1) == 3 && got_data(3) == 3 && peer_ended(&client));
    ck_assert_uint_eq(acceptor_count(&acceptor), 0);
}
END_TEST

/* More than the 20 that set_up() allows. */
static void add_nuisance(int kind, uint32_t id)
{
    switch (kind) {
    case 0:
        add_head(id, LAST, HEAD("GET", "/"));
        add_u32(NGHTTP2_RST_STREAM, id, NGHTTP2_CANCEL);
        break;
    case 1:
        add_head(id, LAST, HEAD("GET", "/") "|x-a= b");
        break;
    case 2:
        add_frame(NGHTTP2_PING, 0, 0, "12345678", 8);
        break;
    case 3:
        if (id == 1)
            add_head(id, 0, HEAD("POST", "/"));
        add_frame(NGHTTP2_DATA, 0, 1, NULL, 0);
        break;
    default:
        add_u32(NGHTTP2_WINDOW_UPDATE, 0, 1);
        break;
    }
}

START_TEST(sends_a_nuisance_away)
{
    add_greeting();
    for (uint32_t id = 1; id < 2 * 17; id += 2) /* SETTINGS count too */
        add_nuisance(_i, id);
    send_script();
    world_settle();
    ck_assert_uint_eq(got(NGHTTP2_GOAWAY, 0, NULL), 0);
    for (uint32_t id = 2 * 17 + 1; id < 2 * 30; id += 2)
        add_nuisance(_i, id);
    send_script();
    ck_assert_uint_eq(goaway_code(), NGHTTP2_ENHANCE_YOUR_CALM);
    WORLD_UNTIL(acceptor_count(&acceptor) == 0);
}
END_TEST

START_TEST(makes_room_when_it_is_idle)
{
    app.answers = true;
    add_greeting();
    add_head(1, LAST, HEAD("GET", "/"));
    send_script();
    WORLD_UNTIL(got_data(1) == 3);
    world_settle();
    ck_assert_uint_eq(acceptor.idle.count, 1);
    ck_assert_uint_eq(acceptor_make_room(&acceptor, 5), 1);
    ck_assert_uint_eq(goaway_code(), NGHTTP2_NO_ERROR);
    ck_assert_uint_eq(acceptor_count(&acceptor), 0);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("h2server");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, reads_requests_however_they_are_cut);
    tcase_add_loop_test(t, knows_http1_from_its_first_bytes, 0, 3);
    tcase_add_loop_test(t, a_client_that_says_nothing_is_let_go, 0, 2);
    tcase_add_loop_test(t, refuses_priority_on_stream_0, 0, 2);
    tcase_add_loop_test(t, refuses, 0, COUNT_OF(refused));
    tcase_add_test(t, sends_all_of_a_response_whose_owner_has_gone);
    tcase_add_test(t, says_when_a_reader_is_slow);
    tcase_add_loop_test(t, a_response_that_is_not_whole_is_reset_after_what_came, 0, 3);
    tcase_add_test(t, never_sends_more_than_was_announced);
    tcase_add_test(t, holds_back_a_client_whose_owner_has_paused);
    tcase_add_test(t, a_request_taken_back_at_once_is_not_seen);
    tcase_add_loop_test(t, a_client_that_leaves_is_told_to_each_owner, 0, 4);
    tcase_add_loop_test(t, the_rest_of_a_body_is_not_wanted_after_the_answer, 0, 2);
    tcase_add_test(t, limits_the_silence_within_a_body);
    tcase_add_test(t, says_goodbye_twice);
    tcase_add_loop_test(t, sends_a_nuisance_away, 0, 5);
    tcase_add_test(t, makes_room_when_it_is_idle);
    return t;
}

UNIT_MAIN("h2server")
