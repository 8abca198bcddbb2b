/* The HTTP/2 client against an nghttp2 server, over a pair of sockets on one loop. */
#include "http/h2client.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "h2peer.h"
#include "net/loop.h"
#include "unit.h"
#include "world.h"

/* One request and what came of it. */
struct call {
    struct stream *s;
    unsigned status;
    char fields[4096];
    size_t bytes, pieces, drained;
    enum stream_error error;
    bool failed, ended, over; /* over: one of the two */
    struct call *close_too;   /* closed when this one ends */
    bool close_session, pause_at_data;
};

static struct h2_limits limits;
static struct h2_client *client;
static struct h2peer *peer;
static uint64_t patience_ms = 60000;
static size_t changes;
static bool closed;

static void on_client(void *owner, struct h2_client *c, enum h2_client_event ev)
{
    if (ev == H2_CLIENT_CHANGED)
        changes++;
    else
        closed = true;
}

static void set_up_as(const struct h2peer_options *o)
{
    struct sockaddr_storage sa = { .ss_family = AF_UNIX };
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    limits = (struct h2_limits){ .stream_window = H2_CLIENT_STREAM_WINDOW,
        .connection_window = H2_CLIENT_CONNECTION_WINDOW,
        .out_max = H2_CLIENT_OUT_MAX,
        .head_max = 8192,
        .fields_max = 50,
        .interim_max = 16,
        .ping_interval_ms = 60000,
        .ping_timeout_ms = patience_ms,
        .finish_ms = 5000,
        .calm_ms = 500 };
    changes = 0;
    closed = false;
    peer = h2peer_open(conn_accept(fds[1], (struct sockaddr *)&sa, NULL, NULL, NULL), o);
    client = h2_client_open(
        conn_accept(fds[0], (struct sockaddr *)&sa, NULL, NULL, NULL), &limits, on_client, NULL);
    ck_assert_ptr_nonnull(client);
}

static void set_up(void)
{
    set_up_as(&(struct h2peer_options){ .max_streams = 100 });
    world_settle();
}

static void tear_down(void)
{
    if (!closed)
        h2_client_close(client);
    h2peer_close(peer);
}

static void on_stream(void *owner, struct stream *s, const struct message *m)
{
    struct call *c = owner;

    ck_assert_ptr_eq(c->s, s);
    ck_assert(!c->over);
    switch (m->kind) {
    case MESSAGE_HEAD:
        ck_assert_uint_eq(c->status, 0);
        c->status = m->head->status;
        for (size_t i = 0; i < m->head->nfields; i++)
            snprintf(c->fields + strlen(c->fields), sizeof(c->fields) - strlen(c->fields),
                STR_FMT "=" STR_FMT "\n", STR_ARG(m->head->fields[i].name),
                STR_ARG(m->head->fields[i].value));
        break;
    case MESSAGE_DATA:
        ck_assert_uint_ne(c->status, 0);
        c->bytes += m->data.n;
        c->pieces++;
        for (size_t i = 0; i < m->data.n; i++) {
            if (m->data.p[i] != 'x')
                ck_abort_msg("the body has changed on its way");
        }
        if (c->pause_at_data)
            stream_pause(s, true);
        break;
    case MESSAGE_END:
        c->ended = true;
        break;
    case MESSAGE_FAILED:
        c->failed = true;
        c->error = m->cause;
        break;
    }
    c->over = c->ended || c->failed;
    if (!c->over)
        return;
    stream_close(s);
    c->s = NULL;
    if (c->close_too) {
        stream_close(c->close_too->s);
        c->close_too->s = NULL;
    }
    if (c->close_session) {
        h2_client_close(client);
        closed = true;
    }
}

static void on_drained(void *owner, struct stream *s)
{
    struct call *c = owner;

    c->drained++;
}

static void on_half_closed(void *owner, struct stream *s)
{
    ck_abort_msg("that is for servers");
}

static const struct stream_handler handler = {
    .on_message = on_stream, .on_drained = on_drained, .on_half_closed = on_half_closed
};

static void take(struct call *c)
{
    *c = (struct call){ 0 };
    c->s = h2_client_begin(client);
    ck_assert_ptr_nonnull(c->s);
    stream_set_owner(c->s, &handler, c);
}

static int send_head_of(struct call *c, struct field *fields, size_t n, bool end)
{
    struct head h = { .method = end ? STR("GET") : STR("POST"),
        .target = STR("/v1/x?y=1"),
        .authority = STR("api.example"),
        .minor = 1,
        .fields = fields,
        .nfields = n };

    return stream_send_head(c->s, &h, end);
}

