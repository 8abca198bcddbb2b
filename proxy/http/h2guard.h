/* Counts what costs more than it is worth on an HTTP/2 connection: a client may do some of it. Each
 * kind fills a bucket that empties with time; when one runs over, the client is no longer served.
 * Pure counting: no I/O, no clock. */
#ifndef TARRY_HTTP_H2GUARD_H
#define TARRY_HTTP_H2GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum h2_abuse {
    H2_RESETS,   /* RST_STREAM: rapid reset (CVE-2023-44487) */
    H2_GLITCHES, /* frames and fields that break the rules without ending the connection, each
                    costing a RST_STREAM or an answer: MadeYouReset (CVE-2025-8671) and its kin */
    H2_CONTROLS, /* PING, SETTINGS, PRIORITY, PRIORITY_UPDATE, unknown frames (CVE-2019-9512,
                    9513, 9515) */
    H2_EMPTIES,  /* frames without payload that end nothing (CVE-2019-9518) */
    H2_UPDATES,  /* WINDOW_UPDATE beyond what the data that was sent gives reason for */
    H2_TINY,     /* writes cut short by a window of a few bytes (CVE-2019-9511) */
};
#define H2_NABUSES 6

enum {
    H2_GUARD_UPDATES_A_WRITE = 4,  /* what a client may send for each DATA frame: stream and
                                      connection, twice */
    H2_GUARD_UPDATES_AHEAD = 1000, /* writes whose updates are still to come count that much */
    H2_GUARD_FULL_WRITE = 4,       /* times tiny_write: makes up for two tiny ones, since windows
                                      end where they end */
};

struct h2_guard_limits {
    uint32_t max[H2_NABUSES];
    uint64_t window_ms; /* how long a full bucket takes to empty */
    size_t tiny_write;  /* fewer bytes than this, though more are waiting, are H2_TINY */
};

/* Embedded in a connection; zeroed to begin with. */
struct h2_guard {
    float level[H2_NABUSES];
    uint64_t at_ms;
};

/* Counts one. Whether it was one too many: more than limits->max[what] are in the bucket. */
bool h2_guard_count(
    struct h2_guard *g, const struct h2_guard_limits *limits, enum h2_abuse what, uint64_t now_ms);

/* A DATA frame of `n` bytes was sent: its window updates may come. */
void h2_guard_wrote(struct h2_guard *g, const struct h2_guard_limits *limits, size_t n);

/* For logs: "too many stream resets". */
const char *h2_abuse_name(enum h2_abuse what);

#endif
