/* Targets of logs that do not take lines: nothing blocks, no line is torn, and what is dropped is
 * counted. */
#include "observe/sink.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conffile.h"
#include "observe/access.h"
#include "observe/counter.h"
#include "observe/log.h"
#include "unit.h"

enum { LINE = 100 };

static struct sink sink = { .kind = LOG_TO_NOWHERE, .fd = -1 };
static unsigned put;

/* Lines of LINE bytes with a number. */
static void put_lines(unsigned n)
{
    for (; n > 0; n--) {
        char line[LINE + 1];

        snprintf(line, sizeof(line), "%06u%93s\n", put++, "");
        sink_put(&sink, 6, line, LINE);
    }
}

static char text[4 << 20];

/* What has been read must be whole lines, in order. The number of lines. */
static unsigned check_lines(size_t n, unsigned first)
{
    unsigned lines = 0;

    if (n % LINE != 0)
        ck_abort_msg("%zu bytes are no whole lines", n);
    for (size_t at = 0; at < n; at += LINE, lines++) {
        if ((unsigned)strtoul(text + at, NULL, 10) != first + lines || text[at + LINE - 1] != '\n')
            ck_abort_msg("line %u is \"%.*s\"", first + lines, LINE, text + at);
    }
    return lines;
}

static size_t read_all(int fd)
{
    size_t n = 0;
    ssize_t got;

    while ((got = read(fd, text + n, sizeof(text) - n)) > 0)
        n += (size_t)got;
    return n;
}

static size_t read_file(const char *name)
{
    int fd = open(conffile_path(name), O_RDONLY);
    size_t n;

    ck_assert_int_ge(fd, 0);
    n = read_all(fd);
    close(fd);
    return n;
}

/* A target that has a reader, whose end is returned; it does not block. */
static int open_pipe(void)
{
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(dup2(ends[1], 2), 2);
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return ends[0];
}

static int open_socket(void)
{
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    ck_assert_int_eq(dup2(ends[1], 2), 2);
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return ends[0];
}

static int open_fifo(void)
{
    int fd;

    ck_assert_int_eq(mkfifo(conffile_path("fifo"), 0600), 0);
    fd = open(conffile_path("fifo"), O_RDONLY | O_NONBLOCK);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static const struct {
    const char *name;
    int (*open)(void);
    bool is_stderr;
} readers[] = { { "a pipe", open_pipe, true }, { "a socket", open_socket, true },
    { "a fifo", open_fifo, false } };

START_TEST(a_reader_that_stalls_blocks_nothing)
{
    int fd = readers[_i].open();
    struct log_target target = { readers[_i].is_stderr ? LOG_TO_STDERR : LOG_TO_FILE,
        str_of(conffile_path("fifo")) };
    int flags = fcntl(2, F_GETFL);
    unsigned lines = 0;
    uint64_t dropped;

    ck_assert_int_eq(sink_open(&sink, &target), 0);
    ck_assert_int_eq(fcntl(2, F_GETFL), flags); /* the description is others' too */
    sink.buffer_max = 50 * LINE;
    while (sink_pump(&sink))
        put_lines(20);
    put_lines(200); /* it blocks here if it does */
    ck_assert_uint_le(buf_len(&sink.lines), 50 * LINE);
    ck_assert_uint_eq(sink_take_dropped(&sink), 0); /* not while it stalls */
    dropped = counter_values[COUNTER_LOG_DROPPED];
    ck_assert_uint_gt(dropped, 100);
    while (!sink_pump(&sink))
        lines += check_lines(read_all(fd), lines);
    lines += check_lines(read_all(fd), lines);
    ck_assert_uint_eq(lines + dropped, put);
    ck_assert_uint_eq(sink_take_dropped(&sink), dropped);
    ck_assert_uint_eq(sink_take_dropped(&sink), 0);
    put_lines(1);
    ck_assert(sink_pump(&sink));
    ck_assert_uint_eq(read_all(fd), LINE);
    sink_close(&sink);
    close(fd);
}
END_TEST

/* Of a file that may not grow beyond `max` the kernel takes a part of the last line, as a full disk
 * does. */
static void limit_file(rlim_t max)
{
    struct rlimit r = { max, RLIM_INFINITY };

    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &r), 0);
}

START_TEST(a_full_disk_tears_no_line)
{
    struct log_target target = { LOG_TO_FILE, str_of(conffile_path("log")) };
    size_t n;

    ck_assert_int_eq(sink_open(&sink, &target), 0);
    sink.buffer_max = 2000 * LINE;
    limit_file(1000 * LINE + 30);
    put_lines(1500);
    ck_assert(!sink_pump(&sink));
    ck_assert_uint_eq(check_lines(read_file("log"), 0), 1000);
    put_lines(1500); /* not glued, whoever writes them */
    ck_assert(!sink_pump(&sink));
    ck_assert_uint_eq(check_lines(read_file("log"), 0), 1000);
    ck_assert_uint_eq(counter_values[COUNTER_LOG_DROPPED], 0);
    put_lines(1);
    ck_assert_uint_eq(counter_values[COUNTER_LOG_DROPPED], 1);
    limit_file(RLIM_INFINITY);
    ck_assert(sink_pump(&sink));
    n = read_file("log");
    ck_assert_uint_eq(check_lines(n, 0), 3000);
    sink_close(&sink);
}
END_TEST

