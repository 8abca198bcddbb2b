#ifndef TARRY_BENCH_TALLY_H
#define TARRY_BENCH_TALLY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What came of the requests: times of the good ones, counts of the others by kind. Owned by the
 * load driver. */

#define TALLY_KINDS 32

struct tally {
    uint32_t *us; /* microseconds of each good request */
    size_t ok, room, failed;
    uint64_t bytes;
    struct {
        char name[32];
        size_t count;
    } kinds[TALLY_KINDS];
    size_t nkinds;
};

/* Room for `requests` good ones. 0, or -1: no memory. */
int tally_init(struct tally *t, size_t requests);
void tally_release(struct tally *t);

void tally_ok(struct tally *t, uint64_t us, uint64_t bytes);

/* Counts a failure of a kind: "timeout", "status 502" … */
void tally_failed(struct tally *t, const char *kind);

/* Prints the result as one JSON object on one line, or as a few lines for people. */
void tally_print_json(struct tally *t, size_t requests, double seconds, FILE *f);
void tally_print_text(struct tally *t, size_t requests, double seconds, FILE *f);

#endif
