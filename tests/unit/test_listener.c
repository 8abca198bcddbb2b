/* Listeners: accepting in batches, with pauses, and not one connection lost at the end. */
#include "net/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include "conffile.h"
#include "observe/log.h"
#include "unit.h"
#include "world.h"

enum { MANY = 40 };

static int accepted[MANY];
static size_t naccepted, most;
static sa_family_t family;

static void on_accept(void *owner, struct listener *l, int fd, const struct sockaddr *peer)
{
    ck_assert_uint_lt(naccepted, MANY);
    ck_assert_ptr_eq(owner, &naccepted);
    accepted[naccepted++] = fd;
    family = peer->sa_family;
}

static unsigned nclosed;

static void on_closed(void *owner, struct listener *l)
{
    ck_assert_ptr_eq(owner, &naccepted);
    nclosed++;
}

static bool may_accept(void *owner, bool waits)
{
    return naccepted < most;
}

/* A port that nobody listens on. */
static unsigned free_port(void)
{
    unsigned port;

    close(peer_listen_tcp(&port));
    return port;
}

static struct listener *open_at(
    const char *text, const void *sa, socklen_t n, char *why, size_t whylen)
{
    struct addr_conf a = { .text = str_of(text), .salen = n, .mode = 0660 };

    memcpy(&a.sa, sa, n);
    return listener_open(&a, MANY, false, why, whylen);
}

static struct listener *open_tcp(unsigned port, char *why, size_t n)
{
    struct sockaddr_in sa = { .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    return open_at("127.0.0.1:0", &sa, sizeof(sa), why, n);
}

static struct sockaddr_un unix_address(const char *name)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", conffile_path(name));
    return sa;
}

static struct listener *open_unix(const char *name, char *why, size_t n)
{
    struct sockaddr_un sa = unix_address(name);

    return open_at(name, &sa, sizeof(sa), why, n);
}

