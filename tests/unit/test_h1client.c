/* Connections to workers and upstreams: what is sent, what of the response reaches the owner, what
 * failures mean, and when a connection is used again. */
#include "http/h1client.h"

#include <stdlib.h>
#include <sys/un.h>

#include "cuts.h"
#include "http/h1write.h"
#include "http/websocket.h"
#include "unit.h"
#include "world.h"

static const struct h1_limits limits = { .head_max = 4096,
    .fields_max = 50,
    .target_max = 1000,
    .interim_max = 16,
    .chunk_line_max = 4096,
    .chunk_overhead_max = 65536 };

static struct {
    struct h1_client *c; /* NULL once it is told to be closed */
    unsigned idle, closed;
} holder;

static struct {
    struct stream *stream;
    unsigned status, heads;
    struct buf head, body;
    bool ended, drained;
    int failed;
    bool close_in_head;
} app;

static struct peer server;

static void on_client(void *owner, struct h1_client *c, enum h1_client_event ev)
{
    ck_assert_ptr_eq(c, holder.c);
    if (ev == H1_CLIENT_IDLE) {
        holder.idle++;
    } else {
        holder.closed++;
        holder.c = NULL;
    }
}

static void let_go(void)
{
    struct stream *s = app.stream;

    app.stream = NULL;
    stream_close(s);
}

static void on_event(void *owner, struct stream *s, const struct message *m)
{
    ck_assert_ptr_eq(s, app.stream);
    ck_assert(!app.ended && !app.failed);
    switch (m->kind) {
    case MESSAGE_HEAD:
        app.heads++;
        app.status = m->head->status;
        buf_release(&app.head);
        ck_assert_int_eq(h1_write_head(&app.head, H1_RESPONSE, m->head), 0);
        if (app.close_in_head)
            let_go();
        break;
    case MESSAGE_DATA:
        ck_assert_uint_eq(app.heads, 1);
        buf_append_str(&app.body, m->data);
        break;
    case MESSAGE_END:
        app.ended = true;
        break;
    case MESSAGE_FAILED:
        app.failed = m->cause;
        break;
    }
}

static void on_drained(void *owner, struct stream *s)
{
    app.drained = true;
}

static void on_half_closed(void *owner, struct stream *s)
{
    ck_abort();
}

static const struct stream_handler handler = {
    .on_message = on_event, .on_drained = on_drained, .on_half_closed = on_half_closed
};

static void open_connection(bool tcp)
{
    struct sockaddr_storage sa = { .ss_family = tcp ? AF_INET : AF_UNIX };

    holder.c = h1_client_open(conn_accept(tcp ? peer_tcp_pair(&server) : peer_pair(&server),
                                  (struct sockaddr *)&sa, NULL, NULL, NULL),
        &limits, on_client, NULL);
    ck_assert_ptr_nonnull(holder.c);
}

static void set_up(void)
{
    world_open();
    memset(&holder, 0, sizeof(holder));
    memset(&app, 0, sizeof(app));
    open_connection(false);
}

static void tear_down(void)
{
    if (app.stream)
        let_go();
    if (holder.c)
        h1_client_close(holder.c);
    peer_close(&server);
    buf_release(&app.head);
    buf_release(&app.body);
    world_close();
}

/* A request with "Name=value|…"; `body` NULL: none. */
static void ask(const char *method, const char *fields, const char *body)
{
    struct field list[8];
    struct head h = {
        .method = str_of(method), .target = STR("/t"), .authority = STR("host"), .fields = list
    };
    struct str rest = str_of(fields), one;

    app.ended = app.drained = false;
    app.failed = 0;
    app.heads = 0;
    buf_release(&app.body);
    while (rest.n > 0) {
        str_cut(rest, '|', &one, &rest);
        str_cut(one, '=', &list[h.nfields].name, &list[h.nfields].value);
        h.nfields++;
    }
    app.stream = h1_client_begin(holder.c);
    stream_set_owner(app.stream, &handler, NULL);
    stream_send_head(app.stream, &h, body == NULL);
    if (body) {
        stream_send_data(app.stream, body, strlen(body));
        stream_send_end(app.stream);
    }
}