/* Standard error sent to a file without O_APPEND: the part cannot be taken back, so it is
 * completed. */
START_TEST(a_full_disk_below_standard_error_tears_no_line)
{
    struct log_target target = { LOG_TO_STDERR, { 0 } };
    int fd = open(conffile_path("err"), O_WRONLY | O_CREAT, 0600);

    ck_assert_int_eq(dup2(fd, 2), 2);
    ck_assert_int_eq(sink_open(&sink, &target), 0);
    limit_file(1000 * LINE + 30);
    put_lines(1500);
    ck_assert(!sink_pump(&sink));
    limit_file(RLIM_INFINITY);
    put_lines(5);
    ck_assert(sink_pump(&sink));
    ck_assert_uint_eq(check_lines(read_file("err"), 0), 1505);
    sink_close(&sink);
    close(fd);
}
END_TEST

START_TEST(lines_that_wait_move_to_the_new_target)
{
    struct log_target full = { LOG_TO_FILE, STR("/dev/full") };
    struct log_target target = { LOG_TO_FILE, str_of(conffile_path("log")) };

    ck_assert_int_eq(sink_open(&sink, &full), 0);
    put_lines(3);
    ck_assert(!sink_pump(&sink));
    ck_assert_int_eq(sink_open(&sink, &target), 0);
    ck_assert(sink_pump(&sink));
    ck_assert_uint_eq(check_lines(read_file("log"), 0), 3);
    sink_close(&sink);
}
END_TEST

static unsigned waits;

static void on_waiting(void)
{
    waits++;
}

START_TEST(says_that_lines_wait)
{
    struct log_target full = { LOG_TO_FILE, STR("/dev/full") };

    sink_on_waiting(on_waiting);
    ck_assert_int_eq(sink_open(&sink, &full), 0);
    put_lines(1);
    ck_assert_uint_eq(waits, 0);
    ck_assert(!sink_pump(&sink));
    ck_assert_uint_eq(waits, 1);
    sink_on_waiting(NULL);
    sink_close(&sink);
    ck_assert_uint_eq(counter_values[COUNTER_LOG_DROPPED], 1);
}
END_TEST

START_TEST(a_pipe_without_a_reader_is_an_error)
{
    struct log_target target = { LOG_TO_FILE, str_of(conffile_path("fifo")) };

    ck_assert_int_eq(mkfifo(conffile_path("fifo"), 0600), 0);
    ck_assert_int_eq(sink_open(&sink, &target), -1); /* it blocks here if it does */
}
END_TEST

/* The log says so by itself; for the access log the log does. */
START_TEST(the_log_reports_what_was_dropped)
{
    struct access_entry e = { .exchange = "x", .peer = "unix" };
    int fd = open_fifo();
    struct log_target target = { LOG_TO_FILE, str_of(conffile_path("fifo")) };
    struct log_target log = { LOG_TO_FILE, str_of(conffile_path("log")) };
    size_t n = 0;

    if (_i == 0) {
        log_set_buffer_max(10000);
        ck_assert_int_eq(log_open(LEVEL_INFO, &target), 0);
        for (int i = 0; i < 3000; i++)
            log_info(NULL, "a line of some length, so that the pipe is full soon");
        n = read_all(fd);
        while (!log_pump())
            n = read_all(fd);
        n = read_all(fd);
    } else {
        access_set_buffer_max(10000);
        ck_assert_int_eq(log_open(LEVEL_INFO, &log), 0);
        ck_assert_int_eq(access_open(&target, ACCESS_COMBINED), 0);
        for (int i = 0; i < 5000; i++)
            access_write(&e);
        while (!access_flush())
            read_all(fd);
        n = read_file("log");
    }
    text[n] = '\0';
    ck_assert_uint_gt(counter_values[COUNTER_LOG_DROPPED], 0);
    ck_assert_ptr_nonnull(strstr(text, " were dropped: its target did not take them"));
    log_close();
    access_close();
    close(fd);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("sink");

    tcase_add_checked_fixture(t, conffile_open, conffile_close);
    tcase_add_loop_test(t, a_reader_that_stalls_blocks_nothing, 0, COUNT_OF(readers));
    tcase_add_test(t, a_full_disk_tears_no_line);
    tcase_add_test(t, a_full_disk_below_standard_error_tears_no_line);
    tcase_add_test(t, lines_that_wait_move_to_the_new_target);
    tcase_add_test(t, says_that_lines_wait);
    tcase_add_test(t, a_pipe_without_a_reader_is_an_error);
    tcase_add_loop_test(t, the_log_reports_what_was_dropped, 0, 2);
    return t;
}

UNIT_MAIN("sink")
