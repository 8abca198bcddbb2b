/* The log: levels, what a line looks like, and that nobody else can write lines. */
#include "observe/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "conffile.h"
#include "unit.h"

static const char *read_file(const char *name)
{
    static char text[16384];
    FILE *f = fopen(conffile_path(name), "r");
    size_t n;

    ck_assert_ptr_nonnull(f);
    n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

static void open_at(enum log_level level, const char *name)
{
    struct log_target target = { LOG_TO_FILE, str_of(conffile_path(name)) };

    ck_assert_int_eq(log_open(level, &target), 0);
}

/* What ends a line: the process, and the exchange if there is one. */
static const char *end_of_line(const char *exchange)
{
    static char end[100];

    snprintf(end, sizeof(end), " pid=%d%s%s\n", (int)getpid(), exchange ? " exchange=" : "",
        exchange ? exchange : "");
    return end;
}

/* "TEXT pid=N exchange=ID" and the line's end. */
static const char *line_of(const char *text, const char *exchange)
{
    static char line[300];

    snprintf(line, sizeof(line), "%s%s", text, end_of_line(exchange));
    return line;
}

/* The line without its time, which is checked for its form. */
static const char *after_time(const char *line)
{
    static const char form[] = "0000-00-00T00:00:00.000Z tarry: ";

    for (size_t i = 0; i < sizeof(form) - 1; i++)
        ck_assert_msg(form[i] == '0' ? line[i] >= '0' && line[i] <= '9' : line[i] == form[i],
            "not a time: %s", line);
    return line + sizeof(form) - 1;
}

START_TEST(writes_what_the_level_asks_for)
{
    static const char *const names[] = { "error: E", "warn: W", "I", "debug: D" };
    enum log_level level = (enum log_level)_i;
    const char *text;

    open_at(level, "log");
    log_error(NULL, "E");
    log_warn(NULL, "W");
    log_info(NULL, "I");
    log_debug(NULL, "D");
    text = read_file("log");
    for (int i = 0; i <= _i; i++) {
        const char *line = after_time(text);

        ck_assert_int_eq(strncmp(line, names[i], strlen(names[i])), 0);
        text = strchr(line, '\n') + 1;
    }
    ck_assert_str_eq(text, "");
    ck_assert(log_enabled(level));
    ck_assert_int_eq(log_enabled(LEVEL_DEBUG), level == LEVEL_DEBUG);
    log_close();
}
END_TEST

START_TEST(names_the_exchange)
{
    struct log_context ctx = { "the-id" };

    open_at(LEVEL_INFO, "log");
    log_warn(&ctx, "%s %d", "text", 7);
    ck_assert_str_eq(after_time(read_file("log")), line_of("warn: text 7", "the-id"));
    log_close();
}
END_TEST

START_TEST(escapes_what_would_be_another_line)
{
    open_at(LEVEL_INFO, "log");
    log_info(NULL, "a%sb", "\r\ntarry: forged\x1b[2J\x7f\t");
    ck_assert_str_eq(
        after_time(read_file("log")), line_of("a\\x0d\\x0atarry: forged\\x1b[2J\\x7f\\x09b", NULL));
    log_close();
}
END_TEST

START_TEST(cuts_what_is_too_long)
{
    struct log_context ctx = { "the-id" };
    char text[10000];
    const char *line;

    for (int c = 0; c < 2; c++) {
        memset(text, c ? '\x01' : 'a', sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        open_at(LEVEL_INFO, c ? "2" : "1");
        log_error(&ctx, "%s", text);
        line = read_file(c ? "2" : "1");
        ck_assert_uint_lt(strlen(line), 2400);
        ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
        ck_assert_ptr_nonnull(strstr(line, end_of_line("the-id")));
        log_close();
    }
}
END_TEST

START_TEST(opens_a_rotated_file_again)
{
    open_at(LEVEL_INFO, "log");
    log_info(NULL, "1");
    ck_assert_int_eq(rename(conffile_path("log"), conffile_path("log.1")), 0);
    log_info(NULL, "2");
    ck_assert_int_eq(log_reopen(), 0);
    log_info(NULL, "3");
    ck_assert_str_eq(after_time(read_file("log")), line_of("3", NULL));
    ck_assert_ptr_nonnull(strstr(read_file("log.1"), line_of(" 2", NULL)));
    log_close();
}
END_TEST

START_TEST(stays_where_it_was_if_it_cannot_open)
{
    struct log_target target = { LOG_TO_FILE, STR("/nonexistent/log") };

    open_at(LEVEL_INFO, "log");
    ck_assert_int_eq(log_open(LEVEL_ERROR, &target), -1);
    ck_assert_int_eq(errno, ENOENT);
    log_info(NULL, "still here");
    ck_assert_str_eq(after_time(read_file("log")), line_of("still here", NULL));
    log_close();
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("log");

    tcase_add_checked_fixture(t, conffile_open, conffile_close);
    tcase_add_loop_test(t, writes_what_the_level_asks_for, 0, LOG_NLEVELS);
    tcase_add_test(t, names_the_exchange);
    tcase_add_test(t, escapes_what_would_be_another_line);
    tcase_add_test(t, cuts_what_is_too_long);
    tcase_add_test(t, opens_a_rotated_file_again);
    tcase_add_test(t, stays_where_it_was_if_it_cannot_open);
    return t;
}

UNIT_MAIN("log")
