/* Connections: two byte queues over a socket, and the three ways to end. */
#include "net/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "conffile.h"
#include "net/linger.h"
#include "unit.h"
#include "world.h"

struct owner {
    struct conn *conn;
    unsigned connected, data, drained, eof, failed;
    size_t taken;
    bool consume;             /* takes what comes */
    enum conn_event close_on; /* closes the conn within that event, if `closes` */
    bool closes;
};

static void on_event(void *owner, struct conn *c, enum conn_event ev)
{
    struct owner *o = owner;

    ck_assert(!conn_closed(c));
    ck_assert(o->failed == 0);
    switch (ev) {
    case CONN_CONNECTED:
        o->connected++;
        break;
    case CONN_DATA:
        o->data++;
        break;
    case CONN_DRAINED:
        o->drained++;
        break;
    case CONN_EOF:
        o->eof++;
        break;
    case CONN_FAILED:
        o->failed++;
        break;
    }
    if (o->consume) {
        o->taken += conn_input(c).n;
        conn_consume(c, conn_input(c).n);
    }
    if (o->closes && ev == o->close_on)
        conn_close(c);
}

enum { OUTPUT_HIGH = 64 << 10, OUTPUT_LOW = 16 << 10 };

enum transport { UNIX, TCP };

/* A conn as it is accepted, and its other end. */
static void open_pair(struct owner *o, struct peer *p, enum transport t)
{
    struct sockaddr_storage sa = { .ss_family = t == TCP ? AF_INET : AF_UNIX };
    int fd = t == TCP ? peer_tcp_pair(p) : peer_pair(p);

    *o = (struct owner){ 0 };
    o->conn = conn_accept(fd, (struct sockaddr *)&sa, NULL, on_event, o);
    ck_assert_ptr_nonnull(o->conn);
}

START_TEST(carries_bytes_both_ways)
{
    struct owner o;
    struct peer p;

    open_pair(&o, &p, (enum transport)_i);
    ck_assert_uint_eq(conn_count_accepted(), 1);
    ck_assert_uint_eq(conn_count(), 1);
    peer_send(&p, "question");
    WORLD_UNTIL(o.data > 0);
    ck_assert(str_eq(conn_input(o.conn), STR("question")));
    conn_consume(o.conn, 5);
    peer_send(&p, "!");
    WORLD_UNTIL(conn_input(o.conn).n == 4);
    ck_assert(str_eq(conn_input(o.conn), STR("ion!")));
    ck_assert_int_eq(conn_write(o.conn, "ans", 3), 0);
    ck_assert_int_eq(conn_write(o.conn, "wer", 3), 0);
    ck_assert_uint_eq(conn_queued(o.conn), 6); /* leaves when the turn ends */
    WORLD_UNTIL(peer_has(&p, "answer"));
    ck_assert_uint_eq(conn_queued(o.conn), 0);
    ck_assert_uint_eq(conn_bytes_in(o.conn), 9);
    ck_assert_uint_eq(conn_bytes_out(o.conn), 6);
    conn_close(o.conn);
    conn_close(o.conn);
    ck_assert_uint_eq(conn_count_accepted(), 0);
    ck_assert_uint_eq(conn_count(), 0);
    WORLD_UNTIL(peer_ended(&p));
    ck_assert(!p.reset);
    ck_assert_uint_eq(o.connected + o.eof + o.failed, 0);
    peer_close(&p);
}
END_TEST

