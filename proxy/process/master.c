/* The master: forks, waits, forks again. It serves nobody and holds no socket. */
#include "process/master.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/entropy.h"
#include "conf/load.h"
#include "net/activation.h"
#include "net/listener.h"
#include "net/tickets.h"
#include "observe/log.h"
#include "process/child.h"
#include "process/broker.h"
#include "process/supervisor.h"

enum {
    RESTART_PAUSE_MS = 1000, /* a child that dies at once must not be forked in a spin */
    TICK_MS = 500,
    TICK_RELOADING_MS = 20,
};

static struct {
    const char *conf_path;
    const struct sandbox_plan *fences;
    pid_t *pids; /* 0: not master_running */
    uint64_t *started_ms;
    size_t n, ready;
    struct tickets *tickets; /* each child begins with a copy of them */
    int ready_pipe[2];
    int report_pipe[2]; /* a byte for each child that has reloaded: '+', or '-' if it refused */
    size_t reloading;   /* children whose byte has not come yet */
    bool refused;
    bool stopping;
} master;

static uint64_t master_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint64_t master_wall_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* In the child: one byte tells the master, if it still waits. */
static void master_tell_ready(void)
{
    char byte = 'r';

    if (master.ready == master.n)
        return;
    while (write(master.ready_pipe[1], &byte, 1) < 0 && errno == EINTR)
        ;
    close(master.ready_pipe[1]);
}

static void master_on_reload_begun(void)
{
}

static void master_on_reload_ended(bool taken)
{
    char byte = taken ? '+' : '-';

    while (write(master.report_pipe[1], &byte, 1) < 0 && errno == EINTR)
        ;
}

static void master_on_stopping(void)
{
}

/* The child has the master's reference to `conf` as its own, by the fork. */
static pid_t master_start_child(struct conf *conf)
{
    sigset_t set;
    pid_t pid;

    tickets_rotate(master.tickets, master_wall_ms());
    pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGCHLD, SIG_DFL);
    /* The other signals stay blocked until the child listens to them: one that comes before would
     * end it. */
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    if (master.ready < master.n)
        close(master.ready_pipe[0]);
    close(master.report_pipe[0]);
    supervisor_close();
    entropy_forget();
    free(master.pids);
    free(master.started_ms);
    exit(child_run(&(struct child_setup){ .conf_path = master.conf_path,
        .conf = conf,
        .tickets = master.tickets,
        .fences = master.fences,
        .reuse_port = true,
        .on_ready = master_tell_ready,
        .on_reload_begun = master_on_reload_begun,
        .on_reload_ended = master_on_reload_ended,
        .on_stopping = master_on_stopping }));
}

static void master_signal_children(int signo)
{
    for (size_t i = 0; i < master.n; i++)
        if (master.pids[i] > 0)
            kill(master.pids[i], signo);
}

static void master_reap(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < master.n; i++) {
            if (master.pids[i] != pid)
                continue;
            master.pids[i] = 0;
            if (!master.stopping)
                log_error(NULL, "process %d ended by %s %d", (int)pid,
                    WIFSIGNALED(status) ? "signal" : "status",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        }
    }
}

static size_t master_running(void)
{
    size_t n = 0;

    for (size_t i = 0; i < master.n; i++)
        n += master.pids[i] > 0;
    return n;
}

/* Counts the bytes of children that have reloaded; the last one's is what the service manager is
 * told. A child that died meanwhile is not waited for. */
static void master_collect_reports(void)
{
    char bytes[64];
    ssize_t n;

    while ((n = read(master.report_pipe[0], bytes, sizeof(bytes))) > 0) {
        for (ssize_t i = 0; i < n; i++)
            master.refused |= bytes[i] == '-';
        master.reloading -= (size_t)n < master.reloading ? (size_t)n : master.reloading;
        if (master.reloading == 0)
            supervisor_reloaded(!master.refused);
    }
    if (master.reloading > master_running()) {
        master.reloading = master_running();
        if (master.reloading == 0)
            supervisor_reloaded(!master.refused);
    }
}

static void master_start_missing(struct conf **conf)
{
    for (size_t i = 0; i < master.n; i++) {
        struct conf_errors errors;
        struct conf *fresh;

        if (master.pids[i] > 0 || master_now_ms() - master.started_ms[i] < RESTART_PAUSE_MS)
            continue;
        /* A child that is started later reads the conf as the others have it by now. */
        broker_refresh();
        fresh = conf_load(master.conf_path, &errors);
        conf_errors_release(&errors);
        if (fresh) {
            conf_unref(*conf);
            *conf = fresh;
        }
        master.started_ms[i] = master_now_ms();
        master.pids[i] = master_start_child(*conf);
        if (master.pids[i] > 0)
            log_info(NULL, "process %d started", (int)master.pids[i]);
    }
}

