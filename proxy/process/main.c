/* The command tarry: checks and prints confs, or starts the proxy. command.c has the options. */
#include <nghttp2/nghttp2.h>
#include <ares.h>
#include <errno.h>
#include <ev.h>
#include <openssl/crypto.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "commit.h"
#include "config.h"

#include "base/str.h"
#include "conf/load.h"
#include "conf/print.h"
#include "net/activation.h"
#include "net/listener.h"
#include "net/tickets.h"
#include "observe/log.h"
#include "process/child.h"
#include "process/command.h"
#include "process/explain.h"
#include "process/sandbox.h"
#include "process/lifeline.h"
#include "process/master.h"
#include "process/broker.h"
#include "process/privileges.h"
#include "process/supervisor.h"
#include "process/upgrade.h"
#include "upstream/home.h"
#include "upstream/ledger.h"

static void main_version(void)
{
    printf("tarry %s%s%s%s\n"
           "libev %d.%d, nghttp2 %s, %s, c-ares %s, libseccomp %u.%u.%u\n",
        PACKAGE_VERSION, TARRY_COMMIT[0] ? " (commit " : "", TARRY_COMMIT,
        TARRY_COMMIT[0] ? ")" : "", ev_version_major(), ev_version_minor(),
        nghttp2_version(0)->version_str, OpenSSL_version(OPENSSL_VERSION), ares_version(NULL),
        seccomp_version()->major, seccomp_version()->minor, seccomp_version()->micro);
}

/* What a process without a master tells the service manager itself. */

static void main_on_ready(void *owner)
{
    activation_drop_rest();
    log_announce("ready");
    supervisor_ready();
    upgrade_tell_ready();
}

static void main_on_reload_begun(void *owner)
{
    supervisor_reloading();
}

static void main_on_reload_ended(void *owner, bool taken)
{
    supervisor_reloaded(taken);
}

static void main_on_stopping(void *owner)
{
    supervisor_stopping();
}

static void main_on_alive(void *owner)
{
    supervisor_alive();
}

/* -t as root, where the conf names a user: whether that user can write to what it must. */
static int main_check_as_user(const struct conf *conf)
{
    struct privileges p;
    char why[512];
    int err;

    if (geteuid() != 0)
        return 0;
    if (privileges_plan(&p, conf, why, sizeof(why)) < 0) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    err = privileges_check_folders(&p, conf, why, sizeof(why));
    if (err < 0)
        fprintf(stderr, STR_FMT ":1: %s\n", STR_ARG(conf->file), why);
    return err < 0 ? 1 : 0;
}

/* Signals that would end a process which does not listen to them yet: they wait until it does. */
static void main_block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static int main_start(const struct command *given, struct conf *conf)
{
    struct tickets *tickets;
    struct privileges p;
    struct sandbox_plan sandbox;
    char why[512];

    main_block_signals();
    upgrade_note_binary();
    supervisor_inherit();
    upgrade_inherit();
    if (given->nfds > 0)
        activation_take(given->first_fd, given->nfds);
    if (privileges_plan(&p, conf, why, sizeof(why)) < 0 ||
        sandbox_plan(&sandbox, conf, why, sizeof(why)) < 0 ||
        privileges_hand_over_logs(&p, conf, why, sizeof(why)) < 0 ||
        privileges_check_folders(&p, conf, why, sizeof(why)) < 0)
        goto failed;
    if (p.change)
        listener_set_group(p.gid);
    if (given->lifeline >= 0 &&
        lifeline_start(given->lifeline, given->folder, &p, why, sizeof(why)) < 0)
        goto failed;
    if ((p.change || sandbox.landlock > 0) &&
        broker_start(given->path, &p, &sandbox, why, sizeof(why)) < 0)
        goto failed;
    tickets = tickets_new(conf->ticket_rotation_ms, conf->session_timeout_ms, conf->ticket_secret,
        (uint64_t)time(NULL) * 1000);
    if (!tickets) {
        snprintf(why, sizeof(why), "no memory, or no randomness, for keys of TLS sessions");
        goto failed;
    }
    if (ledger_open(conf->verdicts_max, conf->verdicts_keep_ms) < 0 ||
        home_open(conf->home_ids_max) < 0) {
        snprintf(
            why, sizeof(why), "no memory for verdicts_max and home_ids_max: %s", strerror(errno));
        goto failed;
    }
    supervisor_open();
    if (conf->processes > 1 || conf->master_process)
        return master_run(&(struct master_setup){ .conf_path = given->path,
            .version = PACKAGE_VERSION,
            .commit = TARRY_COMMIT,
            .conf = conf,
            .tickets = tickets,
            .privileges = &p,
            .sandbox = &sandbox,
            .may_upgrade = given->lifeline < 0 && given->text.len == 0 });
    return child_run(&(struct child_setup){ .conf_path = given->path,
        .version = PACKAGE_VERSION,
        .commit = TARRY_COMMIT,
        .tickets = tickets,
        .conf = conf,
        .privileges = &p,
        .sandbox = &sandbox,
        .on_ready = main_on_ready,
        .on_reload_begun = main_on_reload_begun,
        .on_reload_ended = main_on_reload_ended,
        .on_stopping = main_on_stopping,
        .alive_interval_ms = supervisor_interval_ms(),
        .on_alive = main_on_alive });

failed:
    log_error(NULL, "%s", why);
    conf_unref(conf);
    return 1;
}