static void ask_and_wait(void)
{
    ask("GET", "", NULL);
    WORLD_UNTIL(peer_has(&server, "\r\n\r\n"));
    peer_take(&server);
}

static const struct {
    const char *method, *fields, *body, *want;
} requests[] = {
    { "GET", "A=b", NULL, "GET /t HTTP/1.1\r\nHost: host\r\nA: b\r\n\r\n" },
    { "POST", "Content-Length=3", "abc",
        "POST /t HTTP/1.1\r\nHost: host\r\nContent-Length: 3\r\n\r\nabc" },
    { "POST", "Content-Length=0", NULL,
        "POST /t HTTP/1.1\r\nHost: host\r\nContent-Length: 0\r\n\r\n" },
    { "POST", "", "abc",
        "POST /t HTTP/1.1\r\nHost: host\r\nTransfer-Encoding: "
        "chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" },
};

START_TEST(sends_requests)
{
    ask(requests[_i].method, requests[_i].fields, requests[_i].body);
    WORLD_UNTIL(peer_got(&server) >= strlen(requests[_i].want));
    ck_assert_str_eq(peer_take(&server), requests[_i].want);
}
END_TEST

#define OK "HTTP/1.1 200 OK\r\n"

/* What comes, and whether the connection serves another request. */
static const struct {
    const char *method, *in;
    bool fin; /* behind it */
    unsigned status;
    const char *body;
    bool again;
} responses[] = {
    { "GET", OK "Content-Length: 3\r\n\r\nabc", false, 200, "abc", true },
    { "GET", OK "Content-Length: 0\r\n\r\n", false, 200, "", true },
    { "GET", OK "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: u\r\n\r\n",
        false, 200, "abc", true },
    { "GET", OK "\r\nabc", true, 200, "abc", false },
    { "GET", OK "\r\n", true, 200, "", false },
    { "HEAD", OK "Content-Length: 3\r\n\r\n", false, 200, "", true },
    { "GET", "HTTP/1.1 204 No Content\r\n\r\n", false, 204, "", true },
    { "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false, 304, "", true },
    { "GET", OK "Connection: close\r\nContent-Length: 3\r\n\r\nabc", false, 200, "abc", false },
    { "GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", false, 200, "abc", false },
    { "GET", OK "Content-Length: 3\r\n\r\nabc", true, 200, "abc", false },
    /* interim responses are passed over */
    { "GET",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" OK
        "Content-Length: 1\r\n\r\nz",
        false, 200, "z", true },
    /* bytes behind the response are nobody's */
    { "GET", OK "Content-Length: 3\r\n\r\nabc" OK "Content-Length: 0\r\n\r\n", false, 200, "abc",
        false },
    { "GET", "HTTP/1.1 204 No Content\r\n\r\nabc", false, 204, "", false },
    { "HEAD", OK "Content-Length: 3\r\n\r\nabc", false, 200, "", false },
};

START_TEST(reads_responses)
{
    struct cuts c = { .n = strlen(responses[_i].in) };

    while (cuts_next(&c)) {
        if (!holder.c) {
            peer_close(&server);
            open_connection(false);
        }
        holder.idle = holder.closed = 0;
        ask(responses[_i].method, "", NULL);
        WORLD_UNTIL(peer_has(&server, "\r\n\r\n"));
        peer_take(&server);
        for (size_t at = 0, end; at < c.n; at = end) {
            end = cuts_end(&c, at);
            peer_send_bytes(&server, responses[_i].in + at, end - at);
            if (end == c.n && responses[_i].fin)
                peer_finish(&server);
            world_settle();
        }
        WORLD_UNTIL(app.ended);
        ck_assert_uint_eq(app.status, responses[_i].status);
        ck_assert_span_eq(buf_str(&app.body), responses[_i].body);
        ck_assert_uint_eq(holder.idle + holder.closed, 0); /* not before the owner has let go */
        let_go();
        WORLD_UNTIL(holder.idle + holder.closed == 1);
        ck_assert_int_eq(holder.idle == 1, responses[_i].again);
        ck_assert_int_eq(holder.c && h1_client_usable(holder.c), responses[_i].again);
    }
}
END_TEST

/* What comes instead of a response, and what that means. */
static const struct {
    const char *in;
    bool fin;
    int failed;
} failures[] = {
    { "", true, STREAM_E_ENDED },
    { "H", true, STREAM_E_INCOMPLETE },
    { OK "Content-Length: 3\r\n", true, STREAM_E_INCOMPLETE },
    { OK "Content-Length: 3\r\n\r\nab", true, STREAM_E_INCOMPLETE },
    { OK "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", true, STREAM_E_INCOMPLETE },
    { OK "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", true, STREAM_E_INCOMPLETE },
    { "HTTP/1.1 100 Continue\r\n\r\n", true, STREAM_E_INCOMPLETE },
    { OK "Transfer-Encoding: chunked\r\n\r\nz\r\n", false, STREAM_E_PROTOCOL },
    { OK "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", false, STREAM_E_PROTOCOL },
    { OK "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", false, STREAM_E_PROTOCOL },
    { "HTTP/1.1 200 OK\nContent-Length: 0\n\n", false, STREAM_E_PROTOCOL },
    { "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", false,
        STREAM_E_PROTOCOL },
    { "SSH-2.0-OpenSSH\r\n", false, STREAM_E_PROTOCOL },
    { "\r\n" OK "\r\n", false, STREAM_E_PROTOCOL },
};

START_TEST(says_why_there_is_no_response)
{
    ask_and_wait();
    peer_send(&server, failures[_i].in);
    if (failures[_i].fin)
        peer_finish(&server);
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, failures[_i].failed);
    ck_assert(!app.ended);
    let_go();
    WORLD_UNTIL(holder.closed == 1);
    ck_assert_uint_eq(holder.idle, 0);
}
END_TEST

