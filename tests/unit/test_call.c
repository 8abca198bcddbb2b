/* Calls: what is told of an upstream's responses, which of them are tried again, and the four
 * timeouts. */
#include "exchange/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "conffile.h"
#include "net/loop.h"
#include "unit.h"
#include "world.h"

static struct conf *conf;
static struct endpoints *endpoints;
static struct body body;
static struct peer upstream;
static int upstreams;
static unsigned port;
static const struct log_context no_context;

static struct {
    struct call *call;
    unsigned status, heads, made;
    struct buf body;
    bool ended, failed;
    enum problem problem;
    enum call_event_kind close_on;
    size_t close_from; /* bytes of the body */
    bool closes;
    const char *target; /* NULL: "/t" */
} told;

static int make_head(void *owner, struct call *c, struct arena *a, struct head *out)
{
    told.made++;
    *out = (struct head){ .method = STR("POST"),
        .target = str_of(told.target ? told.target : "/t"),
        .authority = STR("h") };
    if (body_size(&body) > 0)
        return head_add(out, a, STR("Content-Length"),
            arena_printf(a, "%llu", (unsigned long long)body_size(&body)));
    return 0;
}

static void on_call(void *owner, struct call *c, const struct call_event *ev)
{
    ck_assert(!told.ended && !told.failed); /* nothing else follows */
    switch (ev->kind) {
    case CALL_HEAD:
        told.heads++;
        told.status = ev->head->status;
        break;
    case CALL_DATA:
        ck_assert_uint_eq(told.heads, 1);
        buf_append_str(&told.body, ev->data);
        break;
    case CALL_END:
        told.ended = true;
        break;
    case CALL_DRAINED:
        break;
    case CALL_FAILED:
        told.failed = true;
        told.problem = ev->problem;
        ck_assert_ptr_nonnull(ev->why);
        break;
    }
    if (told.closes && ev->kind == told.close_on && buf_len(&told.body) >= told.close_from)
        call_close(c);
}

/* A call with `text` as its body. */
static void open_call(const char *options, const char *text, uint64_t timeout_ms, size_t retries)
{
    bool group = strstr(options, "endpoint \"") != NULL;
    struct arena a = { 0 };
    struct call_request r = { .timeout_ms = timeout_ms, .retries = retries };

    conf = conffile_must_load(arena_printf(&a,
        "listen \"127.0.0.1:8080\" { }\nworkers \"app\" { server \"127.0.0.1:8001\" { } }\n"
        "upstream \"ai\" { %s \"http://127.0.0.1:%u\"%s retry_first_pause = \"1ms\" "
        "retry_max_pause = \"2ms\" retry_unstarted_within = \"0ms\"\n%s }\nroute \"/\" { workers = "
        "\"app\" }\n",
        group ? "endpoint \"a\" { origin =" : "origin =", port, group ? " }" : "", options)
                                  .p);
    arena_release(&a);
    endpoints = endpoints_open(conf);
    body_init(&body, 1 << 20, "/tmp");
    ck_assert_int_eq(body_append(&body, text, strlen(text)), 0);
    r.upstream = &conf->upstreams[0];
    r.body = (struct piece){ .body = &body, .len = body_size(&body) };
    told.call = call_open(endpoints, &r, make_head, on_call, NULL, &no_context);
    ck_assert_ptr_nonnull(told.call);
    ck_assert_uint_eq(call_attempts(told.call), 0); /* begins from the loop */
}

static void set_up(void)
{
    world_open();
    memset(&told, 0, sizeof(told));
    endpoints = NULL;
    conf = NULL;
    upstream = (struct peer){ .fd = -1 };
    upstreams = peer_listen_tcp(&port);
}

static void tear_down(void)
{
    call_close(told.call);
    endpoints_close(endpoints);
    world_settle();
    conf_unref(conf);
    body_release(&body);
    buf_release(&told.body);
    peer_close(&upstream);
    if (upstreams >= 0)
        close(upstreams);
    world_close();
}

static void upstream_takes(const char *text)
{
    peer_close(&upstream);
    WORLD_UNTIL(peer_accept(&upstream, upstreams));
    WORLD_UNTIL(peer_has(&upstream, "\r\n\r\n") && peer_has(&upstream, text));
}

#define CLOSE "Connection: close\r\n"