static int connect_tcp(unsigned port)
{
    struct sockaddr_in sa = { .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void set_up(void)
{
    struct log_target log;

    world_open();
    log = (struct log_target){ LOG_TO_FILE, str_of(conffile_path("log")) };
    ck_assert_int_eq(log_open(LEVEL_DEBUG, &log), 0);
    naccepted = 0;
    most = MANY;
}

static void tear_down(void)
{
    while (naccepted > 0)
        close(accepted[--naccepted]);
    nclosed = 0;
    log_close();
    world_close();
}

START_TEST(accepts)
{
    char why[200];
    unsigned port = free_port();
    struct listener *l =
        _i == 0 ? open_tcp(port, why, sizeof(why)) : open_unix("s", why, sizeof(why));
    struct sockaddr_un un = unix_address("s");
    int fd[MANY];

    ck_assert_ptr_nonnull(l);
    ck_assert_span_eq(listener_text(l), _i == 0 ? "127.0.0.1:0" : "s");
    for (int i = 0; i < MANY; i++) {
        fd[i] = _i == 0 ? connect_tcp(port) : socket(AF_UNIX, SOCK_STREAM, 0);
        if (_i == 1)
            ck_assert_int_eq(connect(fd[i], (struct sockaddr *)&un, sizeof(un)), 0);
    }
    world_settle();
    ck_assert_uint_eq(naccepted, 0); /* nothing before the start */
    listener_start(l, on_accept, may_accept, &naccepted);
    WORLD_UNTIL(naccepted == MANY);
    ck_assert_int_eq(family, _i == 0 ? AF_INET : AF_UNIX);
    listener_close(l, true);
    listener_close(l, true);
    for (int i = 0; i < MANY; i++)
        close(fd[i]);
    ck_assert_int_eq(access(conffile_path("s"), F_OK), -1);
}
END_TEST

START_TEST(serves_who_waits_when_it_closes)
{
    char why[200];
    unsigned port = free_port();
    struct listener *l = open_tcp(port, why, sizeof(why));
    int fd[MANY];

    listener_start(l, on_accept, may_accept, &naccepted);
    for (int i = 0; i < MANY; i++)
        fd[i] = connect_tcp(port);
    listener_drain(l, true, on_closed); /* before the loop has looked */
    ck_assert_uint_eq(naccepted, 0);
    WORLD_UNTIL(nclosed == 1);
    ck_assert_uint_eq(naccepted, MANY);
    ck_assert_int_eq(connect_tcp(port), -1);
    for (int i = 0; i < MANY; i++)
        close(fd[i]);
}
END_TEST

/* Others have their turn while a long backlog is accepted, and an end comes although clients go on
 * connecting. */
START_TEST(drains_a_batch_a_turn)
{
    char why[200];
    struct listener *l = open_unix("s", why, sizeof(why));
    struct sockaddr_un un = unix_address("s");
    int fd[MANY];

    listener_start(l, on_accept, may_accept, &naccepted);
    for (int i = 0; i < MANY; i++) {
        fd[i] = socket(AF_UNIX, SOCK_STREAM, 0);
        ck_assert_int_eq(connect(fd[i], (struct sockaddr *)&un, sizeof(un)), 0);
    }
    listener_drain(l, true, on_closed);
    ck_assert_int_eq(access(conffile_path("s"), F_OK), -1); /* nobody connects any more */
    world_turn();
    ck_assert_uint_gt(naccepted, 0);
    ck_assert_uint_lt(naccepted, MANY);
    if (_i == 0)
        WORLD_UNTIL(nclosed == 1);
    else
        listener_close(l, true); /* the process ends first */
    world_settle();
    ck_assert_uint_eq(nclosed, _i == 0);
    ck_assert(naccepted == MANY || _i == 1);
    for (int i = 0; i < MANY; i++)
        close(fd[i]);
}
END_TEST

/* How many connections wait at once, until the kernel lets no more in. */
static int fill_backlog(int *fd, int most_fds)
{
    struct sockaddr_un un = unix_address("s");
    int n = 0;

    for (; n < most_fds; n++) {
        fd[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(fd[n], (struct sockaddr *)&un, sizeof(un)) < 0) {
            close(fd[n]);
            break;
        }
    }
    return n;
}

/* Issue 8, fault t11. */
START_TEST(takes_another_backlog)
{
    char why[200];
    struct listener *l = open_unix("s", why, sizeof(why));
    int fd[MANY], n;

    listener_set_backlog(l, 2);
    n = fill_backlog(fd, MANY);
    ck_assert_int_eq(n, 3); /* the kernel holds one more than it is told */
    listener_set_backlog(l, 5);
    n += fill_backlog(fd + n, MANY - n);
    ck_assert_int_eq(n, 6);
    while (n > 0)
        close(fd[--n]);
    listener_close(l, true);
}
END_TEST

static int connect_ipv6(unsigned port)
{
    struct sockaddr_in6 sa = { .sin6_family = AF_INET6,
        .sin6_port = htons((uint16_t)port),
        .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    int fd = socket(AF_INET6, SOCK_STREAM, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
        return fd;
    close(fd);
    return -1;
}

START_TEST(takes_clients_of_both_families)
{
    char why[200];
    unsigned port = free_port();
    struct addr_conf a = {
        .text = STR("[::]"), .salen = sizeof(struct sockaddr_in6), .ipv6_only = _i
    };
    struct sockaddr_in6 *sa = (void *)&a.sa;
    struct listener *l;
    int v4, v6;

    sa->sin6_family = AF_INET6;
    sa->sin6_port = htons((uint16_t)port);
    while (!(l = listener_open(&a, MANY, false, why, sizeof(why))) && strstr(why, "in use")) {
        port = free_port(); /* another process has it in the other family */
        sa->sin6_port = htons((uint16_t)port);
    }
    v6 = connect_ipv6(port);
    if (v6 < 0 && _i == 1) { /* a machine without IPv6 */
        listener_close(l, true);
        return;
    }
    ck_assert_msg(l != NULL, "%s", why);
    v4 = connect_tcp(port);
    ck_assert_int_eq(v4 >= 0, !a.ipv6_only);
    close(v4);
    close(v6);
    listener_close(l, true);
}
END_TEST

START_TEST(waits_while_there_are_too_many)
{
    char why[200];
    unsigned port = free_port();
    struct listener *l = open_tcp(port, why, sizeof(why));
    int fd[4];

    most = 2;
    listener_start(l, on_accept, may_accept, &naccepted);
    for (int i = 0; i < 4; i++)
        fd[i] = connect_tcp(port);
    WORLD_UNTIL(naccepted == 2);
    world_settle();
    ck_assert_uint_eq(naccepted, 2);
    close(accepted[--naccepted]);
    most = 3;
    WORLD_UNTIL(naccepted == 3); /* of itself, a moment later */
    listener_close(l, true);
    for (int i = 0; i < 4; i++)
        close(fd[i]);
}
END_TEST

START_TEST(waits_when_descriptors_are_short)
{
    char why[200];
    unsigned port = free_port();
    struct listener *l = open_tcp(port, why, sizeof(why));
    struct rlimit before, now;
    int fd = connect_tcp(port);
    uint64_t from;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    now = (struct rlimit){ (rlim_t)fd + 1, before.rlim_max };
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &now), 0);
    listener_start(l, on_accept, may_accept, &naccepted);
    from = loop_now_ms();
    WORLD_UNTIL(loop_now_ms() > from + 20);
    ck_assert_uint_eq(naccepted, 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    WORLD_UNTIL(naccepted == 1);
    listener_close(l, true);
    close(fd);
}
END_TEST

START_TEST(replaces_a_stale_socket_file)
{
    char why[200];
    int dead = peer_listen_unix("s", 1), live;
    struct listener *l;
    FILE *f;

    close(dead); /* the file is still there */
    l = open_unix("s", why, sizeof(why));
    ck_assert_ptr_nonnull(l);
    listener_close(l, false);
    ck_assert_int_eq(access(conffile_path("s"), F_OK), 0); /* the next one's, perhaps */
    unlink(conffile_path("s"));

    live = peer_listen_unix("s", 1); /* somebody listens: not ours to take */
    ck_assert_ptr_null(open_unix("s", why, sizeof(why)));
    ck_assert_ptr_nonnull(strstr(why, "cannot listen on s: "));
    close(live);
    unlink(conffile_path("s"));

    f = fopen(conffile_path("s"), "w"); /* a file that is no socket is nobody's to remove */
    fclose(f);
    ck_assert_ptr_null(open_unix("s", why, sizeof(why)));
    ck_assert_int_eq(access(conffile_path("s"), F_OK), 0);
}
END_TEST

START_TEST(says_why_it_cannot_listen)
{
    char why[200];
    unsigned port;
    int other = peer_listen_tcp(&port);

    ck_assert_ptr_null(open_tcp(port, why, sizeof(why)));
    ck_assert_str_eq(why, "cannot listen on 127.0.0.1:0: Address already in use");
    close(other);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("listener");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, accepts, 0, 2);
    tcase_add_test(t, serves_who_waits_when_it_closes);
    tcase_add_loop_test(t, drains_a_batch_a_turn, 0, 2);
    tcase_add_test(t, takes_another_backlog);
    tcase_add_loop_test(t, takes_clients_of_both_families, 0, 2);
    tcase_add_test(t, waits_while_there_are_too_many);
    tcase_add_test(t, waits_when_descriptors_are_short);
    tcase_add_test(t, replaces_a_stale_socket_file);
    tcase_add_test(t, says_why_it_cannot_listen);
    return t;
}

UNIT_MAIN("listener")
