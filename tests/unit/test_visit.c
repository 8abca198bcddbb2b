/* A visit over a real pool: what the worker gets, what the owner hears, and that the slot is free
 * when the worker is, however the visit ends. */
#include "exchange/visit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conffile.h"
#include "exchange/problem.h"
#include "observe/log.h"
#include "unit.h"
#include "world.h"

/* What the owner hears, of whatever kind. */
enum event {
    VISIT_STARTED,
    VISIT_QUEUED,
    VISIT_HEAD,
    VISIT_DATA,
    VISIT_DRAINED,
    VISIT_END,
    VISIT_FAILED
};
#define NKINDS (VISIT_FAILED + 1)

static struct {
    struct visit *visit; /* NULL: closed */
    unsigned kinds[NKINDS];
    char trace[64]; /* a letter an event, in order */
    unsigned status;
    struct buf data;
    enum problem failure;
    char why[200];
    int close_on; /* enum event, or -1 */
} app;

static struct conf *conf;
static struct pools *pools;
static struct pool *pool;
static struct peer worker;
static int listening;

static void on_event(struct visit *v, enum event kind)
{
    static const char letters[] = "sqhdref";
    size_t n = strlen(app.trace);

    ck_assert_ptr_eq(v, app.visit); /* nothing comes after the close */
    app.kinds[kind]++;
    if (n + 1 < sizeof(app.trace) && !(n > 0 && app.trace[n - 1] == 'd' && kind == VISIT_DATA))
        app.trace[n] = letters[kind]; /* pieces of a body may fall in any number */
    if ((int)kind == app.close_on) {
        app.visit = NULL;
        visit_close(v);
    }
}

static void on_message(void *owner, struct visit *v, const struct message *m)
{
    static const enum event kinds[] = { [MESSAGE_HEAD] = VISIT_HEAD,
        [MESSAGE_DATA] = VISIT_DATA,
        [MESSAGE_END] = VISIT_END,
        [MESSAGE_FAILED] = VISIT_FAILED };

    if (m->kind == MESSAGE_HEAD)
        app.status = m->head->status;
    if (m->kind == MESSAGE_DATA)
        ck_assert_int_eq(buf_append_str(&app.data, m->data), 0);
    if (m->kind == MESSAGE_FAILED) {
        app.failure = (enum problem)m->detail;
        snprintf(app.why, sizeof(app.why), "%s", m->why);
    }
    on_event(v, kinds[m->kind]);
}

static void on_started(void *owner, struct visit *v)
{
    on_event(v, VISIT_STARTED);
}

static void on_requeued(void *owner, struct visit *v)
{
    on_event(v, VISIT_QUEUED);
}

static void on_drained(void *owner, struct visit *v)
{
    on_event(v, VISIT_DRAINED);
}

static const struct visit_handler handler = { on_message, on_started, on_requeued, on_drained };

static void set_up(void)
{

    world_open();
    memset(&app, 0, sizeof(app));
    app.close_on = -1;
    worker = (struct peer){ .fd = -1 };
    listening = peer_listen_unix("w", 16);
}

static void tear_down(void)
{
    visit_close(app.visit);
    pools_close(pools);
    conf_unref(conf);
    world_settle();
    log_close();
    buf_release(&app.data);
    peer_close(&worker);
    if (listening >= 0)
        close(listening);
    world_close();
}

static void open_pool(const char *options)
{
    struct log_target log = { LOG_TO_FILE, str_of(conffile_path("log")) };
    struct arena a = { 0 };

    ck_assert_int_eq(log_open(LEVEL_DEBUG, &log), 0);
    conf = conffile_must_load(arena_printf(&a,
        "listen \"127.0.0.1:8080\" { }\nworkers \"app\" {\nserver \"unix:%s\" { slots = 1 }\n%s "
        "}\nroute \"/\" { workers = \"app\" }\n",
        conffile_path("w"), options)
                                  .p);
    arena_release(&a);
    pools = pools_open(conf);
    pool = pools_find(pools, STR("app"));
    ck_assert_ptr_nonnull(pool);
}

static struct field length_field;
static struct head head;

