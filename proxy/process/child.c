/* Serving, and the signals: HUP reloads, TERM, INT and QUIT drain (a second one, a second later,
 * exits at once), USR1 reopens the logs. */
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
#include "admin/recent.h"
#include "base/sharedmem.h"
#include "conf/load.h"
#include "frontend/front.h"
#include "jobs/exporter.h"
#include "net/activation.h"
#include "net/fdreserve.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/tickets.h"
#include "observe/access.h"
#include "observe/counter.h"
#include "observe/log.h"
#include "observe/panic.h"
#include "process/broker.h"
#include "process/logs.h"
#include "upstream/meter.h"

/* The signals that a child answers; all that are not here keep their default action. */
struct child_signal {
    int signo;
    void (*fn)(struct ev_loop *ev, ev_signal *w, int revents);
};

enum { NSIGNALS = 6 };

struct child {
    const struct child_setup *setup;
    struct front front;
    struct admin *admin;
    struct exporter *exporter;
    ev_signal signals[NSIGNALS];
    ev_timer alive, publish;
    struct deadline drain, shutdown;
    uint64_t stopped_ms;
    bool stopping;
    int status;
};

/* How old the levels of this process may be on the page of another one. */
#define PUBLISH_S 1.

/* Warns of changes that need a restart. */
static void child_warn_of_restart(const struct conf *old, const struct conf *next)
{
    if (next->processes != old->processes || next->master_process != old->master_process)
        log_warn(NULL, "processes and master_process change with a restart only");
    if (next->session_timeout_ms != old->session_timeout_ms ||
        next->ticket_rotation_ms != old->ticket_rotation_ms)
        log_warn(NULL, "session_timeout and ticket_rotation change with a restart only");
    if (!str_eq(next->user, old->user) || !str_eq(next->group, old->group))
        log_warn(NULL, "user and group change with a restart only");
    if (next->verdicts_max != old->verdicts_max || next->verdicts_keep_ms != old->verdicts_keep_ms)
        log_warn(NULL, "verdicts_max and verdicts_keep change with a restart only");
    if (next->limit_keys_max != old->limit_keys_max)
        log_warn(NULL, "limit_keys_max changes with a restart only");
    if (next->home_ids_max != old->home_ids_max)
        log_warn(NULL, "home_ids_max changes with a restart only");
    if (next->seccomp != old->seccomp || next->landlock != old->landlock ||
        next->core_dumps != old->core_dumps)
        log_warn(NULL, "seccomp, landlock and core_dumps change with a restart only");
}

/* True if the conf on disk is in force now. */
static bool child_reload(struct child *c)
{
    struct conf_errors errors;
    struct conf *next;
    char why[512];
    bool taken = false;

    broker_refresh();
    next = conf_load(c->setup->conf_path, &errors);
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
    child_warn_of_restart(front_conf(&c->front), next);
    if (admin_prepare(c->admin, next, why, sizeof(why)) < 0) {
        counter_add(COUNTER_RELOADS_FAILED, 1);
        log_error(NULL, "reload refused: %s; the old conf stays in force", why);
    } else if (front_reload(&c->front, next, why, sizeof(why)) < 0) {
        admin_abandon(c->admin);
        counter_add(COUNTER_RELOADS_FAILED, 1);
        log_error(NULL, "reload refused: %s; the old conf stays in force", why);
    } else {
        admin_commit(c->admin);
        listener_unshare(next, false);
        logs_open(next, true);
        counter_add(COUNTER_RELOADS, 1);
        log_info(NULL, "conf \"%s\" reloaded", c->setup->conf_path);
        taken = true;
    }
    conf_unref(next);
    return taken;
}

static void child_on_hup(struct ev_loop *ev, ev_signal *w, int revents)
{
    struct child *c = w->data;
    bool taken;

    if (c->stopping) {
        log_info(NULL, "stopping: SIGHUP ignored");
        return;
    }
    if (c->setup->on_reload_begun)
        c->setup->on_reload_begun(c->setup->owner);
    fdreserve_lend();
    taken = child_reload(c);
    fdreserve_fill();
    if (c->setup->on_reload_ended)
        c->setup->on_reload_ended(c->setup->owner, taken);
}

static void child_on_usr1(struct ev_loop *ev, ev_signal *w, int revents)
{
    fdreserve_lend();
    logs_reopen();
    fdreserve_fill();
}

