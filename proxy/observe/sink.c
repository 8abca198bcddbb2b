/* Targets of logs. A file is opened for appending: several processes may write to it. */
#include "observe/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "conf/file.h"
#include "observe/counter.h"

enum {
    CLOSE_WAIT_MS = 1000,    /* how long the last lines may take */
    SYSLOG_LINE_MAX = 64000, /* bytes of a datagram; journald and rsyslog accept less by default */
};

#define SYSLOG_SOCKET "/dev/log"

/* How standard output and standard error are written. */
struct sink_standard {
    int fd; /* 0: not examined yet */
    enum sink_way way;
};

static struct {
    void (*on_waiting)(void);
    struct sink_standard standard[3]; /* by number */
} sink_state;

void sink_on_waiting(void (*fn)(void))
{
    sink_state.on_waiting = fn;
}

static enum sink_way sink_way_of(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return SINK_POLLED;
    if (S_ISREG(st.st_mode))
        return SINK_FILE;
    if (S_ISSOCK(st.st_mode))
        return SINK_SOCKET;
    return fcntl(fd, F_GETFL) & O_NONBLOCK ? SINK_PIPE : SINK_POLLED;
}

/* The open file description of a standard stream is shared with the process that started Tarry, so
 * its flags must not change. A pipe or a terminal can be opened again through /proc, until the
 * sandbox is entered; children inherit the descriptor. */
static const struct sink_standard *sink_standard(int number)
{
    struct sink_standard *st = &sink_state.standard[number];
    char path[32];
    int fd;

    if (st->fd > 0)
        return st;
    st->fd = number;
    st->way = sink_way_of(number);
    if (st->way == SINK_POLLED) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", number);
        fd = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd >= 0)
            *st = (struct sink_standard){ .fd = fd, .way = SINK_PIPE };
    }
    return st;
}

/* Tarry starts even if the syslog daemon is not running yet. */
static int sink_connect_syslog(void)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = SYSLOG_SOCKET };
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* ---- writing ---- */

static size_t sink_first_line(const struct sink *s)
{
    struct str all = buf_str(&s->lines);
    const char *end = memchr(all.p, '\n', all.n);

    return end ? (size_t)(end - all.p) + 1 : all.n;
}

/* As many whole lines as fit into `max`, at least one. */
static size_t sink_whole_lines(const struct sink *s, size_t max)
{
    struct str all = buf_str(&s->lines);
    const char *end;

    if (all.n <= max)
        return all.n;
    end = memrchr(all.p, '\n', max);
    return end ? (size_t)(end - all.p) + 1 : sink_first_line(s);
}

/* The first `n` waiting bytes were written. */
static void sink_consume(struct sink *s, size_t n)
{
    struct str all = buf_str(&s->lines);
    const char *end = n > 0 ? memrchr(all.p, '\n', n) : NULL;
    size_t whole = end ? (size_t)(end - all.p) + 1 : 0;

    buf_consume(&s->lines, whole);
    s->written = n - whole;
}

/* A full disk took only a part of a line. If no process has written after it, the part is removed,
 * so that the next line of any process is not appended to it. If it cannot be removed, it is
 * completed later.
 */
static void sink_take_back(struct sink *s)
{
    off_t end = lseek(s->fd, 0, SEEK_CUR);
    struct stat st;

    if (s->written == 0 || !(fcntl(s->fd, F_GETFL) & O_APPEND))
        return;
    if (end >= (off_t)s->written && fstat(s->fd, &st) == 0 && st.st_size == end &&
        ftruncate(s->fd, end - (off_t)s->written) == 0)
        s->written = 0;
}

static ssize_t sink_write_some(struct sink *s, const char *p, size_t n)
{
    struct pollfd room = { .fd = s->fd, .events = POLLOUT };

    switch (s->way) {
    case SINK_SOCKET:
    case SINK_SYSLOG:
        return send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    case SINK_POLLED:
        if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT)) {
            errno = EAGAIN;
            return -1;
        }
        return write(s->fd, p, n);
    case SINK_BLOCKING:
    case SINK_FILE:
    case SINK_PIPE:
        return write(s->fd, p, n);
    }
    return -1;
}

