/* The master: forks, waits, forks again. It serves nobody; the sockets that it holds are for its
 * children.
 *
 * Signals come through a descriptor, so that nothing is done in a handler. Children report over one
 * pipe: a byte when they accept, and one for each reload. */
#include "process/master.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "admin/recent.h"
#include "base/entropy.h"
#include "base/sharedmem.h"
#include "conf/load.h"
#include "net/activation.h"
#include "net/listener.h"
#include "net/tickets.h"
#include "observe/counter.h"
#include "observe/log.h"
#include "observe/metric.h"
#include "process/broker.h"
#include "process/child.h"
#include "process/logs.h"
#include "process/supervisor.h"
#include "process/upgrade.h"
#include "upstream/meter.h"
#include "upstream/verdict.h"

enum {
    RESTART_PAUSE_MS = 1000, /* the first one, for a child that has not lived for so long */
    LIVED_LONG_MS = 60000,   /* after this the pause is the first one again */
    TICK_MS = 500,
    TICK_LOG_MS = 100, /* while a log's target takes no lines */
    KILL_AFTER_MS = 5000,
    RECLAIM_MS = 1000, /* how often to look for processes of another master that have ended */
    BACKLOG_ADMIN = 64,
};

enum report { REPORT_READY = 'r', REPORT_TAKEN = '+', REPORT_REFUSED = '-', REPORT_DRAIN = 'd' };

struct master_child {
    pid_t pid; /* 0: not running */
    uint64_t started_ms, pause_ms, not_before_ms;
};

struct master {
    const struct master_setup *setup;
    struct conf *conf;
    struct tickets *tickets; /* each child begins with a copy of them */
    struct master_child *children;
    size_t n, ready;
    int signals;        /* a signalfd */
    int report_pipe[2]; /* bytes of enum report */
    size_t reloading;   /* children that have not reported yet */
    sigset_t set, old;
    uint64_t stopped_ms, release_ms, deadline_ms, told_ms, reclaimed_ms;
    struct upgrade upgrade;
    bool replaced; /* another master serves: the files of unix sockets are its own */
    bool serving;  /* all children accepted once */
    bool refused, stopping, released, asked_to_drain;
    int status;
};

static uint64_t master_clock_ms(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint64_t master_now_ms(void)
{
    return master_clock_ms(CLOCK_MONOTONIC);
}

/* ---- in a child ---- */

static void master_report(struct master *m, char byte)
{
    while (write(m->report_pipe[1], &byte, 1) < 0 && errno == EINTR)
        ;
}

static void master_on_ready(void *owner)
{
    master_report(owner, REPORT_READY);
}

static void master_on_reload_ended(void *owner, bool taken)
{
    master_report(owner, taken ? REPORT_TAKEN : REPORT_REFUSED);
}

/* Over the control socket: all processes drain. */
static void master_on_drain(void *owner)
{
    master_report(owner, REPORT_DRAIN);
}

/* The child has the master's reference to the conf as its own, by the fork. */
static _Noreturn void master_run_child(struct master *m, size_t slot)
{
    sigset_t chld;

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    /* The other signals stay blocked until the child listens to them: one that comes before would
     * end it. */
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_UNBLOCK, &chld, NULL);
    close(m->signals);
    close(m->report_pipe[0]);
    upgrade_forget(&m->upgrade);
    supervisor_close();
    entropy_forget();
    log_forget_waiting(); /* the master writes its lines itself */
    metric_use_slot(slot);
    recent_use_slot(slot);
    meter_begin();
    free(m->children);
    m->children = NULL;
    exit(child_run(&(struct child_setup){ .conf_path = m->setup->conf_path,
        .version = m->setup->version,
        .commit = m->setup->commit,
        .conf = m->conf,
        .tickets = m->tickets,
        .sandbox = m->setup->sandbox,
        .has_master = true,
        .slot = slot,
        .on_drain = master_on_drain,
        .owner = m,
        .on_ready = master_on_ready,
        .on_reload_ended = master_on_reload_ended }));
}

/* ---- children ---- */

static void master_start_child(struct master *m, size_t slot)
{
    struct master_child *c = &m->children[slot];
    pid_t pid;

    tickets_rotate(m->tickets, master_clock_ms(CLOCK_REALTIME));
    c->started_ms = master_now_ms();
    pid = fork();
    if (pid == 0)
        master_run_child(m, slot);
    if (pid < 0)
        log_error(NULL, "cannot start a process: %s", strerror(errno));
    c->pid = pid > 0 ? pid : 0;
    if (pid < 0)
        c->not_before_ms = c->started_ms + RESTART_PAUSE_MS;
}

