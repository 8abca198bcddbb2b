/* A snapshot that is being built: the structs, and the place of each option in the file. load fills
 * it and verify checks it; it is freed before conf_load() returns. */
#ifndef TARRY_CONF_DRAFT_H
#define TARRY_CONF_DRAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"
#include "conf/mistake.h"
#include "conf/options.h"
#include "conf/scan.h"
#include "conf/snapshot.h"

/* An option that the file sets; of a list: one of its elements. */
struct draft_note {
    const struct opt *row;
    struct place place;
    struct str text;
};

struct draft_section {
    enum opt_section_id id;
    void *base; /* its struct in the snapshot */
    struct str title;
    struct place place;
    uint64_t lost; /* SCAN_LOST_...: what was left out of it with a mistake that is known already */
    struct draft_note *notes;
    size_t nnotes;
};

struct draft {
    struct conf *conf;
    struct scan scan;
    struct mistakes mistakes;
    struct arena scratch;
    struct draft_section
        *sections; /* in the order of the file within each kind; the first is the root */
    size_t nsections, sections_room;
};

/* Whether the option, or a section of that kind inside, may be missing only because of a mistake
 * that is already reported. */
bool draft_lost_option(const struct draft_section *s, const char *name);
bool draft_lost_section(const struct draft_section *s, enum opt_section_id inner);

/* Where an option is set, or the section's own place if it is not. */
struct place draft_place(const struct draft_section *s, const char *name);

/* The option's note, or NULL if the file does not set it. */
const struct draft_note *draft_find(const struct draft_section *s, const char *name);

#endif
