/* The trail of an exchange: phases within their bound, labels within theirs, spans that differ. */
#include "exchange/trail.h"

#include "unit.h"

static struct arena arena;

static struct trail trail(bool detailed)
{
    return (struct trail){ .arena = &arena, .detailed = detailed };
}

static void release(void)
{
    arena_release(&arena);
}

START_TEST(keeps_phases_up_to_its_bound)
{
    struct trail t = trail(true);

    for (int i = 0; i < TRAIL_PHASES_MAX + 10; i++) {
        struct phase p = { .began_us = (uint64_t)i + 1, .kind = PHASE_VISIT };

        ck_assert_int_eq(trail_add(&t, &p), i < TRAIL_PHASES_MAX ? i : -1);
    }
    for (int i = 0; i < TRAIL_PHASES_MAX; i++)
        ck_assert_uint_eq(t.phases[i].began_us, (uint64_t)i + 1);
}
END_TEST

START_TEST(keeps_no_phases_for_nobody)
{
    struct trail t = trail(false);
    struct phase p = { .kind = PHASE_QUEUE };

    ck_assert_int_eq(trail_add(&t, &p), -1);
    ck_assert_int_eq(trail_add(NULL, &p), -1);
    trail_note(&t, -1, 200, NULL);
    trail_end(&t, -1, 5);
    ck_assert_uint_eq(t.nphases, 0);
}
END_TEST

START_TEST(an_end_is_kept)
{
    struct trail t = trail(true);
    struct phase p = { .began_us = 1, .kind = PHASE_ATTEMPT };
    int at = trail_add(&t, &p);

    trail_end(&t, at, 7);
    trail_end(&t, at, 9);
    ck_assert_uint_eq(t.phases[at].ended_us, 7);
}
END_TEST

START_TEST(a_label_is_cut_to_its_bound)
{
    struct trail t = trail(false);
    char text[200];
    struct field f = { STR("Tarry-Label"), str_make(text, sizeof(text)) };
    struct head h = { .fields = &f, .nfields = 1 };

    memset(text, 'a', sizeof(text));
    trail_take_label(&t, &h);
    ck_assert_uint_eq(t.label.n, TRAIL_LABEL_MAX);
    trail_take_label(NULL, &h);
}
END_TEST

static const struct {
    struct str name;
    bool known;
} ids[] = { { STR_INIT("X-Request-Id"), true }, { STR_INIT("request-id"), true },
    { STR_INIT("apim-request-id"), true }, { STR_INIT("x-other"), false } };

START_TEST(finds_the_services_id)
{
    struct trail t = trail(false);
    struct field f = { ids[_i].name, STR("req_1") };
    struct head h = { .fields = &f, .nfields = 1 }, none = { 0 };

    trail_take_service_id(&t, &h);
    ck_assert(str_eq(t.service_id, ids[_i].known ? STR("req_1") : STR("")));
    trail_take_service_id(&t, &none); /* another attempt, that gave none */
    ck_assert_uint_eq(t.service_id.n, 0);
}
END_TEST

START_TEST(spans_differ)
{
    struct trail_trace trace = { 0 };
    struct trail t = trail(true);
    unsigned char spans[3 * 300][TRACE_SPAN_BYTES];
    size_t n = 0;

    t.trace = &trace;
    for (unsigned kind = PHASE_QUEUE; kind <= PHASE_PARKED; kind++)
        for (unsigned i = 0; i < 300; i++)
            trail_span(&t, kind, i, spans[n++]);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            ck_assert_int_ne(memcmp(spans[i], spans[k], TRACE_SPAN_BYTES), 0);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("trail");

    tcase_add_checked_fixture(t, NULL, release);
    tcase_add_test(t, keeps_phases_up_to_its_bound);
    tcase_add_test(t, keeps_no_phases_for_nobody);
    tcase_add_test(t, an_end_is_kept);
    tcase_add_test(t, a_label_is_cut_to_its_bound);
    tcase_add_loop_test(t, finds_the_services_id, 0, COUNT_OF(ids));
    tcase_add_test(t, spans_differ);
    return t;
}

UNIT_MAIN("trail")
