/* Shared memory, over a fork and from one binary to the next. */
#include "base/sharedmem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

enum { SIZE = 4096 };

static void collect(void *owner, int fd)
{
    int *kept = owner;

    *kept = dup(fd);
}

START_TEST(a_child_and_its_parent_see_the_same)
{
    char *p = sharedmem_open("test", 1, SIZE);
    int status;

    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq((uintptr_t)p % 64, 0);
    ck_assert_int_eq(p[SIZE - 1], 0);
    if (fork() == 0) {
        sharedmem_forget();
        p[SIZE - 1] = 'x';
        _exit(0);
    }
    wait(&status);
    ck_assert_int_eq(p[SIZE - 1], 'x');
}
END_TEST

/* What an upgrade does, in one process. */
static char *open_again(const char *name, uint64_t layout, size_t n, int *fd)
{
    char *p = sharedmem_open("test", 1, SIZE);

    strcpy(p, "kept");
    sharedmem_each(collect, fd);
    sharedmem_forget();
    sharedmem_take_over(*fd);
    return sharedmem_open(name, layout, n);
}

START_TEST(another_binary_gets_the_same_block)
{
    int fd = -1, passed_on = -1;

    ck_assert_str_eq(open_again("test", 1, SIZE, &fd), "kept");
    sharedmem_each(collect, &passed_on); /* and the one after it, too */
    ck_assert_int_ge(passed_on, 0);
}
END_TEST

static const struct {
    const char *name;
    uint64_t layout;
    size_t n;
} others[] = { { "other", 1, SIZE }, { "test", 2, SIZE }, { "test", 1, SIZE * 2 } };

START_TEST(a_block_of_another_meaning_is_not_used)
{
    int fd = -1, passed_on = -1;
    char *p = open_again(others[_i].name, others[_i].layout, others[_i].n, &fd);

    ck_assert_ptr_nonnull(p);
    ck_assert_str_eq(p, "");
    sharedmem_each(collect, &passed_on);
    ck_assert_int_ge(passed_on, 0); /* the new one, and not the one that nobody has opened */
}
END_TEST

START_TEST(a_block_that_nobody_asks_for_is_closed)
{
    int fd = -1, passed_on = -1;
    char *p = open_again("other", 1, SIZE, &fd);

    strcpy(p, "new");
    sharedmem_drop_rest();
    ck_assert_int_lt(fcntl(fd, F_GETFD), 0);
    sharedmem_each(collect, &passed_on);
    ck_assert_int_ge(passed_on, 0);
    sharedmem_forget();
    sharedmem_take_over(passed_on);
    ck_assert_str_eq(sharedmem_open("other", 1, SIZE), "new");
}
END_TEST

START_TEST(what_is_no_block_is_closed)
{
    int fd = open("/dev/null", O_RDONLY);

    sharedmem_take_over(fd);
    ck_assert_int_lt(fcntl(fd, F_GETFD), 0);
    ck_assert_str_eq(sharedmem_open("test", 1, SIZE), "");
}
END_TEST

START_TEST(a_file_that_could_shrink_is_closed)
{
    char path[] = "/tmp/sharedmem-XXXXXX";
    int fd = mkstemp(path);

    ck_assert_int_ge(fd, 0);
    unlink(path);
    ck_assert_int_eq(ftruncate(fd, 2 * SIZE), 0);
    sharedmem_take_over(fd);
    ck_assert_int_lt(fcntl(fd, F_GETFD), 0);
}
END_TEST

/* Any damage to the header: the block is not used, and nobody trips over it. */
START_TEST(a_mangled_header_is_not_used)
{
    char *p = sharedmem_open("test", 1, SIZE);
    int fd = -1;

    strcpy(p, "kept");
    sharedmem_each(collect, &fd);
    sharedmem_forget();
    p[-64 + _i] ^= 0x55;
    sharedmem_take_over(fd);
    p = sharedmem_open("test", 1, SIZE);
    ck_assert_ptr_nonnull(p);
    ck_assert_str_eq(p, "");
}
END_TEST

START_TEST(nobody_can_shrink_it)
{
    int fd = -1;

    ck_assert_ptr_nonnull(sharedmem_open("test", 1, SIZE));
    sharedmem_each(collect, &fd);
    ck_assert_int_lt(ftruncate(fd, 0), 0);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("sharedmem");

    tcase_add_test(t, a_child_and_its_parent_see_the_same);
    tcase_add_test(t, another_binary_gets_the_same_block);
    tcase_add_loop_test(t, a_block_of_another_meaning_is_not_used, 0, COUNT_OF(others));
    tcase_add_test(t, a_block_that_nobody_asks_for_is_closed);
    tcase_add_test(t, what_is_no_block_is_closed);
    tcase_add_test(t, a_file_that_could_shrink_is_closed);
    tcase_add_loop_test(t, a_mangled_header_is_not_used, 0, 28); /* magic, layout, size, name */
    tcase_add_test(t, nobody_can_shrink_it);
    return t;
}

UNIT_MAIN("sharedmem")
