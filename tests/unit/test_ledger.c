/* The shared table: who finds which row, what is forgotten, and many processes at once. */
#include "upstream/ledger.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

enum { ROWS = 16, KEEP = 10000 };

static uint64_t now = 1000000;

static void add(uint64_t *word, uint64_t n)
{
    __atomic_fetch_add(word, n, __ATOMIC_RELAXED);
}

START_TEST(a_name_has_one_row)
{
    struct ledger_place a = { .id = 7 }, b = { .id = 7 }, c = { .id = 8 };

    ck_assert_int_eq(ledger_open(ROWS, KEEP), 0);
    add(ledger_words(&a, now), 5);
    ck_assert_uint_eq(*ledger_words(&b, now), 5);
    ck_assert_uint_eq(*ledger_words(&c, now), 0);
    ck_assert_uint_eq(ledger_counts().used, 2);
    ck_assert_uint_eq(ledger_counts().all, ROWS);
}
END_TEST

START_TEST(a_row_that_nobody_asks_for_is_forgotten)
{
    struct ledger_place a = { .id = 7 }, b = { .id = 8 };

    ck_assert_int_eq(ledger_open(ROWS, KEEP), 0);
    add(ledger_words(&a, now), 5);
    for (uint64_t t = 0; t <= 2 * KEEP; t += 1000)
        add(ledger_words(&b, now + t), 1);
    ck_assert_uint_eq(ledger_counts().used, 1);
    ck_assert_uint_eq(*ledger_words(&b, now + 2 * KEEP), 21); /* this one was asked for */
    ck_assert_uint_eq(*ledger_words(&a, now + 2 * KEEP), 0);
}
END_TEST

/* Its row may be another's by then. */
START_TEST(a_process_that_slept_finds_its_row_gone)
{
    struct ledger_place sleeper = { .id = 7 }, other = { .id = 9 };

    ck_assert_int_eq(ledger_open(8, KEEP), 0);
    add(ledger_words(&sleeper, now), 5);
    for (uint64_t id = 20; id < 27; id++) {
        struct ledger_place p = { .id = id };

        ledger_words(&p, now + KEEP + 1);
    }
    add(ledger_words(&other, now + KEEP + 1), 3);
    sleeper.looked_ms = now + KEEP + 1; /* it looks at the id, too */
    ck_assert_uint_ne(*ledger_words(&sleeper, now + KEEP + 1), 3);
    ck_assert_uint_ne(*ledger_words(&sleeper, now + KEEP + 1), 5);
}
END_TEST

START_TEST(a_full_table_leaves_each_process_its_own)
{
    struct ledger_place p[10] = { 0 };

    ck_assert_int_eq(ledger_open(8, KEEP), 0);
    for (unsigned i = 0; i < 10; i++) {
        p[i].id = i + 1;
        add(ledger_words(&p[i], now), i);
    }
    for (unsigned i = 0; i < 10; i++)
        ck_assert_uint_eq(*ledger_words(&p[i], now), i);
    ck_assert_uint_eq(ledger_counts().used, 8);
}
END_TEST

START_TEST(a_hash_depends_on_the_table)
{
    struct siphash a, b;
    int fds[2];
    uint64_t other = 0;

    ck_assert_int_eq(pipe(fds), 0);
    if (fork() == 0) {
        ck_assert_int_eq(ledger_open(ROWS, KEEP), 0);
        a = ledger_hash();
        siphash_add_field(&a, STR("name"));
        other = siphash_end(&a);
        _exit(write(fds[1], &other, sizeof(other)) != sizeof(other));
    }
    ck_assert_int_eq(ledger_open(ROWS, KEEP), 0);
    a = ledger_hash();
    b = ledger_hash();
    siphash_add_field(&a, STR("name"));
    siphash_add_field(&b, STR("name"));
    ck_assert_int_eq(read(fds[0], &other, sizeof(other)), sizeof(other));
    ck_assert_uint_eq(siphash_end(&a), siphash_end(&b));
    ck_assert_uint_ne(siphash_end(&b), other); /* 2^-64 */
}
END_TEST

/* All begin at once with the same names, as children do after a reload. Some are killed. */
START_TEST(many_processes_share_their_rows)
{
    enum { PROCESSES = 8, NAMES = 12, TURNS = 5000 };
    pid_t killed[2];
    int go[2];
    char c;

    ck_assert_int_eq(ledger_open(ROWS, KEEP), 0);
    ck_assert_int_eq(pipe(go), 0);
    for (int i = 0; i < PROCESSES + 2; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            struct ledger_place p[NAMES] = { 0 };

            close(go[1]);
            while (read(go[0], &c, 1) > 0)
                ;
            for (unsigned k = 0; k < TURNS || i >= PROCESSES; k++) {
                p[k % NAMES].id = k % NAMES + 1;
                p[k % NAMES].looked_ms = 0; /* looks for it each time */
                if (i < PROCESSES)
                    add(ledger_words(&p[k % NAMES], now), 1);
                else
                    ledger_words(&p[k % NAMES], now);
            }
            _exit(0);
        }
        if (i >= PROCESSES)
            killed[i - PROCESSES] = pid;
    }
    close(go[1]);
    for (int i = 0; i < PROCESSES; i++)
        wait(NULL);
    for (int i = 0; i < 2; i++) {
        kill(killed[i], SIGKILL);
        waitpid(killed[i], NULL, 0);
    }
    for (unsigned i = 0; i < NAMES; i++) {
        struct ledger_place p = { .id = i + 1 };
        uint64_t want = (TURNS / NAMES + (i < TURNS % NAMES)) * PROCESSES;

        ck_assert_uint_eq(*ledger_words(&p, now), want);
    }
    ck_assert_uint_eq(ledger_counts().used, NAMES);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("ledger");

    tcase_add_test(t, a_name_has_one_row);
    tcase_add_test(t, a_row_that_nobody_asks_for_is_forgotten);
    tcase_add_test(t, a_process_that_slept_finds_its_row_gone);
    tcase_add_test(t, a_full_table_leaves_each_process_its_own);
    tcase_add_test(t, a_hash_depends_on_the_table);
    tcase_add_test(t, many_processes_share_their_rows);
    return t;
}

UNIT_MAIN("ledger")
