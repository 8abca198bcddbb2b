/* Reads the conf file and its include files, and makes one clean text of them for libconfuse: names
 * that exist, shapes that fit, variables replaced, one value a line. libconfuse by itself stops at
 * the first mistake, takes an undefined variable for empty, and lets a section replace another of
 * the same title; here every mistake is noted and reading goes on behind it.
 *
 * The clean text is for parsing only. A section's title is its first option, called SCAN_TITLE. A
 * section in which something was left out has the option SCAN_LOST, so that later checks do not
 * also complain that it is missing: its value is a decimal sum of the bits below. */
#ifndef TARRY_CONF_SCAN_H
#define TARRY_CONF_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"
#include "conf/mistake.h"

#define SCAN_TITLE "title"
#define SCAN_LOST "lost"

#define SCAN_LOST_SECTION(id)                                                                      \
    (UINT64_C(1) << (id)) /* of kind enum opt_section_id, inside this one */
/* The row of that index. Rows that are 48 apart share a bit: then a check that one is missing may
 * be left out where it need not be, never the other way round. */
#define SCAN_LOST_OPTION(i) (UINT64_C(1) << ((i) % 48 + 16))
#define SCAN_LOST_SECTIONS UINT64_C(0xffff)
#define SCAN_LOST_OPTIONS (UINT64_C(0xffffffffffff) << 16)
#define SCAN_LOST_ALL (SCAN_LOST_SECTIONS | SCAN_LOST_OPTIONS)

/* Limits that no real conf comes near. */
enum {
    SCAN_FILE_MAX = 1 << 20,
    SCAN_TOTAL_MAX = 4 << 20, /* all files together, an include file counted each time it is read */
    SCAN_DEPTH_MAX = 10,      /* of include files in include files */
    SCAN_SECTIONS_MAX = 10000,
};

struct scan {
    struct mistakes *mistakes;
    struct arena arena; /* names of files, texts */
    struct buf clean;
    struct place
        *places; /* of each line of `clean`; places[0] is not used, as lines count from 1 */
    size_t nplaces, places_room;
    struct place start; /* the beginning of the file: for what is missing in all of it */
    struct str
        *lost; /* titles of sections that were left out: what refers to them is no second mistake */
    size_t nlost, lost_room;
    uint64_t root_lost;
    unsigned seq;
    size_t bytes, sections, depth;
    bool cut_short; /* a comment without end hides the rest of a file */
    bool no_memory;
};

/* `s` is zeroed by this function; mistakes go to `m`. Ended with scan_release(), whatever came out.
 */
void scan_read(struct scan *s, const char *path, struct mistakes *m);

/* The place of a line of the clean text. */
struct place scan_place(const struct scan *s, int line);

/* Whether a section of this title was left out. */
bool scan_lost(const struct scan *s, struct str title);

void scan_release(struct scan *s);

/* `path` as seen from the conf file `file`: unchanged if it is absolute or empty, otherwise in the
 * folder of `file`. In `a`; p is NULL if there is no memory. */
struct str scan_resolve(struct arena *a, const char *file, struct str path);

#endif