static void get(struct call *c)
{
    take(c);
    ck_assert_int_eq(send_head_of(c, NULL, 0, true), 0);
}

static void answer_at_once(struct h2peer *p, int32_t id)
{
    h2peer_respond(p, id, "200", NULL, 0, 100, false);
}

START_TEST(carries_a_request_and_its_response)
{
    struct field fields[] = { { STR("Content-Type"), STR("application/json") },
        { STR("Content-Length"), STR("5") }, { STR("Connection"), STR("close, X-Hop") },
        { STR("X-Hop"), STR("1") }, { STR("TE"), STR("trailers") },
        { STR("Transfer-Encoding"), STR("chunked") }, { STR("Keep-Alive"), STR("5") },
        { STR("Upgrade"), STR("h2c") }, { STR("HTTP2-Settings"), STR("x") },
        { STR("Host"), STR("other.example") }, { STR("X-Empty"), STR("") },
        { STR("Cookie"), STR("a=1; b=2") } };
    const nghttp2_nv answer[] = { H2PEER_NV("content-type", "text/plain"),
        H2PEER_NV("x-request-id", "r1"), H2PEER_NV("set-cookie", "a=1"),
        H2PEER_NV("set-cookie", "b=2") };
    struct call c;

    set_up();
    take(&c);
    ck_assert(c.s->http2);
    ck_assert(!c.s->secure);
    ck_assert(!c.s->reused);
    ck_assert_int_eq(send_head_of(&c, fields, COUNT_OF(fields), false), 0);
    ck_assert_int_eq(stream_send_data(c.s, "hel", 3), 0);
    ck_assert_int_eq(stream_send_data(c.s, "lo", 2), 0);
    ck_assert_int_eq(stream_send_end(c.s), 0);
    world_settle();
    ck_assert_uint_eq(peer->requests, 1);
    ck_assert_uint_eq(peer->body_bytes, 5);
    ck_assert_str_eq(peer->fields, ":method: POST\n:scheme: http\n:authority: api.example\n"
                                   ":path: /v1/x?y=1\ncontent-type: application/json\n"
                                   "content-length: 5\nx-empty: \ncookie: a=1; b=2\n");
    h2peer_respond(peer, peer->last_id, "201", answer, COUNT_OF(answer), 70000, false);
    WORLD_UNTIL(c.over);
    ck_assert(c.ended);
    ck_assert_uint_eq(c.status, 201);
    ck_assert_uint_eq(c.bytes, 70000);
    ck_assert_str_eq(
        c.fields, "content-type=text/plain\nx-request-id=r1\nset-cookie=a=1\nset-cookie=b=2\n");
    /* The connection lives on, and says so. */
    peer->on_request = answer_at_once;
    get(&c);
    ck_assert(c.s->reused);
    WORLD_UNTIL(c.over);
    ck_assert(c.ended);
    ck_assert_uint_eq(h2_client_streams(client), 0);
    tear_down();
}
END_TEST

START_TEST(sends_no_head_that_would_inject)
{
    struct field fields[] = { { STR("Content-Length"), STR("5") },
        { STR("X-Evil"), STR("a\r\nb: c") } };
    struct call c;

    set_up();
    take(&c);
    ck_assert_int_lt(send_head_of(&c, fields, COUNT_OF(fields), false), STREAM_FULL);
    WORLD_UNTIL(c.over);
    ck_assert(c.failed);
    ck_assert_uint_eq(peer->requests, 0);
    tear_down();
}
END_TEST

START_TEST(ends_with_the_head_where_there_is_no_body)
{
    struct call c;

    set_up();
    get(&c);
    world_settle();
    h2peer_respond(peer, peer->last_id, "204", NULL, 0, 0, false);
    WORLD_UNTIL(c.over);
    ck_assert(c.ended);
    ck_assert_uint_eq(c.status, 204);
    ck_assert_uint_eq(c.bytes, 0);
    tear_down();
}
END_TEST

