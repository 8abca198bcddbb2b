/* Random numbers. What is asserted fails by chance less often than memory does. */
#include "base/entropy.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

START_TEST(ids_are_long_plain_and_different)
{
    enum { N = 2000 };
    static char ids[N][ENTROPY_ID_LEN + 1];

    for (int i = 0; i < N; i++) {
        entropy_id(ids[i]);
        ck_assert_uint_eq(strlen(ids[i]), ENTROPY_ID_LEN);
        ck_assert_uint_eq(strspn(ids[i], "abcdefghijklmnopqrstuvwxyz234567"), ENTROPY_ID_LEN);
        for (int j = 0; j < i; j++)
            ck_assert_str_ne(ids[i], ids[j]);
    }
}
END_TEST

START_TEST(fills_every_byte)
{
    unsigned char seen[5000] = { 0 }, now[5000];

    for (int turn = 0; turn < 16; turn++) {
        entropy_fill(now, sizeof(now));
        for (size_t i = 0; i < sizeof(now); i++)
            seen[i] |= now[i];
    }
    for (size_t i = 0; i < sizeof(seen); i++)
        ck_assert_uint_ne(seen[i], 0); /* 2^-128 a byte */
}
END_TEST

START_TEST(stays_below_the_bound_and_reaches_all)
{
    unsigned seen = 0;

    for (int i = 0; i < 2000; i++) {
        uint64_t v = entropy_below(7);

        ck_assert_uint_lt(v, 7);
        seen |= 1U << v;
    }
    ck_assert_uint_eq(seen, 0x7f);
    ck_assert_uint_eq(entropy_below(1), 0);
}
END_TEST

START_TEST(a_child_that_forgets_goes_its_own_way)
{
    char mine[ENTROPY_ID_LEN + 1], its[ENTROPY_ID_LEN + 1] = "";
    int fds[2], status;
    pid_t pid;

    entropy_id(mine); /* the pool is full now */
    ck_assert_int_eq(pipe(fds), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        entropy_forget();
        entropy_id(its);
        _exit(write(fds[1], its, ENTROPY_ID_LEN) == ENTROPY_ID_LEN ? 0 : 1);
    }
    ck_assert_int_eq(read(fds[0], its, ENTROPY_ID_LEN), ENTROPY_ID_LEN);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    entropy_id(mine);
    ck_assert_str_ne(mine, its);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("entropy");

    tcase_add_test(t, ids_are_long_plain_and_different);
    tcase_add_test(t, fills_every_byte);
    tcase_add_test(t, stays_below_the_bound_and_reaches_all);
    tcase_add_test(t, a_child_that_forgets_goes_its_own_way);
    return t;
}

UNIT_MAIN("entropy")
