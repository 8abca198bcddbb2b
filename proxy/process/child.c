/* Serving, and the signals: HUP reloads, TERM and INT drain (a second one exits at once), USR1
 * reopens the logs. */
#include "process/child.h"

#include <errno.h>
#include <ev.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "admin/admin.h"
#include "conf/load.h"
#include "exchange/front.h"
#include "net/activation.h"
#include "net/loop.h"
#include "net/tickets.h"
#include "observe/access.h"
#include "observe/counter.h"
#include "observe/log.h"
#include "observe/panic.h"
#include "process/broker.h"
#include "process/logs.h"

static struct {
    struct front front;
    const struct child_setup *setup;
    ev_signal hup, term, interrupt, usr1;
    ev_timer alive;
    struct deadline shutdown;
    uint64_t stopped_ms;
    bool stopping;
    int status;
} child;

enum { SAME_SIGNAL_MS = 1000 };

/* What a running process cannot change any more. */
static void child_warn_of_restart(const struct conf *old, const struct conf *next)
{
    if (next->processes != old->processes)
        log_warn(NULL, "processes changes with a restart only");
    if (next->session_timeout_ms != old->session_timeout_ms ||
        next->ticket_rotation_ms != old->ticket_rotation_ms)
        log_warn(NULL, "session_timeout and ticket_rotation change with a restart only");
    if (!str_eq(next->user, old->user) || !str_eq(next->group, old->group))
        log_warn(NULL, "user and group change with a restart only");
    if (next->seccomp != old->seccomp || next->landlock != old->landlock ||
        next->core_dumps != old->core_dumps)
        log_warn(NULL, "seccomp, landlock and core_dumps change with a restart only");
}

/* True if the conf on disk is in force now. */
static bool child_reload(void)
{
    struct conf_errors errors;
    struct conf *next;
    char why[512];
    bool taken = false;

    broker_refresh();
    next = conf_load(child.setup->conf_path, &errors);
    for (size_t i = 0; i < errors.count; i++)
        log_error(NULL, STR_FMT, STR_ARG(errors.list[i]));
    for (size_t i = 0; i < errors.nwarnings; i++)
        log_warn(NULL, STR_FMT, STR_ARG(errors.warnings[i]));
    conf_errors_release(&errors);
    if (!next) {
        counter_add(COUNTER_RELOADS_FAILED, 1);
        log_error(NULL, "reload refused: the old conf stays in force");
        return false;
    }
    child_warn_of_restart(child.front.conf, next);
    if (admin_prepare(next, why, sizeof(why)) < 0) {
        counter_add(COUNTER_RELOADS_FAILED, 1);
        log_error(NULL, "reload refused: %s; the old conf stays in force", why);
    } else if (front_reload(&child.front, next, why, sizeof(why)) < 0) {
        admin_abandon();
        counter_add(COUNTER_RELOADS_FAILED, 1);
        log_error(NULL, "reload refused: %s; the old conf stays in force", why);
    } else {
        admin_commit();
        logs_open(next, true);
        counter_add(COUNTER_RELOADS, 1);
        log_info(NULL, "conf \"%s\" reloaded", child.setup->conf_path);
        taken = true;
    }
    conf_unref(next);
    return taken;
}

static void child_on_hup(struct ev_loop *ev, ev_signal *w, int revents)
{
    if (child.stopping) {
        log_info(NULL, "stopping: SIGHUP ignored");
        return;
    }
    child.setup->on_reload_begun();
    child.setup->on_reload_ended(child_reload());
}

static void child_on_usr1(struct ev_loop *ev, ev_signal *w, int revents)
{
    logs_reopen();
}

static void child_on_idle(void *owner)
{
    loop_stop();
}

static void child_on_shutdown_timeout(void *owner)
{
    log_warn(NULL, "shutdown_timeout passed: %zu exchange(s) are cut off",
        front_in_flight(&child.front));
    loop_stop();
}

static void child_on_term(struct ev_loop *ev, ev_signal *w, int revents)
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
    child.setup->on_stopping();
    admin_stop();
    front_drain(&child.front, child_on_idle, NULL);
}

static void child_on_alive(struct ev_loop *ev, ev_timer *w, int revents)
{
    child.setup->on_alive();
}