/* A large body goes out as the peer's window opens, and memory stays bounded by STREAM_FULL. */
START_TEST(holds_back_a_large_request_body)
{
    static char piece[10000];
    struct call c;
    size_t sent = 0, fulls = 0;

    set_up_as(&(struct h2peer_options){ .max_streams = 10, .window = 1000 });
    world_settle();
    take(&c);
    send_head_of(&c, NULL, 0, false);
    while (sent < 1000000) {
        size_t before = c.drained;
        int rc = stream_send_data(c.s, piece, sizeof(piece));

        sent += sizeof(piece);
        if (rc == 0)
            continue;
        ck_assert_int_eq(rc, STREAM_FULL);
        fulls++;
        while (c.drained == before)
            ev_run(loop_ev(), EVRUN_ONCE);
        ck_assert_uint_ge(peer->body_bytes + (80 << 10), sent);
    }
    stream_send_end(c.s);
    peer->on_request = answer_at_once;
    WORLD_UNTIL(c.over);
    ck_assert(c.ended);
    ck_assert_uint_eq(peer->body_bytes, sent);
    ck_assert_uint_gt(fulls, 5);
    tear_down();
}
END_TEST

START_TEST(begins_no_more_than_the_peer_allows)
{
    struct call c[4];
    nghttp2_settings_entry most = { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0 };

    set_up_as(&(struct h2peer_options){ .max_streams = 3 });
    ck_assert_uint_eq(h2_client_room(client), 1); /* until the peer has spoken */
    ck_assert(!h2_client_settled(client));
    world_settle();
    ck_assert(h2_client_settled(client));
    ck_assert_uint_eq(h2_client_limit(client), 3);
    ck_assert_uint_eq(h2_client_room(client), 3);
    for (int i = 0; i < 3; i++)
        get(&c[i]);
    ck_assert_uint_eq(h2_client_room(client), 0);
    ck_assert_ptr_null(h2_client_begin(client));
    world_settle();
    ck_assert_uint_eq(peer->open, 3);
    /* One ends: there is room again, and the holder hears of it. */
    changes = 0;
    h2peer_respond(peer, 1, "200", NULL, 0, 10, false);
    WORLD_UNTIL(c[0].over);
    world_settle();
    ck_assert_uint_eq(h2_client_room(client), 1);
    ck_assert_uint_gt(changes, 0);
    /* The peer allows none any more: those that are open live on. */
    nghttp2_submit_settings(peer->library, 0, &most, 1);
    h2peer_flush(peer);
    world_settle();
    ck_assert_uint_eq(h2_client_room(client), 0);
    ck_assert(!c[1].over && !c[2].over);
    h2peer_respond(peer, 3, "200", NULL, 0, 10, false);
    h2peer_respond(peer, 5, "200", NULL, 0, 10, false);
    WORLD_UNTIL(c[1].over);
    WORLD_UNTIL(c[2].over);
    ck_assert(c[1].ended && c[2].ended);
    ck_assert_uint_eq(h2_client_room(client), 0);
    /* And then two. */
    most.value = 2;
    nghttp2_submit_settings(peer->library, 0, &most, 1);
    h2peer_flush(peer);
    world_settle();
    ck_assert_uint_eq(h2_client_room(client), 2);
    ck_assert_uint_eq(peer->peak, 3);
    ck_assert_uint_eq(peer->resets, 0);
    tear_down();
}
END_TEST

START_TEST(gives_room_back_for_streams_that_were_never_used)
{
    struct call c;

    set_up_as(&(struct h2peer_options){ .max_streams = 1 });
    world_settle();
    take(&c);
    ck_assert_uint_eq(h2_client_room(client), 0);
    stream_close(c.s);
    ck_assert_uint_eq(h2_client_room(client), 1);
    /* Closed after the head was submitted, in the same turn: nothing of it need be seen, but room
     * must come back. */
    get(&c);
    stream_close(c.s);
    world_settle();
    ck_assert_uint_eq(h2_client_room(client), 1);
    ck_assert_uint_eq(peer->open, 0);
    ck_assert_uint_eq(peer->requests, peer->resets);
    tear_down();
}
END_TEST

START_TEST(cancels_at_the_peer)
{
    struct call c;

    set_up();
    get(&c);
    world_settle();
    ck_assert_uint_eq(peer->open, 1);
    if (_i == 0) {
        stream_close(c.s);
    } else {
        stream_reset(c.s, STREAM_CANCEL);
        world_settle();
        ck_assert_uint_eq(peer->resets, 1);
        stream_close(c.s);
    }
    world_settle();
    ck_assert_uint_eq(peer->resets, 1);
    ck_assert_uint_eq(peer->reset_code, NGHTTP2_CANCEL);
    ck_assert_uint_eq(peer->open, 0);
    ck_assert(!c.over);
    ck_assert_uint_eq(h2_client_streams(client), 0);
    tear_down();
}
END_TEST