START_TEST(is_full_and_drained)
{
    static const char block[10000] = { 'x' };
    struct owner o;
    struct peer p;
    size_t sent = 0, got = 0;
    int rc = 0;

    open_pair(&o, &p, (enum transport)_i);
    while (rc == 0) {
        rc = conn_write(o.conn, block, sizeof(block));
        sent += sizeof(block);
        if (rc == 0 && conn_queued(o.conn) == 0)
            world_turn();
    }
    ck_assert_int_eq(rc, CONN_E_FULL);
    ck_assert_uint_gt(conn_queued(o.conn), OUTPUT_HIGH);
    while (o.drained == 0 || rc == CONN_E_FULL) { /* fills the socket too */
        world_settle();
        if (o.drained == 0 && conn_queued(o.conn) > OUTPUT_LOW)
            break;
        o.drained = 0;
        while ((rc = conn_write(o.conn, block, sizeof(block))) == 0)
            sent += sizeof(block);
        sent += sizeof(block);
    }
    ck_assert_uint_eq(o.drained, 0);
    WORLD_UNTIL((got += peer_skip(&p, 16384), o.drained > 0));
    ck_assert_uint_le(conn_queued(o.conn), OUTPUT_LOW);
    WORLD_UNTIL((got += peer_skip(&p, 16384), got == sent));
    ck_assert_uint_eq(o.drained, 1); /* told once */
    ck_assert_uint_eq(conn_bytes_out(o.conn), sent);
    conn_close(o.conn);
    peer_close(&p);
}
END_TEST

START_TEST(reads_no_more_than_it_holds)
{
    char *block = calloc(1, 4 * CONN_READ_MAX);
    struct owner o;
    struct peer p;
    size_t sent = 0;

    open_pair(&o, &p, (enum transport)_i);
    WORLD_UNTIL(o.data > 0 || (sent += peer_send_some(&p, block, 1000)) > 0);
    for (int i = 0; i < 200; i++) {
        sent += peer_send_some(&p, block, 4 * CONN_READ_MAX);
        world_turn();
        ck_assert_uint_lt(conn_input(o.conn).n, 2 * CONN_READ_MAX);
    }
    ck_assert_uint_ge(conn_input(o.conn).n, CONN_READ_MAX);
    ck_assert_uint_lt(conn_bytes_in(o.conn), sent); /* the rest waits in the socket */
    o.consume = true;
    conn_consume(o.conn, 1);
    o.taken = 1;
    peer_finish(&p);
    conn_consume(o.conn, conn_input(o.conn).n);
    WORLD_UNTIL(o.eof);
    ck_assert_uint_eq(conn_bytes_in(o.conn), sent);
    conn_close(o.conn);
    peer_close(&p);
    free(block);
}
END_TEST

START_TEST(reads_nothing_while_paused)
{
    struct owner o;
    struct peer p;

    open_pair(&o, &p, (enum transport)_i);
    peer_send(&p, "a");
    WORLD_UNTIL(o.data == 1);
    conn_pause(o.conn, true);
    peer_send(&p, "b");
    peer_finish(&p);
    world_settle();
    ck_assert(str_eq(conn_input(o.conn), STR("a")));
    ck_assert_uint_eq(o.eof, 0);
    conn_pause(o.conn, false);
    WORLD_UNTIL(o.eof);
    ck_assert(str_eq(conn_input(o.conn), STR("ab")));
    ck_assert(conn_eof(o.conn));
    conn_close(o.conn);
    peer_close(&p);
}
END_TEST

/* Issue 8, fault t5: a response had arrived whole, its reader was slow, and the reset behind it
 * threw away what lay unread. */
START_TEST(keeps_paused_input_when_the_peer_resets)
{
    static const char block[100000] = { 'x' };
    struct owner o;
    struct peer p;
    size_t rounds = 0;

    open_pair(&o, &p, TCP);
    peer_send_bytes(&p, block, sizeof(block));
    WORLD_UNTIL(o.data > 0);
    conn_pause(o.conn, true);
    peer_reset(&p);
    world_settle();
    ck_assert_uint_eq(o.failed, 0);
    while (o.failed == 0 && rounds++ < 1000) {
        size_t n = conn_input(o.conn).n;

        /* An owner that takes a little whenever it goes on, and pauses again. */
        o.taken += n < 1000 ? n : 1000;
        conn_consume(o.conn, n < 1000 ? n : 1000);
        conn_pause(o.conn, false);
        world_turn();
        if (o.failed == 0)
            conn_pause(o.conn, true);
        if (o.taken + conn_input(o.conn).n == sizeof(block))
            break;
    }
    ck_assert_uint_eq(o.taken + conn_input(o.conn).n, sizeof(block));
    o.consume = true;
    o.taken += conn_input(o.conn).n;
    conn_consume(o.conn, conn_input(o.conn).n);
    conn_pause(o.conn, false);
    WORLD_UNTIL(o.failed == 1);
    ck_assert_uint_eq(o.taken, sizeof(block));
    ck_assert_int_eq(conn_error(o.conn), CONN_E_RESET);
    conn_close(o.conn);
}
END_TEST

