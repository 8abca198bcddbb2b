/* The reserve, with a process that may take no more addresses. */
#include "base/reserve.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/build.h"
#include "unit.h"

/* Nothing that malloc() has to ask the kernel for can be had from here on. */
static void take_the_rest(void)
{
    unsigned long pages = 0;
    struct rlimit r;
    FILE *f = fopen("/proc/self/statm", "r");

    ck_assert(f && fscanf(f, "%lu", &pages) == 1);
    fclose(f);
    r.rlim_cur = r.rlim_max = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &r), 0);
}

START_TEST(gives_what_it_keeps_when_there_is_nothing_else)
{
    char *p;

    ck_assert(reserve_fill());
    ck_assert(!reserve_is_spent());
    take_the_rest();
    ck_assert_ptr_null(malloc(RESERVE_SIZE / 2));
    p = reserve_realloc(NULL, RESERVE_SIZE / 2);
    ck_assert_ptr_nonnull(p);
    memset(p, 1, RESERVE_SIZE / 2);
    ck_assert(reserve_is_spent());
    ck_assert(!reserve_fill()); /* somebody has it */
    ck_assert_ptr_null(reserve_realloc(NULL, RESERVE_SIZE));
    ck_assert_ptr_null(reserve_realloc(p, 0));
    ck_assert(reserve_fill());
    ck_assert(!reserve_is_spent());
    reserve_release();
}
END_TEST

START_TEST(is_realloc_otherwise)
{
    char *p = reserve_realloc(NULL, 4); /* nothing is kept: no difference */

    memcpy(p, "abc", 4);
    ck_assert(reserve_fill());
    p = reserve_realloc(p, 100000);
    ck_assert_str_eq(p, "abc");
    ck_assert(!reserve_is_spent());
    ck_assert_ptr_null(reserve_realloc(p, 0));
    reserve_release();
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("reserve");

    if (!BUILD_SANITIZED) /* which takes addresses by the terabyte */
        tcase_add_test(t, gives_what_it_keeps_when_there_is_nothing_else);
    tcase_add_test(t, is_realloc_otherwise);
    return t;
}

UNIT_MAIN("reserve")