/* Begins a visit with these pieces as the body. */
static void visit(const struct piece *pieces, size_t n)
{
    static char number[24];
    struct visit_request r = { .head = &head, .pieces = pieces, .npieces = n };

    snprintf(number, sizeof(number), "%llu", (unsigned long long)pieces_size(pieces, n));
    length_field = (struct field){ STR("Content-Length"), str_of(number) };
    head = (struct head){ .method = STR("POST"),
        .target = STR("/v"),
        .authority = STR("h"),
        .fields = &length_field,
        .nfields = n > 0 };
    memset(app.trace, 0, sizeof(app.trace));
    app.visit = visit_open(pool, &r, &handler, NULL);
    ck_assert_ptr_nonnull(app.visit);
    ck_assert_str_eq(app.trace, ""); /* nothing from within */
}

/* The request is there, to the end of its head. */
static void arrives(void)
{
    if (worker.fd < 0)
        WORLD_UNTIL(peer_accept(&worker, listening));
    WORLD_UNTIL(peer_has(&worker, "\r\n\r\n"));
}

static struct pool_counts counts(void)
{
    return pool_counts(pool);
}

/* What the owner has heard, and the slots: `busy` in all, `abandoned` of them. */
static void expect(const char *trace, size_t busy, size_t abandoned)
{
    ck_assert_str_eq(app.trace, trace);
    ck_assert_uint_eq(counts().busy, busy);
    ck_assert_uint_eq(counts().abandoned, abandoned);
}

#define OK_2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

START_TEST(brings_the_request_and_the_response)
{
    struct body body;
    struct piece pieces[] = { { .mem = "one ", .len = 4 }, { .body = &body, .off = 2, .len = 5 },
        { .mem = "", .len = 0 }, { .mem = " three", .len = 6 } };

    body_init(&body, 4096, ".");
    ck_assert_int_eq(body_append(&body, "xxtwo..yy", 9), 0);
    open_pool("");
    visit(pieces, COUNT_OF(pieces));
    arrives();
    WORLD_UNTIL(peer_has(&worker, "one two.. three"));
    ck_assert(
        peer_has(&worker, "POST /v HTTP/1.1\r\nHost: h\r\nContent-Length: 15\r\n\r\none two.."));
    expect("s", 1, 0);
    peer_send(&worker, "HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nan");
    WORLD_UNTIL(buf_len(&app.data) == 2);
    ck_assert_uint_eq(app.status, 201);
    peer_send(&worker, "sw");
    WORLD_UNTIL(app.kinds[VISIT_END]);
    expect("shde", 0, 0);
    ck_assert_span_eq(buf_str(&app.data), "answ");
    ck_assert(!peer_ended(&worker)); /* kept for the next */
    body_release(&body);
}
END_TEST

START_TEST(brings_a_request_without_a_body)
{
    open_pool("");
    visit(NULL, 0);
    arrives();
    ck_assert_str_eq(peer_take(&worker), "POST /v HTTP/1.1\r\nHost: h\r\n\r\n");
    peer_send(&worker, OK_2);
    WORLD_UNTIL(app.kinds[VISIT_END]);
    expect("shde", 0, 0);
}
END_TEST

/* As much as the worker takes; and one that answers before it has read all is read. */
START_TEST(sends_a_large_body_at_the_worker_s_pace)
{
    static char block[3 << 20];
    struct piece p = { .mem = block, .len = sizeof(block) };
    size_t got = 0;

    open_pool("");
    visit(&p, 1);
    arrives();
    world_settle();
    ck_assert_uint_lt(peer_got(&worker), sizeof(block));
    if (_i == 0) {
        WORLD_UNTIL((got = peer_got(&worker)) >= sizeof(block));
        peer_send(&worker, OK_2);
        WORLD_UNTIL(app.kinds[VISIT_END]);
        expect("shde", 0, 0);
        world_settle();
        ck_assert(!peer_ended(&worker));
    } else {
        peer_send(&worker, OK_2);
        WORLD_UNTIL(app.kinds[VISIT_END]);
        expect("shde", 0, 0);
        WORLD_UNTIL(peer_ended(&worker)); /* what follows would be read as a request */
    }
}
END_TEST

/* A worker may begin its response and then read the rest of the request (RFC 9112 9.3): were it not
 * sent, both would wait. */
