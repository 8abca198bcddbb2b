/* Pools: who is served next and by which server, what bounds the queue, and what a reload keeps. */
#include "workers/pool.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "conffile.h"
#include "observe/log.h"
#include "unit.h"
#include "world.h"

enum { WANTS = 12 };

/* An owner that waits for a slot. */
struct want {
    struct slot_waiter waiter;
    struct pool_want want;
    struct stream *stream;
    unsigned answers, rank; /* rank: as the how manieth it was served */
    int error;
    bool got_end;
    const struct addr *client;
    char why[256];
};

static struct want wants[WANTS];
static unsigned served;
static struct pools *pools;
static struct pool *pool;
static struct conf *conf;
static int servers[3]; /* listening, "a" to "c"; -1: nobody listens */
static struct peer peers[WANTS];
static unsigned named_port;

static void on_event(void *owner, struct stream *s, const struct message *m)
{
    struct want *w = owner;

    if (m->kind == MESSAGE_END)
        w->got_end = true;
}

static const struct stream_handler handler = { .on_message = on_event };

static void on_answer(void *owner, struct stream *s, enum pool_error error, const char *why)
{
    struct want *w = owner;

    w->answers++;
    w->stream = s;
    w->error = error;
    if (s) {
        stream_set_owner(s, &handler, w);
        w->rank = ++served;
    } else {
        snprintf(w->why, sizeof(w->why), "%s", why);
    }
}

static void want(int i, bool ahead)
{
    wants[i].waiter.on_answer = on_answer;
    wants[i].waiter.owner = &wants[i];
    wants[i].stream = NULL;
    wants[i].answers = wants[i].rank = 0;
    wants[i].error = 0;
    wants[i].got_end = false;
    wants[i].want.ahead = ahead;
    wants[i].want.client = wants[i].client;
    pool_ask(pool, &wants[i].waiter, &wants[i].want);
    ck_assert_uint_eq(wants[i].answers, 0); /* never from within */
}

static void release(int i)
{
    wants[i].stream = NULL;
    pool_release(&wants[i].waiter);
}

/* "server "unix:…/a" { slots = N }" for each N that is not 0. */
static const char *servers_text(const unsigned slots[3])
{
    static char text[1000];
    size_t n = 0;

    text[0] = '\0';
    for (int i = 0; i < 3; i++)
        if (slots[i])
            n += (size_t)snprintf(text + n, sizeof(text) - n, "server \"unix:%s\" { slots = %u }\n",
                conffile_path((const char *[]){ "a", "b", "c" }[i]), slots[i]);
    return text;
}

static struct conf *load(const char *name, const char *inside)
{
    struct arena a = { 0 };
    struct conf *c = conffile_must_load(arena_printf(&a,
        "listen \"127.0.0.1:8080\" { }\nworkers \"%s\" {\n%s }\nroute \"/\" { workers = "
        "\"%s\" }\n",
        name, inside, name)
                                            .p);

    arena_release(&a);
    return c;
}

static void open_pool(const char *options, unsigned a, unsigned b, unsigned c)
{
    struct arena mem = { 0 };
    const char *text = servers_text((const unsigned[]){ a, b, c });
    struct log_target log = { LOG_TO_FILE, str_of(conffile_path("log")) };

    ck_assert_int_eq(log_open(LEVEL_DEBUG, &log), 0);
    conf = load("app", arena_printf(&mem, "%s%s", text, options).p);
    arena_release(&mem);
    pools = pools_open(conf);
    pool = pools_find(pools, STR("app"));
    ck_assert_ptr_nonnull(pool);
}

static void reload(const char *name, const char *inside)
{
    struct conf *next = load(name, inside);

    ck_assert_int_eq(pools_prepare(pools, next), 0);
    pools_commit(pools);
    conf_unref(conf);
    conf = next;
}

static void set_up(void)
{
    world_open();
    memset(wants, 0, sizeof(wants));
    served = 0;
    pools = NULL;
    for (int i = 0; i < 3; i++)
        servers[i] = peer_listen_unix((const char *[]){ "a", "b", "c" }[i], 16);
    for (int i = 0; i < WANTS; i++)
        peers[i] = (struct peer){ .fd = -1 };
}

static void stop_listening(int i)
{
    if (servers[i] >= 0)
        close(servers[i]);
    servers[i] = -1;
}

static void tear_down(void)
{
    for (int i = 0; i < WANTS; i++)
        if (wants[i].waiter.pool)
            release(i);
    pools_close(pools);
    conf_unref(conf);
    world_settle();
    log_close();
    for (int i = 0; i < WANTS; i++)
        peer_close(&peers[i]);
    for (int i = 0; i < 3; i++)
        stop_listening(i);
    world_close();
}

/* How many connections wait at a server; they are taken. */
static int accept_all(int server, int first)
{
    int n = 0;

    while (peer_accept(&peers[first + n], servers[server]))
        n++;
    return n;
}

static void expect_counts(size_t busy, size_t ahead, size_t fresh)
{
    struct pool_counts c = pool_counts(pool);

    ck_assert_uint_eq(c.busy, busy);
    ck_assert_uint_eq(c.queued_ahead, ahead);
    ck_assert_uint_eq(c.queued_new, fresh);
}

START_TEST(gives_a_slot)
{
    open_pool("", 2, 0, 0);
    expect_counts(0, 0, 0);
    want(0, false);
    expect_counts(0, 0, 1);
    WORLD_UNTIL(wants[0].stream);
    expect_counts(1, 0, 0);
    ck_assert_uint_eq(pool_counts(pool).slots, 2);
    ck_assert(!wants[0].stream->reused);
    release(0);
    expect_counts(0, 0, 0);
    ck_assert_ptr_null(wants[0].waiter.pool);
    world_settle();
    ck_assert_uint_eq(wants[0].answers, 1);
}
END_TEST