static void master_signal_children(const struct master *m, int signo)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->children[i].pid > 0)
            kill(m->children[i].pid, signo);
}

static size_t master_running(const struct master *m)
{
    size_t n = 0;

    for (size_t i = 0; i < m->n; i++)
        n += m->children[i].pid > 0;
    return n;
}

/* A child that dies again and again is started with a growing pause, not in a spin. */
static void master_plan_restart(const struct master *m, struct master_child *c)
{
    uint64_t now = master_now_ms(), lived = now - c->started_ms;

    if (lived >= LIVED_LONG_MS)
        c->pause_ms = 0;
    c->pause_ms = c->pause_ms ? c->pause_ms * 2 : RESTART_PAUSE_MS;
    if (c->pause_ms > m->conf->restart_max_pause_ms)
        c->pause_ms = m->conf->restart_max_pause_ms;
    c->not_before_ms = c->started_ms + c->pause_ms;
    if (c->pause_ms > RESTART_PAUSE_MS)
        c->not_before_ms = now + c->pause_ms;
}

/* Gives back everything that dead processes held in memory that outlives them. Processes of an
 * earlier binary are not this one's children, and their master may have been killed: see
 * master_turn(). */
static void master_reclaim(struct master *m)
{
    m->reclaimed_ms = master_now_ms();
    verdict_forget_dead();
    meter_forget_dead();
    metric_forget_dead();
}

static void master_on_child_end(struct master *m, struct master_child *c, int status)
{
    const char *name = WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : NULL;
    int pid = (int)c->pid;

    c->pid = 0;
    metric_clear_gauges((size_t)(c - m->children));
    recent_clear_slot((size_t)(c - m->children));
    master_reclaim(m);
    if (m->stopping)
        return;
    if (name)
        log_error(NULL, "process %d ended by signal %d (%s)", pid, WTERMSIG(status), name);
    else
        log_error(NULL, "process %d ended by status %d", pid, WEXITSTATUS(status));
    master_plan_restart(m, c);
}

static void master_reap(struct master *m)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < m->n; i++)
            if (m->children[i].pid == pid)
                master_on_child_end(m, &m->children[i], status);
}

/* Reads the conf as the children have it by now. */
static void master_take_conf(struct master *m)
{
    struct conf_errors errors;
    struct conf *next;

    broker_refresh();
    next = conf_load(m->setup->conf_path, &errors);
    conf_errors_release(&errors);
    if (!next)
        return;
    conf_unref(m->conf);
    m->conf = next;
    listener_unshare(m->conf, true);
    logs_open(m->conf, false);
}

static void master_start_missing(struct master *m)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->children[i].pid > 0 || master_now_ms() < m->children[i].not_before_ms)
            continue;
        master_take_conf(m);
        master_start_child(m, i);
        if (m->children[i].pid == 0)
            continue;
        counter_add(COUNTER_PROCESSES_REPLACED, 1);
        log_info(NULL, "process %d started", (int)m->children[i].pid);
    }
}

/* ---- reports ---- */

static void master_end_reload(struct master *m)
{
    m->reloading = 0;
    if (!m->refused)
        master_take_conf(m);
    supervisor_reloaded(!m->refused);
}

static void master_on_report(struct master *m, char byte)
{
    if (byte == REPORT_READY) {
        m->ready++;
    } else if (byte == REPORT_DRAIN) {
        m->asked_to_drain = true;
    } else if (m->reloading > 0) {
        m->refused |= byte == REPORT_REFUSED;
        if (--m->reloading == 0)
            master_end_reload(m);
    }
}

/* The last child's report is what the service manager is told. A child that died meanwhile is not
 * waited for. */
static void master_collect_reports(struct master *m)
{
    char bytes[64];
    ssize_t n;

    while ((n = read(m->report_pipe[0], bytes, sizeof(bytes))) > 0)
        for (ssize_t i = 0; i < n; i++)
            master_on_report(m, bytes[i]);
    if (m->reloading > master_running(m)) {
        m->reloading = master_running(m);
        if (m->reloading == 0)
            master_end_reload(m);
    }
}

/* ---- signals ---- */

/* Clients that connect to a socket that no child accepts from would wait for nothing. */
static void master_release_sockets(struct master *m)
{
    m->released = true;
    activation_release();
    listener_unshare(NULL, !m->replaced);
}

/* When a service manager signals all processes of a group, children get the signal twice; see
 * child.c. */