static void on_event_pauses(void *owner, struct conn *c, enum conn_event ev)
{
    on_event(owner, c, ev);
    if (ev == CONN_DATA)
        conn_pause(c, true);
}

/* The owner pauses when the last bytes come, with the end right behind them. */
START_TEST(tells_the_end_when_the_owner_goes_on)
{
    struct owner o;
    struct peer p;
    unsigned data;

    open_pair(&o, &p, (enum transport)(_i % 2));
    conn_set_owner(o.conn, on_event_pauses, &o);
    peer_send(&p, "last");
    if (_i / 2 == 0)
        peer_finish(&p);
    else
        peer_reset(&p);
    world_settle();
    ck_assert_uint_eq(o.data, 1);
    ck_assert_uint_eq(o.eof + o.failed, 0);
    conn_set_owner(o.conn, on_event, &o);
    data = o.data;
    conn_pause(o.conn, false);
    WORLD_UNTIL(o.eof + o.failed == 1);
    ck_assert_uint_eq(o.data, data + 1); /* the owner may have left bytes: it sees them first */
    ck_assert(str_eq(conn_input(o.conn), STR("last")));
    conn_close(o.conn);
    peer_close(&p);
}
END_TEST

START_TEST(moves_a_share_a_turn)
{
    static const char block[1 << 20] = { 'x' };
    struct owner o;
    struct peer p;
    size_t before;

    open_pair(&o, &p, UNIX);
    o.consume = true;
    for (size_t sent = 0; sent < sizeof(block);) {
        size_t n = peer_send_some(&p, block + sent, sizeof(block) - sent);

        before = conn_bytes_in(o.conn);
        sent += n;
        conn_pause(o.conn, true);
        conn_pause(o.conn, false); /* asks for more at once, whatever was read */
        world_turn();
        ck_assert_uint_le(conn_bytes_in(o.conn) - before, 2 * CONN_READ_MAX);
    }
    WORLD_UNTIL(o.taken == sizeof(block));
    conn_close(o.conn);
    peer_close(&p);
}
END_TEST

START_TEST(writes_after_the_peers_end)
{
    struct owner o;
    struct peer p;

    open_pair(&o, &p, (enum transport)_i);
    peer_send(&p, "last");
    peer_finish(&p);
    WORLD_UNTIL(o.eof == 1);
    ck_assert_uint_eq(o.data, 1); /* data first, then the end */
    conn_write(o.conn, "reply", 5);
    WORLD_UNTIL(peer_has(&p, "reply"));
    ck_assert_uint_eq(o.eof, 1);
    ck_assert_uint_eq(o.failed, 0);
    conn_close(o.conn);
    peer_close(&p);
}
END_TEST

START_TEST(tells_of_a_reset)
{
    struct owner o;
    struct peer p;

    open_pair(&o, &p, TCP);
    peer_send(&p, "x");
    WORLD_UNTIL(o.data == 1);
    peer_reset(&p);
    WORLD_UNTIL(o.failed == 1);
    ck_assert_int_eq(conn_error(o.conn), CONN_E_RESET);
    ck_assert_int_eq(conn_errno(o.conn), ECONNRESET);
    ck_assert_ptr_nonnull(strstr(conn_strerror(o.conn), "reset"));
    ck_assert_int_eq(conn_write(o.conn, "y", 1), 0); /* taken, and forgotten */
    world_settle();
    ck_assert_uint_eq(o.failed, 1);
    conn_close(o.conn);
}
END_TEST