START_TEST(passes_over_few_interim_responses)
{
    ask_and_wait();
    for (int i = 0; i < 17; i++) {
        ck_assert_int_eq(app.failed, 0);
        peer_send(&server, "HTTP/1.1 100 Continue\r\n\r\n");
        world_settle();
    }
    ck_assert_int_eq(app.failed, STREAM_E_PROTOCOL);
}
END_TEST

START_TEST(bounds_the_head)
{
    static char filler[5000];

    memset(filler, 'x', sizeof(filler) - 1);
    ask_and_wait();
    peer_send(&server, OK "X: ");
    peer_send(&server, filler);
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, STREAM_E_HEAD_TOO_LARGE);
}
END_TEST

START_TEST(tells_a_reset_from_an_end)
{
    h1_client_close(holder.c);
    peer_close(&server);
    open_connection(true);
    ask_and_wait();
    if (_i > 0) {
        /* where the end is the end of the body, a reset still is none */
        peer_send(&server, _i == 1 ? OK "\r\nabc" : OK "Content-Length: 5\r\n\r\nabc");
        WORLD_UNTIL(buf_len(&app.body) == 3);
    }
    peer_reset(&server);
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, _i == 0 ? STREAM_E_TERMINATED : STREAM_E_INCOMPLETE);
}
END_TEST

static void use_once(void)
{
    ask_and_wait();
    peer_send(&server, OK "Content-Length: 0\r\n\r\n");
    WORLD_UNTIL(app.ended);
    let_go();
    WORLD_UNTIL(holder.idle == 1);
}

/* A kept connection that the peer had closed before it can have read the request is stale: it can
 * be sent again. */