START_TEST(goes_on_sending_when_the_response_has_begun)
{
    static char block[3 << 20];
    struct piece p = { .mem = block, .len = sizeof(block) };

    open_pool("");
    visit(&p, 1);
    arrives();
    peer_send(&worker, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n");
    WORLD_UNTIL(buf_len(&app.data) == 5);
    WORLD_UNTIL(peer_got(&worker) >= sizeof(block));
    ck_assert(!app.kinds[VISIT_END]);
    peer_send(&worker, "3\r\nend\r\n0\r\n\r\n");
    WORLD_UNTIL(app.kinds[VISIT_END]);
    expect("shde", 0, 0);
    world_settle();
    ck_assert(!peer_ended(&worker)); /* kept: all of the request was sent */
}
END_TEST

START_TEST(says_why_there_is_no_response)
{
    static const struct {
        const char *sent;
        enum problem failure;
        const char *trace;
    } rows[] = {
        { "", PROBLEM_WORKER_DIED, "sf" },
        { "HTTP/1.1 200 O", PROBLEM_WORKER_INCOMPLETE, "sf" },
        { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart", PROBLEM_WORKER_INCOMPLETE, "shdf" },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", PROBLEM_WORKER_INCOMPLETE,
            "shf" },
        { "nonsense\r\n\r\n", PROBLEM_WORKER_PROTOCOL, "sf" },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", PROBLEM_WORKER_PROTOCOL,
            "shf" },
        { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            PROBLEM_WORKER_PROTOCOL, "sf" },
    };

    open_pool("");
    visit(NULL, 0);
    arrives();
    peer_take(&worker);
    peer_send(&worker, rows[_i].sent);
    world_settle();
    peer_close(&worker);
    WORLD_UNTIL(app.kinds[VISIT_FAILED]);
    ck_assert_int_eq(app.failure, rows[_i].failure);
    ck_assert_uint_gt(strlen(app.why), 0);
    expect(rows[_i].trace, 0, 0);
}
END_TEST

START_TEST(says_that_no_worker_can_be_reached)
{
    close(listening);
    listening = -1;
    unlink(conffile_path("w"));
    open_pool("");
    visit(NULL, 0);
    WORLD_UNTIL(app.kinds[VISIT_FAILED]);
    ck_assert_int_eq(app.failure, PROBLEM_WORKER_UNREACHABLE);
    expect("f", 0, 0);
}
END_TEST

/* The only slot is another's. */
START_TEST(says_that_it_waited_in_vain)
{
    struct visit *first;

    open_pool(_i == 0 ? "queue_max = 0" : "queue_timeout = \"40ms\"");
    visit(NULL, 0);
    arrives();
    first = app.visit;
    app.kinds[VISIT_FAILED] = 0;
    visit(NULL, 0);
    WORLD_UNTIL(app.kinds[VISIT_FAILED]);
    ck_assert_int_eq(app.failure, _i == 0 ? PROBLEM_QUEUE_FULL : PROBLEM_QUEUE_TIMEOUT);
    expect("f", 1, 0);
    visit_close(first);
}
END_TEST

START_TEST(does_not_wait_for_ever_for_a_response)
{
    static const char *const begun[] = { "", "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart" };

    open_pool("response_timeout = \"50ms\"");
    visit(NULL, 0);
    arrives();
    peer_send(&worker, begun[_i]);
    WORLD_UNTIL(app.kinds[VISIT_FAILED]);
    ck_assert_int_eq(app.failure, PROBLEM_WORKER_TIMEOUT);
    expect(_i == 2 ? "shdf" : "sf", 1, 1); /* the worker is still at it */
    ck_assert(!peer_ended(&worker));
    peer_close(&worker);
    WORLD_UNTIL(counts().busy == 0);
}
END_TEST

