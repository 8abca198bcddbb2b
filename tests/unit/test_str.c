/* Borrowed spans. */
#include "base/str.h"

#include "cuts.h"
#include "unit.h"

START_TEST(compares_without_reading_past_the_end)
{
    ck_assert(str_eq(cuts_guarded(STR("abc")), STR("abc")));
    ck_assert(!str_eq(cuts_guarded(STR("abc")), STR("abcd")));
    ck_assert(!str_eq(cuts_guarded(STR("abc")), STR("abd")));
    ck_assert(str_eq((struct str){ NULL, 0 }, STR("")));
    ck_assert(str_eq_nocase(cuts_guarded(STR("aBc-9")), STR("AbC-9")));
    ck_assert(!str_eq_nocase(cuts_guarded(STR("ab")), STR("abc")));
    ck_assert(!str_eq_nocase(STR("@["), STR("`{")));     /* next to the letters in ASCII */
    ck_assert(!str_eq_nocase(STR("\xc4"), STR("\xe4"))); /* a pair in Latin-1, not here */
}
END_TEST

START_TEST(knows_prefixes)
{
    ck_assert(str_starts_with(cuts_guarded(STR("/api/x")), STR("/api/")));
    ck_assert(!str_starts_with(cuts_guarded(STR("/ap")), STR("/api")));
    ck_assert(str_starts_with(STR("x"), STR("")));
    ck_assert(str_starts_with_nocase(cuts_guarded(STR("TARRY-Then")), STR("tarry-")));
    ck_assert(!str_starts_with_nocase(cuts_guarded(STR("Tarry")), STR("tarry-")));
}
END_TEST

START_TEST(trims_blanks_only)
{
    static const struct {
        const char *in, *out;
    } rows[] = { { " \ta b\t ", "a b" }, { "", "" }, { " \t ", "" }, { "\na\n", "\na\n" },
        { "a", "a" } };

    ck_assert_span_eq(str_trim(cuts_guarded(str_of(rows[_i].in))), rows[_i].out);
}
END_TEST

START_TEST(cuts_at_the_first_separator)
{
    struct str head, tail;

    ck_assert(str_cut(cuts_guarded(STR("a:b:c")), ':', &head, &tail));
    ck_assert_span_eq(head, "a");
    ck_assert_span_eq(tail, "b:c");
    ck_assert(str_cut(cuts_guarded(STR("a:")), ':', &head, &tail));
    ck_assert_span_eq(tail, "");
    ck_assert(!str_cut(cuts_guarded(STR("abc")), ':', &head, &tail));
    ck_assert_span_eq(head, "abc");
    ck_assert_span_eq(tail, "");
    ck_assert(!str_cut((struct str){ NULL, 0 }, ':', &head, &tail));
}
END_TEST

START_TEST(walks_lists)
{
    struct str rest = cuts_guarded(STR(" a ,, b\t,c d,")), element;

    ck_assert(str_next_element(&rest, &element));
    ck_assert_span_eq(element, "a");
    ck_assert(str_next_element(&rest, &element));
    ck_assert_span_eq(element, "b");
    ck_assert(str_next_element(&rest, &element));
    ck_assert_span_eq(element, "c d");
    ck_assert(!str_next_element(&rest, &element));
    rest = STR(" , ,");
    ck_assert(!str_next_element(&rest, &element));
}
END_TEST

START_TEST(finds_octets)
{
    ck_assert_int_eq(str_find_char(cuts_guarded(STR("abca")), 'a'), 0);
    ck_assert_int_eq(str_find_char(cuts_guarded(STR("abc")), 'c'), 2);
    ck_assert_int_eq(str_find_char(cuts_guarded(STR("abc")), 'x'), -1);
    ck_assert_int_eq(str_find_char((struct str){ NULL, 0 }, 'x'), -1);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("str");

    tcase_add_test(t, compares_without_reading_past_the_end);
    tcase_add_test(t, knows_prefixes);
    tcase_add_loop_test(t, trims_blanks_only, 0, 5);
    tcase_add_test(t, cuts_at_the_first_separator);
    tcase_add_test(t, walks_lists);
    tcase_add_test(t, finds_octets);
    return t;
}

UNIT_MAIN("str")
