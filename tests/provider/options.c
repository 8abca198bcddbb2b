/* The command line. */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"

enum { OPT_INT = 256, OPT_WORD, OPT_TIME, OPT_FLAG };

/* In the order of the manual. */
static const struct option_row {
    const char *name;
    int kind;
    size_t offset;
    uint64_t least, most;
    const char *value, *help;
} rows[] = {
    { "http", OPT_WORD, offsetof(struct options, http), 0, 0, "ADDR",
        "plain HTTP/1.1 and HTTP/2 (prior knowledge) on HOST:PORT or unix:PATH" },
    { "https", OPT_WORD, offsetof(struct options, https), 0, 0, "ADDR",
        "the same over TLS, chosen by ALPN" },
    { "certs", OPT_WORD, offsetof(struct options, certs), 0, 0, "DIR",
        "where ca.pem and the certificates are, or are made" },
    { "wrong-name", OPT_FLAG, offsetof(struct options, wrong_name), 0, 0, NULL,
        "show a certificate for another name" },
    { "delay", OPT_TIME, offsetof(struct options, delay_ms), 0, 0, "TIME",
        "before the first byte of an answer (default 0)" },
    { "tokens", OPT_INT, offsetof(struct options, tokens), 1, 10000000, "N",
        "length of an answer (default 20)" },
    { "pace", OPT_TIME, offsetof(struct options, pace_ms), 0, 0, "TIME",
        "between the chunks of a stream (default 0)" },
    { "fault", OPT_WORD, offsetof(struct options, fault), 0, 0, "SPEC",
        "for requests without X-Provider-Fault" },
    { "max-streams", OPT_INT, offsetof(struct options, max_streams), 1, 0x7fffffff, "N",
        "HTTP/2 streams a connection (default 100)" },
    { "window", OPT_INT, offsetof(struct options, window), 1, 0x7fffffff, "N",
        "HTTP/2 receive window of a stream (default 1048576)" },
    { "no-h2", OPT_FLAG, offsetof(struct options, no_h2), 0, 0, NULL,
        "HTTP/1.1 alone: no ALPN h2, no preface" },
    { "no-auth", OPT_FLAG, offsetof(struct options, no_auth), 0, 0, NULL,
        "answer requests without a key too" },
    { "record", OPT_WORD, offsetof(struct options, record), 0, 0, "FILE|-",
        "append a JSON line for each request" },
    { "quiet", OPT_FLAG, offsetof(struct options, quiet), 0, 0, NULL,
        "no notes on standard error" },
};
#define ROWS (sizeof rows / sizeof *rows)

bool options_number(const char *s, uint64_t most, uint64_t *to)
{
    uint64_t x = 0;

    if (!*s)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || x > (UINT64_MAX - 9) / 10)
            return false;
        x = x * 10 + (uint64_t)(*s - '0');
    }
    if (x > most)
        return false;
    *to = x;
    return true;
}

bool options_duration(const char *s, uint64_t *ms)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "", 1000 } };
    char *end;
    double x;

    if (*s < '0' || *s > '9')
        return false;
    x = strtod(s, &end);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(end, units[i].unit) != 0)
            continue;
        x *= units[i].factor;
        if (x > 86400000.0)
            return false;
        *ms = (uint64_t)(x + 0.5);
        return true;
    }
    return false;
}

static void usage(FILE *to)
{
    fputs("usage: provider [--http ADDR] [--https ADDR --certs DIR] [OPTION...]\n", to);
    for (size_t i = 0; i < ROWS; i++) {
        char name[40];

        snprintf(name, sizeof name, "--%s %s", rows[i].name, rows[i].value ? rows[i].value : "");
        fprintf(to, "  %-20s %s\n", name, rows[i].help);
    }
}

static bool set_row(struct options *o, const struct option_row *row, const char *value)
{
    void *to = (char *)o + row->offset;
    uint64_t number;

    switch (row->kind) {
    case OPT_WORD:
        *(const char **)to = value;
        return true;
    case OPT_FLAG:
        *(bool *)to = true;
        return true;
    case OPT_TIME:
        return options_duration(value, to);
    default:
        if (!options_number(value, row->most, &number) || number < row->least)
            return false;
        *(uint32_t *)to = (uint32_t)number;
        return true;
    }
}

/* What no single option can tell. NULL: all is well. */
static const char *contradiction(const struct options *o, struct text *why)
{
    if (!o->http && !o->https)
        return "nothing to listen on: give --http or --https";
    if (o->https && !o->certs)
        return "--https needs --certs DIR";
    if (o->fault && !fault_check(o->fault, why))
        return why->p;
    return NULL;
}

int options_read(struct options *o, int argc, char **argv, int *status)
{
    struct option longs[ROWS + 2] = { { 0 } };
    struct text why = { 0 };
    const char *wrong;
    int c;

    *o = (struct options){ .tokens = 20, .max_streams = 100, .window = 1 << 20 };
    for (size_t i = 0; i < ROWS; i++)
        longs[i] = (struct option){ rows[i].name, rows[i].value ? required_argument : no_argument,
            NULL, (int)i };
    longs[ROWS] = (struct option){ "help", no_argument, NULL, 'h' };
    *status = 2;
    while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (c == 'h') {
            usage(stdout);
            *status = 0;
            return -1;
        }
        if (c < 0 || (size_t)c >= ROWS) {
            usage(stderr);
            return -1;
        }
        if (!set_row(o, &rows[c], optarg)) {
            fprintf(stderr, "provider: --%s: \"%s\" is no %s, or out of bounds\n", rows[c].name,
                optarg, rows[c].kind == OPT_TIME ? "duration such as 2s or 250ms" : "whole number");
            return -1;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "provider: \"%s\" is no option\n", argv[optind]);
        return -1;
    }
    wrong = contradiction(o, &why);
    if (wrong)
        fprintf(stderr, "provider: %s\n", wrong);
    text_free(&why);
    return wrong ? -1 : 0;
}