START_TEST(tells_of_a_response)
{
    open_call("", _i == 0 ? "" : "question", 0, SIZE_MAX);
    upstream_takes(_i == 0 ? "POST /t HTTP/1.1\r\nHost: 127.0.0.1" : "\r\n\r\nquestion");
    peer_send(&upstream, "HTTP/1.1 404 No\r\n" CLOSE "Content-Length: 6\r\n\r\nans");
    WORLD_UNTIL(buf_len(&told.body) == 3);
    ck_assert_uint_eq(told.status, 404);
    ck_assert(!told.ended);
    peer_send(&upstream, "wer");
    WORLD_UNTIL(told.ended);
    ck_assert_span_eq(buf_str(&told.body), "answer");
    ck_assert_uint_eq(call_attempts(told.call), 1);
    ck_assert_uint_eq(told.made, 1);
}
END_TEST

/* A service may begin its answer and then read the rest of the request. */
START_TEST(goes_on_sending_when_the_response_has_begun)
{
    static char text[2 << 20];

    memset(text, 'x', sizeof(text) - 1);
    open_call("", text, 0, SIZE_MAX);
    peer_close(&upstream);
    WORLD_UNTIL(peer_accept(&upstream, upstreams));
    WORLD_UNTIL(peer_has(&upstream, "\r\n\r\n"));
    peer_send(&upstream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n");
    WORLD_UNTIL(buf_len(&told.body) == 5);
    WORLD_UNTIL(peer_got(&upstream) >= sizeof(text));
    ck_assert(!told.ended);
    peer_send(&upstream, "3\r\nend\r\n0\r\n\r\n");
    WORLD_UNTIL(told.ended);
    ck_assert_span_eq(buf_str(&told.body), "beginend");
}
END_TEST

/* Statuses: which are tried again, and how often. */
static const struct {
    const char *first; /* answered to every attempt but the last one */
    const char *options;
    size_t retries;
    unsigned attempts;
} tries[] = {
    { "HTTP/1.1 503 No\r\n", "retries = 2", SIZE_MAX, 3 },
    { "HTTP/1.1 529 No\r\n", "retries = 2", SIZE_MAX, 3 },
    { "HTTP/1.1 429 No\r\n", "retries = 2", 1, 2 },
    { "HTTP/1.1 429 No\r\n", "retries = 1", 9, 2 }, /* cut to the conf's */
    { "HTTP/1.1 429 No\r\n", "retries = 2", 0, 1 },
    { "HTTP/1.1 400 No\r\n", "retries = 2", SIZE_MAX, 1 },
    { "HTTP/1.1 400 No\r\nX-Should-Retry: true\r\n", "retries = 2", SIZE_MAX, 3 },
    { "HTTP/1.1 503 No\r\nX-Should-Retry: false\r\n", "retries = 2", SIZE_MAX, 1 },
    { "HTTP/1.1 429 No\r\nRetry-After-Ms: 5\r\n", "retries = 2", SIZE_MAX, 3 },
    { "HTTP/1.1 429 No\r\nRetry-After: 0\r\n", "retries = 2", SIZE_MAX, 3 },
    /* a pause that would pass the deadline is not begun */
    { "HTTP/1.1 429 No\r\nRetry-After: 700\r\n", "retries = 2", SIZE_MAX, 1 },
};

START_TEST(tries_again_and_tells_of_the_last_response)
{
    open_call(tries[_i].options, "question", 0, tries[_i].retries);
    for (unsigned attempt = 1; attempt <= tries[_i].attempts; attempt++) {
        ck_assert_uint_eq(told.heads, 0);
        upstream_takes("\r\n\r\nquestion"); /* the whole of it, each time */
        peer_send(&upstream, tries[_i].first);
        peer_send(&upstream, CLOSE "Content-Length: 4\r\n\r\nbusy");
    }
    WORLD_UNTIL(told.ended);
    ck_assert_uint_eq(told.heads, 1);
    ck_assert_span_eq(buf_str(&told.body), "busy");
    ck_assert_uint_eq(call_attempts(told.call), tries[_i].attempts);
    world_settle();
    ck_assert(!peer_accept(&upstream, upstreams));
}
END_TEST

START_TEST(tells_of_a_success_after_failures)
{
    open_call("retries = 2", "", 0, SIZE_MAX);
    upstream_takes("");
    peer_send(&upstream, "HTTP/1.1 500 No\r\n" CLOSE "Content-Length: 100\r\n\r\nhalf a body");
    upstream_takes("");
    peer_send(&upstream, "HTTP/1.1 200 OK\r\n" CLOSE "Content-Length: 2\r\n\r\nok");
    WORLD_UNTIL(told.ended);
    ck_assert_uint_eq(told.status, 200);
    ck_assert_span_eq(buf_str(&told.body), "ok");
    ck_assert_uint_eq(call_attempts(told.call), 2);
}
END_TEST

/* What may have been processed is not sent again. */
START_TEST(does_not_try_again_what_broke_off)
{
    open_call("retries = 2", "", 0, SIZE_MAX);
    upstream_takes("");
    if (_i == 1) {
        peer_send(&upstream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        WORLD_UNTIL(told.status == 200);
        peer_reset(&upstream);
    } else {
        peer_close(&upstream);
    }
    WORLD_UNTIL(told.failed);
    ck_assert_int_eq(told.problem, PROBLEM_CALL_INCOMPLETE);
    ck_assert_uint_eq(call_attempts(told.call), 1);
}
END_TEST

START_TEST(tries_to_connect_again)
{
    close(upstreams);
    upstreams = -1;
    open_call("retries = 2", "", 0, SIZE_MAX);
    WORLD_UNTIL(told.failed);
    ck_assert_int_eq(told.problem, PROBLEM_CALL_UNREACHABLE);
    ck_assert_uint_eq(call_attempts(told.call), 3);
    ck_assert_uint_eq(told.made, 0);
}
END_TEST

/* Timeouts: the option, what has come before it passes, and the timeout that the worker gave. */
static const struct {
    const char *options;
    uint64_t timeout_ms;
    const char *sends;
} slow[] = {
    { "first_byte_timeout = \"40ms\"", 0, "" },
    { "first_byte_timeout = \"40ms\"", 0, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200" },
    { "total_timeout = \"40ms\"", 0, "" }, { "", 40, "" },
    { "idle_timeout = \"40ms\"", 0, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc" },
    { "total_timeout = \"40ms\"", 0, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc" },
    { "", 40, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc" },
    { "total_timeout = \"40ms\"", 3600000, "" }, /* cut to the conf's */
};

START_TEST(does_not_wait_for_ever)
{
    open_call(slow[_i].options, "question", slow[_i].timeout_ms, SIZE_MAX);
    peer_close(&upstream);
    WORLD_UNTIL(peer_accept(&upstream, upstreams) || told.failed);
    WORLD_UNTIL(told.failed || peer_has(&upstream, "question"));
    if (!told.failed)
        peer_send(&upstream, slow[_i].sends);
    WORLD_UNTIL(told.failed);
    ck_assert(told.problem == PROBLEM_CALL_TIMEOUT || told.heads == 0);
    ck_assert_uint_eq(call_attempts(told.call), 1); /* a timeout is not tried again */
    WORLD_UNTIL(upstream.fd < 0 || peer_ended(&upstream));
}
END_TEST

START_TEST(gives_a_response_time_as_long_as_it_comes)
{
    uint64_t from;

    open_call("idle_timeout = \"150ms\"", "", 0, SIZE_MAX);
    upstream_takes("");
    peer_send(&upstream, "HTTP/1.1 200 OK\r\n" CLOSE "\r\n");
    from = loop_now_ms();
    while (loop_now_ms() < from + 400) { /* longer than the timeout, a byte at a time */
        peer_send(&upstream, "x");
        world_turn();
        ck_assert(!told.failed);
    }
    peer_close(&upstream);
    WORLD_UNTIL(told.ended);
}
END_TEST

START_TEST(counts_no_silence_while_it_is_paused)
{
    uint64_t from;

    open_call("idle_timeout = \"50ms\"", "", 0, SIZE_MAX);
    upstream_takes("");
    peer_send(&upstream, "HTTP/1.1 200 OK\r\n" CLOSE "Content-Length: 6\r\n\r\nabc");
    WORLD_UNTIL(buf_len(&told.body) == 3);
    call_pause(told.call, true);
    peer_send(&upstream, "def");
    from = loop_now_ms();
    WORLD_UNTIL(loop_now_ms() > from + 120);
    ck_assert_uint_eq(buf_len(&told.body), 3);
    ck_assert(!told.failed && !told.ended);
    call_pause(told.call, false);
    WORLD_UNTIL(told.ended);
    ck_assert_span_eq(buf_str(&told.body), "abcdef");
}
END_TEST

START_TEST(is_not_fooled_while_it_is_paused)
{
    open_call("total_timeout = \"100ms\"", "", 0, SIZE_MAX);
    upstream_takes("");
    peer_send(&upstream, "HTTP/1.1 200 OK\r\n" CLOSE "Content-Length: 6\r\n\r\nabc");
    WORLD_UNTIL(buf_len(&told.body) == 3 || told.failed);
    call_pause(told.call, true);
    WORLD_UNTIL(told.failed); /* the whole call's time runs on */
    ck_assert_int_eq(told.problem, PROBLEM_CALL_TIMEOUT);
}
END_TEST

/* Closed from outside at any moment, or from within any event: the bytes stop, nothing follows. */
START_TEST(may_be_closed_at_any_time)
{
    open_call("retries = 2", "question", 0, SIZE_MAX);
    if (_i >= 1) {
        WORLD_UNTIL(call_attempts(told.call) == 1);
    }
    if (_i >= 2)
        upstream_takes("question");
    if (_i == 3)
        peer_send(&upstream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    if (_i == 4)
        peer_send(&upstream,
            "HTTP/1.1 503 No\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"); /* pausing */
    world_settle();
    call_close(told.call);
    call_close(told.call);
    told.heads = 0;
    if (_i >= 2)
        WORLD_UNTIL(peer_ended(&upstream) || _i == 4);
    world_settle();
    ck_assert(!told.ended && !told.failed);
    ck_assert_uint_eq(told.heads, 0);
    told.call = NULL;
}
END_TEST

START_TEST(may_be_closed_within_an_event)
{
    told.closes = true;
    told.close_on = (enum call_event_kind)_i;
    open_call("", "", 0, SIZE_MAX);
    upstream_takes("");
    peer_send(&upstream, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc");
    if (_i == CALL_END)
        peer_send(&upstream, "def");
    if (_i == CALL_FAILED)
        peer_close(&upstream);
    WORLD_UNTIL(_i == CALL_HEAD   ? told.heads > 0
                : _i == CALL_DATA ? buf_len(&told.body) > 0
                : _i == CALL_END  ? told.ended
                                  : told.failed);
    world_settle();
    told.call = NULL;
}
END_TEST

/* What the sieve has held until the end is told as data, and the owner may close the call there. */
START_TEST(may_be_closed_within_the_last_of_its_data)
{
    static const char begun[] = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"
                                "data: [DONE]\n\n";

    told.target = "/v1/chat/completions";
    told.closes = true;
    told.close_on = CALL_DATA;
    told.close_from = sizeof(begun);
    open_call("api = \"openai\" include_usage = true stateful = true\n"
              "endpoint \"b\" { origin = \"http://127.0.0.1:1\" tier = 2 }",
        "{\"stream\":true}", 0, SIZE_MAX);
    upstream_takes("include_usage");
    peer_send(&upstream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" CLOSE "\r\n");
    peer_send(&upstream, begun);
    WORLD_UNTIL(buf_len(&told.body) == strlen(begun));
    peer_send(&upstream, "data: {\"rest\":1");
    peer_close(&upstream);
    WORLD_UNTIL(buf_len(&told.body) > strlen(begun));
    world_settle();
    ck_assert(!told.ended && !told.failed);
    told.call = NULL;
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("call");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, tells_of_a_response, 0, 2);
    tcase_add_test(t, goes_on_sending_when_the_response_has_begun);
    tcase_add_loop_test(t, tries_again_and_tells_of_the_last_response, 0, COUNT_OF(tries));
    tcase_add_test(t, tells_of_a_success_after_failures);
    tcase_add_loop_test(t, does_not_try_again_what_broke_off, 0, 2);
    tcase_add_test(t, tries_to_connect_again);
    tcase_add_loop_test(t, does_not_wait_for_ever, 0, COUNT_OF(slow));
    tcase_add_test(t, gives_a_response_time_as_long_as_it_comes);
    tcase_add_test(t, counts_no_silence_while_it_is_paused);
    tcase_add_test(t, is_not_fooled_while_it_is_paused);
    tcase_add_loop_test(t, may_be_closed_at_any_time, 0, 5);
    tcase_add_loop_test(t, may_be_closed_within_an_event, CALL_HEAD, CALL_FAILED + 1);
    tcase_add_test(t, may_be_closed_within_the_last_of_its_data);
    return t;
}

UNIT_MAIN("call")