/* One write. False if the target accepts nothing now. */
static bool sink_write(struct sink *s)
{
    /* Up to PIPE_BUF bytes go into a pipe as a whole or not at all (pipe(7)), even with other
     * writers. */
    size_t n = sink_whole_lines(s, s->way == SINK_FILE ? SIZE_MAX : PIPE_BUF) - s->written;
    ssize_t out;

    if (n > PIPE_BUF && s->way == SINK_POLLED)
        n = PIPE_BUF;
    do
        out = sink_write_some(s, buf_str(&s->lines).p + s->written, n);
    while (out < 0 && errno == EINTR);
    if (out <= 0)
        return false;
    sink_consume(s, s->written + (size_t)out);
    if ((size_t)out < n && s->way == SINK_FILE)
        sink_take_back(s);
    return (size_t)out == n;
}

void sink_drop(struct sink *s)
{
    s->dropped++;
    counter_add(COUNTER_LOG_DROPPED, 1);
}

/* A line that the daemon refuses for its size is dropped; otherwise it would block all later lines.
 */
static bool sink_send_syslog(struct sink *s)
{
    size_t n = sink_first_line(s);
    ssize_t sent;

    for (int attempt = 0; attempt < 2; attempt++) {
        if (s->fd < 0)
            s->fd = sink_connect_syslog();
        if (s->fd < 0)
            return false;
        sent = send(s->fd, buf_str(&s->lines).p, n - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == EINTR))
            return false;
        if (sent < 0 && errno != EMSGSIZE) { /* the daemon was restarted */
            close(s->fd);
            s->fd = -1;
            continue;
        }
        if (sent < 0)
            sink_drop(s);
        buf_consume(&s->lines, n);
        return true;
    }
    return false;
}

bool sink_pump(struct sink *s)
{
    while (buf_len(&s->lines) > 0) {
        if (s->way == SINK_SYSLOG ? sink_send_syslog(s) : sink_write(s))
            continue;
        if (sink_state.on_waiting)
            sink_state.on_waiting();
        return false;
    }
    return true;
}

static void sink_drop_all(struct sink *s)
{
    for (; buf_len(&s->lines) > 0; buf_consume(&s->lines, sink_first_line(s)))
        sink_drop(s);
    s->written = 0;
}

/* The header as syslog(3) writes it: priority, local time, name and process (RFC 3164). */
static size_t sink_syslog_head(char *out, size_t n, int priority)
{
    time_t now = time(NULL);
    char when[32];
    struct tm tm;

    localtime_r(&now, &tm);
    strftime(when, sizeof(when), "%b %e %H:%M:%S", &tm);
    return (size_t)snprintf(
        out, n, "<%d>%s tarry[%d]: ", LOG_DAEMON | priority, when, (int)getpid());
}

void sink_put(struct sink *s, int priority, const char *line, size_t n)
{
    size_t max = s->buffer_max ? s->buffer_max : SINK_BUFFER_MAX, head_n = 0, line_n = n;
    char head[96];

    if (s->kind == LOG_TO_NOWHERE)
        return;
    if (s->way == SINK_SYSLOG) {
        head_n = sink_syslog_head(head, sizeof(head), priority);
        if (line_n > SYSLOG_LINE_MAX)
            line_n = SYSLOG_LINE_MAX;
    }
    if (buf_len(&s->lines) + head_n + line_n > max)
        sink_pump(s);
    if (buf_len(&s->lines) + head_n + line_n > max ||
        !buf_reserve(&s->lines, head_n + line_n, NULL)) {
        sink_drop(s);
        return;
    }
    buf_append(&s->lines, head, head_n);
    buf_append(&s->lines, line, line_n - 1);
    buf_append(&s->lines, "\n", 1);
}

