/* Serving, and the signals: HUP reloads, TERM and INT drain (a second one exits at once), USR1
 * reopens the logs. */
#include "process/child.h"

#include <errno.h>
#include <ev.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "admin/admin.h"
#include "conf/load.h"
#include "exchange/front.h"
#include "net/loop.h"
#include "observe/access.h"
#include "observe/counter.h"
#include "observe/log.h"

static struct {
    struct front front;
    const char *conf_path;
    ev_signal hup, term, interrupt, usr1;
    struct deadline shutdown;
    uint64_t stopped_ms;
    bool stopping;
    bool many; /* one of several processes, under a master */
    int status;
} child;

enum { SAME_SIGNAL_MS = 1000 };

static int open_logs(const struct conf *conf)
{
    if (log_open(conf->log_level, &conf->log) < 0) {
        log_error(NULL, "cannot open the log \"" STR_FMT "\": %s", STR_ARG(conf->log.path),
            strerror(errno));
        return -1;
    }
    if (access_open(&conf->access_log, conf->access_format) < 0) {
        log_error(NULL, "cannot open the access log \"" STR_FMT "\": %s",
            STR_ARG(conf->access_log.path), strerror(errno));
        return -1;
    }
    return 0;
}

static void reload(void)
{
    struct conf_errors errors;
    struct conf *next;
    char why[512];

    next = conf_load(child.conf_path, &errors);
    for (size_t i = 0; i < errors.count; i++)
        log_error(NULL, STR_FMT, STR_ARG(errors.list[i]));
    conf_errors_release(&errors);
    if (!next) {
        counter_add(COUNTER_RELOADS_FAILED, 1);
        log_error(NULL, "reload refused: the old conf stays in force");
        return;
    }
    if (next->processes != child.front.conf->processes)
        log_warn(NULL, "processes changes with a restart only");
    if (admin_prepare(next, why, sizeof(why)) < 0) {
        counter_add(COUNTER_RELOADS_FAILED, 1);
        log_error(NULL, "reload refused: %s; the old conf stays in force", why);
    } else if (front_reload(&child.front, next, why, sizeof(why)) < 0) {
        admin_abandon();
        counter_add(COUNTER_RELOADS_FAILED, 1);
        log_error(NULL, "reload refused: %s; the old conf stays in force", why);
    } else {
        admin_commit();
        open_logs(next);
        counter_add(COUNTER_RELOADS, 1);
        log_info(NULL, "conf \"%s\" reloaded", child.conf_path);
    }
    conf_unref(next);
}

static void on_hup(struct ev_loop *ev, ev_signal *w, int revents)
{
    if (child.stopping)
        log_info(NULL, "stopping: SIGHUP ignored");
    else
        reload();
}

static void on_usr1(struct ev_loop *ev, ev_signal *w, int revents)
{
    if (log_reopen() < 0)
        log_error(NULL, "cannot reopen the log: %s", strerror(errno));
    if (access_reopen() < 0)
        log_error(NULL, "cannot reopen the access log: %s", strerror(errno));
    log_info(NULL, "logs reopened");
}

static void on_idle(void *owner)
{
    loop_stop();
}

static void on_shutdown_timeout(void *owner)
{
    log_warn(NULL, "shutdown_timeout passed: %zu exchange(s) are cut off",
        front_in_flight(&child.front));
    loop_stop();
}

static void on_term(struct ev_loop *ev, ev_signal *w, int revents)
{
    if (child.stopping) {
        log_warn(
            NULL, "stopping at once: %zu exchange(s) are cut off", front_in_flight(&child.front));
        child.status = 1;
        loop_stop();
        return;
    }
    child.stopping = true;
    child.stopped_ms = loop_now_ms();
    log_info(NULL, "stopping: %zu exchange(s) are in flight", front_in_flight(&child.front));
    deadline_set(&child.shutdown, child.front.conf->shutdown_timeout_ms);
    admin_stop();
    front_drain(&child.front, on_idle, NULL);
}

static void watch(ev_signal *w, void (*fn)(struct ev_loop *, ev_signal *, int), int signo)
{
    ev_signal_init(w, fn, signo);
    ev_signal_start(loop_ev(), w);
}

static void unwatch_all(void)
{
    ev_signal_stop(loop_ev(), &child.hup);
    ev_signal_stop(loop_ev(), &child.term);
    ev_signal_stop(loop_ev(), &child.interrupt);
    ev_signal_stop(loop_ev(), &child.usr1);
}

/* As many descriptors as the system lets us have: one a client, and those of workers and upstreams.
 */
static void raise_descriptor_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

int child_run(const struct child_setup *setup)
{
    char why[512];

    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    if (loop_init() < 0) {
        log_error(NULL, "no event loop: the kernel offers none that can be used");
        return 1;
    }
    child.conf_path = setup->conf_path;
    child.many = setup->reuse_port;
    deadline_init(&child.shutdown, on_shutdown_timeout, NULL);
    if (open_logs(setup->conf) < 0)
        goto failed;
    if (front_open(&child.front, setup->conf, setup->reuse_port, why, sizeof(why)) < 0) {
        log_error(NULL, "%s", why);
        goto failed;
    }
    if (admin_open(&child.front, setup->conf, why, sizeof(why)) < 0) {
        log_error(NULL, "%s", why);
        front_close(&child.front);
        goto failed;
    }
    conf_unref(setup->conf);
    watch(&child.hup, on_hup, SIGHUP);
    watch(&child.term, on_term, SIGTERM);
    watch(&child.interrupt, on_term, SIGINT);
    watch(&child.usr1, on_usr1, SIGUSR1);
    front_start(&child.front);
    setup->on_ready();
    loop_run();

    unwatch_all();
    deadline_close(&child.shutdown);
    admin_close();
    front_close(&child.front);
    loop_release();
    access_close();
    log_info(NULL, "stopped");
    log_close();
    return child.status;

failed:
    conf_unref(setup->conf);
    loop_release();
    access_close();
    log_close();
    return 1;
}
