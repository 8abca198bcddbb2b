/* Ticket keys: who agrees with whom, and for how long. */
#include "net/tickets.h"

#include <string.h>
#include <unistd.h>

#include "unit.h"

enum { HOUR = 3600 * 1000 };

#define NOW UINT64_C(1800000000000)

/* "Two hours" in all cases: a session under a key of hour h is good until the end of hour h + 2. */
static struct tickets *make(struct str secret, uint64_t wall_ms)
{
    struct tickets *t = tickets_new(HOUR, 2 * HOUR, secret, wall_ms);

    ck_assert_ptr_nonnull(t);
    return t;
}

static const struct str one = STR_INIT("one-secret-that-is-long-enough-for-it"),
                        two = STR_INIT("another-secret-that-is-long-enough-too"), none = { 0 };

/* Whether `b` opens what `a` seals at that moment. */
static bool opens(struct tickets *a, struct tickets *b, uint64_t sealed_ms, uint64_t opened_ms)
{
    struct tickets_key k = *tickets_current(a, sealed_ms);
    const struct tickets_key *found = tickets_find(b, k.name, opened_ms);

    return found && memcmp(found, &k, sizeof(k)) == 0;
}

START_TEST(a_key_is_used_for_one_rotation)
{
    struct tickets *t = make(none, NOW);
    struct tickets_key first = *tickets_current(t, NOW), second;
    uint64_t end = (NOW / HOUR + 1) * HOUR;

    ck_assert_mem_eq(tickets_current(t, end - 1)->name, first.name, TICKETS_NAME_N);
    second = *tickets_current(t, end);
    ck_assert_mem_ne(second.name, first.name, TICKETS_NAME_N);
    ck_assert_mem_ne(second.cipher, first.cipher, TICKETS_KEY_N);
    ck_assert_mem_ne(second.mac, first.mac, TICKETS_KEY_N);
    ck_assert_mem_ne(second.mac, second.cipher, TICKETS_KEY_N);
    tickets_free(t);
}
END_TEST

START_TEST(old_keys_open_tickets_until_their_sessions_end)
{
    struct tickets *t = make(none, NOW);
    struct tickets_key k = *tickets_current(t, NOW);
    uint64_t end = (NOW / HOUR + 3) * HOUR;

    ck_assert_ptr_nonnull(tickets_find(t, k.name, end - 1));
    ck_assert_ptr_null(tickets_find(t, k.name, end));
    tickets_free(t);
}
END_TEST

START_TEST(keys_whose_time_is_over_are_overwritten)
{
    struct tickets *t = make(none, NOW);
    struct tickets_key k = *tickets_current(t, NOW);
    const unsigned char *memory = (const unsigned char *)t;
    size_t n = 4096; /* less than the struct has */

    tickets_rotate(t, NOW + 100 * (uint64_t)HOUR);
    for (size_t i = 0; i + TICKETS_KEY_N <= n; i++)
        ck_assert(memcmp(memory + i, k.cipher, TICKETS_KEY_N) != 0 &&
                  memcmp(memory + i, k.mac, TICKETS_KEY_N) != 0);
    tickets_free(t);
}
END_TEST

START_TEST(processes_agree_after_a_fork)
{
    struct tickets *t = make(none, NOW), *other = make(none, NOW);
    struct tickets_key theirs;
    uint64_t at = NOW + 50 * (uint64_t)HOUR;
    int ends[2];

    ck_assert(!opens(t, other, NOW, NOW)); /* another start, another secret */
    ck_assert_int_eq(pipe(ends), 0);
    if (fork() == 0) {
        theirs = *tickets_current(t, at);
        _exit(write(ends[1], &theirs, sizeof(theirs)) == sizeof(theirs) ? 0 : 1);
    }
    ck_assert_int_eq(read(ends[0], &theirs, sizeof(theirs)), sizeof(theirs));
    ck_assert_mem_eq(tickets_find(t, theirs.name, at + HOUR), &theirs, sizeof(theirs));
    close(ends[0]);
    close(ends[1]);
    tickets_free(t);
    tickets_free(other);
}
END_TEST

