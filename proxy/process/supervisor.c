/* Datagrams to the service manager. */
#include "process/supervisor.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "net/activation.h"
#include "observe/log.h"

enum { INHERIT_FIRST = 3, INHERIT_MAX = 1024, TELL_WAIT_MS = 100 };

static struct {
    int fd; /* -1: nobody listens */
    uint64_t interval_ms;
    char path[108]; /* of its socket */
} supervisor = { .fd = -1 };

/* A service manager that is busy is waited for, but not for long: the loop stands still meanwhile.
 */
static void supervisor_tell(const char *text, int wait_ms)
{
    struct pollfd room = { .fd = supervisor.fd, .events = POLLOUT };
    const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;

    if (supervisor.fd < 0 || send(supervisor.fd, text, strlen(text), flags) >= 0)
        return;
    if ((errno != EAGAIN && errno != ENOBUFS) || poll(&room, 1, wait_ms) <= 0 ||
        send(supervisor.fd, text, strlen(text), flags) < 0)
        log_debug(NULL, "the service manager cannot be told: %s", text);
}

/* WATCHDOG_USEC, unless WATCHDOG_PID says that it is meant for another process. */
static uint64_t supervisor_read_interval(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    uint64_t n = 0;

    if (pid && (!num_parse_u64(str_of(pid), &n) || n != (uint64_t)getpid()))
        return 0;
    if (!usec || !num_parse_u64(str_of(usec), &n))
        return 0;
    return n / 2000 > 0 ? n / 2000 : 1; /* twice in its time */
}

void supervisor_inherit(void)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    uint64_t who = 0, n = 0;

    if (pid && fds && num_parse_u64(str_of(pid), &who) && who == (uint64_t)getpid() &&
        num_parse_u64(str_of(fds), &n) && n <= INHERIT_MAX)
        activation_take(INHERIT_FIRST, (int)n);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

void supervisor_open(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    size_t n = path ? strlen(path) : 0;

    if (n > 1 && n < sizeof(un.sun_path) && (path[0] == '/' || path[0] == '@')) {
        memcpy(un.sun_path, path, n);
        if (path[0] == '@') /* the abstract name space */
            un.sun_path[0] = 0;
        supervisor.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (supervisor.fd >= 0 && connect(supervisor.fd, (struct sockaddr *)&un,
                                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
            supervisor_close();
        if (supervisor.fd < 0)
            log_warn(NULL,
                "the service manager cannot be told that Tarry is ready: no connection "
                "to \"%s\"",
                path);
    }
    if (supervisor.fd >= 0 && path) {
        supervisor.interval_ms = supervisor_read_interval();
        memcpy(supervisor.path, path, n + 1);
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void supervisor_pass_on(size_t nsockets)
{
    char text[32];

    if (supervisor.fd >= 0)
        setenv("NOTIFY_SOCKET", supervisor.path, 1);
    if (supervisor.interval_ms > 0) {
        snprintf(text, sizeof(text), "%" PRIu64, supervisor.interval_ms * 2000);
        setenv("WATCHDOG_USEC", text, 1);
    }
    snprintf(text, sizeof(text), "%d", (int)getpid());
    setenv("LISTEN_PID", text, 1);
    snprintf(text, sizeof(text), "%zu", nsockets);
    setenv("LISTEN_FDS", text, 1);
}

void supervisor_replaced_by(int pid)
{
    char text[64];

    snprintf(text, sizeof(text), "MAINPID=%d\nREADY=1\nSTATUS=serving", pid);
    supervisor_tell(text, TELL_WAIT_MS);
}

void supervisor_close(void)
{
    if (supervisor.fd >= 0)
        close(supervisor.fd);
    supervisor.fd = -1;
    supervisor.interval_ms = 0;
}

void supervisor_ready(void)
{
    supervisor_tell("READY=1\nSTATUS=serving", TELL_WAIT_MS);
}

void supervisor_reloading(void)
{
    struct timespec ts;
    char text[128];

    clock_gettime(CLOCK_MONOTONIC, &ts);
    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=reading the conf",
        (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000);
    supervisor_tell(text, TELL_WAIT_MS);
}

void supervisor_reloaded(bool taken)
{
    supervisor_tell(taken ? "READY=1\nSTATUS=serving"
                          : "READY=1\nSTATUS=serving; the last reload was refused, see the log",
        TELL_WAIT_MS);
}

void supervisor_stopping(void)
{
    supervisor_tell("STOPPING=1\nSTATUS=finishing what is in flight", TELL_WAIT_MS);
}

uint64_t supervisor_interval_ms(void)
{
    return supervisor.interval_ms;
}

void supervisor_alive(void)
{
    supervisor_tell("WATCHDOG=1", 0);
}
