/* Arenas. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#include "unit.h"

START_TEST(gives_zeroed_aligned_memory)
{
    struct arena a = { 0 };

    for (size_t n = 0; n < 2000; n += 7) {
        unsigned char *p = arena_alloc(&a, n);

        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % alignof(max_align_t), 0);
        for (size_t i = 0; i < n; i++)
            ck_assert_uint_eq(p[i], 0);
        memset(p, 0xff, n); /* what the next one must not see */
    }
    ck_assert(!a.no_memory);
    ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX));
    ck_assert_ptr_nonnull(arena_alloc(&a, 1));
    ck_assert(a.no_memory); /* stays: a piece is missing somewhere */
    arena_release(&a);
    ck_assert(!a.no_memory);
    ck_assert_ptr_null(a.blocks);
}
END_TEST

START_TEST(pieces_do_not_overlap)
{
    enum { N = 300 };
    struct arena a = { 0 };
    unsigned char *p[N];

    for (size_t i = 0; i < N; i++) {
        p[i] = arena_alloc(&a, i + 1);
        memset(p[i], (int)(i & 0xff), i + 1);
    }
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j <= i; j++)
            ck_assert_uint_eq(p[i][j], i & 0xff);
    arena_release(&a);
}
END_TEST

START_TEST(copies_end_with_nul)
{
    struct arena a = { 0 };
    struct str s = arena_copy(&a, str_make("abcdef", 3));

    ck_assert_uint_eq(s.n, 3);
    ck_assert_str_eq(s.p, "abc");
    s = arena_copy(&a, (struct str){ NULL, 0 });
    ck_assert_str_eq(s.p, "");
    ck_assert_str_eq(arena_cstr(&a, str_make("xyz", 2)), "xy");
    s = arena_printf(&a, "%s-%d", "n", 5);
    ck_assert_span_eq(s, "n-5");
    arena_release(&a);
}
END_TEST

START_TEST(refuses_what_cannot_be)
{
    struct arena a = { 0 };

    ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX));
    ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX - 8));
    ck_assert_ptr_nonnull(arena_alloc(&a, 8));
    arena_release(&a);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("arena");

    tcase_add_test(t, gives_zeroed_aligned_memory);
    tcase_add_test(t, pieces_do_not_overlap);
    tcase_add_test(t, copies_end_with_nul);
    tcase_add_test(t, refuses_what_cannot_be);
    return t;
}

UNIT_MAIN("arena")
