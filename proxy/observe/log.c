/* Lines to standard error, a file or syslog. On standard error a line is `tarry: text`; a file's
 * lines begin with the time. Control octets are escaped, so a client cannot begin a new line. */
#include "observe/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "observe/sink.h"

enum { LINE_MAX_BYTES = 2048, RECENT = 64, RECENT_MAX_BYTES = 512 };

static struct {
    enum log_level level;
    struct sink sink;
    char recent[RECENT][RECENT_MAX_BYTES]; /* a ring */
    unsigned nrecent;
    struct sink announced; /* standard error, if the log goes elsewhere */
} log_state = { .level = LEVEL_INFO,
    .sink = { .kind = LOG_TO_STDERR, .way = SINK_BLOCKING, .fd = 2 },
    .announced = { .kind = LOG_TO_NOWHERE, .fd = -1 } };

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
    sink_close(&log_state.announced);
    sink_close(&log_state.sink);
    log_state.sink = (struct sink){ .kind = LOG_TO_STDERR, .way = SINK_BLOCKING, .fd = 2 };
}

void log_set_buffer_max(size_t n)
{
    log_state.sink.buffer_max = n;
}

void log_forget_waiting(void)
{
    sink_forget(&log_state.sink);
    sink_forget(&log_state.announced);
}

bool log_pump(void)
{
    bool done = sink_pump(&log_state.announced);
    uint64_t dropped;

    done = sink_pump(&log_state.sink) && done;
    dropped = sink_take_dropped(&log_state.sink);
    if (dropped > 0)
        log_warn(NULL, "%" PRIu64 " line(s) of the log were dropped: its target did not take them",
            dropped);
    return done;
}

bool log_set_level(struct str name)
{
    for (size_t i = 0; i < LOG_NLEVELS; i++)
        if (str_eq(name, str_of(names[i]))) {
            log_state.level = (enum log_level)i;
            return true;
        }
    return false;
}

const char *log_level_name(void)
{
    return names[log_state.level];
}

void log_each_recent(void (*fn)(void *owner, const char *line), void *owner)
{
    unsigned first = log_state.nrecent > RECENT ? log_state.nrecent - RECENT : 0;

    for (unsigned i = first; i < log_state.nrecent; i++)
        fn(owner, log_state.recent[i % RECENT]);
}

/* With the time, for every target. */
static void log_remember(const char *when, const char *text, size_t n)
{
    char *line = log_state.recent[log_state.nrecent++ % RECENT];

    snprintf(line, RECENT_MAX_BYTES, "%s %.*s", when, (int)n, text);
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

static void log_format_now(char *out, size_t n)
{
    struct timespec ts;
    struct tm tm;
    size_t at;

    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    at = strftime(out, n, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + at, n - at, ".%03ldZ", ts.tv_nsec / 1000000);
}

void log_write(enum log_level level, const struct log_context *ctx, const char *fmt, ...)
{
    char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 256], when[40];
    size_t n = 0, said;
    va_list ap;

    if (!log_enabled(level))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_format_now(when, sizeof(when));
    if (log_state.sink.kind == LOG_TO_FILE)
        n = (size_t)snprintf(line, sizeof(line), "%s ", when);
    if (log_state.sink.kind != LOG_TO_SYSLOG)
        n += (size_t)snprintf(line + n, 32, "tarry: ");
    said = n;
    /* Info lines report the life of the process and carry no level. */
    if (level != LEVEL_INFO)
        n += (size_t)snprintf(line + n, 16, "%s: ", names[level]);
    n += log_escape(line + n, sizeof(line) - n - 112, text);
    n += (size_t)snprintf(line + n, 16, " pid=%d", (int)getpid());
    if (ctx && ctx->exchange)
        n += (size_t)snprintf(line + n, 80, " exchange=%.64s", ctx->exchange);
    if (level <= LEVEL_WARN)
        log_remember(when, line + said, n - said);
    line[n++] = '\n';
    sink_put(&log_state.sink, priorities[level], line, n);
    log_pump();
}

void log_last_words(const char *text, size_t n)
{
    if (log_state.sink.kind != LOG_TO_STDERR) {
        struct sink err = { .kind = LOG_TO_STDERR, .fd = -1 };

        sink_open(&err, &(struct log_target){ .kind = LOG_TO_STDERR });
        sink_write_last(&err, text, n);
    }
    sink_write_last(&log_state.sink, text, n);
}

void log_announce(const char *text)
{
    char line[LINE_MAX_BYTES];
    int n = snprintf(line, sizeof(line), "tarry: %s\n", text);

    if (log_state.announced.kind == LOG_TO_NOWHERE)
        sink_open(&log_state.announced, &(struct log_target){ .kind = LOG_TO_STDERR });
    sink_put(log_state.sink.kind == LOG_TO_STDERR ? &log_state.sink : &log_state.announced,
        LOG_INFO, line, (size_t)n);
    if (log_state.sink.kind != LOG_TO_STDERR)
        log_info(NULL, "%s", text);
    log_pump();
}
