/* For each unit test program: its main. The file defines `static TCase *cases(void)` and ends with
 *
 *     UNIT_MAIN("name")
 *
 * Each case runs in a process of its own; CK_FORK=no in the environment runs all in one, for a
 * debugger. CK_RUN_CASE and CK_VERBOSITY work as Check describes them. */
#ifndef TARRY_TESTS_UNIT_H
#define TARRY_TESTS_UNIT_H

#include <check.h>
#include <stdlib.h>

enum {
    UNIT_TIMEOUT_S = 120
}; /* for what hangs: far above what a slow machine needs under a sanitizer */

#define UNIT_MAIN(name)                                                                            \
    int main(void)                                                                                 \
    {                                                                                              \
        Suite *suite = suite_create(name);                                                         \
        SRunner *runner = srunner_create(suite);                                                   \
        TCase *all = cases();                                                                      \
        int failed;                                                                                \
                                                                                                   \
        tcase_set_timeout(all, UNIT_TIMEOUT_S);                                                    \
        suite_add_tcase(suite, all);                                                               \
        srunner_run_all(runner, CK_ENV);                                                           \
        failed = srunner_ntests_failed(runner);                                                    \
        srunner_free(runner);                                                                      \
        return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;                                          \
    }

#define COUNT_OF(table) ((int)(sizeof(table) / sizeof(*(table))))

/* A span against a literal, with both in the message. */
#define ck_assert_span_eq(span, literal)                                                           \
    do {                                                                                           \
        struct str span_ = (span), want_ = str_of(literal);                                        \
        ck_assert_msg(str_eq(span_, want_), "\"" STR_FMT "\" is not \"" STR_FMT "\"",              \
            STR_ARG(span_), STR_ARG(want_));                                                       \
    } while (0)

#endif
