#include "base/closefrom.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

/* In a child: the test's own descriptors stay. */
START_TEST(closes_all_from_one_on)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        int low = fcntl(0, F_DUPFD, 100), high = fcntl(0, F_DUPFD, 500);

        close_from(101);
        _exit(low == 100 && fcntl(low, F_GETFD) >= 0 && high >= 500 && fcntl(high, F_GETFD) < 0
                  ? 0
                  : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("closefrom");

    tcase_add_test(t, closes_all_from_one_on);
    return t;
}

UNIT_MAIN("closefrom")
