/* What the dashboard keeps of exchanges: the slowest, the last that failed, all cut to their room.
 */
#include "admin/recent.h"

#include <string.h>

#include "net/loop.h"
#include "unit.h"

static struct exchange exchange(uint64_t took_us, const char *end)
{
    struct exchange ex = { .state = EX_ANSWERING, .end = end, .end_by = 'U' };

    snprintf(ex.id, sizeof(ex.id), "id-%llu", (unsigned long long)took_us);
    ex.started_us = loop_precise_us() - took_us;
    ex.started_wall_ms = loop_wall_ms() - took_us / 1000;
    ex.request.head.method = STR("GET");
    ex.request.head.target = STR("/a");
    ex.reply.status = 200;
    return ex;
}

static struct recent_record seen[RECENT_FAILED + RECENT_SLOW];
static size_t nseen;

static void see(void *owner, const struct recent_record *r)
{
    ck_assert_uint_lt(nseen, sizeof(seen) / sizeof(*seen));
    seen[nseen++] = *r;
}

static void look(enum recent_kind kind)
{
    nseen = 0;
    recent_each(kind, see, NULL);
}

static void begin(void)
{
    ck_assert_int_eq(loop_init(), 0);
    ck_assert_int_eq(recent_share(2), 0);
    recent_use_slot(0);
}

static void end(void)
{
    loop_release();
}

START_TEST(keeps_the_slowest)
{
    uint64_t least = UINT64_MAX;

    for (uint64_t i = 1; i <= 100; i++) {
        struct exchange ex = exchange(1000000 * ((i * 37) % 101), NULL);

        recent_add(&ex);
    }
    look(RECENT_IS_SLOW);
    ck_assert_uint_eq(nseen, RECENT_SLOW);
    for (size_t i = 0; i < nseen; i++)
        least = seen[i].total_us < least ? seen[i].total_us : least;
    ck_assert_uint_ge(least, (uint64_t)1000000 * (101 - RECENT_SLOW));
    look(RECENT_IS_FAILED);
    ck_assert_uint_eq(nseen, 0);
}
END_TEST

START_TEST(keeps_the_last_failures)
{
    for (uint64_t i = 1; i <= RECENT_FAILED + 5; i++) {
        struct exchange ex = exchange(i, "dns_error");

        recent_add(&ex);
    }
    look(RECENT_IS_FAILED);
    ck_assert_uint_eq(nseen, RECENT_FAILED);
    for (size_t i = 0; i < nseen; i++)
        ck_assert_str_ne(seen[i].id, "id-5");
    ck_assert_str_eq(seen[0].end, "dns_error");
    ck_assert_str_eq(seen[0].code, "UR");
}
END_TEST

START_TEST(cuts_texts_to_their_room)
{
    static char path[5000];
    struct exchange ex = exchange(1, "dns_error");

    memset(path, 'p', sizeof(path));
    ex.request.head.target = str_make(path, sizeof(path));
    recent_add(&ex);
    look(RECENT_IS_FAILED);
    ck_assert_uint_eq(strlen(seen[0].path), sizeof(seen[0].path) - 1);
}
END_TEST

START_TEST(shows_what_is_in_flight_longest)
{
    struct exchange flying[RECENT_FLYING + 20];
    struct exchanges all = { .conf = NULL };

    for (size_t i = 0; i < EX_NSTATES; i++)
        list_init(&all.by_state[i]);
    for (size_t i = 0; i < sizeof(flying) / sizeof(*flying); i++) {
        flying[i] = exchange(1000 * (1000 - i), NULL);
        flying[i].state = i % 2 ? EX_PARKED : EX_QUEUED;
        list_push(&all.by_state[flying[i].state], &flying[i].node);
    }
    recent_publish(&all);
    look(RECENT_IS_FLYING);
    ck_assert_uint_eq(nseen, RECENT_FLYING);
    ck_assert_str_eq(seen[0].id, "id-1000000");
    ck_assert_str_eq(seen[0].state, "queued");
    ck_assert_str_eq(seen[RECENT_FLYING - 1].id, "id-989000");
    for (size_t i = 0; i < sizeof(flying) / sizeof(*flying); i++)
        list_remove(&flying[i].node);
    recent_publish(&all);
    look(RECENT_IS_FLYING);
    ck_assert_uint_eq(nseen, 0);
}
END_TEST

/* Each process writes its own; a process in the place of a dead one begins anew. */
START_TEST(processes_share_what_they_keep)
{
    struct exchange ex = exchange(1, "dns_error");

    recent_add(&ex);
    recent_use_slot(1);
    recent_add(&ex);
    look(RECENT_IS_FAILED);
    ck_assert_uint_eq(nseen, 2);
    recent_use_slot(1);
    look(RECENT_IS_FAILED);
    ck_assert_uint_eq(nseen, 1);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("recent");

    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, keeps_the_slowest);
    tcase_add_test(t, keeps_the_last_failures);
    tcase_add_test(t, cuts_texts_to_their_room);
    tcase_add_test(t, shows_what_is_in_flight_longest);
    tcase_add_test(t, processes_share_what_they_keep);
    return t;
}

UNIT_MAIN("recent")