static void child_on_usr2(struct ev_loop *ev, ev_signal *w, int revents)
{
    log_warn(NULL, CHILD_USR2_IGNORED);
}

static void child_on_finished(void *owner)
{
    loop_stop();
}

/* The last exchange has ended; its spans are still to go. */
static void child_on_idle(void *owner)
{
    struct child *c = owner;

    exporter_finish(c->exporter, child_on_finished, c);
}

static void child_on_trail(void *owner, const struct exchange *ex)
{
    struct child *c = owner;

    exporter_add(c->exporter, ex);
    recent_add(ex);
}

static void child_on_shutdown_timeout(void *owner)
{
    struct child *c = owner;

    log_warn(
        NULL, "shutdown_timeout passed: %zu exchange(s) are cut off", front_in_flight(&c->front));
    loop_stop();
}

/* Sockets that the service manager keeps too are closed as well, so that clients wait there for the
 * next process and not for this one. */
static void child_on_drain(void *owner)
{
    struct child *c = owner;

    deadline_set(&c->shutdown, front_conf(&c->front)->shutdown_timeout_ms);
    front_drain(&c->front, child_on_idle, c);
    activation_release();
    listener_unshare(NULL, false);
}

static void child_stop(struct child *c)
{
    if (c->stopping && loop_now_ms() - c->stopped_ms < SAME_SIGNAL_MS)
        return;
    if (c->stopping) {
        log_warn(NULL, "stopping at once: %zu exchange(s) are cut off", front_in_flight(&c->front));
        c->status = 1;
        loop_stop();
        return;
    }
    c->stopping = true;
    c->stopped_ms = loop_now_ms();
    log_info(NULL, "stopping: %zu exchange(s) are in flight", front_in_flight(&c->front));
    if (c->setup->on_stopping)
        c->setup->on_stopping(c->setup->owner);
    front_announce_stop(&c->front);
    admin_stop(c->admin);
    if (front_conf(&c->front)->drain_delay_ms > 0)
        deadline_set(&c->drain, front_conf(&c->front)->drain_delay_ms);
    else
        child_on_drain(c);
}

static void child_on_term(struct ev_loop *ev, ev_signal *w, int revents)
{
    child_stop(w->data);
}

static void child_on_asked_to_drain(void *owner)
{
    struct child *c = owner;

    if (c->setup->on_drain)
        c->setup->on_drain(c->setup->owner);
    else if (!c->stopping)
        child_stop(c);
}

static void child_on_alive(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct child *c = w->data;

    c->setup->on_alive(c->setup->owner);
}

static void child_on_publish(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct child *c = w->data;

    fdreserve_fill();
    admin_publish(c->admin);
}

static const struct child_signal child_signals[NSIGNALS] = {
    { SIGHUP, child_on_hup },
    { SIGTERM, child_on_term },
    { SIGINT, child_on_term },
    { SIGQUIT, child_on_term },
    { SIGUSR1, child_on_usr1 },
    { SIGUSR2, child_on_usr2 },
};

/* They were blocked until there is somebody to hear them: by main, or by the master. */
static void child_watch(struct child *c)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < NSIGNALS; i++) {
        ev_signal_init(&c->signals[i], child_signals[i].fn, child_signals[i].signo);
        c->signals[i].data = c;
        ev_signal_start(loop_ev(), &c->signals[i]);
        sigaddset(&set, child_signals[i].signo);
    }
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    if (c->setup->alive_interval_ms > 0)
        ev_timer_again(loop_ev(), &c->alive);
    ev_timer_again(loop_ev(), &c->publish);
    logs_watch();
}