void sink_forget(struct sink *s)
{
    buf_release(&s->lines);
    s->written = 0;
    s->dropped = 0;
}

void sink_write_last(struct sink *s, const char *text, size_t n)
{
    struct str waits = buf_str(&s->lines);

    if (s->kind == LOG_TO_NOWHERE)
        return;
    if (s->way == SINK_SYSLOG)
        waits.n = 0; /* those are datagrams */
    if (waits.n > s->written && sink_write_some(s, waits.p + s->written, waits.n - s->written) < 0)
        return;
    if (sink_write_some(s, text, n) < 0)
        return;
}

uint64_t sink_take_dropped(struct sink *s)
{
    uint64_t n = buf_len(&s->lines) == 0 ? s->dropped : 0;

    if (n > 0)
        s->dropped = 0;
    return n;
}

/* ---- targets that change ---- */

static void sink_end(struct sink *s)
{
    if (s->kind == LOG_TO_FILE || (s->kind == LOG_TO_SYSLOG && s->fd >= 0))
        close(s->fd);
    free(s->path);
    buf_release(&s->lines);
}

/* Lines that the old target does not accept at once go to the new one. The process is serving
 * clients, so it does not wait for the old one. */
static void sink_hand_over(struct sink *s, struct sink *next)
{
    sink_pump(s);
    if ((s->way == SINK_SYSLOG) == (next->way == SINK_SYSLOG) && next->kind != LOG_TO_NOWHERE) {
        next->lines = s->lines;
        next->written = s->fd == next->fd ? s->written : 0;
        s->lines = (struct buf){ 0 };
    }
    sink_drop_all(s);
    next->dropped = s->dropped;
    sink_end(s);
}

int sink_open(struct sink *s, const struct log_target *target)
{
    struct sink next = { .kind = target->kind, .fd = -1, .buffer_max = s->buffer_max };
    const struct sink_standard *st;

    switch (target->kind) {
    case LOG_TO_NOWHERE:
        break;
    case LOG_TO_STDERR:
    case LOG_TO_STDOUT:
        st = sink_standard(target->kind == LOG_TO_STDERR ? STDERR_FILENO : STDOUT_FILENO);
        next.fd = st->fd;
        next.way = st->way;
        break;
    case LOG_TO_FILE:
        next.path = strndup(target->path.p, target->path.n);
        next.fd = next.path ? file_open(next.path, FILE_APPEND) : -1;
        if (next.fd < 0) {
            int saved = next.path ? errno : ENOMEM;

            free(next.path);
            errno = saved;
            return -1;
        }
        next.way = sink_way_of(next.fd);
        break;
    case LOG_TO_SYSLOG:
        next.fd = sink_connect_syslog();
        next.way = SINK_SYSLOG;
        break;
    }
    sink_hand_over(s, &next);
    *s = next;
    return 0;
}

/* ---- the end ---- */

static void sink_drain(struct sink *s)
{
    struct timespec step = { .tv_nsec = 10000000 };

    for (int waited_ms = 0; !sink_pump(s) && waited_ms < CLOSE_WAIT_MS; waited_ms += 10)
        nanosleep(&step, NULL);
    sink_drop_all(s);
}

int sink_reopen(struct sink *s)
{
    int fd;

    if (s->kind != LOG_TO_FILE)
        return 0;
    fd = file_open(s->path, FILE_APPEND);
    if (fd < 0)
        return -1;
    sink_pump(s); /* earlier lines belong to the old target, if it accepts them */
    s->written = 0;
    close(s->fd);
    s->fd = fd;
    s->way = sink_way_of(fd);
    return 0;
}

void sink_close(struct sink *s)
{
    sink_drain(s);
    sink_end(s);
    *s = (struct sink){
        .kind = LOG_TO_NOWHERE, .fd = -1, .buffer_max = s->buffer_max, .dropped = s->dropped
    };
}
