/* Looks options of a draft up. */
#include "conf/draft.h"

const struct draft_note *draft_find(const struct draft_section *s, const char *name)
{
    const struct opt *row = options_find(s->id, str_of(name));

    for (size_t i = 0; i < s->nnotes; i++)
        if (s->notes[i].row == row)
            return &s->notes[i];
    return NULL;
}

bool draft_lost_option(const struct draft_section *s, const char *name)
{
    const struct opt *row = options_find(s->id, str_of(name));

    return s->lost & SCAN_LOST_OPTION(row - options_section(s->id)->rows);
}

bool draft_lost_section(const struct draft_section *s, enum opt_section_id inner)
{
    return s->lost & SCAN_LOST_SECTION(inner);
}

struct place draft_place(const struct draft_section *s, const char *name)
{
    const struct draft_note *n = draft_find(s, name);

    return n ? n->place : s->place;
}
