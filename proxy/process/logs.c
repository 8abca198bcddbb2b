/* The timer runs only while lines wait. */
#include "process/logs.h"

#include <errno.h>
#include <ev.h>
#include <string.h>

#include "net/loop.h"
#include "observe/access.h"
#include "observe/log.h"
#include "observe/sink.h"

#define RETRY_S 0.1

static struct {
    ev_timer retry;
    bool watched;
} logs;

int logs_open(const struct conf *conf, bool access)
{
    log_set_buffer_max(conf->log_buffer_max);
    if (log_open(conf->log_level, &conf->log) < 0) {
        log_error(NULL, "cannot open the log \"" STR_FMT "\": %s", STR_ARG(conf->log.path),
            strerror(errno));
        return -1;
    }
    if (!access)
        return 0;
    access_set_buffer_max(conf->access_buffer_max);
    if (access_open(&conf->access_log, conf->access_format) < 0) {
        log_error(NULL, "cannot open the access log \"" STR_FMT "\": %s",
            STR_ARG(conf->access_log.path), strerror(errno));
        return -1;
    }
    return 0;
}

void logs_reopen(void)
{
    if (log_reopen() < 0)
        log_error(NULL, "cannot reopen the log: %s; the old file is kept", strerror(errno));
    if (access_reopen() < 0)
        log_error(NULL, "cannot reopen the access log: %s; the old file is kept", strerror(errno));
    log_info(NULL, "logs reopened");
}

static void logs_on_retry(struct ev_loop *ev, ev_timer *w, int revents)
{
    bool done = access_flush();

    if (log_pump() && done)
        ev_timer_stop(ev, w);
}

static void logs_on_waiting(void)
{
    if (!ev_is_active(&logs.retry))
        ev_timer_again(loop_ev(), &logs.retry);
}

void logs_watch(void)
{
    ev_timer_init(&logs.retry, logs_on_retry, 0., RETRY_S);
    sink_on_waiting(logs_on_waiting);
    logs.watched = true;
    if (!log_pump())
        logs_on_waiting();
}

void logs_unwatch(void)
{
    if (!logs.watched)
        return;
    sink_on_waiting(NULL);
    ev_timer_stop(loop_ev(), &logs.retry);
    logs.watched = false;
}