START_TEST(loses_nothing_to_goaway)
{
    struct call c[4];

    set_up();
    for (int i = 0; i < 4; i++)
        get(&c[i]);
    world_settle();
    nghttp2_submit_goaway(peer->library, 0, 3, NGHTTP2_NO_ERROR, NULL, 0);
    h2peer_flush(peer);
    WORLD_UNTIL(c[2].over);
    WORLD_UNTIL(c[3].over);
    ck_assert_int_eq(c[2].error, STREAM_E_REFUSED);
    ck_assert_int_eq(c[3].error, STREAM_E_REFUSED);
    ck_assert(h2_client_draining(client));
    ck_assert_uint_eq(h2_client_room(client), 0);
    ck_assert(!c[0].over && !c[1].over && !closed);
    h2peer_respond(peer, 1, "200", NULL, 0, 1000, false);
    h2peer_respond(peer, 3, "200", NULL, 0, 1000, false);
    WORLD_UNTIL(c[0].over);
    WORLD_UNTIL(c[1].over);
    ck_assert(c[0].ended && c[1].ended);
    WORLD_UNTIL(closed); /* after the last stream it ends by itself */
    tear_down();
}
END_TEST

/* The first GOAWAY of two only announces (RFC 9113 6.8). */
START_TEST(begins_nothing_after_an_announced_goaway)
{
    struct call c, late;

    set_up();
    get(&c);
    take(&late);
    world_settle();
    nghttp2_submit_shutdown_notice(peer->library);
    h2peer_flush(peer);
    world_settle();
    ck_assert(h2_client_draining(client));
    ck_assert(!c.over && !late.over);
    ck_assert_int_eq(send_head_of(&late, NULL, 0, true), STREAM_E_REFUSED);
    ck_assert(!late.over); /* never from within */
    WORLD_UNTIL(late.over);
    ck_assert_int_eq(late.error, STREAM_E_REFUSED);
    h2peer_respond(peer, 1, "200", NULL, 0, 10, false);
    WORLD_UNTIL(c.over);
    ck_assert(c.ended);
    WORLD_UNTIL(closed);
    tear_down();
}
END_TEST

static const struct {
    uint32_t code;
    bool after_head;
    enum stream_error error;
} resets[] = {
    { NGHTTP2_REFUSED_STREAM, false, STREAM_E_REFUSED },
    { NGHTTP2_INTERNAL_ERROR, false, STREAM_E_TERMINATED },
    { NGHTTP2_CANCEL, false, STREAM_E_TERMINATED },
    { NGHTTP2_NO_ERROR, false, STREAM_E_TERMINATED },
    { NGHTTP2_PROTOCOL_ERROR, false, STREAM_E_TERMINATED },
    { NGHTTP2_ENHANCE_YOUR_CALM, false, STREAM_E_TERMINATED },
    { NGHTTP2_REFUSED_STREAM, true, STREAM_E_INCOMPLETE },
    { NGHTTP2_INTERNAL_ERROR, true, STREAM_E_INCOMPLETE },
    { NGHTTP2_NO_ERROR, true, STREAM_E_INCOMPLETE },
};

START_TEST(tells_what_a_reset_means)
{
    struct call c, other;

    set_up();
    get(&c);
    get(&other);
    world_settle();
    if (resets[_i].after_head) {
        h2peer_respond(peer, 1, "200", NULL, 0, 10, true);
        world_settle();
        ck_assert_uint_eq(c.bytes, 10);
    }
    nghttp2_submit_rst_stream(peer->library, 0, 1, resets[_i].code);
    h2peer_flush(peer);
    WORLD_UNTIL(c.over);
    ck_assert(c.failed);
    ck_assert_int_eq(c.error, resets[_i].error);
    h2peer_respond(peer, 3, "200", NULL, 0, 10, false);
    WORLD_UNTIL(other.over);
    ck_assert(other.ended);
    tear_down();
}
END_TEST

/* RFC 9113 8.1: a server that has answered completely may stop the rest of the request. */
START_TEST(takes_a_whole_answer_to_half_a_request)
{
    struct call c;

    set_up();
    take(&c);
    send_head_of(&c, NULL, 0, false);
    stream_send_data(c.s, "abc", 3);
    world_settle();
    h2peer_respond(peer, 1, "413", NULL, 0, 20, false);
    nghttp2_submit_rst_stream(peer->library, 0, 1, NGHTTP2_NO_ERROR);
    h2peer_flush(peer);
    WORLD_UNTIL(c.over);
    ck_assert(c.ended);
    ck_assert_uint_eq(c.status, 413);
    ck_assert_uint_eq(c.bytes, 20);
    world_settle();
    ck_assert_uint_eq(h2_client_room(client), 100);
    tear_down();
}
END_TEST