static const char sample[] =
#include "sample.h"
    ;

/* Writes the sample conf. Never over a file. */
static int main_init(const char *path)
{
    FILE *to = strcmp(path, "-") == 0 ? stdout : fopen(path, "wxe");
    bool good;

    if (!to) {
        fprintf(stderr, "tarry: cannot write \"%s\": %s\n", path,
            errno == EEXIST ? "it exists already; name another file with -c" : strerror(errno));
        return 1;
    }
    good = fputs(sample, to) >= 0;
    good = (to == stdout ? fflush(to) : fclose(to)) == 0 && good;
    if (!good)
        fprintf(stderr, "tarry: cannot write \"%s\": %s\n", path, strerror(errno));
    else if (to != stdout)
        printf("%s: written; edit it, then check it with: tarry -t -c %s\n", path, path);
    return good ? 0 : 1;
}

/* With all that the conf names. */
static struct conf *main_load(const char *path, conf_look_fn *look, void *owner)
{
    struct conf_errors errors;
    struct conf *conf = conf_load_and_look(path, &errors, look, owner);

    for (size_t i = 0; i < errors.count; i++)
        fprintf(stderr, STR_FMT "\n", STR_ARG(errors.list[i]));
    for (size_t i = 0; i < errors.nwarnings; i++)
        fprintf(stderr, STR_FMT "\n", STR_ARG(errors.warnings[i]));
    conf_errors_release(&errors);
    return conf;
}

/* The one line of a good conf. Where calls may go is what is most often missing. */
static void main_say_good(const char *path, const struct conf *conf)
{
    const char *before = "; calls may go to ";

    printf("%s: the conf is good", path);
    for (size_t i = 0; i < conf->nupstreams; i++)
        for (size_t j = 0; j < conf->upstreams[i].nendpoints; j++) {
            printf("%s" STR_FMT, before, STR_ARG(conf->upstreams[i].endpoints[j].origin));
            before = ", ";
        }
    putchar('\n');
}

static void main_on_print(void *owner, const struct draft *d)
{
    print_draft(d, owner);
}

static int main_check(const char *path, bool print)
{
    struct conf *conf = main_load(path, print ? main_on_print : NULL, stdout);
    int status;

    if (!conf)
        return 1;
    status = main_check_as_user(conf);
    if (status == 0 && !print)
        main_say_good(path, conf);
    conf_unref(conf);
    return status;
}

static int main_explain(const char *path, const char *url)
{
    struct explain e = { .url = url };
    struct conf *conf = main_load(path, explain_look, &e);

    conf_unref(conf);
    return conf && e.served ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct command cmd; /* its text lives as long as the process */
    struct conf *conf;

    switch (command_read(&cmd, argc, argv)) {
    case COMMAND_WRONG:
        return 2;
    case COMMAND_HELP:
        command_print_usage();
        return 0;
    case COMMAND_VERSION:
        main_version();
        return 0;
    case COMMAND_EXPLAIN:
        return main_explain(cmd.path, cmd.url);
    case COMMAND_INIT:
        return main_init(cmd.path);
    case COMMAND_CHECK:
        return main_check(cmd.path, false);
    case COMMAND_PRINT:
        return main_check(cmd.path, true);
    case COMMAND_RUN:
        break;
    }
    conf = main_load(cmd.path, NULL, NULL);
    return conf ? main_start(&cmd, conf) : 1;
}