/* A server may answer, and stop reading what we still send. */
START_TEST(reads_the_answer_of_a_peer_that_takes_no_more)
{
    static const char block[200000] = { 'x' };
    struct owner o;
    struct peer p;

    open_pair(&o, &p, (enum transport)_i);
    conn_write(o.conn, block, sizeof(block));
    world_settle();
    ck_assert_uint_gt(conn_queued(o.conn), 0);
    peer_send(&p, "too large");
    shutdown(p.fd, SHUT_RD);
    peer_close(&p);
    WORLD_UNTIL(o.failed == 1 || o.eof == 1);
    /* TCP may destroy what was on its way; a unix socket does not. */
    if (_i == UNIX)
        ck_assert(str_eq(conn_input(o.conn), STR("too large")));
    conn_close(o.conn);
}
END_TEST

START_TEST(may_be_closed_within_an_event)
{
    struct owner o;
    struct peer p;

    open_pair(&o, &p, (enum transport)(_i % 2));
    o.closes = true;
    o.close_on = _i / 2 == 0 ? CONN_DATA : CONN_EOF;
    peer_send(&p, "x");
    peer_finish(&p);
    WORLD_UNTIL(conn_count_accepted() == 0);
    world_settle();
    peer_close(&p);
}
END_TEST

START_TEST(finishes)
{
    static const char block[300000] = { 'x' };
    struct owner o;
    struct peer p;
    size_t got = 0;

    open_pair(&o, &p, (enum transport)_i);
    conn_write(o.conn, block, sizeof(block));
    conn_finish(o.conn, 10000);
    ck_assert(conn_closed(o.conn));
    ck_assert_uint_eq(conn_count_accepted(), 1); /* still counts */
    peer_send(&p, "what nobody reads");
    WORLD_UNTIL((got += peer_skip(&p, 16384), got == sizeof(block)));
    WORLD_UNTIL(peer_ended(&p));
    ck_assert(!p.reset);
    ck_assert_uint_eq(o.data + o.eof + o.failed, 0);
    peer_close(&p);
    WORLD_UNTIL(conn_count_accepted() == 0);
}
END_TEST

/* Our side is shut down once all has left, and the peer's goes on; then the rest ends as ever. */
START_TEST(ends_its_output_and_reads_on)
{
    static const char block[300000] = { 'x' };
    struct owner o;
    struct peer p;
    size_t got = 0;

    open_pair(&o, &p, (enum transport)_i);
    conn_write(o.conn, block, sizeof(block));
    conn_end_output(o.conn);
    conn_end_output(o.conn);
    WORLD_UNTIL((got += peer_skip(&p, 16384), got == sizeof(block)));
    WORLD_UNTIL(peer_ended(&p));
    ck_assert(!p.reset);
    peer_send(&p, "still there");
    WORLD_UNTIL(conn_input(o.conn).n == 11);
    ck_assert_uint_eq(o.eof + o.failed, 0);
    peer_finish(&p);
    WORLD_UNTIL(o.eof == 1);
    conn_finish(o.conn, 3600000);
    WORLD_UNTIL(conn_count_accepted() == 0);
    ck_assert_uint_eq(o.failed, 0);
    peer_close(&p);
}
END_TEST

START_TEST(ends_its_output_with_nothing_to_send)
{
    struct owner o;
    struct peer p;

    open_pair(&o, &p, (enum transport)_i);
    conn_end_output(o.conn);
    WORLD_UNTIL(peer_ended(&p));
    conn_close(o.conn);
    peer_close(&p);
}
END_TEST

START_TEST(does_not_wait_for_ever_when_it_finishes)
{
    static const char block[4000000] = { 'x' };
    struct owner o;
    struct peer p;

    open_pair(&o, &p, (enum transport)_i);
    conn_write(o.conn, block, _i == 2 ? 1 : sizeof(block));
    conn_finish(o.conn, 50); /* the peer takes nothing, and does not close either */
    WORLD_UNTIL(conn_count_accepted() == 0);
    peer_close(&p);
}
END_TEST