START_TEST(tells_how_far_each_stream_was_when_the_connection_ended)
{
    struct call waiting, reading, unsent, done;

    set_up();
    get(&waiting);
    get(&reading);
    get(&done);
    world_settle();
    h2peer_respond(peer, 3, "200", NULL, 0, 10, true);
    h2peer_respond(peer, 5, "200", NULL, 0, 10, false);
    world_settle();
    ck_assert(done.ended);
    h2peer_end(peer, false);
    get(&unsent); /* nothing of it leaves: the end is seen in the same turn */
    WORLD_UNTIL(closed);
    ck_assert_int_eq(reading.error, STREAM_E_INCOMPLETE);
    ck_assert(waiting.failed && unsent.failed);
    ck_assert_int_eq(waiting.error, STREAM_E_ENDED);
    tear_down();
}
END_TEST

START_TEST(knows_what_never_left)
{
    struct call c[2];

    /* Before the peer's SETTINGS there is one stream; the second is begun but has sent no head. */
    set_up();
    take(&c[0]);
    get(&c[1]);
    h2_client_close(client);
    closed = true;
    ck_assert_int_eq(c[0].error, STREAM_E_STALE);
    ck_assert_int_eq(c[1].error, STREAM_E_STALE);
    tear_down();
}
END_TEST

START_TEST(finds_out_that_the_peer_is_dead)
{
    struct call c;

    set_up();
    limits.ping_interval_ms = 30;
    limits.ping_timeout_ms = 30;
    get(&c);
    world_settle();
    peer->mute = true;
    WORLD_UNTIL(c.over);
    ck_assert_int_eq(c.error, STREAM_E_TERMINATED);
    ck_assert(closed);
    tear_down();
}
END_TEST

static bool passed;

static void on_passed(struct ev_loop *ev, ev_timer *w, int revents)
{
    passed = true;
}

START_TEST(leaves_alone_who_answers_pings)
{
    struct call c;
    ev_timer timer;

    set_up();
    limits.ping_interval_ms = 20;
    limits.ping_timeout_ms = 5000;
    get(&c);
    passed = false;
    ev_timer_init(&timer, on_passed, 0.5, 0.);
    ev_timer_start(loop_ev(), &timer);
    WORLD_UNTIL(passed);
    ck_assert(!c.over && !closed);
    h2peer_respond(peer, 1, "200", NULL, 0, 10, false);
    WORLD_UNTIL(c.over);
    ck_assert(c.ended);
    tear_down();
}
END_TEST

START_TEST(does_not_wait_for_ever_for_settings)
{
    struct call c;

    patience_ms = 50;
    set_up_as(&(struct h2peer_options){ .max_streams = 1 });
    peer->mute = true;
    get(&c);
    WORLD_UNTIL(c.over);
    ck_assert_int_eq(c.error, STREAM_E_TERMINATED);
    ck_assert(closed);
    tear_down();
}
END_TEST

static nghttp2_nv nv_of(const char *name, const char *value, size_t n)
{
    return (nghttp2_nv){ (uint8_t *)name, (uint8_t *)value, strlen(name), n, 0 };
}

START_TEST(bounds_the_head_of_a_response)
{
    static char text[10000];
    nghttp2_nv nv[100];
    struct call c;
    size_t n = 0;

    set_up();
    get(&c);
    world_settle();
    memset(text, 'a', sizeof(text));
    if (_i == 0) /* one field, just over */
        nv[n++] = nv_of("x-a", text, 8192 - 3 - 32 - 42 + 1);
    else if (_i == 1) /* as many bytes in small fields: each counts 32 more */
        for (; n < 49; n++)
            nv[n] = nv_of("x-a", text, 150);
    else if (_i == 2) /* too many fields */
        for (; n < 51; n++)
            nv[n] = nv_of("x-a", text, 1);
    else if (_i == 3) /* just within */
        nv[n++] = nv_of("x-a", text, 8192 - 3 - 32 - 42);
    else
        for (; n < 50; n++)
            nv[n] = nv_of("x-a", text, 1);
    h2peer_respond(peer, 1, "200", nv, n, 10, false);
    WORLD_UNTIL(c.over);
    if (_i < 3)
        ck_assert_int_eq(c.error, STREAM_E_HEAD_TOO_LARGE);
    else
        ck_assert(c.ended);
    world_settle();
    ck_assert_uint_eq(peer->resets, _i < 3);
    /* The connection is none the worse for it: HPACK's state is right. */
    peer->on_request = answer_at_once;
    get(&c);
    WORLD_UNTIL(c.over);
    ck_assert(c.ended);
    tear_down();
}
END_TEST

