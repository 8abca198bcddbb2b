/* The command: tarry [-c FILE] [-i FIRST-LAST] [-l FD [-r FOLDER]] [-t] [-V] [-h]. */
#include <nghttp2/nghttp2.h>
#include <ares.h>
#include <ev.h>
#include <getopt.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "commit.h"
#include "config.h"

#include "base/num.h"
#include "base/str.h"
#include "conf/load.h"
#include "net/activation.h"
#include "net/tickets.h"
#include "observe/log.h"
#include "process/child.h"
#include "process/sandbox.h"
#include "process/lifeline.h"
#include "process/master.h"
#include "process/broker.h"
#include "process/privileges.h"
#include "process/supervisor.h"

#define DEFAULT_CONF "/etc/tarry/tarry.conf"

static void usage(FILE *to)
{
    fputs("usage: tarry [-c FILE] [-i FIRST-LAST] [-l FD [-r FOLDER]] [-t] [-V] [-h]\n"
          "  -c FILE        read FILE instead of " DEFAULT_CONF "\n"
          "  -i FIRST-LAST  take these descriptors, listening sockets, for the listen sections\n"
          "  -l FD          stop when there is end of file on FD: the starter has died\n"
          "  -r FOLDER      remove FOLDER then, with all that is in it\n"
          "  -t             check the conf and all that it names, and exit: 0 if it is good\n"
          "  -V, --version  print the version and the libraries in use\n"
          "  -h, --help     print this\n"
          "Signals: HUP reads the conf again, TERM finishes what is in flight and stops (a second\n"
          "one stops at once), USR1 reopens the logs. See tarry(8) and tarry.conf(5).\n",
        to);
}

static void version(void)
{
    printf("tarry %s%s%s%s\n"
           "libev %d.%d, nghttp2 %s, %s, c-ares %s, libseccomp %u.%u.%u\n",
        PACKAGE_VERSION, TARRY_COMMIT[0] ? " (commit " : "", TARRY_COMMIT,
        TARRY_COMMIT[0] ? ")" : "", ev_version_major(), ev_version_minor(),
        nghttp2_version(0)->version_str, OpenSSL_version(OPENSSL_VERSION), ares_version(NULL),
        seccomp_version()->major, seccomp_version()->minor, seccomp_version()->micro);
}

static void ready(void)
{
    log_announce("ready");
    supervisor_ready();
}

/* -t as root, where the conf names a user: whether that user can write to what it must. */
static int check_as_user(const struct conf *conf)
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

/* What the starter passes on, by options. */
struct given {
    int first_fd, nfds; /* -i: listening sockets */
    int lifeline;       /* -l; -1: none */
    const char *folder; /* -r, or NULL */
};

/* "3" or "3-5". */
static bool read_fds(const char *text, struct given *g)
{
    struct str first, last;
    uint64_t a, b;

    if (!str_cut(str_of(text), '-', &first, &last))
        last = first;
    if (!num_parse_u64(first, &a) || !num_parse_u64(last, &b) || a < 3 || b < a || b - a >= 1024 ||
        b > INT_MAX)
        return false;
    g->first_fd = (int)a;
    g->nfds = (int)(b - a) + 1;
    return true;
}

static bool read_lifeline(const char *text, struct given *g)
{
    uint64_t fd;

    if (!num_parse_u64(str_of(text), &fd) || fd < 3 || fd > INT_MAX)
        return false;
    g->lifeline = (int)fd;
    return true;
}

static int start(const char *path, struct conf *conf, const struct given *given)
{
    struct tickets *tickets;
    struct privileges p;
    struct sandbox_plan fences;
    char why[512];

    supervisor_inherit();
    if (given->nfds > 0)
        activation_take(given->first_fd, given->nfds);
    if (privileges_plan(&p, conf, why, sizeof(why)) < 0 ||
        sandbox_plan(&fences, conf, why, sizeof(why)) < 0 ||
        privileges_hand_over_logs(&p, conf, why, sizeof(why)) < 0 ||
        privileges_check_folders(&p, conf, why, sizeof(why)) < 0)
        goto failed;
    if (given->lifeline >= 0 &&
        lifeline_start(given->lifeline, given->folder, &p, why, sizeof(why)) < 0)
        goto failed;
    if ((p.change || fences.landlock > 0) && broker_start(path, &p, &fences, why, sizeof(why)) < 0)
        goto failed;
    tickets = tickets_new(conf->ticket_rotation_ms, conf->session_timeout_ms, conf->ticket_secret,
        (uint64_t)time(NULL) * 1000);
    if (!tickets) {
        snprintf(why, sizeof(why), "no memory, or no randomness, for keys of TLS sessions");
        goto failed;
    }
    supervisor_open();
    if (conf->processes > 1)
        return master_run(path, conf, tickets, &p, &fences);
    return child_run(&(struct child_setup){ .conf_path = path,
        .tickets = tickets,
        .conf = conf,
        .privileges = &p,
        .fences = &fences,
        .on_ready = ready,
        .on_reload_begun = supervisor_reloading,
        .on_reload_ended = supervisor_reloaded,
        .on_stopping = supervisor_stopping,
        .alive_interval_ms = supervisor_interval_ms(),
        .on_alive = supervisor_alive });

failed:
    log_error(NULL, "%s", why);
    conf_unref(conf);
    return 1;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "version", no_argument, NULL, 'V' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    const char *path = DEFAULT_CONF;
    struct given given = { .lifeline = -1 };
    struct conf_errors errors;
    bool check = false;
    struct conf *conf;
    int c;

    while ((c = getopt_long(argc, argv, "c:i:l:r:tVh", options, NULL)) != -1) {
        switch (c) {
        case 'c':
            path = optarg;
            break;
        case 'i':
            if (read_fds(optarg, &given))
                break;
            fprintf(stderr, "tarry: -i takes one descriptor or a range, as in 3-5, not \"%s\"\n",
                optarg);
            return 2;
        case 'l':
            if (read_lifeline(optarg, &given))
                break;
            fprintf(stderr, "tarry: -l takes the descriptor of a pipe, not \"%s\"\n", optarg);
            return 2;
        case 'r':
            given.folder = optarg;
            break;
        case 't':
            check = true;
            break;
        case 'V':
            version();
            return 0;
        case 'h':
            usage(stdout);
            return 0;
        default:
            usage(stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "tarry: unexpected argument \"%s\"\n", argv[optind]);
        usage(stderr);
        return 2;
    }
    if (given.folder && given.lifeline < 0) {
        fputs("tarry: -r needs -l, which says when the folder is to be removed\n", stderr);
        return 2;
    }
    conf = conf_load(path, &errors);
    for (size_t i = 0; i < errors.count; i++)
        fprintf(stderr, STR_FMT "\n", STR_ARG(errors.list[i]));
    for (size_t i = 0; i < errors.nwarnings; i++)
        fprintf(stderr, STR_FMT "\n", STR_ARG(errors.warnings[i]));
    conf_errors_release(&errors);
    if (!conf)
        return 1;
    if (check) {
        c = check_as_user(conf);
        if (c == 0)
            printf("%s: the conf is good\n", path);
        conf_unref(conf);
        return c;
    }
    return start(path, conf, &given);
}
