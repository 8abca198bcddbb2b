/* The resolver against a name server of the test's own, on the same loop. */
#include "net/resolver.h"

#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "net/loop.h"
#include "unit.h"
#include "world.h"

enum { TYPE_A = 1, TYPE_AAAA = 28 };

/* What the server knows of every name that ends in ".good"; of others it knows that they do not
 * exist. */
static struct {
    ev_io io;
    int fd;
    unsigned char v4[4];
    bool mute, mute_v6, broken, no_v6;
    uint32_t ttl;
    size_t queries;
} server;

static struct resolver *resolver;

struct asked {
    struct resolver_lookup lookup;
    size_t n, n4, n6;
    struct addr first4;
    char why[256];
    bool over;
    struct asked *cancel_too;
    bool close_resolver;
};

static void on_query(struct ev_loop *ev, ev_io *w, int revents)
{
    unsigned char q[512], *end;
    char name[256] = "";
    struct sockaddr_storage from;
    socklen_t fromlen = sizeof(from);
    ssize_t n = recvfrom(server.fd, q, sizeof(q), 0, (struct sockaddr *)&from, &fromlen);
    bool good;
    int type;

    ck_assert_int_gt(n, 16);
    server.queries++;
    end = q + 12;
    while (*end) {
        strncat(name, (char *)end + 1, *end);
        strcat(name, ".");
        end += *end + 1;
    }
    type = end[1] << 8 | end[2];
    end += 5;
    if (server.mute || (server.mute_v6 && type == TYPE_AAAA))
        return;
    good = strstr(name, ".good.") != NULL;
    q[2] = 0x81;                                      /* a response, to a recursive question */
    q[3] = 0x80 | (server.broken ? 2 : good ? 0 : 3); /* SERVFAIL, NOERROR, NXDOMAIN */
    memset(q + 6, 0, 6);
    if (good && !server.broken && (type == TYPE_A || (type == TYPE_AAAA && !server.no_v6))) {
        static const unsigned char v6[16] = { 0x20, 1, 0xd, 0xb8, [15] = 1 };
        size_t len = type == TYPE_A ? 4 : 16;
        const unsigned char answer[] = { 0xc0, 12, 0, (unsigned char)type, 0, 1, 0, 0,
            (unsigned char)(server.ttl >> 8), (unsigned char)server.ttl, 0, (unsigned char)len };

        q[7] = 1;
        memcpy(end, answer, sizeof(answer));
        end += sizeof(answer);
        memcpy(end, type == TYPE_A ? server.v4 : v6, len);
        end += len;
    }
    sendto(server.fd, q, (size_t)(end - q), 0, (struct sockaddr *)&from, fromlen);
}