static const struct {
    const char *name, *value;
} bad_fields[] = {
    { "x-a", "a\r\nset-cookie: b" },
    { "x-a", "a\nb" },
    { "x-a", "a\rb" },
    { "x a", "b" },
    { "x:a", "b" },
    { "connection", "close" },
    { "transfer-encoding", "chunked" },
    { "content-length", "5a" },
    { "content-length", "-5" },
    { ":path", "/" },
};

START_TEST(refuses_fields_that_could_inject)
{
    nghttp2_nv nv = nv_of(bad_fields[_i].name, bad_fields[_i].value, strlen(bad_fields[_i].value));
    struct call c, next;

    set_up_as(&(struct h2peer_options){ .max_streams = 10, .lax = true });
    world_settle();
    get(&c);
    world_settle();
    h2peer_respond(peer, 1, "200", &nv, 1, 10, false);
    WORLD_UNTIL(c.over);
    ck_assert(c.failed);
    ck_assert_int_eq(c.error, STREAM_E_PROTOCOL);
    ck_assert_uint_eq(c.status, 0);
    peer->on_request = answer_at_once;
    get(&next);
    WORLD_UNTIL(next.over);
    ck_assert(next.ended);
    tear_down();
}
END_TEST

static const char *const bad_statuses[] = { "99", "1000", "20x", "", "600", "099" };

START_TEST(refuses_statuses_that_are_none)
{
    struct call c;

    set_up_as(&(struct h2peer_options){ .max_streams = 10, .lax = true });
    world_settle();
    get(&c);
    world_settle();
    if (strlen(bad_statuses[_i]) == 3) {
        h2peer_respond(peer, 1, bad_statuses[_i], NULL, 0, 10, false);
    } else {
        nghttp2_nv nv = nv_of(":status", bad_statuses[_i], strlen(bad_statuses[_i]));

        nghttp2_submit_response(peer->library, 1, &nv, 1, NULL);
        h2peer_flush(peer);
    }
    WORLD_UNTIL(c.over);
    ck_assert_int_eq(c.error, STREAM_E_PROTOCOL);
    tear_down();
}
END_TEST

START_TEST(swallows_interim_responses_up_to_a_point)
{
    const nghttp2_nv early[] = { H2PEER_NV(":status", "103"), H2PEER_NV("link", "</a>") };
    int n = _i == 0 ? 16 : 17;
    struct call c;

    set_up();
    get(&c);
    world_settle();
    for (int i = 0; i < n; i++)
        nghttp2_submit_headers(peer->library, 0, 1, NULL, early, 2, NULL);
    h2peer_respond(peer, 1, "200", NULL, 0, 10, false);
    WORLD_UNTIL(c.over);
    if (_i == 0) {
        ck_assert(c.ended);
        ck_assert_uint_eq(c.status, 200);
        ck_assert_str_eq(c.fields, "");
    } else {
        ck_assert_int_eq(c.error, STREAM_E_PROTOCOL);
    }
    tear_down();
}
END_TEST

static const struct {
    const char *length;
    enum stream_error error;
} wrong_lengths[] = { { "11", STREAM_E_INCOMPLETE }, { "9", STREAM_E_PROTOCOL },
    { "1000000", STREAM_E_INCOMPLETE }, { "0", STREAM_E_PROTOCOL } };

START_TEST(checks_the_declared_length)
{
    nghttp2_nv nv =
        nv_of("content-length", wrong_lengths[_i].length, strlen(wrong_lengths[_i].length));
    struct call c;

    set_up();
    get(&c);
    world_settle();
    h2peer_respond(peer, 1, "200", &nv, 1, 10, false);
    WORLD_UNTIL(c.over);
    ck_assert(c.failed);
    ck_assert_int_eq(c.error, wrong_lengths[_i].error);
    tear_down();
}
END_TEST

static ssize_t body_with_trailers(nghttp2_session *s, int32_t id, uint8_t *to, size_t n,
    uint32_t *flags, nghttp2_data_source *source, void *user)
{
    const nghttp2_nv trailer = H2PEER_NV("x-trailer", "1");

    memset(to, 'x', 10);
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_submit_trailer(s, id, &trailer, 1);
    return 10;
}