/* Bytes that the peer takes, one at a time; then whether it was cut before it had all. */
static bool is_cut(uint64_t rate_min, uint64_t window_ms, size_t step)
{
    static const char block[400000] = { 'x' };
    size_t got = 0;
    struct owner o;
    struct peer p;

    linger_set_limits(&(struct linger_limits){ 2000, rate_min, window_ms });
    open_pair(&o, &p, UNIX);
    conn_write(o.conn, block, sizeof(block));
    conn_finish(o.conn, 3600000);
    while (got < sizeof(block) && conn_count_accepted() > 0) {
        got += peer_skip(&p, step);
        world_turn();
    }
    linger_set_limits(&(struct linger_limits){ .drop_ms = 2000 });
    peer_close(&p);
    WORLD_UNTIL(conn_count_accepted() == 0);
    return got < sizeof(block);
}

START_TEST(bounds_how_slowly_the_rest_is_taken)
{
    ck_assert(is_cut(1 << 30, 100, 100));
    ck_assert(!is_cut(1, 100, 16384));
    ck_assert(!is_cut(0, 100, 16384));
}
END_TEST

START_TEST(closes_what_is_finishing_at_exit)
{
    struct owner o;
    struct peer p;

    open_pair(&o, &p, UNIX);
    conn_finish(o.conn, 10000);
    conn_close_finishing();
    ck_assert_uint_eq(conn_count_accepted(), 0);
    peer_close(&p);
}
END_TEST

START_TEST(resets)
{
    struct owner o;
    struct peer p;

    open_pair(&o, &p, TCP);
    conn_write(o.conn, "x", 1);
    conn_reset(o.conn);
    WORLD_UNTIL(peer_ended(&p));
    ck_assert(p.reset);
    peer_close(&p);
}
END_TEST

/* Connecting */

static struct sockaddr_un unix_address(const char *name)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };

    strncpy(sa.sun_path, conffile_path(name), sizeof(sa.sun_path) - 1);
    return sa;
}