static void set_up(void)
{
    struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof(sin);
    char servers[64];

    memset(&server, 0, sizeof(server));
    server.ttl = 300;
    memcpy(server.v4, (unsigned char[]){ 192, 0, 2, 1 }, 4);
    server.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(server.fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    getsockname(server.fd, (struct sockaddr *)&sin, &n);
    ev_io_init(&server.io, on_query, server.fd, EV_READ);
    ev_io_start(loop_ev(), &server.io);
    snprintf(servers, sizeof(servers), "127.0.0.1:%u", ntohs(sin.sin_port));
    resolver = resolver_open(servers);
    ck_assert_ptr_nonnull(resolver);
}

static void tear_down(void)
{
    resolver_close(resolver);
    ev_io_stop(loop_ev(), &server.io);
    close(server.fd);
}

/* Another server, whose addresses end in `last`; the first one goes. */
static void move_server(char servers[64], unsigned char last)
{
    struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof(sin);

    ev_io_stop(loop_ev(), &server.io);
    close(server.fd);
    server.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(server.fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    getsockname(server.fd, (struct sockaddr *)&sin, &n);
    ev_io_set(&server.io, server.fd, EV_READ);
    ev_io_start(loop_ev(), &server.io);
    server.v4[3] = last;
    server.mute = false;
    snprintf(servers, 64, "127.0.0.1:%u", ntohs(sin.sin_port));
}

static void on_answer(void *owner, const struct resolver_answer *a)
{
    struct asked *q = owner;

    ck_assert(!q->over);
    q->over = true;
    q->n = a->n;
    snprintf(q->why, sizeof(q->why), "%s", a->why ? a->why : "");
    for (size_t i = 0; i < a->n; i++) {
        ck_assert_uint_eq(a->addrs[i].port, 0);
        if (a->addrs[i].family == AF_INET && q->n4++ == 0)
            q->first4 = a->addrs[i];
        q->n6 += a->addrs[i].family == AF_INET6;
    }
    if (q->cancel_too)
        resolver_cancel(&q->cancel_too->lookup);
    if (q->close_resolver)
        resolver_close(resolver);
}

static void ask(struct asked *q, const char *name)
{
    struct asked *cancel_too = q->cancel_too;
    bool close_resolver = q->close_resolver;

    *q = (struct asked){ .cancel_too = cancel_too, .close_resolver = close_resolver };
    ck_assert_int_eq(resolver_ask(resolver, &q->lookup, str_of(name), on_answer, q), 0);
    ck_assert(!q->over); /* never from within */
}

static bool passed;

static void on_passed(struct ev_loop *ev, ev_timer *w, int revents)
{
    passed = true;
}

/* What is tested lasts a second: the shortest life of an answer. */
static void let_it_expire(void)
{
    ev_timer timer;

    passed = false;
    ev_timer_init(&timer, on_passed, 1.1, 0.);
    ev_timer_start(loop_ev(), &timer);
    WORLD_UNTIL(passed);
}

START_TEST(finds_addresses_of_both_families)
{
    struct asked q = { 0 };

    set_up();
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    ck_assert_uint_eq(q.n4, 1);
    ck_assert_uint_eq(q.n6, 1);
    ck_assert_int_eq(q.first4.ip[3], 1);
    ck_assert_uint_eq(server.queries, 2);
    tear_down();
}
END_TEST

START_TEST(one_family_is_enough)
{
    struct asked q = { 0 };

    set_up();
    server.no_v6 = true;
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    ck_assert_uint_eq(q.n, 1);
    ck_assert_uint_eq(q.n4, 1);
    tear_down();
}
END_TEST

START_TEST(asks_once_for_all_and_for_as_long_as_the_answer_lives)
{
    struct asked a = { 0 }, b = { 0 };

    set_up();
    ask(&a, "api.good");
    ask(&b, "API.good");
    WORLD_UNTIL(a.over);
    WORLD_UNTIL(b.over);
    ask(&a, "api.good");
    WORLD_UNTIL(a.over);
    ck_assert_uint_eq(a.n, 2);
    ck_assert_uint_eq(server.queries, 2); /* A and AAAA */
    tear_down();
}
END_TEST

START_TEST(an_answer_past_its_time_waits_for_the_new_one)
{
    struct asked q = { 0 };

    set_up();
    server.ttl = 0; /* read as 1 s */
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    ck_assert_uint_eq(server.queries, 2);
    server.v4[3] = 2;
    let_it_expire();
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    ck_assert_int_eq(q.first4.ip[3], 2);
    ck_assert_uint_eq(server.queries, 4);
    tear_down();
}
END_TEST

START_TEST(refreshed_it_has_the_new_answer_at_once)
{
    struct asked q = { 0 };

    set_up();
    server.ttl = 0;
    resolver_refresh(resolver, STR("api.good")); /* nobody has asked for it */
    world_settle();
    ck_assert_uint_eq(server.queries, 0);
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    resolver_refresh(resolver, STR("api.good")); /* it is fresh */
    world_settle();
    ck_assert_uint_eq(server.queries, 2);
    server.v4[3] = 2;
    let_it_expire();
    resolver_refresh(resolver, STR("api.good"));
    resolver_refresh(resolver, STR("api.good"));
    WORLD_UNTIL(server.queries == 4);
    world_settle();
    server.mute = true;
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    ck_assert_int_eq(q.first4.ip[3], 2);
    tear_down();
}
END_TEST

START_TEST(a_family_that_is_not_answered_holds_nothing_back_for_long)
{
    struct asked q = { 0 };

    set_up();
    server.mute_v6 = true;
    server.ttl = 1;
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    ck_assert_uint_eq(q.n4, 1);
    ck_assert_uint_eq(q.n6, 0);
    ck_assert_uint_eq(server.queries, 3); /* A, AAAA, and A alone; none of them a second time */
    /* It goes on so while that query hangs. */
    server.v4[3] = 2;
    let_it_expire();
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    ck_assert_uint_eq(q.n4, 1);
    WORLD_UNTIL((ask(&q, "api.good"), world_settle(), q.over && q.first4.ip[3] == 2));
    tear_down();
}
END_TEST

START_TEST(an_answer_that_is_too_old_does_not_serve)
{
    struct asked q = { 0 };

    set_up();
    resolver_set_stale_max(resolver, 0);
    server.ttl = 1;
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    ck_assert_uint_eq(q.n, 2);
    let_it_expire();
    server.broken = true;
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    ck_assert_uint_eq(q.n, 0);
    ck_assert_str_ne(q.why, "");
    server.broken = false;
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    ck_assert_uint_eq(q.n, 2);
    tear_down();
}
END_TEST

START_TEST(keeps_the_old_answer_when_there_is_no_new_one)
{
    struct asked q = { 0 };

    set_up();
    server.ttl = 1;
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    let_it_expire();
    if (_i == 0)
        server.mute = true;
    else
        server.broken = true;
    for (int i = 0; i < 3; i++) {
        ask(&q, "api.good");
        WORLD_UNTIL(q.over);
        ck_assert_uint_eq(q.n, 2);
        world_settle();
    }
    tear_down();
}
END_TEST

START_TEST(says_why_there_is_no_address)
{
    struct asked q = { 0 };

    set_up();
    ask(&q, "api.bad");
    WORLD_UNTIL(q.over);
    ck_assert_uint_eq(q.n, 0);
    ck_assert_ptr_nonnull(strstr(q.why, "not found"));
    /* It may come into being: the next one asks again. */
    server.queries = 0;
    ask(&q, "api.bad");
    WORLD_UNTIL(q.over);
    ck_assert_uint_gt(server.queries, 0);
    server.broken = true;
    ask(&q, "other.good");
    WORLD_UNTIL(q.over);
    ck_assert_uint_eq(q.n, 0);
    ck_assert_str_ne(q.why, "");
    tear_down();
}
END_TEST

static const char *const known[] = { "localhost", "127.0.0.1", "::1" };

START_TEST(needs_no_server_for_what_is_known)
{
    struct asked q = { 0 };

    set_up();
    server.mute = true;
    ask(&q, known[_i]);
    WORLD_UNTIL(q.over);
    ck_assert_uint_gt(q.n, 0);
    ck_assert_uint_eq(server.queries, 0);
    tear_down();
}
END_TEST

START_TEST(nothing_comes_after_cancel)
{
    struct asked a = { 0 }, b = { 0 }, c = { 0 };

    set_up();
    ask(&a, "api.good");
    ask(&b, "api.good");
    a.cancel_too = &c; /* which waits for the same answer */
    ask(&c, "api.good");
    resolver_cancel(&b.lookup);
    WORLD_UNTIL(a.over);
    world_settle();
    ck_assert(!b.over && !c.over);
    resolver_cancel(&b.lookup); /* idempotent */
    tear_down();
}
END_TEST

START_TEST(closes_at_any_time)
{
    struct asked a = { 0 }, b = { 0 };

    set_up();
    if (_i == 0) { /* while it waits for the server */
        server.mute = true;
        ask(&a, "api.good");
        world_settle();
    } else if (_i == 1) { /* when the answer is about to be told */
        ask(&a, "127.0.0.1");
    } else if (_i == 2) { /* from within an answer, with another one to follow */
        a.close_resolver = true;
        ask(&a, "api.good");
        ask(&b, "api.good");
        WORLD_UNTIL(a.over);
    } else { /* with a refresh under way */
        server.ttl = 1;
        ask(&a, "api.good");
        WORLD_UNTIL(a.over);
        let_it_expire();
        server.mute = true;
        ask(&a, "api.good");
        WORLD_UNTIL(a.over);
    }
    if (!a.close_resolver)
        resolver_close(resolver);
    world_settle();
    if (_i < 2)
        ck_assert(!a.over);
    ck_assert(!b.over);
    ev_io_stop(loop_ev(), &server.io);
    close(server.fd);
}
END_TEST

START_TEST(forgets_names_that_nobody_asks_for)
{
    struct asked q = { 0 };
    char name[32];

    set_up();
    for (int i = 0; i < 600; i++) {
        snprintf(name, sizeof(name), "n%d.good", i % 300);
        ask(&q, name);
        WORLD_UNTIL(q.over);
        ck_assert_uint_eq(q.n, 2);
    }
    /* 256 are kept: of 300 in turn, each was forgotten before it was asked for again. */
    ck_assert_uint_eq(server.queries, 1200);
    ask(&q, "n299.good");
    WORLD_UNTIL(q.over);
    ck_assert_uint_eq(server.queries, 1200);
    tear_down();
}
END_TEST

START_TEST(refuses_servers_that_are_none)
{
    ck_assert_ptr_null(resolver_open("not an address"));
}
END_TEST

START_TEST(renewed_it_asks_the_new_servers)
{
    struct asked known_before = { 0 }, waits = { 0 }, literal = { 0 };
    char servers[64];

    set_up();
    ask(&known_before, "api.good");
    WORLD_UNTIL(known_before.over);
    ask(&literal, "192.0.2.77");
    WORLD_UNTIL(literal.over);
    server.mute = true;
    ask(&waits, "other.good");
    world_settle();
    ck_assert(!waits.over);

    move_server(servers, 9);
    server.queries = 0;
    ck_assert_int_eq(resolver_renew(resolver, servers), 0);
    WORLD_UNTIL(waits.over); /* who waited for the old server is answered by the new one */
    ck_assert_uint_eq(waits.n, 2);
    ck_assert_int_eq(waits.first4.ip[3], 9);
    ask(&known_before, "api.good"); /* what is known is asked for again */
    WORLD_UNTIL(known_before.over);
    ck_assert_int_eq(known_before.first4.ip[3], 9);
    ask(&literal, "192.0.2.77");
    WORLD_UNTIL(literal.over);
    ck_assert_int_eq(literal.first4.ip[3], 77);
    ck_assert_uint_eq(server.queries, 4);
    tear_down();
}
END_TEST

START_TEST(renewed_in_vain_it_stays_as_it_was)
{
    struct asked q = { 0 };

    set_up();
    ck_assert_int_eq(resolver_renew(resolver, "not an address"), -1);
    ask(&q, "api.good");
    WORLD_UNTIL(q.over);
    ck_assert_uint_eq(q.n, 2);
    tear_down();
}
END_TEST

START_TEST(cancelled_while_it_is_renewed_nothing_comes)
{
    struct asked a = { 0 }, b = { 0 };
    char servers[64];

    set_up();
    server.mute = true;
    ask(&a, "api.good");
    ask(&b, "api.good");
    world_settle();
    resolver_cancel(&a.lookup);
    move_server(servers, 3);
    ck_assert_int_eq(resolver_renew(resolver, servers), 0);
    ck_assert_int_eq(resolver_renew(resolver, servers), 0);
    WORLD_UNTIL(b.over);
    ck_assert(!a.over);
    ck_assert_int_eq(b.first4.ip[3], 3);
    tear_down();
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("resolver");

    tcase_add_checked_fixture(t, world_open, world_close);
    tcase_add_test(t, finds_addresses_of_both_families);
    tcase_add_test(t, one_family_is_enough);
    tcase_add_test(t, asks_once_for_all_and_for_as_long_as_the_answer_lives);
    tcase_add_test(t, an_answer_past_its_time_waits_for_the_new_one);
    tcase_add_test(t, refreshed_it_has_the_new_answer_at_once);
    tcase_add_test(t, a_family_that_is_not_answered_holds_nothing_back_for_long);
    tcase_add_test(t, an_answer_that_is_too_old_does_not_serve);
    tcase_add_loop_test(t, keeps_the_old_answer_when_there_is_no_new_one, 0, 2);
    tcase_add_test(t, says_why_there_is_no_address);
    tcase_add_loop_test(t, needs_no_server_for_what_is_known, 0, COUNT_OF(known));
    tcase_add_test(t, nothing_comes_after_cancel);
    tcase_add_loop_test(t, closes_at_any_time, 0, 4);
    tcase_add_test(t, forgets_names_that_nobody_asks_for);
    tcase_add_test(t, refuses_servers_that_are_none);
    tcase_add_test(t, renewed_it_asks_the_new_servers);
    tcase_add_test(t, renewed_in_vain_it_stays_as_it_was);
    tcase_add_test(t, cancelled_while_it_is_renewed_nothing_comes);
    return t;
}

UNIT_MAIN("resolver")
