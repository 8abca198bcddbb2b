/* The option table itself: what all that is made from it relies on. */
#include "conf/options.h"

#include <ctype.h>
#include <string.h>

#include "base/num.h"
#include "unit.h"

static uint64_t parse(const struct opt *row, const char *text)
{
    uint64_t v = 0;
    bool ok = row->type == OPT_SIZE       ? num_parse_size(str_of(text), &v)
              : row->type == OPT_DURATION ? num_parse_duration(str_of(text), &v)
                                          : num_parse_u64(str_of(text), &v);

    ck_assert_msg(ok, "%s: \"%s\" cannot be read", row->name, text);
    return v;
}

static bool is_number(const struct opt *row)
{
    return row->type == OPT_NUMBER || row->type == OPT_SIZE || row->type == OPT_DURATION;
}

START_TEST(rows_are_sound)
{
    const struct opt_section *s = options_section((enum opt_section_id)_i);

    ck_assert_uint_le(s->nrows, OPT_ROWS_MAX);
    for (size_t i = 0; i < s->nrows; i++) {
        const struct opt *row = &s->rows[i];

        if (i > 0)
            ck_assert_msg(strcmp(s->rows[i - 1].name, row->name) < 0,
                "%s is not in alphabetical order", row->name);
        ck_assert_ptr_eq(options_find((enum opt_section_id)_i, str_of(row->name)), row);
        ck_assert_int_eq(is_number(row), row->min != NULL);
        ck_assert_int_eq(is_number(row), row->max != NULL);
        ck_assert_int_eq(
            row->type == OPT_WORD || row->type == OPT_KINDS || row->type == OPT_ENCODINGS,
            row->words != NULL);
        if (is_number(row)) {
            ck_assert(row->width == sizeof(unsigned) || row->width == sizeof(uint64_t));
            ck_assert_uint_le(parse(row, row->min), parse(row, row->def));
            ck_assert_uint_le(parse(row, row->def), parse(row, row->max));
            if (row->width == sizeof(unsigned))
                ck_assert_uint_le(parse(row, row->max), UINT32_MAX);
        }
        if (row->type == OPT_WORD) {
            bool found = false;

            for (size_t k = 0; row->words[k]; k++)
                found = found || strcmp(row->words[k], row->def) == 0;
            ck_assert(found);
        }
    }
}
END_TEST

START_TEST(every_sentence_ends)
{
    const struct opt_section *s = options_section((enum opt_section_id)_i);

    ck_assert_int_eq(s->help[strlen(s->help) - 1], '.');
    for (size_t i = 0; i < s->nrows; i++) {
        const char *help = s->rows[i].help;

        ck_assert_msg(help[strlen(help) - 1] == '.' && isupper((unsigned char)help[0]), "%s: %s",
            s->rows[i].name, help);
    }
}
END_TEST

START_TEST(no_two_fields_share_a_place)
{
    const struct opt_section *s = options_section((enum opt_section_id)_i);

    for (size_t i = 0; i < s->nrows; i++)
        for (size_t j = 0; j < i; j++) {
            const struct opt *a = &s->rows[i], *b = &s->rows[j];

            ck_assert_msg(a->offset >= b->offset + b->width || b->offset >= a->offset + a->width,
                "%s and %s are stored in one place", a->name, b->name);
        }
}
END_TEST

static const struct {
    enum opt_section_id in;
    const char *wrong, *near; /* NULL: nothing is near */
    enum opt_section_id where;
} slips[] = {
    { SECTION_ROOT, "proceses", "processes", SECTION_ROOT },
    { SECTION_ROOT, "Max_Connections", "max_connections", SECTION_ROOT },
    { SECTION_ROOT, "workes", "workers", SECTION_ROOT },
    { SECTION_WORKERS, "queue_time_out", "queue_timeout", SECTION_WORKERS },
    { SECTION_WORKERS, "qeue_max", "queue_max", SECTION_WORKERS },
    { SECTION_WORKERS, "sever", "server", SECTION_WORKERS },
    { SECTION_WORKERS, "slots", "slots", SECTION_SERVER },
    { SECTION_ROUTE, "worker", "workers", SECTION_ROUTE },
    { SECTION_LISTEN, "cert", NULL, SECTION_LISTEN },
    { SECTION_LISTEN, "xyzzy", NULL, SECTION_LISTEN },
    { SECTION_LISTEN, "", NULL, SECTION_LISTEN },
    { SECTION_ROOT, "a_name_far_longer_than_any_that_an_option_could_ever_have", NULL,
        SECTION_ROOT },
};

START_TEST(guesses_what_was_meant)
{
    enum opt_section_id where;
    const char *near = options_nearest(slips[_i].in, str_of(slips[_i].wrong), &where);

    if (slips[_i].near)
        ck_assert_str_eq(near, slips[_i].near);
    else
        ck_assert_ptr_null(near);
    ck_assert_int_eq(where, slips[_i].where);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("options");

    tcase_add_loop_test(t, rows_are_sound, 0, OPT_NSECTIONS);
    tcase_add_loop_test(t, every_sentence_ends, 0, OPT_NSECTIONS);
    tcase_add_loop_test(t, no_two_fields_share_a_place, 0, OPT_NSECTIONS);
    tcase_add_loop_test(t, guesses_what_was_meant, 0, COUNT_OF(slips));
    return t;
}

UNIT_MAIN("conf_options")
