/* The command line, read once; see README.md for what each option does. */
#ifndef PROVIDER_OPTIONS_H
#define PROVIDER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct options {
    const char *http, *https; /* HOST:PORT, [V6]:PORT or unix:PATH; NULL: not wanted */
    const char *certs;        /* directory */
    const char *fault;        /* for requests without X-Provider-Fault */
    const char *record;       /* file name, "-" for standard output; NULL: none */
    uint64_t delay_ms, pace_ms;
    unsigned tokens;
    uint32_t max_streams; /* HTTP/2 SETTINGS_MAX_CONCURRENT_STREAMS */
    uint32_t window;      /* HTTP/2 SETTINGS_INITIAL_WINDOW_SIZE */
    bool wrong_name, no_h2, no_auth, quiet;
};

/* Keeps pointers into argv. 0 to go on; else what to exit with is in `*status`, and everything has
 * been said. */
int options_read(struct options *o, int argc, char **argv, int *status);

/* "250ms", "2s", "1.5s", "1m", "0"; a number alone is seconds. False if it is none, or over a day.
 */
bool options_duration(const char *s, uint64_t *ms);
/* A whole number with nothing around it, at most `most`. */
bool options_number(const char *s, uint64_t most, uint64_t *to);

#endif
