/* One JSON line for each request. */
#include "record.h"

#include <sys/time.h>
#include <time.h>

#include "job.h"
#include "provider.h"

static void add_time(struct text *line)
{
    struct timeval now;
    char seconds[32];
    struct tm tm;

    gettimeofday(&now, NULL);
    gmtime_r(&now.tv_sec, &tm);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &tm);
    text_printf(line, "{\"time\":\"%s.%03dZ\"", seconds, (int)(now.tv_usec / 1000));
}

static void add_word(struct text *line, const char *name, const char *value)
{
    text_printf(line, ",\"%s\":", name);
    if (value)
        text_json_str(line, value);
    else
        text_puts(line, "null");
}

void record_write(const struct job *job, const char *end, const char *why)
{
    FILE *to = job->provider->record;
    struct text line = { 0 };

    if (!to)
        return;
    add_time(&line);
    add_word(&line, "proto", job->ask->protocol);
    text_printf(&line, ",\"tls\":%s,\"connection\":%llu,\"stream\":%d,",
        job->tls ? "true" : "false", (unsigned long long)job->connection, (int)job->stream);
    ask_describe(job->ask, &line);
    add_word(&line, "key", job->plan.key);
    add_word(&line, "fault", job->plan.faults ? job->plan.faults->name : NULL);
    text_printf(&line, ",\"status\":%d", job->status);
    add_word(&line, "end", end);
    add_word(&line, "why", why);
    text_puts(&line, "}\n");
    fwrite(line.p, 1, line.n, to);
    fflush(to);
    text_free(&line);
}