START_TEST(serves_resumes_before_new_requests)
{
    static const bool ahead[] = { false, false, false, true, false, true };
    static const unsigned ranks[] = { 1, 4, 5, 2, 6, 3 };

    open_pool("", 1, 0, 0);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    for (int i = 1; i < COUNT_OF(ahead); i++)
        want(i, ahead[i]);
    world_settle();
    expect_counts(1, 2, 3);
    for (unsigned rank = 1; rank <= COUNT_OF(ahead); rank++) {
        WORLD_UNTIL(served == rank);
        world_settle();
        ck_assert_uint_eq(served, rank); /* one slot */
        for (int i = 0; i < COUNT_OF(ahead); i++) {
            if (wants[i].rank == rank) {
                ck_assert_uint_eq(ranks[i], rank);
                release(i);
            }
        }
    }
    expect_counts(0, 0, 0);
}
END_TEST

START_TEST(bounds_the_queue)
{
    open_pool("queue_max = 2", 1, 0, 0);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    for (int i = 1; i < 4; i++)
        want(i, false);
    WORLD_UNTIL(wants[3].answers);
    ck_assert_int_eq(wants[3].error, POOL_E_QUEUE_FULL);
    want(4, true); /* what has been paid for always gets in */
    want(5, true);
    world_settle();
    expect_counts(1, 2, 2);
    ck_assert_uint_eq(wants[1].answers + wants[2].answers + wants[4].answers, 0);
    want(3, false);
    pool_release(&wants[3].waiter); /* before it is told */
    world_settle();
    ck_assert_uint_eq(wants[3].answers, 0);
}
END_TEST

START_TEST(bounds_the_share_of_an_address)
{
    struct addr one = { AF_INET, 1, { 192, 0, 2, 1 } }, other = { AF_INET, 2, { 192, 0, 2, 2 } };

    open_pool("queue_max = 10 queue_address_share = 20", 2, 0, 0);
    for (int i = 0; i < 5; i++)
        wants[i].client = &one;
    wants[5].client = &other;
    for (int i = 0; i < 2; i++) { /* a free slot is nobody's share */
        want(i, false);
        WORLD_UNTIL(wants[i].stream);
    }
    for (int i = 2; i < 5; i++)
        want(i, false);
    WORLD_UNTIL(wants[4].answers);
    ck_assert_int_eq(wants[4].error, POOL_E_QUEUE_SHARE);
    want(5, false);
    want(6, false); /* of nobody in particular */
    want(4, true);  /* has been paid for */
    world_settle();
    ck_assert_uint_eq(wants[4].answers + wants[5].answers + wants[6].answers, 0);
    pool_release(&wants[4].waiter);
    pool_release(&wants[3].waiter); /* who leaves makes room for another of the address */
    want(3, false);
    world_settle();
    ck_assert_uint_eq(wants[3].answers, 0);
    expect_counts(2, 0, 4);
}
END_TEST

START_TEST(bounds_the_wait)
{
    open_pool("queue_timeout = \"40ms\"", 1, 0, 0);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    want(1, false);
    wants[2].waiter.on_answer = on_answer;
    wants[2].waiter.owner = &wants[2];
    wants[2].want = (struct pool_want){ .ahead = true, .timeout_ms = 3600000 }; /* its own bound */
    pool_ask(pool, &wants[2].waiter, &wants[2].want);
    WORLD_UNTIL(wants[1].answers);
    ck_assert_int_eq(wants[1].error, POOL_E_QUEUE_TIMEOUT);
    ck_assert_uint_eq(wants[2].answers, 0);
    expect_counts(1, 1, 0);
    ck_assert_uint_eq(wants[0].answers, 1); /* a slot once given is not taken away */
}
END_TEST

START_TEST(can_be_cancelled_anywhere)
{
    open_pool("", 1, 0, 0);
    want(0, false);
    pool_release(&wants[0].waiter); /* in the queue */
    pool_release(&wants[0].waiter);
    world_settle();
    ck_assert_uint_eq(wants[0].answers, 0);
    want(0, false);
    while (pool_counts(pool).busy == 0 && !wants[0].stream)
        ev_run(loop_ev(), EVRUN_NOWAIT);
    pool_release(&wants[0].waiter); /* connecting, or just connected */
    expect_counts(0, 0, 0);
    want(1, false);
    WORLD_UNTIL(wants[1].stream);
}
END_TEST