/* Waits until every child accepts. 0, or -1 if one could not. */
static int master_await_ready(void)
{
    while (master.ready < master.n) {
        char byte;
        ssize_t n = read(master.ready_pipe[0], &byte, 1);

        if (n == 1)
            master.ready++;
        else if (n == 0 || errno != EINTR)
            return -1; /* all ends are closed: they died */
    }
    return 0;
}

/* Unix sockets are bound once, for all. */
static int master_share_listeners(const struct conf *conf)
{
    char why[512];

    for (size_t i = 0; i < conf->nlistens + conf->nadmins; i++) {
        const struct addr_conf *a =
            i < conf->nlistens ? &conf->listens[i].addr : &conf->admins[i - conf->nlistens].addr;
        unsigned backlog = i < conf->nlistens ? conf->listens[i].backlog : 64;

        if (listener_share(a->text, (const struct sockaddr *)&a->sa, a->salen, backlog, why,
                sizeof(why)) < 0) {
            log_error(NULL, "%s", why);
            return -1;
        }
    }
    return 0;
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

static void master_on_signal(int signo, uint64_t *deadline, const struct conf *conf, int *status)
{
    if (signo == SIGTERM || signo == SIGINT) {
        master_signal_children(SIGTERM);
        if (master.stopping)
            *status = 1;
        else
            *deadline = master_now_ms() + conf->shutdown_timeout_ms + 5000;
        master.stopping = true;
        supervisor_stopping();
    } else if (signo == SIGHUP && !master.stopping) {
        master.reloading = master_running();
        master.refused = false;
        supervisor_reloading();
        master_signal_children(signo);
    } else if (signo == SIGHUP || signo == SIGUSR1) {
        master_signal_children(signo);
    }
}

int master_run(const char *conf_path, struct conf *conf, struct tickets *tickets,
    const struct privileges *p, const struct sandbox_plan *fences)
{
    uint64_t deadline = 0, told_ms = 0, interval_ms = supervisor_interval_ms();
    sigset_t set, old;
    int status = 1;

    master.conf_path = conf_path;
    master.fences = fences;
    master.n = conf->processes;
    master.tickets = tickets;
    master.pids = calloc(master.n, sizeof(*master.pids));
    master.started_ms = calloc(master.n, sizeof(*master.started_ms));
    if (!master.pids || !master.started_ms || pipe(master.ready_pipe) < 0 ||
        pipe2(master.report_pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
        log_error(NULL, "cannot start: %s", strerror(errno));
        goto done;
    }
    if (master_share_listeners(conf) < 0 || master_drop(p) < 0)
        goto done;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &old);
    for (size_t i = 0; i < master.n; i++) {
        master.started_ms[i] = master_now_ms();
        master.pids[i] = master_start_child(conf);
    }
    close(master.ready_pipe[1]);
    if (master_await_ready() < 0) {
        master_signal_children(SIGTERM);
        goto wait;
    }
    close(master.ready_pipe[0]);
    status = 0;
    log_announce("ready");
    supervisor_ready();
    for (;;) {
        uint64_t tick_ms = master.reloading ? TICK_RELOADING_MS : TICK_MS;
        struct timespec tick;

        if (interval_ms > 0 && interval_ms < tick_ms)
            tick_ms = interval_ms;
        tick = (struct timespec){ .tv_nsec = (long)tick_ms * 1000000 };
        master_on_signal(sigtimedwait(&set, NULL, &tick), &deadline, conf, &status);
        master_reap();
        master_collect_reports();
        if (interval_ms > 0 && master_now_ms() - told_ms >= interval_ms) {
            told_ms = master_now_ms();
            supervisor_alive();
        }
        tickets_rotate(master.tickets, master_wall_ms()); /* what is old is forgotten here too */
        if (master.stopping) {
            if (master_running() == 0)
                break;
            if (master_now_ms() > deadline) {
                master_signal_children(SIGKILL);
                status = 1;
            }
        } else {
            master_start_missing(&conf);
        }
    }

wait:
    broker_stop();
    activation_release();
    while (waitpid(-1, NULL, 0) > 0)
        ;
    sigprocmask(SIG_SETMASK, &old, NULL);
done:
    listener_unshare();
    free(master.pids);
    free(master.started_ms);
    conf_unref(conf);
    tickets_free(tickets);
    return status;
}
