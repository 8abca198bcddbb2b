/* The parser of the conf file and its include files. It builds a tree (tree.h) with known names,
 * correct syntax and replaced variables. After a mistake it continues to read, so one run reports
 * every mistake in the file. A general library was tried first: it stops at the first mistake,
 * treats an undefined variable as an empty string, lets a section replace another with the same
 * title, and ends the process if there is no memory.
 *
 * A section in which something was left out says so (tree_section.lost), so that later checks do
 * not also complain that it is missing. */
#ifndef TARRY_CONF_SCAN_H
#define TARRY_CONF_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"
#include "conf/mistake.h"
#include "conf/token.h"
#include "conf/tree.h"

#define SCAN_LOST_SECTION(id)                                                                      \
    (UINT64_C(1) << (id)) /* of kind enum opt_section_id, inside this one */
/* The row of that index. Rows that are 48 apart share a bit: then a check that one is missing may
 * be left out where it need not be, never the other way round. */
#define SCAN_LOST_OPTION(i) (UINT64_C(1) << ((i) % 48 + 16))
#define SCAN_LOST_SECTIONS UINT64_C(0xffff)
#define SCAN_LOST_OPTIONS (UINT64_C(0xffffffffffff) << 16)
#define SCAN_LOST_ALL (SCAN_LOST_SECTIONS | SCAN_LOST_OPTIONS)

/* Limits far above any real conf. */
enum {
    SCAN_FILE_MAX = 1 << 20,
    SCAN_TOTAL_MAX = 4 << 20, /* all files together, an include file counted each time it is read */
    SCAN_DEPTH_MAX = 10,      /* of include files in include files */
    SCAN_SECTIONS_MAX = 10000,
};

struct scan {
    struct token_context words;
    struct tree_section *root; /* NULL: there is no memory */
    struct place start;        /* the beginning of the file: for what is missing in all of it */
    struct str *lost; /* titles of sections that were left out: a reference to one of them is no
                         second mistake */
    size_t nlost, lost_room;
    size_t bytes, sections, depth;
};

/* `s` is zeroed by this function; mistakes go to `m`. Ended with scan_release(), whatever the
 * result.
 */
void scan_read(struct scan *s, const char *path, struct mistakes *m);

/* Whether a section of this title was left out. */
bool scan_lost(const struct scan *s, struct str title);

void scan_release(struct scan *s);

#endif