/* A request and its response over the slot of `i`, at the peer `p`. */
static void use(int i, int p, const char *fields)
{
    struct head h = { .method = STR("GET"), .target = STR("/"), .authority = STR("h") };

    stream_send_head(wants[i].stream, &h, true);
    if (peers[p].fd < 0)
        WORLD_UNTIL(peer_accept(&peers[p], servers[0]));
    WORLD_UNTIL(peer_has(&peers[p], "\r\n\r\n"));
    peer_take(&peers[p]);
    peer_send(&peers[p], "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
    peer_send(&peers[p], fields);
    peer_send(&peers[p], "\r\n");
    WORLD_UNTIL(wants[i].got_end);
    release(i);
}

START_TEST(keeps_connections_where_the_server_does)
{
    open_pool("keep_alive_timeout = \"50ms\"", 1, 0, 0);
    for (int i = 0; i < 3; i++) {
        want(0, false);
        WORLD_UNTIL(wants[0].stream);
        ck_assert_int_eq(wants[0].stream->reused, i > 0);
        use(0, 0, "");
        world_settle();
    }
    ck_assert(!peer_accept(&peers[1], servers[0]));
    ck_assert(!peer_ended(&peers[0]));
    WORLD_UNTIL(peer_ended(&peers[0])); /* not for ever */
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    ck_assert(!wants[0].stream->reused);
    use(0, 1, "Connection: close\r\n");
    WORLD_UNTIL(peer_ended(&peers[1]));
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    ck_assert(!wants[0].stream->reused);
}
END_TEST

START_TEST(does_not_use_a_connection_that_the_server_closed)
{
    open_pool("", 1, 0, 0);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    use(0, 0, "");
    world_settle();
    peer_close(&peers[0]);
    want(0, false); /* the loop has not seen it yet */
    WORLD_UNTIL(wants[0].stream);
    ck_assert(!wants[0].stream->reused);
}
END_TEST

/* One whole visit; its connection is the server's peer number `p`. */
static void visit(int p)
{
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    use(0, p, "");
    world_settle();
}

START_TEST(keeps_no_connection_of_a_server_that_closes_without_saying_so)
{
    open_pool("", 1, 0, 0);
    visit(0);
    peer_close(&peers[0]);
    world_settle();
    for (int p = 1; p < 4; p++) {
        visit(p);
        WORLD_UNTIL(peer_ended(&peers[p])); /* by us */
    }
}
END_TEST

START_TEST(goes_on_keeping_where_a_connection_was_kept_before)
{
    open_pool("", 1, 0, 0);
    visit(0);
    visit(0);
    peer_close(&peers[0]);
    world_settle();
    visit(1);
    visit(1);
    ck_assert(!peer_ended(&peers[1]));
}
END_TEST

/* Slots of workers whose response nobody waits for any more */

static uint64_t abandoned(void)
{
    return pool_counts(pool).abandoned;
}

/* The first waiter's request is at peers[0], and given up; the second waits behind it. */
static void abandon(const char *options, const char *answer_so_far, bool whole)
{
    struct field length = { STR("Content-Length"), STR("10") };
    struct head h = { .method = STR("POST"), .target = STR("/"), .authority = STR("h") };

    h.fields = &length;
    h.nfields = !whole;
    open_pool(options, 1, 0, 0);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    stream_send_head(wants[0].stream, &h, whole);
    WORLD_UNTIL(peer_accept(&peers[0], servers[0]));
    WORLD_UNTIL(peer_has(&peers[0], "\r\n\r\n"));
    peer_send(&peers[0], answer_so_far);
    world_settle();
    release(0);
    want(1, false);
    world_settle();
}

START_TEST(keeps_the_slot_of_a_worker_that_is_not_done)
{
    static const struct {
        const char *before, *after;
        bool kept;
    } rows[] = {
        { "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true },
        { "", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", true },
        { "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nso", "so", true },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", "0\r\n\r\n", true },
        { "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", false },
        { "", "nonsense\r\n\r\n", false },
    };

    abandon("", rows[_i].before, true);
    expect_counts(1, 0, 1);
    ck_assert_uint_eq(abandoned(), 1);
    ck_assert_uint_eq(wants[1].answers, 0);
    ck_assert(!peer_ended(&peers[0]));
    peer_send(&peers[0], rows[_i].after);
    WORLD_UNTIL(wants[1].stream);
    ck_assert_int_eq(wants[1].stream->reused, rows[_i].kept);
    ck_assert_uint_eq(abandoned(), 0);
    expect_counts(1, 0, 0);
}
END_TEST

START_TEST(frees_the_slot_when_the_worker_closes)
{
    abandon("", _i ? "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" : "", true);
    ck_assert_uint_eq(abandoned(), 1);
    peer_close(&peers[0]);
    WORLD_UNTIL(wants[1].stream);
    ck_assert(!wants[1].stream->reused);
    ck_assert_uint_eq(abandoned(), 0);
}
END_TEST

/* It may have no end, and the worker learns only by the cut that nobody listens. */
START_TEST(cuts_a_response_of_unknown_length_with_its_next_bytes)
{
    abandon("", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", true);
    ck_assert_uint_eq(abandoned(), 1);
    ck_assert(!peer_ended(&peers[0]));
    peer_send(&peers[0], "1\r\ny\r\n");
    WORLD_UNTIL(peer_ended(&peers[0]));
    WORLD_UNTIL(wants[1].stream);
    ck_assert_uint_eq(abandoned(), 0);
}
END_TEST

START_TEST(tells_a_worker_that_the_rest_of_the_request_will_not_come)
{
    abandon("", "", false);
    WORLD_UNTIL(peer_ended(&peers[0])); /* the half-close */
    expect_counts(1, 0, 1);
    peer_send(&peers[0], "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    WORLD_UNTIL(wants[1].stream);
    ck_assert(!wants[1].stream->reused);
}
END_TEST

START_TEST(gives_the_slot_away_after_abandoned_timeout)
{
    abandon("abandoned_timeout = \"40ms\"", "", true);
    WORLD_UNTIL(wants[1].stream);
    WORLD_UNTIL(peer_ended(&peers[0]));
    ck_assert_uint_eq(abandoned(), 0);
    expect_counts(1, 0, 0);
}
END_TEST

START_TEST(gives_the_slot_away_at_once_without_abandoned_timeout)
{
    abandon("abandoned_timeout = \"0ms\"", "", true);
    ck_assert_ptr_nonnull(wants[1].stream);
    WORLD_UNTIL(peer_ended(&peers[0]));
    expect_counts(1, 0, 0);
}
END_TEST

START_TEST(counts_the_abandoned_over_reloads)
{
    abandon("", "", true);
    reload("app", servers_text((const unsigned[]){ 2, 0, 0 }));
    WORLD_UNTIL(wants[1].stream); /* in the slot that was added */
    expect_counts(2, 0, 0);
    ck_assert_uint_eq(abandoned(), 1);
    reload("app", servers_text((const unsigned[]){ 0, 2, 0 }));
    peer_send(&peers[0], "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    WORLD_UNTIL(peer_ended(&peers[0])); /* a removed server's connection is not kept */
}
END_TEST

START_TEST(fills_servers_by_the_share_of_their_slots)
{
    open_pool("", 2, 4, 1);
    for (int i = 0; i < 7; i++)
        want(i, false);
    want(7, false);
    WORLD_UNTIL(served == 7);
    world_settle();
    ck_assert_uint_eq(served, 7);
    ck_assert_int_eq(accept_all(0, 0), 2);
    ck_assert_int_eq(accept_all(1, 2), 4);
    ck_assert_int_eq(accept_all(2, 6), 1);
}
END_TEST

START_TEST(prefers_the_least_busy_server)
{
    open_pool("", 4, 4, 0);
    for (int i = 0; i < 4; i++)
        want(i, false);
    WORLD_UNTIL(served == 4);
    ck_assert_int_eq(accept_all(0, 0), 2);
    ck_assert_int_eq(accept_all(1, 2), 2);
}
END_TEST

START_TEST(leaves_a_server_that_refuses_alone)
{
    struct pool_counts c;

    open_pool("", 4, 4, 0);
    stop_listening(0);
    for (int i = 0; i < 4; i++) {
        want(i, false);
        WORLD_UNTIL(wants[i].answers);
        ck_assert_ptr_nonnull(wants[i].stream);
    }
    c = pool_counts(pool);
    ck_assert_uint_eq(c.servers, 2);
    ck_assert_uint_eq(c.busy, 4);
    ck_assert_int_eq(accept_all(1, 0), 4);
    want(4, false);
    want(5, false);
    WORLD_UNTIL(pool_counts(pool).servers_paused == 0 && pool_counts(pool).busy == 4);
    WORLD_UNTIL(pool_counts(pool).servers_paused == 1); /* asked once more, and again */
    WORLD_UNTIL(pool_counts(pool).servers_paused == 0 && pool_counts(pool).busy == 4);
    WORLD_UNTIL(pool_counts(pool).servers_paused == 1);
    world_settle();
    ck_assert_uint_eq(wants[4].answers + wants[5].answers, 0); /* who waits need not know */
    release(0);
    WORLD_UNTIL(wants[4].stream);
    unlink(conffile_path("a"));
    servers[0] = peer_listen_unix("a", 16);
    WORLD_UNTIL(wants[5].stream); /* nothing else had to happen */
}
END_TEST

START_TEST(waits_for_a_healthy_server_though_a_refusing_one_is_free)
{
    open_pool("", 1, 1, 0);
    stop_listening(0);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    ck_assert_int_eq(accept_all(1, 0), 1);
    want(1, false);
    world_settle();
    ck_assert_uint_eq(wants[1].answers, 0);
    release(0);
    WORLD_UNTIL(wants[1].stream);
}
END_TEST

START_TEST(finds_a_server_that_is_back)
{
    open_pool("", 1, 1, 0);
    stop_listening(0);
    unlink(conffile_path("a"));
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    servers[0] = peer_listen_unix("a", 16);
    WORLD_UNTIL(pool_counts(pool).servers_paused == 0);
    want(1, false);
    WORLD_UNTIL(wants[1].stream);
    ck_assert_int_eq(accept_all(0, 0) + accept_all(1, 2), 2);
}
END_TEST

START_TEST(says_when_no_server_can_be_reached)
{
    open_pool("", 2, 2, 2);
    for (int i = 0; i < 3; i++)
        stop_listening(i);
    want(0, false);
    WORLD_UNTIL(wants[0].answers);
    ck_assert_int_eq(wants[0].error, POOL_E_UNREACHABLE);
    ck_assert_ptr_nonnull(strstr(wants[0].why, "refused"));
    expect_counts(0, 0, 0);
    ck_assert_uint_eq(pool_counts(pool).servers_paused, 3);
    unlink(conffile_path("b"));
    servers[1] = peer_listen_unix("b", 16);
    want(1, false); /* all refuse: all are tried, at once */
    WORLD_UNTIL(wants[1].answers);
    ck_assert_ptr_nonnull(wants[1].stream);
}
END_TEST

START_TEST(waits_until_a_server_comes_back)
{
    open_pool("unreachable_wait = \"60s\" unreachable_first_pause = \"5ms\" "
              "unreachable_max_pause = \"10ms\"",
        1, 1, 0);
    for (int i = 0; i < 3; i++)
        stop_listening(i);
    want(0, false);
    want(1, true);
    WORLD_UNTIL(pool_counts(pool).servers_paused == 2);
    WORLD_UNTIL(pool_counts(pool).servers_paused == 0); /* and tried again */
    ck_assert_uint_eq(wants[0].answers + wants[1].answers, 0);
    unlink(conffile_path("b"));
    servers[1] = peer_listen_unix("b", 16);
    WORLD_UNTIL(wants[0].stream || wants[1].stream);
    release(wants[0].stream ? 0 : 1);
    WORLD_UNTIL(wants[0].stream || wants[1].stream);
}
END_TEST

START_TEST(waits_for_unreachable_servers_no_longer_than_it_may)
{
    open_pool("unreachable_wait = \"30ms\" unreachable_first_pause = \"5ms\" "
              "unreachable_max_pause = \"10ms\"",
        1, 0, 0);
    stop_listening(0);
    want(0, false);
    WORLD_UNTIL(wants[0].answers);
    ck_assert_int_eq(wants[0].error, POOL_E_UNREACHABLE);
}
END_TEST

/* A full backlog says nothing about the server's health: the waiter waits. */
START_TEST(knocks_again_at_a_full_backlog)
{
    int taken = 0;

    open_pool("", 6, 0, 0);
    stop_listening(0);
    unlink(conffile_path("a"));
    servers[0] = peer_listen_unix("a", 0);
    for (int i = 0; i < 6; i++)
        want(i, false);
    world_settle();
    ck_assert_uint_lt(served, 6);
    ck_assert_uint_eq(pool_counts(pool).servers_paused, 0);
    WORLD_UNTIL((taken += accept_all(0, taken), served == 6));
    for (int i = 0; i < 6; i++)
        ck_assert_ptr_nonnull(wants[i].stream);
}
END_TEST

/* A server whose kernel drops what comes: nobody accepts, and the backlog is full. */
struct silent {
    int listening, fill[8];
};

static void open_silent_pool(struct silent *s, const char *options)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof(sa);
    char text[300];

    s->listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(s->listening, (struct sockaddr *)&sa, n), 0);
    ck_assert_int_eq(listen(s->listening, 0), 0);
    getsockname(s->listening, (struct sockaddr *)&sa, &n);
    for (int i = 0; i < COUNT_OF(s->fill); i++) {
        s->fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connect(s->fill[i], (struct sockaddr *)&sa, n);
    }
    snprintf(text, sizeof(text), "server \"127.0.0.1:%u\" { slots = 4 }\n%s", ntohs(sa.sin_port),
        options);
    open_pool(text, 0, 0, 0);
}

static void close_silent(struct silent *s)
{
    for (int i = 0; i < COUNT_OF(s->fill); i++)
        close(s->fill[i]);
    close(s->listening);
}

START_TEST(bounds_the_time_to_connect)
{
    struct silent s;

    open_silent_pool(&s, "connect_timeout = \"40ms\"");
    want(0, false);
    WORLD_UNTIL(wants[0].answers);
    ck_assert_int_eq(wants[0].error, POOL_E_UNREACHABLE);
    ck_assert_ptr_nonnull(strstr(wants[0].why, "too long"));
    close_silent(&s);
}
END_TEST

/* Issue 8, fault t1: the wait ended while the connection was being made, and what came of the
 * connection was told to the waiter that was gone. Row 0: the queue's time passed; 1: the owner
 * took the waiter back; 2: the pool went as well. */
START_TEST(forgets_a_waiter_whose_connection_is_being_made)
{
    struct silent s;

    open_silent_pool(&s, "connect_timeout = \"200ms\"  queue_timeout = \"40ms\"");
    want(0, _i > 0);
    WORLD_UNTIL(pool_counts(pool).busy == 1);
    if (_i == 0)
        WORLD_UNTIL(wants[0].answers);
    else
        release(0);
    ck_assert_uint_eq(pool_counts(pool).busy, 0); /* the slot is free at once */
    ck_assert_uint_eq(wants[0].answers, _i == 0);
    ck_assert_int_eq(wants[0].error, _i == 0 ? POOL_E_QUEUE_TIMEOUT : 0);
    if (_i == 2) {
        pools_close(pools);
        pools = NULL;
        world_settle();
    } else {
        want(1, false); /* the next one gets its own connection and its own answer */
        WORLD_UNTIL(wants[1].answers);
        ck_assert_int_eq(wants[1].error, POOL_E_QUEUE_TIMEOUT);
    }
    ck_assert_uint_eq(wants[0].answers, _i == 0);
    close_silent(&s);
}
END_TEST

/* Coming back to a server ("coming back to the same process") */

static char returning_to[WANTS][200];

/* `i` wants the server that it is given by number, for so long. */
static void return_to(int i, int server, uint64_t wait_ms)
{
    snprintf(returning_to[i], sizeof(returning_to[i]), "unix:%s",
        conffile_path((const char *[]){ "a", "b", "c" }[server]));
    wants[i].want.server = str_of(returning_to[i]);
    wants[i].want.server_wait_ms = wait_ms;
    want(i, true);
}

static int server_of(int i)
{
    struct str text = pool_server(&wants[i].waiter);

    return text.n > 0 ? text.p[text.n - 1] - 'a' : -1;
}

START_TEST(comes_back_to_a_server_before_all_others)
{
    open_pool("", 1, 1, 0);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    want(1, false);
    WORLD_UNTIL(wants[1].stream);
    ck_assert_int_ne(server_of(0), server_of(1));
    ck_assert(pool_server_is_one_process(&wants[0].waiter));
    want(2, false);
    want(3, true);
    return_to(4, server_of(0), 3600000);
    world_settle();
    ck_assert_uint_eq(wants[4].answers, 0);
    expect_counts(2, 2, 1);
    release(0);
    WORLD_UNTIL(wants[4].stream);
    ck_assert_uint_eq(wants[3].answers, 0);
    ck_assert_str_eq(returning_to[4],
        arena_printf(&conf->arena, STR_FMT, STR_ARG(pool_server(&wants[4].waiter))).p);
    release(1);
    WORLD_UNTIL(wants[3].stream);
}
END_TEST

/* Row 0: its time passes; 1: the server is unknown; 2: it refuses; 3: it is paused; 4: a reload
 * takes it out of the conf. With `only`, the waiter is told instead. */
START_TEST(takes_another_where_it_cannot_come_back)
{
    int row = _i % 5;

    open_pool("unreachable_first_pause = \"1h\" unreachable_max_pause = \"1h\"", 1, 1, 0);
    wants[4].want.only = _i >= 5;
    if (row == 2 || row == 3)
        stop_listening(0);
    if (row == 3) {
        want(0, false); /* finds out that the server refuses */
        WORLD_UNTIL(wants[0].stream && pool_counts(pool).servers_paused == 1);
        release(0);
    }
    if (row == 0 || row == 4) {
        want(0, false);
        WORLD_UNTIL(wants[0].stream);
        if (server_of(0) != 0) {
            want(1, false);
            WORLD_UNTIL(wants[1].stream);
            release(0);
        }
    }
    return_to(4, row == 1 ? 2 : 0, row == 0 ? 30 : 3600000);
    if (row == 4) {
        world_settle();
        ck_assert_uint_eq(wants[4].answers, 0);
        reload("app", servers_text((const unsigned[]){ 0, 1, 0 }));
    }
    WORLD_UNTIL(wants[4].answers);
    if (_i >= 5) {
        ck_assert_int_eq(wants[4].error, POOL_E_GONE);
    } else {
        ck_assert_ptr_nonnull(wants[4].stream);
        ck_assert(row == 1 || server_of(4) == 1);
    }
}
END_TEST

START_TEST(comes_back_to_the_process_itself)
{
    int own;
    char at[200];

    open_pool("", 1, 1, 0);
    snprintf(at, sizeof(at), "unix:%s", conffile_path("own"));
    own = peer_listen_unix("own", 4);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    ck_assert(pool_server_may_be_at(&wants[0].waiter, str_of(at)));
    release(0);
    stop_listening(0); /* the server takes no new requests */
    wants[4].want.at = str_of(at);
    return_to(4, 0, 3600000);
    WORLD_UNTIL(wants[4].stream);
    ck_assert_int_eq(server_of(4), 0);
    ck_assert_uint_eq(pool_counts(pool).servers_paused, 0);
    ck_assert(peer_accept(&peers[4], own));
    release(4);
    close(own);
    return_to(4, 0, 3600000); /* the process is gone: another, and the server is not blamed */
    WORLD_UNTIL(wants[4].stream);
    ck_assert_int_eq(server_of(4), 1);
    ck_assert_uint_le(pool_counts(pool).servers_paused, 1);
}
END_TEST

START_TEST(knows_where_a_process_may_be)
{
    static const struct {
        const char *suffix;
        bool good;
    } rows[] = {
        { "/7.sock", true },
        { "/", false },
        { "/../x", false },
        { "/x/y", false },
        { "", false },
    };
    char text[300], folder[200];

    open_pool("", 1, 0, 0);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    snprintf(folder, sizeof(folder), "%s", conffile_path("a"));
    folder[strlen(folder) - 2] = '\0';
    for (int i = 0; i < COUNT_OF(rows); i++) {
        snprintf(text, sizeof(text), "unix:%s%s", folder, rows[i].suffix);
        ck_assert_msg(
            pool_server_may_be_at(&wants[0].waiter, str_of(text)) == rows[i].good, "%s", text);
    }
    ck_assert(!pool_server_may_be_at(&wants[0].waiter, STR("unix:/etc/passwd")));
    ck_assert(!pool_server_may_be_at(&wants[0].waiter, STR("127.0.0.1:80")));
    ck_assert(!pool_server_may_be_at(&wants[0].waiter, STR("")));
}
END_TEST

/* After a visit with pieces somebody else's turn comes first. */
START_TEST(lets_others_in_between_pieces)
{
    open_pool("", 1, 0, 0);
    wants[0].want.pieces = wants[2].want.pieces = true;
    return_to(0, 0, 3600000);
    WORLD_UNTIL(wants[0].stream);
    return_to(2, 0, 3600000);
    want(1, false);
    release(0);
    WORLD_UNTIL(wants[1].stream);
    ck_assert_uint_eq(wants[2].answers, 0);
    release(1);
    WORLD_UNTIL(wants[2].stream);
    release(2);
    return_to(0, 0, 3600000); /* nobody else waits */
    WORLD_UNTIL(wants[0].stream);
}
END_TEST

/* No server can be reached */

START_TEST(waits_while_no_server_can_be_reached)
{
    open_pool("queue_timeout = \"50ms\"", 1, 1, 0);
    stop_listening(0);
    stop_listening(1);
    for (int i = 0; i < 4; i++)
        wants[i].want.unreachable_wait_ms = 3600000;
    wants[4].want.unreachable_wait_ms = 1;
    for (int i = 0; i < 6; i++)
        want(i, i % 2);
    WORLD_UNTIL(wants[4].answers && wants[5].answers);
    ck_assert_int_eq(wants[4].error, POOL_E_UNREACHABLE);
    ck_assert_ptr_nonnull(strstr(wants[4].why, "worker unix:"));
    ck_assert_int_eq(wants[5].error, POOL_E_UNREACHABLE);
    expect_counts(0, 2, 2); /* longer than queue_timeout: it does not count there */
    release(3);
    unlink(conffile_path("b"));
    servers[1] = peer_listen_unix("b", 16);
    WORLD_UNTIL(served == 1);
    for (int i = 0; i < 3; i++) {
        WORLD_UNTIL(wants[0].stream || wants[1].stream || wants[2].stream);
        for (int k = 0; k < 3; k++)
            if (wants[k].stream)
                release(k);
    }
    ck_assert_uint_eq(served, 3);
}
END_TEST

/* Host names */

/* A name server that knows one address of every name. */
static struct {
    ev_io io;
    unsigned char v4[4];
    char text[64];
} names;

static void on_query(struct ev_loop *ev, ev_io *w, int revents)
{
    unsigned char q[512];
    struct sockaddr_in from;
    socklen_t fromlen = sizeof(from);
    ssize_t n = recvfrom(w->fd, q, 400, 0, (struct sockaddr *)&from, &fromlen);
    size_t end = 12;

    ck_assert_int_gt(n, 16);
    while (q[end])
        end += q[end] + 1u;
    end += 5;
    q[2] = 0x81;
    q[3] = 0x80;
    memset(q + 6, 0, 6);
    if (q[end - 3] == 1) {                                                         /* A */
        const unsigned char answer[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4 }; /* for 1 s */

        q[7] = 1;
        memcpy(q + end, answer, sizeof(answer));
        memcpy(q + end + sizeof(answer), names.v4, 4);
        end += sizeof(answer) + 4;
    }
    sendto(w->fd, q, end, 0, (struct sockaddr *)&from, fromlen);
}

static int open_name_server(void)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof(sa);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, n), 0);
    getsockname(fd, (struct sockaddr *)&sa, &n);
    snprintf(names.text, sizeof(names.text), "127.0.0.1:%u", ntohs(sa.sin_port));
    return fd;
}

static void open_named_pool(const char *options)
{
    char text[300];

    snprintf(text, sizeof(text), "server \"app.lan:%u\" { slots = 2 }\n%s", named_port, options);
    open_pool(text, 0, 0, 0);
    ck_assert_int_eq(pools_set_name_servers(pools, names.text), 0);
}

START_TEST(asks_for_a_name_again_when_its_time_is_over)
{
    struct sockaddr_in other = { .sin_family = AF_INET };
    int listening = peer_listen_tcp(&named_port), elsewhere, fd = open_name_server();

    memcpy(names.v4, (const unsigned char[]){ 127, 0, 0, 1 }, 4);
    ev_io_init(&names.io, on_query, fd, EV_READ);
    ev_io_start(loop_ev(), &names.io);
    open_named_pool("");
    want(0, false);
    WORLD_UNTIL(wants[0].answers);
    ck_assert_msg(wants[0].stream != NULL, "%s", wants[0].why);
    WORLD_UNTIL(peer_accept(&peers[0], listening));
    use(0, 0, ""); /* the connection is kept */
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    ck_assert(wants[0].stream->reused);
    use(0, 0, "");
    /* The name moves. Its old address still listens, and the connection is still kept. */
    memcpy(names.v4, (const unsigned char[]){ 127, 0, 0, 2 }, 4);
    elsewhere = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    memcpy(&other.sin_addr, names.v4, 4);
    other.sin_port = htons((uint16_t)named_port);
    ck_assert_int_eq(bind(elsewhere, (struct sockaddr *)&other, sizeof(other)), 0);
    ck_assert_int_eq(listen(elsewhere, 4), 0);
    while (!peer_ended(&peers[0])) {
        want(0, false);
        WORLD_UNTIL(wants[0].stream);
        if (wants[0].stream->reused)
            use(0, 0, "");
        else
            break;
        world_settle();
    }
    if (wants[0].stream)
        release(0);
    want(1, false);
    WORLD_UNTIL(wants[1].stream);
    WORLD_UNTIL(peer_accept(&peers[1], elsewhere));
    ev_io_stop(loop_ev(), &names.io);
    close(fd);
    close(listening);
    close(elsewhere);
}
END_TEST

/* Row 0: the name server answers that there is none; 1: it is silent; 2: the waiter is taken back
 * meanwhile; 3: the pool goes meanwhile. */
START_TEST(opens_though_a_name_has_no_address)
{
    int silent = open_name_server();

    named_port = 9;
    open_named_pool("connect_timeout = \"80ms\"");
    if (_i == 0)
        close(silent); /* refused: c-ares gives up at once */
    want(0, false);
    if (_i >= 2) {
        WORLD_UNTIL(pool_counts(pool).busy == 1);
        release(0);
        expect_counts(0, 0, 0);
    }
    if (_i == 3) {
        pools_close(pools);
        pools = NULL;
    }
    if (_i < 2) {
        WORLD_UNTIL(wants[0].answers);
        ck_assert_int_eq(wants[0].error, POOL_E_UNREACHABLE);
        ck_assert_ptr_nonnull(strstr(wants[0].why, "its name"));
    } else {
        world_settle();
        ck_assert_uint_eq(wants[0].answers, 0);
    }
    if (_i != 0)
        close(silent);
}
END_TEST

/* Reloads */

START_TEST(keeps_servers_that_stay)
{
    open_pool("", 1, 0, 0);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    use(0, 0, "");
    want(1, false);
    WORLD_UNTIL(wants[1].stream); /* over the kept connection, and holds the slot */
    ck_assert(wants[1].stream->reused);
    want(2, false);
    world_settle();
    reload("app", servers_text((const unsigned[]){ 2, 0, 0 }));
    ck_assert_ptr_eq(pools_find(pools, STR("app")), pool);
    ck_assert_uint_eq(pool_counts(pool).slots, 2);
    WORLD_UNTIL(wants[2].stream); /* there is room now */
    use(1, 0, "");
    ck_assert(!peer_ended(&peers[0]));
    want(3, false);
    WORLD_UNTIL(wants[3].stream);
    ck_assert(wants[3].stream->reused);
}
END_TEST

START_TEST(lets_a_removed_server_finish)
{
    open_pool("", 1, 0, 0);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    reload("app", servers_text((const unsigned[]){ 0, 1, 0 }));
    ck_assert_uint_eq(pool_counts(pool).servers, 1);
    want(1, false);
    WORLD_UNTIL(wants[1].stream);
    ck_assert_int_eq(accept_all(1, 1), 1);
    use(0, 0, "");
    world_settle();
    ck_assert(peer_ended(&peers[0]));                           /* not kept */
    reload("app", servers_text((const unsigned[]){ 1, 0, 0 })); /* and back again */
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    ck_assert(!wants[0].stream->reused);
}
END_TEST

START_TEST(closes_what_a_removed_server_kept)
{
    open_pool("", 1, 0, 0);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    use(0, 0, "");
    world_settle();
    reload("app", servers_text((const unsigned[]){ 0, 1, 0 }));
    WORLD_UNTIL(peer_ended(&peers[0]));
}
END_TEST

START_TEST(lives_on_while_somebody_holds_it)
{
    open_pool("", 1, 0, 0);
    pool_ref(pool);
    want(0, false);
    want(1, true);
    WORLD_UNTIL(wants[1].stream);
    reload("other", servers_text((const unsigned[]){ 0, 1, 0 }));
    ck_assert_ptr_null(pools_find(pools, STR("app")));
    ck_assert_ptr_nonnull(pools_find(pools, STR("other")));
    pool_unref(pool);
    use(1, 0, "");
    WORLD_UNTIL(wants[0].stream); /* it waited there and is served there */
    ck_assert_ptr_eq(wants[0].waiter.pool, pool);
    release(0);
    world_settle();
    WORLD_UNTIL(peer_ended(&peers[0]));
}
END_TEST

START_TEST(changes_nothing_when_a_reload_is_abandoned)
{
    struct conf *next;

    open_pool("", 1, 0, 0);
    want(0, false);
    WORLD_UNTIL(wants[0].stream);
    next = load("other", servers_text((const unsigned[]){ 0, 3, 0 }));
    ck_assert_int_eq(pools_prepare(pools, next), 0);
    pools_abandon(pools);
    conf_unref(next);
    world_settle();
    ck_assert_ptr_eq(pools_find(pools, STR("app")), pool);
    ck_assert_uint_eq(pool_counts(pool).slots, 1);
    expect_counts(1, 0, 0);
    ck_assert_ptr_eq(pool_conf(pool), &conf->pools[0]);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("pool");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, gives_a_slot);
    tcase_add_test(t, serves_resumes_before_new_requests);
    tcase_add_test(t, bounds_the_queue);
    tcase_add_test(t, bounds_the_share_of_an_address);
    tcase_add_test(t, bounds_the_wait);
    tcase_add_test(t, can_be_cancelled_anywhere);
    tcase_add_test(t, keeps_connections_where_the_server_does);
    tcase_add_test(t, does_not_use_a_connection_that_the_server_closed);
    tcase_add_test(t, keeps_no_connection_of_a_server_that_closes_without_saying_so);
    tcase_add_test(t, goes_on_keeping_where_a_connection_was_kept_before);
    tcase_add_loop_test(t, keeps_the_slot_of_a_worker_that_is_not_done, 0, 6);
    tcase_add_loop_test(t, frees_the_slot_when_the_worker_closes, 0, 2);
    tcase_add_test(t, cuts_a_response_of_unknown_length_with_its_next_bytes);
    tcase_add_test(t, tells_a_worker_that_the_rest_of_the_request_will_not_come);
    tcase_add_test(t, gives_the_slot_away_after_abandoned_timeout);
    tcase_add_test(t, gives_the_slot_away_at_once_without_abandoned_timeout);
    tcase_add_test(t, counts_the_abandoned_over_reloads);
    tcase_add_test(t, fills_servers_by_the_share_of_their_slots);
    tcase_add_test(t, prefers_the_least_busy_server);
    tcase_add_test(t, leaves_a_server_that_refuses_alone);
    tcase_add_test(t, waits_until_a_server_comes_back);
    tcase_add_test(t, waits_for_unreachable_servers_no_longer_than_it_may);
    tcase_add_test(t, waits_for_a_healthy_server_though_a_refusing_one_is_free);
    tcase_add_test(t, finds_a_server_that_is_back);
    tcase_add_test(t, says_when_no_server_can_be_reached);
    tcase_add_test(t, knocks_again_at_a_full_backlog);
    tcase_add_test(t, bounds_the_time_to_connect);
    tcase_add_loop_test(t, forgets_a_waiter_whose_connection_is_being_made, 0, 3);
    tcase_add_test(t, comes_back_to_a_server_before_all_others);
    tcase_add_loop_test(t, takes_another_where_it_cannot_come_back, 0, 10);
    tcase_add_test(t, comes_back_to_the_process_itself);
    tcase_add_test(t, knows_where_a_process_may_be);
    tcase_add_test(t, lets_others_in_between_pieces);
    tcase_add_test(t, waits_while_no_server_can_be_reached);
    tcase_add_test(t, asks_for_a_name_again_when_its_time_is_over);
    tcase_add_loop_test(t, opens_though_a_name_has_no_address, 0, 4);
    tcase_add_test(t, keeps_servers_that_stay);
    tcase_add_test(t, lets_a_removed_server_finish);
    tcase_add_test(t, closes_what_a_removed_server_kept);
    tcase_add_test(t, lives_on_while_somebody_holds_it);
    tcase_add_test(t, changes_nothing_when_a_reload_is_abandoned);
    return t;
}

UNIT_MAIN("pool")
