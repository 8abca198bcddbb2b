/* The command line. */
#ifndef TARRY_PROCESS_COMMAND_H
#define TARRY_PROCESS_COMMAND_H

#include <stdbool.h>

#include "process/quick.h"

#define COMMAND_CONF "/etc/tarry/tarry.conf"

enum command_action {
    COMMAND_RUN,
    COMMAND_CHECK,   /* -t */
    COMMAND_PRINT,   /* -T: check, and print the effective conf */
    COMMAND_EXPLAIN, /* --explain URL */
    COMMAND_INIT,    /* --init: write the sample conf */
    COMMAND_VERSION, /* -V */
    COMMAND_HELP,    /* -h */
    COMMAND_WRONG,   /* a message has been printed; exit status 2 */
};

struct command {
    const char *path;   /* of the conf */
    int first_fd, nfds; /* -i: listening sockets that the starter passes on */
    int lifeline;       /* -l: end of file on it says that the starter has died; -1: none */
    const char *url;    /* of --explain */
    const char *folder; /* -r: removed then; or NULL */
    struct buf text;    /* the conf of --listen and so on; lives as long as the process */
};

/* Reads the options into `cmd`. */
enum command_action command_read(struct command *cmd, int argc, char **argv);

void command_print_usage(void);

#endif