START_TEST(knows_a_stale_connection)
{
    use_once();
    ck_assert(h1_client_usable(holder.c));
    ask("GET", "", NULL);
    ck_assert(app.stream->reused);
    if (_i == 1)
        world_settle(); /* the request is sent, and not read */
    peer_close(&server);
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, STREAM_E_STALE);
}
END_TEST

START_TEST(does_not_call_stale_what_may_have_been_read)
{
    use_once();
    ask_and_wait(); /* the peer has read it */
    peer_close(&server);
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, STREAM_E_ENDED);
}
END_TEST

START_TEST(does_not_call_a_fresh_connection_stale)
{
    ask("GET", "", NULL);
    ck_assert(!app.stream->reused);
    world_settle();
    peer_close(&server); /* unread, but who knows why */
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, STREAM_E_TERMINATED);
}
END_TEST

START_TEST(closes_an_idle_connection_that_moves)
{
    use_once();
    if (_i == 0)
        peer_send(&server, "HTTP/1.1 408 Request Timeout\r\n\r\n");
    else
        peer_finish(&server);
    ck_assert(!h1_client_usable(holder.c)); /* seen even before the loop turns */
    WORLD_UNTIL(holder.closed == 1);
}
END_TEST

START_TEST(is_not_usable_before_its_holder_was_told)
{
    ask_and_wait();
    ck_assert(!h1_client_usable(holder.c));
    peer_send(&server, OK "Content-Length: 0\r\n\r\n");
    WORLD_UNTIL(app.ended);
    ck_assert(!h1_client_usable(holder.c));
    let_go();
    ck_assert(!h1_client_usable(holder.c));
    WORLD_UNTIL(holder.idle == 1);
    ck_assert(h1_client_usable(holder.c));
}
END_TEST

/* Issue 8, point 18: the field that frames the body was left out when there were many others. */
START_TEST(sends_a_head_whole_or_not_at_all)
{
    static struct field fields[2000];
    struct head h = { .method = STR("POST"),
        .target = STR("/"),
        .authority = STR("h"),
        .fields = fields,
        .nfields = (size_t)_i };
    int rc;

    for (int i = 0; i < _i; i++)
        fields[i] = (struct field){ STR("A"), STR("b") };
    fields[_i - 1] = (struct field){ STR("Content-Length"), STR("5") };
    app.stream = h1_client_begin(holder.c);
    stream_set_owner(app.stream, &handler, NULL);
    rc = stream_send_head(app.stream, &h, false);
    world_settle();
    if (rc == 0) {
        ck_assert(peer_has(&server, "A: b\r\nContent-Length: 5\r\n\r\n"));
    } else {
        ck_assert_int_eq(rc, STREAM_E_HEAD_TOO_LARGE);
        ck_assert_int_gt(_i, H1_FIELDS_MAX + 50);
        ck_assert_uint_eq(peer_got(&server), 0);
    }
    let_go();
}
END_TEST

