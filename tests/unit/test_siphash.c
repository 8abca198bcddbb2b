/* The test vectors of the SipHash paper and its reference code. */
#include "base/siphash.h"

#include "unit.h"

static const uint64_t key[2] = { UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908) };

static uint64_t of_counting_bytes(size_t n, size_t cut)
{
    char text[64];
    struct siphash h;

    for (size_t i = 0; i < n; i++)
        text[i] = (char)i;
    siphash_init(&h, key);
    siphash_add(&h, str_make(text, cut));
    siphash_add(&h, str_make(text + cut, n - cut));
    return siphash_end(&h);
}

START_TEST(gives_the_values_of_the_paper)
{
    ck_assert_uint_eq(of_counting_bytes(0, 0), UINT64_C(0x726fdb47dd0e0e31));
    for (size_t cut = 0; cut <= 15; cut++)
        ck_assert_uint_eq(of_counting_bytes(15, cut), UINT64_C(0xa129ca6149be45e5));
}
END_TEST

START_TEST(fields_do_not_run_into_each_other)
{
    struct siphash a, b;

    siphash_init(&a, key);
    siphash_init(&b, key);
    siphash_add_field(&a, STR("a"));
    siphash_add_field(&a, STR("bc"));
    siphash_add_field(&b, STR("ab"));
    siphash_add_field(&b, STR("c"));
    ck_assert_uint_ne(siphash_end(&a), siphash_end(&b));
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("siphash");

    tcase_add_test(t, gives_the_values_of_the_paper);
    tcase_add_test(t, fields_do_not_run_into_each_other);
    return t;
}

UNIT_MAIN("siphash")