static void master_stop(struct master *m)
{
    uint64_t now = master_now_ms();

    if (m->stopping && now - m->stopped_ms < SAME_SIGNAL_MS)
        return;
    master_signal_children(m, SIGTERM);
    if (m->stopping) {
        m->status = 1;
        return;
    }
    m->stopping = true;
    m->stopped_ms = now;
    m->release_ms = now + m->conf->drain_delay_ms;
    m->deadline_ms = m->release_ms + m->conf->shutdown_timeout_ms + KILL_AFTER_MS;
    supervisor_stopping();
}

static void master_reload(struct master *m)
{
    if (!m->stopping) {
        m->reloading = master_running(m);
        m->refused = false;
        supervisor_reloading();
    }
    master_signal_children(m, SIGHUP);
}

static void master_begin_upgrade(struct master *m)
{
    char why[512];

    if (m->stopping || m->upgrade.pid != 0) {
        log_warn(NULL, "SIGUSR2 ignored: %s",
            m->stopping ? "stopping" : "another binary is starting already");
    } else if (!m->setup->may_upgrade) {
        log_warn(NULL, "SIGUSR2 ignored: Tarry was started without a conf file, or with -l");
    } else if (upgrade_begin(&m->upgrade, m->setup->conf_path,
                   master_now_ms() + m->conf->upgrade_timeout_ms, &m->old, why, sizeof(why)) < 0) {
        log_error(NULL, "no upgrade: %s", why);
    } else {
        log_info(NULL, "upgrade: process %d is starting", (int)m->upgrade.pid);
    }
}

/* No connection is refused: the other one listens already. */
static void master_check_upgrade(struct master *m)
{
    int pid = (int)m->upgrade.pid;

    switch (upgrade_check(&m->upgrade, master_now_ms())) {
    case UPGRADE_NONE:
    case UPGRADE_STARTING:
        break;
    case UPGRADE_READY:
        log_info(NULL, "upgrade: process %d serves; this one finishes what is in flight", pid);
        supervisor_replaced_by(pid);
        supervisor_close(); /* the other one speaks for all from now on */
        m->replaced = true;
        if (!m->stopping)
            master_stop(m);
        m->release_ms = master_now_ms();
        break;
    case UPGRADE_FAILED:
        log_error(NULL, "upgrade: process %d did not become ready; this one serves on", pid);
        break;
    }
}

static void master_on_signal(struct master *m, int signo)
{
    switch (signo) {
    case SIGTERM:
    case SIGINT:
    case SIGQUIT:
        master_stop(m);
        break;
    case SIGHUP:
        master_reload(m);
        break;
    case SIGUSR1:
        logs_reopen();
        master_signal_children(m, signo);
        break;
    case SIGUSR2:
        master_begin_upgrade(m);
        break;
    default: /* SIGCHLD: see master_reap() */
        break;
    }
}

static void master_read_signals(struct master *m)
{
    struct signalfd_siginfo info;

    while (read(m->signals, &info, sizeof(info)) == sizeof(info))
        master_on_signal(m, (int)info.ssi_signo);
}

/* ---- start and end ---- */

/* Unix sockets are bound once, for all; those of a single child too, so that clients wait in the
 * backlog while it is replaced. */
static int master_share_listeners(const struct conf *conf)
{
    bool many = conf->processes > 1;
    char why[512];

    for (size_t i = 0; i < conf->nlistens; i++)
        if (listener_share(
                &conf->listens[i].addr, conf->listens[i].backlog, many, why, sizeof(why)) < 0)
            goto failed;
    for (size_t i = 0; i < conf->nadmins; i++) {
        char room[CONF_ADDRESS_TEXT_MAX];
        struct addr_conf a;

        /* A control socket for each, otherwise one for all. */
        for (size_t k = 0; k < (conf->admins[i].control ? conf->processes : 1); k++) {
            conf_admin_address(conf, &conf->admins[i], k, &a, room);
            if (listener_share(&a, BACKLOG_ADMIN, many, why, sizeof(why)) < 0)
                goto failed;
        }
    }
    return 0;

failed:
    log_error(NULL, "%s", why);
    return -1;
}

/* What the master may do itself from here on is to wait, and to fork. */
static int master_drop(const struct privileges *p)
{
    char why[512];

    if (privileges_drop(
            p, broker_running() ? 0 : PRIVILEGES_CAP(CAP_NET_BIND_SERVICE), why, sizeof(why)) == 0)
        return 0;
    log_error(NULL, "%s", why);
    return -1;
}