/* The peer answers before it has read all: the answer counts, the connection does not. */
START_TEST(reads_an_early_response)
{
    static char block[300000];
    struct field length = { STR("Content-Length"), STR("300000") };
    struct head h = { .method = STR("POST"),
        .target = STR("/"),
        .authority = STR("h"),
        .fields = &length,
        .nfields = 1 };

    app.stream = h1_client_begin(holder.c);
    stream_set_owner(app.stream, &handler, NULL);
    stream_send_head(app.stream, &h, false);
    ck_assert_int_eq(stream_send_data(app.stream, block, sizeof(block)), STREAM_FULL);
    world_settle();
    peer_send(&server, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    if (_i == 1) {
        shutdown(server.fd, SHUT_RD);
        peer_close(&server);
    }
    WORLD_UNTIL(app.ended);
    ck_assert_uint_eq(app.status, 413);
    ck_assert_span_eq(buf_str(&app.body), "no");
    let_go();
    WORLD_UNTIL(holder.closed == 1);
}
END_TEST

START_TEST(says_when_there_is_room_again)
{
    static char block[300000];
    struct field length = { STR("Content-Length"), STR("300000") };
    struct head h = { .method = STR("POST"),
        .target = STR("/"),
        .authority = STR("h"),
        .fields = &length,
        .nfields = 1 };
    size_t got = 0;

    app.stream = h1_client_begin(holder.c);
    stream_set_owner(app.stream, &handler, NULL);
    stream_send_head(app.stream, &h, false);
    ck_assert_int_eq(stream_send_data(app.stream, block, sizeof(block)), STREAM_FULL);
    world_settle();
    ck_assert(!app.drained);
    WORLD_UNTIL((got += peer_skip(&server, 16384), app.drained));
    stream_send_end(app.stream);
    peer_send(&server, OK "Content-Length: 0\r\n\r\n");
    WORLD_UNTIL(app.ended);
    let_go();
    WORLD_UNTIL(holder.idle == 1);
}
END_TEST

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define AGREES                                                                                     \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"            \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

static void ask_websocket(const char *key)
{
    struct field f = { STR("Sec-WebSocket-Key"), str_of(key) };
    struct head h = { .method = STR("GET"),
        .target = STR("/w"),
        .authority = STR("h"),
        .websocket = true,
        .fields = &f,
        .nfields = *key != '\0' };

    app.stream = h1_client_begin(holder.c);
    stream_set_owner(app.stream, &handler, NULL);
    stream_send_head(app.stream, &h, true);
    WORLD_UNTIL(peer_has(&server, "\r\n\r\n"));
    ck_assert(peer_has(&server, "Upgrade: websocket\r\n"));
    ck_assert(peer_has(&server, "Connection: Upgrade\r\n"));
}

START_TEST(becomes_a_tunnel)
{
    ask_websocket(KEY);
    peer_take(&server);
    peer_send(&server, "HTTP/1.1 100 Continue\r\n\r\n" AGREES "HTTP/1.1 200 OK\r\n\r\n");
    WORLD_UNTIL(app.heads == 1);
    ck_assert_uint_eq(app.status, 101);
    WORLD_UNTIL(buf_len(&app.body) == 19);
    ck_assert_span_eq(buf_str(&app.body), "HTTP/1.1 200 OK\r\n\r\n");
    stream_send_data(app.stream, "raw", 3);
    WORLD_UNTIL(peer_has(&server, "raw"));
    ck_assert_str_eq(peer_take(&server), "raw");
    stream_send_data(app.stream, "last", 4);
    stream_send_end(app.stream);
    WORLD_UNTIL(peer_ended(&server));
    ck_assert_str_eq(peer_take(&server), "last");
    stream_pause(app.stream, true);
    peer_send(&server, "and the other way");
    peer_finish(&server);
    world_settle();
    ck_assert(!app.ended);
    stream_pause(app.stream, false);
    WORLD_UNTIL(app.ended);
    ck_assert_span_eq(buf_str(&app.body), "HTTP/1.1 200 OK\r\n\r\nand the other way");
    let_go();
    WORLD_UNTIL(holder.closed == 1); /* never used again */
    ck_assert_uint_eq(holder.idle, 0);
}
END_TEST

START_TEST(makes_a_key_where_there_is_none)
{
    char accept[WEBSOCKET_ACCEPT_LEN + 1];
    const char *sent, *key;
    struct buf b = { 0 };

    ask_websocket("");
    sent = peer_take(&server);
    key = strstr(sent, "Sec-WebSocket-Key: ");
    ck_assert_ptr_nonnull(key);
    websocket_accept(str_make(key + 19, WEBSOCKET_KEY_LEN), accept);
    buf_printf(&b,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: %s\r\n\r\n",
        accept);
    peer_send_bytes(&server, buf_str(&b).p, buf_len(&b));
    buf_release(&b);
    WORLD_UNTIL(app.heads == 1);
    ck_assert_uint_eq(app.status, 101);
}
END_TEST

START_TEST(becomes_no_tunnel_for_a_101_that_does_not_match) /* RFC 9110 7.8 */
{
    static const char key[] = "AAAAAAAAAAAAAAAAAAAAAA==";

    ask_websocket(_i == 0 ? key : KEY);
    peer_send(&server, _i == 0 ? AGREES
                               : "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n"
                                 "Connection: Upgrade\r\n\r\nraw");
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, STREAM_E_PROTOCOL);
    ck_assert_uint_eq(app.heads + buf_len(&app.body), 0);
}
END_TEST

