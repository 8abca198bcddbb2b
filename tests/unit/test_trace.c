/* traceparent: what is one, and what is not. */
#include "observe/trace.h"

#include "unit.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

static const struct {
    const char *text;
    bool good, sampled;
} given[] = {
    { "00-" TRACE "-" SPAN "-01", true, true },
    { "00-" TRACE "-" SPAN "-00", true, false },
    { "00-" TRACE "-" SPAN "-03", true, true }, /* flags that are unknown are let be */
    { "cc-" TRACE "-" SPAN "-01-what-comes-next", true, true },
    { "00-" TRACE "-" SPAN "-01-more", false, false },
    { "cc-" TRACE "-" SPAN "-01more", false, false },
    { "ff-" TRACE "-" SPAN "-01", false, false },
    { "00-00000000000000000000000000000000-" SPAN "-01", false, false },
    { "00-" TRACE "-0000000000000000-01", false, false },
    { "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01", false, false },
    { "00-" TRACE "-" SPAN "-0g", false, false },
    { "00-" TRACE "-" SPAN "-1", false, false },
    { "00_" TRACE "-" SPAN "-01", false, false },
    { "", false, false },
};

START_TEST(reads_what_is_a_traceparent)
{
    struct trace_context t = { .sampled = false };

    ck_assert_msg(trace_parse(str_of(given[_i].text), &t) == given[_i].good, "%s", given[_i].text);
    if (given[_i].good)
        ck_assert_msg(t.sampled == given[_i].sampled, "%s", given[_i].text);
}
END_TEST

START_TEST(writes_what_it_reads)
{
    struct trace_context t;
    char text[TRACE_PARENT_LEN + 1];

    ck_assert(trace_parse(STR("00-" TRACE "-" SPAN "-01"), &t));
    trace_write(&t, text);
    ck_assert_str_eq(text, "00-" TRACE "-" SPAN "-01");
    t.sampled = false;
    trace_write(&t, text);
    ck_assert_str_eq(text, "00-" TRACE "-" SPAN "-00");
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("trace");

    tcase_add_loop_test(t, reads_what_is_a_traceparent, 0, COUNT_OF(given));
    tcase_add_test(t, writes_what_it_reads);
    return t;
}

UNIT_MAIN("trace")