static struct sockaddr_in tcp_address(unsigned port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

START_TEST(connects)
{
    unsigned port = 0;
    int listening = _i == TCP ? peer_listen_tcp(&port) : peer_listen_unix("s", 4);
    struct sockaddr_un un = unix_address("s");
    struct sockaddr_in in = tcp_address(port);
    struct owner o = { 0 };
    struct peer p;

    o.conn = _i == TCP ? conn_open((struct sockaddr *)&in, sizeof(in), NULL, on_event, &o)
                       : conn_open((struct sockaddr *)&un, sizeof(un), NULL, on_event, &o);
    ck_assert_ptr_nonnull(o.conn);
    ck_assert_uint_eq(o.connected, 0); /* never from within */
    conn_write(o.conn, "early", 5);    /* waits for the connection */
    WORLD_UNTIL(o.connected == 1);
    WORLD_UNTIL(peer_accept(&p, listening));
    WORLD_UNTIL(peer_has(&p, "early"));
    ck_assert_uint_eq(conn_count_accepted(), 0);
    conn_close(o.conn);
    peer_close(&p);
    close(listening);
}
END_TEST

START_TEST(fails_to_connect)
{
    unsigned port;
    int listening = peer_listen_tcp(&port);
    struct sockaddr_un un = unix_address("nobody");
    struct sockaddr_in in = tcp_address(port);
    struct owner o = { 0 };

    close(listening);
    o.conn = _i == TCP ? conn_open((struct sockaddr *)&in, sizeof(in), NULL, on_event, &o)
                       : conn_open((struct sockaddr *)&un, sizeof(un), NULL, on_event, &o);
    ck_assert_ptr_nonnull(o.conn);
    ck_assert_uint_eq(o.failed, 0);
    WORLD_UNTIL(o.failed == 1);
    ck_assert_int_eq(conn_error(o.conn), CONN_E_CONNECT);
    ck_assert_int_eq(conn_errno(o.conn), _i == TCP ? ECONNREFUSED : ENOENT);
    ck_assert_uint_eq(o.connected, 0);
    conn_close(o.conn);
}
END_TEST

/* Used again */

START_TEST(sees_whether_it_is_quiet)
{
    struct owner o;
    struct peer p;

    open_pair(&o, &p, (enum transport)(_i % 2));
    world_settle();
    ck_assert(conn_is_quiet(o.conn));
    if (_i < 2)
        peer_send(&p, "unasked");
    else
        peer_finish(&p);
    ck_assert(!conn_is_quiet(o.conn)); /* before a turn */
    world_settle();
    ck_assert(!conn_is_quiet(o.conn));
    conn_close(o.conn);
    peer_close(&p);
}
END_TEST

START_TEST(has_not_arrived_before_it_was_sent)
{
    struct owner o;
    struct peer p;

    open_pair(&o, &p, (enum transport)_i);
    conn_write(o.conn, "first", 5);
    WORLD_UNTIL(peer_has(&p, "first"));
    conn_mark(o.conn);
    ck_assert(!conn_may_have_arrived(o.conn));
    conn_write(o.conn, "second", 6);
    ck_assert(!conn_may_have_arrived(o.conn)); /* only queued */
    WORLD_UNTIL(peer_has(&p, "second"));
    ck_assert(conn_may_have_arrived(o.conn));
    conn_close(o.conn);
    peer_close(&p);
}
END_TEST

/* A kept connection that the peer closes while a request is on its way to it: provably unread over
 * a unix socket (the kernel says that bytes were lost) and over TCP (nothing was acknowledged), so
 * it may be sent again. */
START_TEST(knows_that_a_request_was_not_read)
{
    struct owner o;
    struct peer p;

    open_pair(&o, &p, UNIX);
    conn_write(o.conn, "answered", 8);
    WORLD_UNTIL(peer_has(&p, "answered"));
    conn_mark(o.conn);
    conn_write(o.conn, "request", 7);
    WORLD_UNTIL(conn_queued(o.conn) == 0);
    peer_close(&p); /* with "request" unread */
    WORLD_UNTIL(o.failed == 1);
    ck_assert(!conn_may_have_arrived(o.conn));
    conn_close(o.conn);

    open_pair(&o, &p, UNIX);
    conn_mark(o.conn);
    conn_write(o.conn, "request", 7);
    WORLD_UNTIL(peer_has(&p, "request"));
    peer_close(&p); /* it was read */
    WORLD_UNTIL(o.eof == 1);
    ck_assert(conn_may_have_arrived(o.conn));
    conn_close(o.conn);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("conn");

    tcase_add_checked_fixture(t, world_open, world_close);
    tcase_add_loop_test(t, carries_bytes_both_ways, 0, 2);
    tcase_add_loop_test(t, is_full_and_drained, 0, 2);
    tcase_add_loop_test(t, reads_no_more_than_it_holds, 0, 2);
    tcase_add_loop_test(t, reads_nothing_while_paused, 0, 2);
    tcase_add_test(t, keeps_paused_input_when_the_peer_resets);
    tcase_add_loop_test(t, tells_the_end_when_the_owner_goes_on, 0, 4);
    tcase_add_test(t, moves_a_share_a_turn);
    tcase_add_loop_test(t, writes_after_the_peers_end, 0, 2);
    tcase_add_test(t, tells_of_a_reset);
    tcase_add_loop_test(t, reads_the_answer_of_a_peer_that_takes_no_more, 0, 2);
    tcase_add_loop_test(t, may_be_closed_within_an_event, 0, 4);
    tcase_add_loop_test(t, finishes, 0, 2);
    tcase_add_loop_test(t, ends_its_output_and_reads_on, 0, 2);
    tcase_add_loop_test(t, ends_its_output_with_nothing_to_send, 0, 2);
    tcase_add_loop_test(t, does_not_wait_for_ever_when_it_finishes, 0, 2);
    tcase_add_test(t, bounds_how_slowly_the_rest_is_taken);
    tcase_add_test(t, closes_what_is_finishing_at_exit);
    tcase_add_test(t, resets);
    tcase_add_loop_test(t, connects, 0, 2);
    tcase_add_loop_test(t, fails_to_connect, 0, 2);
    tcase_add_loop_test(t, sees_whether_it_is_quiet, 0, 4);
    tcase_add_loop_test(t, has_not_arrived_before_it_was_sent, 0, 2);
    tcase_add_test(t, knows_that_a_request_was_not_read);
    return t;
}

UNIT_MAIN("conn")