START_TEST(drops_trailers)
{
    const nghttp2_nv head = H2PEER_NV(":status", "200");
    nghttp2_data_provider provider = { .read_callback = body_with_trailers };
    struct call c;

    set_up();
    get(&c);
    world_settle();
    nghttp2_submit_response(peer->library, 1, &head, 1, &provider);
    h2peer_flush(peer);
    WORLD_UNTIL(c.over);
    ck_assert(c.ended);
    ck_assert_uint_eq(c.bytes, 10);
    ck_assert_str_eq(c.fields, "");
    tear_down();
}
END_TEST

/* Who reads slowly holds up its own stream, within a bound, and no other. */
START_TEST(a_paused_stream_holds_up_no_other)
{
    struct call slow, fast;
    size_t first;

    set_up();
    get(&slow);
    slow.pause_at_data = true;
    get(&fast);
    world_settle();
    h2peer_respond(peer, 1, "200", NULL, 0, 8 << 20, false);
    while (slow.pieces == 0)
        ev_run(loop_ev(), EVRUN_ONCE);
    first = slow.bytes;
    h2peer_respond(peer, 3, "200", NULL, 0, 8 << 20, false);
    WORLD_UNTIL(fast.over);
    ck_assert(fast.ended);
    ck_assert_uint_eq(fast.bytes, 8 << 20);
    ck_assert_uint_eq(slow.bytes, first);
    /* What it may be sent, and so what is kept for it, is a window's worth. */
    ck_assert_int_eq(nghttp2_session_get_stream_remote_window_size(peer->library, 1), 0);
    ck_assert_int_ge(nghttp2_session_get_remote_window_size(peer->library), 1 << 30);
    /* It goes on where it was; not from within the call. */
    slow.pause_at_data = false;
    stream_pause(slow.s, false);
    ck_assert_uint_eq(slow.bytes, first);
    WORLD_UNTIL(slow.over);
    ck_assert(slow.ended);
    ck_assert_uint_eq(slow.bytes, 8 << 20);
    tear_down();
}
END_TEST

/* Issue 8, point 12: what paused streams hold together has one bound. */
START_TEST(streams_read_ahead_within_one_bound)
{
    enum { MORE = H2_CLIENT_WIDE_WINDOW - H2_CLIENT_STREAM_WINDOW };
    struct h2_read_ahead ahead = { .max = _i * MORE };
    struct call calls[3];

    set_up();
    limits.wide_window = H2_CLIENT_WIDE_WINDOW;
    limits.read_ahead = &ahead;
    for (int i = 0; i < 3; i++) {
        get(&calls[i]);
        world_settle();
        h2peer_respond(peer, 2 * i + 1, "200", NULL, 0, 8 << 20, false);
        WORLD_UNTIL(calls[i].bytes > 256 << 10);
        calls[i].pause_at_data = true;
        WORLD_UNTIL(nghttp2_session_get_stream_remote_window_size(peer->library, 2 * i + 1) == 0);
        ck_assert_uint_eq(ahead.used, (uint64_t)(i < _i ? i + 1 : _i) * MORE);
    }
    for (int i = 0; i < 3; i++) {
        calls[i].pause_at_data = false;
        stream_pause(calls[i].s, false);
        WORLD_UNTIL(calls[i].over);
        ck_assert_uint_eq(calls[i].bytes, 8 << 20);
    }
    tear_down();
    ck_assert_uint_eq(ahead.used, 0);
}
END_TEST

START_TEST(a_paused_stream_gets_its_data_before_its_failure)
{
    struct call c;

    set_up();
    get(&c);
    stream_pause(c.s, true);
    world_settle();
    h2peer_respond(peer, 1, "200", NULL, 0, 10, true);
    world_settle();
    ck_assert_uint_eq(c.status, 200);
    ck_assert_uint_eq(c.bytes, 0);
    h2peer_end(peer, false);
    WORLD_UNTIL(closed);
    world_settle();
    ck_assert(!c.over);
    if (_i == 0) {
        stream_pause(c.s, false);
        WORLD_UNTIL(c.over);
        ck_assert_int_eq(c.error, STREAM_E_INCOMPLETE);
        ck_assert_uint_eq(c.bytes, 10);
    } else {
        stream_close(c.s); /* or it is not asked for any more */
    }
    tear_down();
}
END_TEST

START_TEST(survives_what_owners_do_in_their_callbacks)
{
    struct call c[3];

    set_up();
    for (int i = 0; i < 3; i++)
        get(&c[i]);
    world_settle();
    c[0].close_too = &c[1];
    c[0].close_session = _i == 1;
    for (int i = 0; i < 3; i++)
        h2peer_respond(peer, 1 + 2 * i, "200", NULL, 0, 1000, false);
    WORLD_UNTIL(c[0].over);
    ck_assert(c[0].ended);
    ck_assert(!c[1].over);
    WORLD_UNTIL(c[2].over);
    if (_i == 0)
        ck_assert(c[2].ended);
    tear_down();
}
END_TEST

