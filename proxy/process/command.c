/* tarry [-c FILE] [-i FIRST-LAST] [-l FD [-r FOLDER]] [-t | -T | --init] [-V] [-h], or a conf from
 * the command line. */
#include "process/command.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/num.h"
#include "base/str.h"
#include "conf/file.h"

static void command_write_usage(FILE *to)
{
    fputs(
        "usage: tarry [-c FILE] [-i FIRST-LAST] [-l FD [-r FOLDER]] [-t | -T | --explain URL | "
        "--init] "
        "[-h]\n"
        "       tarry --listen ADDRESS --backend ADDRESS[,SLOTS] --upstream ORIGIN\n"
        "  -c FILE        read FILE instead of " COMMAND_CONF "\n"
        "  -i FIRST-LAST  take these descriptors, listening sockets, for the listen sections\n"
        "  -l FD          stop when there is end of file on FD: the starter has died\n"
        "  -r FOLDER      remove FOLDER then, with all that is in it\n"
        "  -t             check the conf and all that it names, and exit: 0 if it is good\n"
        "  -T             the same, and print the whole effective conf with all defaults\n"
        "  --init         write a conf with comments to FILE (-: standard output), never over a\n"
        "                 file\n"
        "  --listen, --backend, --upstream\n"
        "                 run without a conf file: clients connect to the first, the app listens\n"
        "                 on the second and works on SLOTS (1) requests at once, calls may go to\n"
        "                 the third, such as https://api.openai.com; each may be repeated\n"
        "  -V, --version  print the version and the libraries in use\n"
        "  -h, --help     print this\n"
        "Signals: HUP reads the conf again, TERM finishes what is in flight and stops (a second\n"
        "one stops at once), USR1 reopens the logs. See tarry(8) and tarry.conf(5).\n",
        to);
}

void command_print_usage(void)
{
    command_write_usage(stdout);
}

static enum command_action command_complain(const char *what, const char *word)
{
    fprintf(stderr, word ? "tarry: %s, not \"%s\"\n" : "tarry: %s\n", what, word);
    return COMMAND_WRONG;
}

/* "3" or "3-5". */
static bool command_read_fds(struct command *cmd, const char *text)
{
    struct str first, last;
    uint64_t a, b;

    if (!str_cut(str_of(text), '-', &first, &last))
        last = first;
    if (!num_parse_u64(first, &a) || !num_parse_u64(last, &b) || a < 3 || b < a || b - a >= 1024 ||
        b > INT_MAX)
        return false;
    cmd->first_fd = (int)a;
    cmd->nfds = (int)(b - a) + 1;
    return true;
}

static bool command_read_lifeline(struct command *cmd, const char *text)
{
    uint64_t fd;

    if (!num_parse_u64(str_of(text), &fd) || fd < 3 || fd > INT_MAX)
        return false;
    cmd->lifeline = (int)fd;
    return true;
}

/* Makes the conf of the command line. */
static enum command_action command_use_quick(
    struct command *cmd, enum command_action action, const struct quick_options *q, bool full)
{
    const char *why = NULL;

    if (cmd->path || action == COMMAND_INIT)
        why = "--listen, --backend and --upstream take the place of a conf file: leave -c and "
              "--init out";
    else if (full)
        why = "too many options of one kind; write a conf file instead";
    if (why || quick_make(q, &cmd->text, &why) < 0)
        return command_complain(why, NULL);
    cmd->path = QUICK_CONF;
    file_set_virtual(cmd->path, buf_str(&cmd->text).p);
    return action;
}

static const struct option command_options[] = {
    { "backend", required_argument, NULL, 'B' },
    { "explain", required_argument, NULL, 'E' },
    { "help", no_argument, NULL, 'h' },
    { "init", no_argument, NULL, 'I' },
    { "listen", required_argument, NULL, 'L' },
    { "upstream", required_argument, NULL, 'U' },
    { "version", no_argument, NULL, 'V' },
    { 0 },
};

enum command_action command_read(struct command *cmd, int argc, char **argv)
{
    enum command_action action = COMMAND_RUN;
    struct quick_options q = { .nlistens = 0 };
    bool full = false;
    int c;

    *cmd = (struct command){ .lifeline = -1 };
    while ((c = getopt_long(argc, argv, "c:i:l:r:tTVh", command_options, NULL)) != -1) {
        switch (c) {
        case 'c':
            cmd->path = optarg;
            break;
        case 'i':
            if (!command_read_fds(cmd, optarg))
                return command_complain("-i takes one descriptor or a range, as in 3-5", optarg);
            break;
        case 'l':
            if (!command_read_lifeline(cmd, optarg))
                return command_complain("-l takes the descriptor of a pipe", optarg);
            break;
        case 'r':
            cmd->folder = optarg;
            break;
        case 't':
            action = COMMAND_CHECK;
            break;
        case 'T':
            action = COMMAND_PRINT;
            break;
        case 'E':
            action = COMMAND_EXPLAIN;
            cmd->url = optarg;
            break;
        case 'I':
            action = COMMAND_INIT;
            break;
        case 'L':
            full |= !quick_add(q.listens, &q.nlistens, optarg);
            break;
        case 'B':
            full |= !quick_add(q.backends, &q.nbackends, optarg);
            break;
        case 'U':
            full |= !quick_add(q.upstreams, &q.nupstreams, optarg);
            break;
        case 'V':
            return COMMAND_VERSION;
        case 'h':
            return COMMAND_HELP;
        default:
            command_write_usage(stderr);
            return COMMAND_WRONG;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "tarry: unexpected argument \"%s\"\n", argv[optind]);
        command_write_usage(stderr);
        return COMMAND_WRONG;
    }
    if (cmd->folder && cmd->lifeline < 0)
        return command_complain("-r needs -l, which says when the folder is to be removed", NULL);
    if (q.nlistens + q.nbackends + q.nupstreams > 0)
        return command_use_quick(cmd, action, &q, full);
    if (!cmd->path)
        cmd->path = COMMAND_CONF;
    return action;
}