START_TEST(is_an_ordinary_response_that_is_not_101)
{
    ask_websocket(KEY);
    peer_send(&server, OK "Content-Length: 3\r\n\r\nyes");
    WORLD_UNTIL(app.ended);
    ck_assert_uint_eq(app.status, 200);
    ck_assert_span_eq(buf_str(&app.body), "yes");
    let_go();
    WORLD_UNTIL(holder.idle == 1);
    ask_and_wait(); /* a request that asks for none; it is not taken for one */
    peer_send(&server, AGREES);
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, STREAM_E_PROTOCOL);
}
END_TEST

START_TEST(begins_no_tunnel_for_nobody)
{
    ask_websocket(KEY);
    ck_assert(h1_client_abandon(holder.c));
    app.stream = NULL;
    peer_send(&server, AGREES);
    WORLD_UNTIL(holder.closed == 1);
    WORLD_UNTIL(peer_ended(&server));
}
END_TEST

START_TEST(tells_of_a_tunnel_that_broke)
{
    h1_client_close(holder.c);
    peer_close(&server);
    open_connection(true);
    ask_websocket(KEY);
    peer_send(&server, AGREES);
    WORLD_UNTIL(app.heads == 1);
    peer_reset(&server);
    WORLD_UNTIL(app.failed);
    ck_assert_int_eq(app.failed, STREAM_E_INCOMPLETE);
    let_go();
    WORLD_UNTIL(holder.closed == 1);
}
END_TEST

/* Issue 8, point 14: a response that has arrived whole is not cut by the reset behind it, though
 * its reader is slow; one that has not is. */