START_TEST(survives_streams_that_outlive_it)
{
    struct stream *s;

    set_up();
    s = h2_client_begin(client);
    h2_client_close(client);
    closed = true;
    world_settle();
    stream_pause(s, true);
    ck_assert_int_eq(stream_send_data(s, "x", 1), 0);
    stream_pause(s, false);
    stream_reset(s, STREAM_CANCEL);
    stream_close(s);
    tear_down();
}
END_TEST

START_TEST(gives_up_on_garbage)
{
    struct call c;

    set_up();
    get(&c);
    world_settle();
    conn_write(peer->conn, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    if (_i == 1)
        h2peer_end(peer, false);
    WORLD_UNTIL(c.over);
    ck_assert_int_eq(c.error, STREAM_E_PROTOCOL);
    WORLD_UNTIL(closed);
    tear_down();
}
END_TEST

START_TEST(says_goodbye_when_it_is_drained)
{
    struct call c;

    set_up();
    get(&c);
    world_settle();
    h2_client_drain(client);
    world_settle();
    ck_assert(h2_client_draining(client));
    ck_assert_uint_eq(h2_client_room(client), 0);
    ck_assert(!c.over && !closed);
    h2peer_respond(peer, 1, "200", NULL, 0, 10, false);
    WORLD_UNTIL(c.over);
    ck_assert(c.ended);
    WORLD_UNTIL(closed);
    WORLD_UNTIL(peer->ended);
    tear_down();
}
END_TEST

/* What 10,000 parked calls cost is mostly this. */
START_TEST(a_parked_stream_is_small)
{
    ck_assert_uint_le(sizeof(struct h2_stream), 200);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("client");

    tcase_add_checked_fixture(t, world_open, world_close);
    tcase_add_test(t, carries_a_request_and_its_response);
    tcase_add_test(t, sends_no_head_that_would_inject);
    tcase_add_test(t, ends_with_the_head_where_there_is_no_body);
    tcase_add_test(t, holds_back_a_large_request_body);
    tcase_add_test(t, begins_no_more_than_the_peer_allows);
    tcase_add_test(t, gives_room_back_for_streams_that_were_never_used);
    tcase_add_loop_test(t, cancels_at_the_peer, 0, 2);
    tcase_add_test(t, loses_nothing_to_goaway);
    tcase_add_test(t, begins_nothing_after_an_announced_goaway);
    tcase_add_loop_test(t, tells_what_a_reset_means, 0, COUNT_OF(resets));
    tcase_add_test(t, takes_a_whole_answer_to_half_a_request);
    tcase_add_test(t, tells_how_far_each_stream_was_when_the_connection_ended);
    tcase_add_test(t, knows_what_never_left);
    tcase_add_test(t, finds_out_that_the_peer_is_dead);
    tcase_add_test(t, leaves_alone_who_answers_pings);
    tcase_add_test(t, does_not_wait_for_ever_for_settings);
    tcase_add_loop_test(t, bounds_the_head_of_a_response, 0, 5);
    tcase_add_loop_test(t, refuses_fields_that_could_inject, 0, COUNT_OF(bad_fields));
    tcase_add_loop_test(t, refuses_statuses_that_are_none, 0, COUNT_OF(bad_statuses));
    tcase_add_loop_test(t, swallows_interim_responses_up_to_a_point, 0, 2);
    tcase_add_loop_test(t, checks_the_declared_length, 0, COUNT_OF(wrong_lengths));
    tcase_add_test(t, drops_trailers);
    tcase_add_test(t, a_paused_stream_holds_up_no_other);
    tcase_add_loop_test(t, streams_read_ahead_within_one_bound, 0, 4);
    tcase_add_loop_test(t, a_paused_stream_gets_its_data_before_its_failure, 0, 2);
    tcase_add_loop_test(t, survives_what_owners_do_in_their_callbacks, 0, 2);
    tcase_add_test(t, survives_streams_that_outlive_it);
    tcase_add_loop_test(t, gives_up_on_garbage, 0, 2);
    tcase_add_test(t, says_goodbye_when_it_is_drained);
    tcase_add_test(t, a_parked_stream_is_small);
    return t;
}

UNIT_MAIN("h2")