static void child_unwatch(struct child *c)
{
    sigset_t set, old;

    logs_unwatch();
    /* The process is about to end by itself. libev gives a signal its default action back, which
     * must not come into effect between the two. */
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, &old);
    for (size_t i = 0; i < NSIGNALS; i++) {
        ev_signal_stop(loop_ev(), &c->signals[i]);
        signal(child_signals[i].signo, SIG_IGN);
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    ev_timer_stop(loop_ev(), &c->alive);
    ev_timer_stop(loop_ev(), &c->publish);
    deadline_close(&c->drain);
    deadline_close(&c->shutdown);
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

static void child_announce(const struct conf *conf, const struct sandbox_plan *plan)
{
    char landlock[32] = "";

    if (plan->landlock > 0)
        snprintf(landlock, sizeof(landlock), "landlock %u", plan->landlock);
    log_info(NULL, "sandbox: %s%s%s%s", plan->seccomp ? "seccomp" : "",
        plan->seccomp && plan->landlock ? ", " : "", landlock,
        plan->seccomp || plan->landlock ? "" : "none");
    if (geteuid() == 0 && conf->user.n == 0)
        log_warn(NULL, "running as root: name an account of its own in the conf, as in user = "
                       "\"tarry\"");
}

/* Everything is bound and read: no more rights from here on than serving needs. */
static int child_confine(struct child *c)
{
    const struct child_setup *setup = c->setup;
    uint64_t caps = broker_running() ? 0 : PRIVILEGES_CAP(CAP_NET_BIND_SERVICE);
    struct sandbox_plan plan = *setup->sandbox;
    char why[512];

    if (setup->privileges && privileges_drop(setup->privileges, caps, why, sizeof(why)) < 0)
        goto failed;
    if (sandbox_enter(&plan, setup->conf, why, sizeof(why)) < 0)
        goto failed;
    child_announce(setup->conf, &plan);
    admin_set_sandbox(c->admin, plan.seccomp, plan.landlock);
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

static int child_open(struct child *c)
{
    const struct child_setup *setup = c->setup;
    char why[512];

    deadline_init(&c->drain, child_on_drain, c);
    deadline_init(&c->shutdown, child_on_shutdown_timeout, c);
    ev_timer_init(&c->alive, child_on_alive, 0., (double)setup->alive_interval_ms / 1e3);
    c->alive.data = c;
    ev_timer_init(&c->publish, child_on_publish, 0., PUBLISH_S);
    c->publish.data = c;
    if (child_open_first_logs(setup) < 0)
        return -1;
    fdreserve_open(setup->conf->descriptors_reserved);
    if (front_open(&c->front, setup->conf, setup->tickets, setup->conf->processes > 1, why,
            sizeof(why)) < 0) {
        log_error(NULL, "%s", why);
        return -1;
    }
    c->exporter = exporter_open(&c->front.exchanges, setup->version);
    if (!c->exporter) {
        log_error(NULL, "out of memory");
        front_close(&c->front);
        return -1;
    }
    c->front.exchanges.on_trail = child_on_trail;
    c->front.exchanges.viewer = c;
    c->admin = admin_open(&(struct admin_setup){ .front = &c->front,
                              .version = setup->version,
                              .commit = setup->commit,
                              .slot = setup->slot,
                              .on_drain = child_on_asked_to_drain,
                              .owner = c },
        setup->conf, why, sizeof(why));
    if (!c->admin) {
        log_error(NULL, "%s", why);
        exporter_close(c->exporter);
        front_close(&c->front);
        return -1;
    }
    if (child_confine(c) < 0) {
        admin_close(c->admin);
        exporter_close(c->exporter);
        front_close(&c->front);
        return -1;
    }
    return 0;
}

static void child_serve(struct child *c)
{
    child_watch(c);
    front_start(&c->front);
    activation_warn();
    if (c->setup->on_ready)
        c->setup->on_ready(c->setup->owner);
    loop_run();

    child_unwatch(c);
    admin_close(c->admin);
    c->front.exchanges.on_trail = NULL;
    exporter_close(c->exporter);
    front_close(&c->front);
    activation_release();
    broker_stop();
}

int child_run(const struct child_setup *setup)
{
    struct child c = { .setup = setup, .status = 1 };

    if (!setup->has_master && meter_open(setup->conf->limit_keys_max) == 0)
        meter_begin();
    sharedmem_forget();
    child_raise_descriptor_limit();
    panic_catch_signals();
    signal(SIGPIPE, SIG_IGN);
    if (loop_init() < 0) {
        log_error(NULL, "no event loop: the kernel offers none that can be used");
        conf_unref(setup->conf);
        tickets_free(setup->tickets);
        return 1;
    }
    if (child_open(&c) == 0) {
        conf_unref(setup->conf);
        c.status = 0;
        child_serve(&c);
        log_info(NULL, "stopped");
    } else {
        conf_unref(setup->conf);
    }
    fdreserve_close();
    loop_release();
    tickets_free(setup->tickets);
    access_close();
    log_close();
    return c.status;
}