START_TEST(machines_with_one_secret_agree)
{
    struct tickets *a = make(one, NOW), *b = make(one, NOW + 500 * (uint64_t)HOUR), *c;
    uint64_t at = NOW + 500 * (uint64_t)HOUR;

    ck_assert(opens(a, b, at, at));
    ck_assert(opens(b, a, at, at));
    /* One that starts later opens what was sealed before it was there. */
    c = make(one, at + 2 * HOUR - 1000);
    ck_assert(opens(a, c, at, at + 2 * HOUR - 1000));
    tickets_free(c);
    c = make(two, at);
    ck_assert(!opens(a, c, at, at));
    tickets_free(a);
    tickets_free(b);
    tickets_free(c);
}
END_TEST

START_TEST(clocks_of_machines_may_differ)
{
    struct tickets *a = make(one, NOW), *b = make(one, NOW);
    uint64_t end = (NOW / HOUR + 1) * HOUR;

    ck_assert(opens(a, b, end + 100, end - 900));
    ck_assert(opens(a, b, end - 900, end + 100));
    tickets_free(a);
    tickets_free(b);
}
END_TEST

START_TEST(a_new_secret_leaves_tickets_of_the_old_one_their_time)
{
    struct tickets *t = make(one, NOW);
    struct tickets_key k = *tickets_current(t, NOW);

    tickets_set_secret(t, two, NOW + 1000);
    ck_assert_ptr_nonnull(tickets_find(t, k.name, NOW + HOUR));
    ck_assert_mem_ne(tickets_current(t, NOW + 1000)->name, k.name, TICKETS_NAME_N);
    ck_assert_ptr_null(tickets_find(t, k.name, NOW + 4 * (uint64_t)HOUR));
    /* The same one again changes nothing. */
    k = *tickets_current(t, NOW + 4 * (uint64_t)HOUR);
    tickets_set_secret(t, two, NOW + 4 * (uint64_t)HOUR);
    ck_assert_mem_eq(tickets_current(t, NOW + 4 * (uint64_t)HOUR)->name, k.name, TICKETS_NAME_N);
    /* Many in a row: the newest always works. */
    for (int i = 0; i < 20; i++) {
        tickets_set_secret(t, i % 2 ? one : two, NOW + 5 * (uint64_t)HOUR);
        ck_assert(opens(t, t, NOW + 5 * (uint64_t)HOUR, NOW + 5 * (uint64_t)HOUR));
    }
    tickets_free(t);
}
END_TEST

/* Without the file, processes of one start still agree. */
START_TEST(goes_back_to_the_own_secret)
{
    struct tickets *t = make(none, NOW);
    struct tickets_key own = *tickets_current(t, NOW);

    tickets_set_secret(t, one, NOW);
    ck_assert_mem_ne(tickets_current(t, NOW)->name, own.name, TICKETS_NAME_N);
    tickets_set_secret(t, none, NOW);
    ck_assert_mem_eq(tickets_current(t, NOW)->name, own.name, TICKETS_NAME_N);
    tickets_free(t);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("tickets");

    tcase_add_test(t, a_key_is_used_for_one_rotation);
    tcase_add_test(t, old_keys_open_tickets_until_their_sessions_end);
    tcase_add_test(t, keys_whose_time_is_over_are_overwritten);
    tcase_add_test(t, processes_agree_after_a_fork);
    tcase_add_test(t, machines_with_one_secret_agree);
    tcase_add_test(t, clocks_of_machines_may_differ);
    tcase_add_test(t, a_new_secret_leaves_tickets_of_the_old_one_their_time);
    tcase_add_test(t, goes_back_to_the_own_secret);
    return t;
}

UNIT_MAIN("tickets")
