/* Lines to standard error, a file or syslog. On standard error a line is `tarry: text`; a file's
 * lines begin with the time. Control octets are escaped: what a client sends cannot write lines of
 * its own. */
#include "observe/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "observe/sink.h"

enum { LINE_MAX_BYTES = 2048 };

static struct {
    enum log_level level;
    struct sink sink;
} log_state = { .level = LEVEL_INFO, .sink = { .kind = LOG_TO_STDERR, .fd = 2 } };

static const char *const names[LOG_NLEVELS] = {
    [LEVEL_ERROR] = "error", [LEVEL_WARN] = "warn", [LEVEL_INFO] = "info", [LEVEL_DEBUG] = "debug"
};
static const int priorities[LOG_NLEVELS] = {
    [LEVEL_ERROR] = LOG_ERR,
    [LEVEL_WARN] = LOG_WARNING,
    [LEVEL_INFO] = LOG_INFO,
    [LEVEL_DEBUG] = LOG_DEBUG,
};

int log_open(enum log_level level, const struct log_target *target)
{
    if (sink_open(&log_state.sink, target) < 0)
        return -1;
    log_state.level = level;
    return 0;
}

int log_reopen(void)
{
    return sink_reopen(&log_state.sink);
}

void log_close(void)
{
    sink_close(&log_state.sink);
    log_state.sink = (struct sink){ .kind = LOG_TO_STDERR, .fd = 2 };
}

bool log_enabled(enum log_level level)
{
    return level <= log_state.level;
}

/* Control octets become \xNN. */
static size_t log_escape(char *out, size_t room, const char *in)
{
    size_t n = 0;

    for (; *in && n + 5 < room; in++) {
        unsigned char c = (unsigned char)*in;

        if (c >= 0x20 && c != 0x7f)
            out[n++] = (char)c;
        else
            n += (size_t)snprintf(out + n, 5, "\\x%02x", c);
    }
    return n;
}

void log_write(enum log_level level, const struct log_context *ctx, const char *fmt, ...)
{
    char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 256];
    size_t n = 0;
    va_list ap;

    if (!log_enabled(level))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (log_state.sink.kind != LOG_TO_SYSLOG) {
        struct timespec ts;
        struct tm tm;

        clock_gettime(CLOCK_REALTIME, &ts);
        gmtime_r(&ts.tv_sec, &tm);
        if (log_state.sink.kind == LOG_TO_FILE) {
            n = strftime(line, 32, "%Y-%m-%dT%H:%M:%S", &tm);
            n += (size_t)snprintf(line + n, 32, ".%03ldZ ", ts.tv_nsec / 1000000);
        }
        n += (size_t)snprintf(line + n, 32, "tarry: ");
    }
    /* Info is the life of the process: its lines stand bare. */
    if (level != LEVEL_INFO)
        n += (size_t)snprintf(line + n, 16, "%s: ", names[level]);
    n += log_escape(line + n, sizeof(line) - n - 96, text);
    if (ctx && ctx->exchange)
        n += (size_t)snprintf(line + n, 80, " exchange=%.64s", ctx->exchange);
    if (log_state.sink.kind == LOG_TO_SYSLOG) {
        syslog(priorities[level], "%.*s", (int)n, line);
        return;
    }
    line[n++] = '\n';
    /* A log that cannot be written must not stop the service. */
    if (write(log_state.sink.fd, line, n) < 0)
        return;
}

void log_last_words(const char *text, size_t n)
{
    int fd = log_state.sink.fd;

    if (write(2, text, n) < 0) /* nothing can be done about it now */
        n = 0;
    if (n > 0 && log_state.sink.kind == LOG_TO_FILE && write(fd, text, n) < 0)
        return;
}

void log_announce(const char *text)
{
    if (log_state.sink.kind != LOG_TO_STDERR || !log_enabled(LEVEL_INFO)) {
        fprintf(stderr, "tarry: %s\n", text);
        fflush(stderr);
    }
    log_info(NULL, "%s", text);
}
