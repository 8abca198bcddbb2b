/* What the service manager is told, with the test in its place. */
#include "process/supervisor.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conffile.h"
#include "unit.h"

static int manager;

/* A leading "@" is the abstract name space. */
static void listen_at(const char *name)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };

    ck_assert_uint_lt(strlen(name), sizeof(un.sun_path));
    memcpy(un.sun_path, name, strlen(name));
    if (name[0] == '@')
        un.sun_path[0] = 0;
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(manager, (struct sockaddr *)&un,
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
        0);
    setenv("NOTIFY_SOCKET", name, 1);
}

static const char *heard(void)
{
    static char text[256];
    ssize_t n = recv(manager, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = 0;
    return text;
}

static void check_all(void)
{
    supervisor_open();
    ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
    supervisor_ready();
    ck_assert_str_eq(heard(), "READY=1\nSTATUS=serving");
    supervisor_reloading();
    ck_assert_ptr_nonnull(strstr(heard(), "RELOADING=1\nMONOTONIC_USEC="));
    supervisor_reloaded(true);
    ck_assert_str_eq(heard(), "READY=1\nSTATUS=serving");
    supervisor_reloaded(false);
    ck_assert_ptr_nonnull(strstr(heard(), "refused"));
    supervisor_alive();
    ck_assert_str_eq(heard(), "WATCHDOG=1");
    supervisor_stopping();
    ck_assert_ptr_nonnull(strstr(heard(), "STOPPING=1\n"));
    supervisor_close();
}

START_TEST(tells_a_socket_in_the_file_system)
{
    listen_at(conffile_path("notify"));
    check_all();
}
END_TEST

START_TEST(tells_an_abstract_socket)
{
    char name[64];

    snprintf(name, sizeof(name), "@tarry-test-%d", (int)getpid());
    listen_at(name);
    check_all();
}
END_TEST

START_TEST(is_alive_twice_in_the_watchdog_s_time)
{
    char pid[32];

    listen_at(conffile_path("notify"));
    setenv("WATCHDOG_USEC", "3000000", 1);
    supervisor_open();
    ck_assert_uint_eq(supervisor_interval_ms(), 1500);
    supervisor_close();
    ck_assert_uint_eq(supervisor_interval_ms(), 0);

    snprintf(pid, sizeof(pid), "%d", (int)getpid() + 1); /* meant for another process */
    setenv("NOTIFY_SOCKET", conffile_path("notify"), 1);
    setenv("WATCHDOG_USEC", "3000000", 1);
    setenv("WATCHDOG_PID", pid, 1);
    supervisor_open();
    ck_assert_uint_eq(supervisor_interval_ms(), 0);
    ck_assert_ptr_null(getenv("WATCHDOG_PID"));
    supervisor_close();
}
END_TEST

START_TEST(without_a_manager_nothing_happens)
{
    unsetenv("NOTIFY_SOCKET");
    setenv("WATCHDOG_USEC", "3000000", 1);
    supervisor_open();
    supervisor_ready();
    ck_assert_uint_eq(supervisor_interval_ms(), 0);
    setenv("NOTIFY_SOCKET", conffile_path("nobody-there"), 1);
    supervisor_open();
    supervisor_ready();
    supervisor_stopping();
    supervisor_close();
}
END_TEST

START_TEST(a_manager_that_reads_nothing_blocks_nothing)
{
    listen_at(conffile_path("notify"));
    supervisor_open();
    for (int i = 0; i < 20000; i++) /* it blocks here if it does */
        supervisor_alive();
    supervisor_stopping();
    ck_assert_str_eq(heard(), "WATCHDOG=1");
    supervisor_close();
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("supervisor");

    tcase_add_checked_fixture(t, conffile_open, conffile_close);
    tcase_add_test(t, tells_a_socket_in_the_file_system);
    tcase_add_test(t, tells_an_abstract_socket);
    tcase_add_test(t, is_alive_twice_in_the_watchdog_s_time);
    tcase_add_test(t, without_a_manager_nothing_happens);
    tcase_add_test(t, a_manager_that_reads_nothing_blocks_nothing);
    return t;
}

UNIT_MAIN("supervisor")