static void child_watch(ev_signal *w, void (*fn)(struct ev_loop *, ev_signal *, int), int signo)
{
    sigset_t set;

    ev_signal_init(w, fn, signo);
    ev_signal_start(loop_ev(), w);
    /* The master has blocked it until there is somebody to hear it. */
    sigemptyset(&set);
    sigaddset(&set, signo);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void child_unwatch_all(void)
{
    ev_signal_stop(loop_ev(), &child.hup);
    ev_signal_stop(loop_ev(), &child.term);
    ev_signal_stop(loop_ev(), &child.interrupt);
    ev_signal_stop(loop_ev(), &child.usr1);
    ev_timer_stop(loop_ev(), &child.alive);
}

/* As many descriptors as the system lets us have: one a client, and those of workers and upstreams.
 */
static void child_raise_descriptor_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static void child_announce(const struct conf *conf, const struct sandbox_plan *fences)
{
    char landlock[32] = "";

    if (fences->landlock > 0)
        snprintf(landlock, sizeof(landlock), "landlock %u", fences->landlock);
    log_info(NULL, "fences: %s%s%s%s", fences->seccomp ? "seccomp" : "",
        fences->seccomp && fences->landlock ? ", " : "", landlock,
        fences->seccomp || fences->landlock ? "" : "none");
    if (geteuid() == 0 && conf->user.n == 0)
        log_warn(NULL, "running as root: name an account of its own in the conf, as in user = "
                       "\"tarry\"");
}

/* Everything is bound and read: no more rights from here on than serving needs. */
static int child_confine(const struct child_setup *setup)
{
    uint64_t caps = broker_running() ? 0 : PRIVILEGES_CAP(CAP_NET_BIND_SERVICE);
    struct sandbox_plan fences = *setup->fences;
    char why[512];

    if (setup->privileges && privileges_drop(setup->privileges, caps, why, sizeof(why)) < 0)
        goto failed;
    if (sandbox_enter(&fences, setup->conf, why, sizeof(why)) < 0)
        goto failed;
    child_announce(setup->conf, &fences);
    admin_set_fences(fences.seccomp, fences.landlock);
    return 0;

failed:
    log_error(NULL, "%s", why);
    return -1;
}

/* With the user's rights: a log's folder may be one in which others could lay a trap for root. */
static int child_open_first_logs(const struct child_setup *setup)
{
    int err;

    if (setup->privileges && privileges_borrow(setup->privileges) < 0) {
        log_error(NULL, "cannot act as user \"%s\": %s", setup->privileges->user, strerror(errno));
        return -1;
    }
    err = logs_open(setup->conf, true);
    if (setup->privileges)
        privileges_return(setup->privileges);
    return err;
}

int child_run(const struct child_setup *setup)
{
    char why[512];

    child_raise_descriptor_limit();
    panic_catch_signals();
    signal(SIGPIPE, SIG_IGN);
    if (loop_init() < 0) {
        log_error(NULL, "no event loop: the kernel offers none that can be used");
        tickets_free(setup->tickets);
        return 1;
    }
    child.setup = setup;
    deadline_init(&child.shutdown, child_on_shutdown_timeout, NULL);
    ev_timer_init(&child.alive, child_on_alive, 0., (double)setup->alive_interval_ms / 1e3);
    if (child_open_first_logs(setup) < 0)
        goto failed;
    if (front_open(&child.front, setup->conf, setup->tickets, setup->reuse_port, why, sizeof(why)) <
        0) {
        log_error(NULL, "%s", why);
        goto failed;
    }
    if (admin_open(&child.front, setup->conf, why, sizeof(why)) < 0) {
        log_error(NULL, "%s", why);
        front_close(&child.front);
        goto failed;
    }
    if (child_confine(setup) < 0) {
        admin_close();
        front_close(&child.front);
        goto failed;
    }
    conf_unref(setup->conf);
    child_watch(&child.hup, child_on_hup, SIGHUP);
    child_watch(&child.term, child_on_term, SIGTERM);
    child_watch(&child.interrupt, child_on_term, SIGINT);
    child_watch(&child.usr1, child_on_usr1, SIGUSR1);
    if (setup->alive_interval_ms > 0)
        ev_timer_again(loop_ev(), &child.alive);
    front_start(&child.front);
    activation_warn();
    logs_watch();
    setup->on_ready();
    loop_run();

    logs_unwatch();
    child_unwatch_all();
    deadline_close(&child.shutdown);
    admin_close();
    front_close(&child.front);
    activation_release();
    broker_stop();
    loop_release();
    tickets_free(setup->tickets);
    access_close();
    log_info(NULL, "stopped");
    log_close();
    return child.status;

failed:
    conf_unref(setup->conf);
    loop_release();
    tickets_free(setup->tickets);
    access_close();
    log_close();
    return 1;
}