/* Held back, a worker is not slow. */
START_TEST(does_not_count_the_time_of_a_pause)
{
    uint64_t from;

    open_pool("response_timeout = \"50ms\"");
    visit(NULL, 0);
    arrives();
    peer_send(&worker, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbe");
    WORLD_UNTIL(buf_len(&app.data) == 2);
    visit_pause(app.visit, true);
    peer_send(&worker, "hind");
    from = loop_now_ms();
    WORLD_UNTIL(loop_now_ms() > from + 100);
    expect("shd", 1, 0);
    ck_assert_uint_eq(buf_len(&app.data), 2);
    visit_pause(app.visit, false);
    WORLD_UNTIL(app.kinds[VISIT_END]);
    ck_assert_span_eq(buf_str(&app.data), "behind");
}
END_TEST

/* A kept connection that the worker closed at the same moment: nobody has seen the request. */
START_TEST(goes_back_to_the_queue_when_a_kept_connection_was_stale)
{
    open_pool("");
    visit(NULL, 0);
    arrives();
    peer_take(&worker);
    peer_send(&worker, OK_2);
    WORLD_UNTIL(app.kinds[VISIT_END]);
    visit_close(app.visit);
    world_settle();
    visit(NULL, 0);
    WORLD_UNTIL(app.kinds[VISIT_STARTED] == 2);
    peer_close(&worker); /* unread */
    WORLD_UNTIL(app.kinds[VISIT_QUEUED] == 1);
    arrives();
    peer_send(&worker, OK_2);
    WORLD_UNTIL(app.kinds[VISIT_END] == 2);
    expect("sqshde", 0, 0);
}
END_TEST

/* From outside, wherever it stands: 0 waits, 1 has asked, 2 is sending, 3 awaits, 4 receives. */
START_TEST(can_be_closed_anywhere)
{
    static char block[3 << 20];
    struct piece p = { .mem = block, .len = sizeof(block) };
    struct visit *v;

    open_pool("");
    visit(&p, _i == 2 ? 1 : 0);
    if (_i == 1)
        while (counts().busy == 0)
            ev_run(loop_ev(), EVRUN_NOWAIT);
    if (_i >= 2)
        arrives();
    world_settle();
    if (_i == 4) {
        peer_send(&worker, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart");
        WORLD_UNTIL(buf_len(&app.data) == 4);
    }
    v = app.visit;
    app.visit = NULL;
    visit_close(v);
    visit_close(v);
    world_settle();
    if (_i >= 2)
        ck_assert_uint_eq(counts().abandoned, 1);
    else
        WORLD_UNTIL(peer_accept(&worker, listening));
    peer_close(&worker); /* the slot is not held for longer than the worker is there */
    WORLD_UNTIL(counts().busy == 0);
    ck_assert_uint_eq(counts().queued_new, 0);
}
END_TEST

/* From within each event. */
START_TEST(can_be_closed_by_whom_it_tells)
{
    static const int rows[] = { VISIT_STARTED, VISIT_HEAD, VISIT_DATA, VISIT_END, VISIT_FAILED };

    open_pool("");
    app.close_on = rows[_i];
    visit(NULL, 0);
    arrives();
    if (rows[_i] == VISIT_FAILED)
        peer_send(&worker, "nonsense\r\n\r\n");
    else
        peer_send(&worker, OK_2);
    WORLD_UNTIL(!app.visit);
    WORLD_UNTIL(counts().busy == 0); /* the worker has answered: it is free */
    world_settle();
    ck_assert_uint_eq(app.kinds[rows[_i]], 1);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, brings_the_request_and_the_response);
    tcase_add_test(t, brings_a_request_without_a_body);
    tcase_add_loop_test(t, sends_a_large_body_at_the_worker_s_pace, 0, 2);
    tcase_add_test(t, goes_on_sending_when_the_response_has_begun);
    tcase_add_loop_test(t, says_why_there_is_no_response, 0, 7);
    tcase_add_test(t, says_that_no_worker_can_be_reached);
    tcase_add_loop_test(t, says_that_it_waited_in_vain, 0, 2);
    tcase_add_loop_test(t, does_not_wait_for_ever_for_a_response, 0, 3);
    tcase_add_test(t, does_not_count_the_time_of_a_pause);
    tcase_add_test(t, goes_back_to_the_queue_when_a_kept_connection_was_stale);
    tcase_add_loop_test(t, can_be_closed_anywhere, 0, 5);
    tcase_add_loop_test(t, can_be_closed_by_whom_it_tells, 0, 5);
    return t;
}

UNIT_MAIN("visit")