static int master_catch_signals(struct master *m)
{
    static const int caught[] = { SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGCHLD };

    signal(SIGPIPE, SIG_IGN); /* the reader of a log may end */
    sigemptyset(&m->set);
    for (size_t i = 0; i < sizeof(caught) / sizeof(*caught); i++)
        sigaddset(&m->set, caught[i]);
    sigprocmask(SIG_BLOCK, &m->set, &m->old);
    m->signals = signalfd(-1, &m->set, SFD_NONBLOCK | SFD_CLOEXEC);
    return m->signals < 0 ? -1 : 0;
}

static int master_open(struct master *m)
{
    m->children = calloc(m->n, sizeof(*m->children));
    if (!m->children || pipe2(m->report_pipe, O_CLOEXEC) < 0 || master_catch_signals(m) < 0 ||
        metric_share(m->n + 1) < 0 || recent_share(m->n) < 0 ||
        meter_open(m->conf->limit_keys_max) < 0) {
        log_error(NULL, "cannot start: %s", strerror(errno));
        return -1;
    }
    fcntl(m->report_pipe[0], F_SETFL, O_NONBLOCK);
    metric_use_slot(m->n);
    if (master_share_listeners(m->conf) < 0 || master_drop(m->setup->privileges) < 0)
        return -1;
    return logs_open(m->conf, false);
}

static void master_wait(const struct master *m)
{
    struct pollfd fds[] = { { .fd = m->signals, .events = POLLIN },
        { .fd = m->report_pipe[0], .events = POLLIN },
        { .fd = m->upgrade.pid ? m->upgrade.fd : -1, .events = POLLIN } };
    uint64_t tick_ms = log_pump() ? TICK_MS : TICK_LOG_MS, alive_ms = supervisor_interval_ms();

    if (alive_ms > 0 && alive_ms < tick_ms)
        tick_ms = alive_ms;
    poll(fds, sizeof(fds) / sizeof(*fds), (int)tick_ms);
}

static void master_tell_alive(struct master *m)
{
    uint64_t interval_ms = supervisor_interval_ms();

    if (interval_ms == 0 || master_now_ms() - m->told_ms < interval_ms)
        return;
    m->told_ms = master_now_ms();
    supervisor_alive();
}

/* Until every child accepts. A child that ends before cannot serve, and another would not either.
 */
static void master_on_starting(struct master *m)
{
    if (m->ready == m->n) {
        m->serving = true;
        m->status = 0;
        activation_drop_rest();
        sharedmem_drop_rest();
        log_announce("ready");
        supervisor_ready();
        upgrade_tell_ready();
    } else if (master_running(m) < m->n) {
        m->stopping = true;
        m->stopped_ms = m->release_ms = master_now_ms();
        m->deadline_ms = m->stopped_ms + KILL_AFTER_MS;
        master_signal_children(m, SIGTERM);
    }
}

/* One turn. False when all is over. */
static bool master_turn(struct master *m)
{
    master_wait(m);
    master_read_signals(m);
    master_reap(m);
    master_collect_reports(m);
    if (m->asked_to_drain && !m->stopping)
        master_stop(m);
    master_check_upgrade(m);
    master_tell_alive(m);
    if (master_now_ms() - m->reclaimed_ms >= RECLAIM_MS)
        master_reclaim(m);
    tickets_rotate(
        m->tickets, master_clock_ms(CLOCK_REALTIME)); /* old keys are forgotten here too */
    if (m->stopping) {
        if (!m->released && master_now_ms() >= m->release_ms)
            master_release_sockets(m);
        if (master_now_ms() > m->deadline_ms) {
            master_signal_children(m, SIGKILL);
            m->status = 1;
        }
        return master_running(m) > 0;
    }
    if (!m->serving)
        master_on_starting(m);
    else
        master_start_missing(m);
    return true;
}

int master_run(const struct master_setup *setup)
{
    struct master m = { .setup = setup,
        .conf = setup->conf,
        .tickets = setup->tickets,
        .n = setup->conf->processes,
        .signals = -1,
        .report_pipe = { -1, -1 },
        .status = 1 };

    if (master_open(&m) == 0) {
        for (size_t i = 0; i < m.n; i++)
            master_start_child(&m, i);
        while (master_turn(&m))
            ;
        if (m.serving && m.status == 0)
            log_info(NULL, "stopped");
    }
    upgrade_abandon(&m.upgrade);
    master_release_sockets(&m);
    broker_stop();
    free(m.children);
    conf_unref(m.conf);
    tickets_free(m.tickets);
    log_close();
    return m.status;
}