START_TEST(gives_a_paused_reader_all_that_came_before_a_reset)
{
    struct buf b = { 0 };

    h1_client_close(holder.c);
    peer_close(&server);
    open_connection(true);
    ask("GET", "", NULL);
    buf_printf(&b, OK "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 30; i++)
        buf_printf(&b, "400\r\n%01024d\r\n", i);
    if (_i == 0)
        buf_printf(&b, "0\r\n\r\n");
    buf_append(&b, "", 1);
    stream_pause(app.stream, true);
    peer_send(&server, buf_str(&b).p);
    world_settle();
    peer_reset(&server);
    world_settle();
    ck_assert(!app.failed);
    stream_pause(app.stream, false);
    WORLD_UNTIL(app.ended || app.failed);
    ck_assert_int_eq(app.failed, _i == 0 ? 0 : STREAM_E_INCOMPLETE);
    ck_assert_uint_eq(buf_len(&app.body), 30 * 1024);
    buf_release(&b);
    let_go();
    WORLD_UNTIL(holder.closed == 1);
}
END_TEST

START_TEST(holds_a_response_back_while_paused)
{
    ask_and_wait();
    peer_send(&server, OK "Content-Length: 6\r\n\r\nabc");
    WORLD_UNTIL(buf_len(&app.body) == 3);
    stream_pause(app.stream, true);
    peer_send(&server, "def");
    world_settle();
    ck_assert_uint_eq(buf_len(&app.body), 3);
    ck_assert(!app.ended);
    stream_pause(app.stream, false);
    WORLD_UNTIL(app.ended);
    ck_assert_span_eq(buf_str(&app.body), "abcdef");
    let_go();
    WORLD_UNTIL(holder.idle == 1);
}
END_TEST

/* The owner lets go in every moment of a response: the bytes stop, the holder hears of it once,
 * nothing follows. */
START_TEST(may_be_let_go_at_any_time)
{
    static const char in[] = OK "Content-Length: 6\r\n\r\nabcdef";
    size_t n = (size_t)_i;

    ask_and_wait();
    if (n >= sizeof(in)) {
        app.close_in_head = true;
        n = sizeof(in) - 1;
    }
    peer_send_bytes(&server, in, n);
    world_settle();
    if (app.stream) {
        bool whole = app.ended;

        if (_i % 2)
            let_go();
        else {
            struct stream *s = app.stream;

            app.stream = NULL;
            stream_reset(s, STREAM_CANCEL);
        }
        ck_assert_uint_eq(holder.idle + holder.closed, 0); /* never from within */
        WORLD_UNTIL(holder.idle + holder.closed == 1);
        ck_assert_int_eq(holder.idle == 1, whole);
    } else {
        WORLD_UNTIL(holder.closed == 1);
    }
    if (holder.closed)
        WORLD_UNTIL(peer_ended(&server));
}
END_TEST

START_TEST(tells_the_owner_when_it_is_closed)
{
    ask_and_wait();
    if (_i == 1) {
        peer_send(&server, OK "Content-Length: 6\r\n\r\nabc");
        WORLD_UNTIL(app.status == 200);
    }
    h1_client_close(holder.c);
    holder.c = NULL;
    ck_assert_int_eq(app.failed, _i == 0 ? STREAM_E_ENDED : STREAM_E_INCOMPLETE);
    let_go();
    world_settle();
    ck_assert_uint_eq(holder.idle + holder.closed, 0);
    ck_assert(peer_ended(&server));
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("h1client");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, sends_requests, 0, COUNT_OF(requests));
    tcase_add_loop_test(t, reads_responses, 0, COUNT_OF(responses));
    tcase_add_loop_test(t, says_why_there_is_no_response, 0, COUNT_OF(failures));
    tcase_add_test(t, passes_over_few_interim_responses);
    tcase_add_test(t, bounds_the_head);
    tcase_add_loop_test(t, tells_a_reset_from_an_end, 0, 3);
    tcase_add_loop_test(t, knows_a_stale_connection, 0, 2);
    tcase_add_test(t, does_not_call_stale_what_may_have_been_read);
    tcase_add_test(t, does_not_call_a_fresh_connection_stale);
    tcase_add_loop_test(t, closes_an_idle_connection_that_moves, 0, 2);
    tcase_add_test(t, is_not_usable_before_its_holder_was_told);
    tcase_add_loop_test(t, sends_a_head_whole_or_not_at_all, 1015, 1100);
    tcase_add_loop_test(t, reads_an_early_response, 0, 2);
    tcase_add_test(t, says_when_there_is_room_again);
    tcase_add_test(t, becomes_a_tunnel);
    tcase_add_test(t, makes_a_key_where_there_is_none);
    tcase_add_loop_test(t, becomes_no_tunnel_for_a_101_that_does_not_match, 0, 2);
    tcase_add_test(t, is_an_ordinary_response_that_is_not_101);
    tcase_add_test(t, begins_no_tunnel_for_nobody);
    tcase_add_test(t, tells_of_a_tunnel_that_broke);
    tcase_add_loop_test(t, gives_a_paused_reader_all_that_came_before_a_reset, 0, 2);
    tcase_add_test(t, holds_a_response_back_while_paused);
    tcase_add_loop_test(t, may_be_let_go_at_any_time, 0, 46);
    tcase_add_loop_test(t, tells_the_owner_when_it_is_closed, 0, 2);
    return t;
}

UNIT_MAIN("h1client")
