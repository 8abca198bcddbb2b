/* What services say is left: which fields are read, and in which forms. */
#include "upstream/ratelimit.h"

#include <stdlib.h>
#include <string.h>

#include "unit.h"

#define WALL_MS UINT64_C(1796000000000) /* 2026-11-30T00:53:20Z */
#define UNKNOWN UINT64_MAX

/* Every level that is known: remaining, limit and reset. */
static const struct {
    const char *fields[8]; /* name, value, ... */
    enum meter_kind kind;
    uint64_t remaining, limit, reset_ms; /* remaining UNKNOWN: nothing is known */
} rows[] = {
    { { "x-ratelimit-remaining-tokens", "5", "x-ratelimit-reset-tokens", "12ms" }, METER_TOKENS, 5,
        0, 12 },
    { { "X-RateLimit-Remaining-Requests", "0", "x-ratelimit-reset-requests", "6m0s",
          "x-ratelimit-limit-requests", "60" },
        METER_REQUESTS, 0, 60, 360000 },
    { { "x-ratelimit-remaining-tokens", "5", "x-ratelimit-reset-tokens", "1h2m3.5s" }, METER_TOKENS,
        5, 0, 3723500 },
    { { "x-ratelimit-remaining-tokens", " 5 ", "x-ratelimit-reset-tokens", "2" }, METER_TOKENS, 5,
        0, 2000 },
    { { "x-ratelimit-remaining-tokens", "5", "x-ratelimit-reset-tokens", "0.0001s" }, METER_TOKENS,
        5, 0, 0 },
    { { "x-ratelimit-remaining-tokens", "5", "x-ratelimit-reset-tokens", "0s" }, METER_TOKENS, 5, 0,
        0 },
    { { "anthropic-ratelimit-input-tokens-remaining", "7", "anthropic-ratelimit-input-tokens-reset",
          "2026-11-30T00:53:30Z", "anthropic-ratelimit-input-tokens-limit", "80" },
        METER_INPUT, 7, 80, 10000 },
    { { "anthropic-ratelimit-output-tokens-remaining", "7",
          "anthropic-ratelimit-output-tokens-reset", "2026-11-30T00:53:30.25Z" },
        METER_OUTPUT, 7, 0, 10000 },
    { { "anthropic-ratelimit-requests-remaining", "7", "anthropic-ratelimit-requests-reset",
          "2020-01-01T00:00:00Z" },
        METER_REQUESTS, 7, 0, 0 }, /* it is over */
    { { "anthropic-ratelimit-tokens-remaining", "7", "anthropic-ratelimit-tokens-reset", "1s" },
        METER_TOKENS, 7, 0, 1000 },
    { { "x-ratelimit-remaining-tokens", "5" }, METER_TOKENS, UNKNOWN, 0, 0 },
    { { "x-ratelimit-remaining-tokens", "-1", "x-ratelimit-reset-tokens", "1s" }, METER_TOKENS,
        UNKNOWN, 0, 0 },
    { { "x-ratelimit-remaining-tokens", "5", "x-ratelimit-reset-tokens", "soon" }, METER_TOKENS,
        UNKNOWN, 0, 0 },
    { { "x-ratelimit-remaining-tokens", "5", "x-ratelimit-reset-tokens", "1.2.3s" }, METER_TOKENS,
        UNKNOWN, 0, 0 },
    { { "x-ratelimit-remaining-tokens", "5", "x-ratelimit-reset-tokens", "1s2" }, METER_TOKENS, 5,
        0, 3000 },
    { { "x-ratelimit-remaining-tokens", "5", "x-ratelimit-reset-tokens", "" }, METER_TOKENS,
        UNKNOWN, 0, 0 },
    { { "x-ratelimit-remaining-tokens", "5", "x-ratelimit-reset-tokens", "99999999999999999999s" },
        METER_TOKENS, UNKNOWN, 0, 0 },
    { { "x-ratelimit-remaining-tokens", "5", "x-ratelimit-reset-tokens", "2d" }, METER_TOKENS,
        UNKNOWN, 0, 0 }, /* further off than anybody waits */
    { { "x-ratelimit-remaining-tokens", "5", "x-ratelimit-reset-tokens", "213503983d" },
        METER_TOKENS, UNKNOWN, 0, 0 }, /* its milliseconds are beyond 64 bits */
    { { "anthropic-ratelimit-tokens-remaining", "7", "anthropic-ratelimit-tokens-reset",
          "2026-11-30 00:53:30Z" },
        METER_TOKENS, UNKNOWN, 0, 0 },
    { { "anthropic-ratelimit-tokens-remaining", "7", "anthropic-ratelimit-tokens-reset",
          "2026-11-30T00:53:30+02:00" },
        METER_TOKENS, UNKNOWN, 0, 0 },
    { { "x-ratelimit-remaining", "5", "x-ratelimit-reset", "1s" }, METER_TOKENS, UNKNOWN, 0, 0 },
};

START_TEST(reads_what_is_left)
{
    struct meter_level levels[METER_NKINDS];
    struct arena a = { 0 };
    struct head h = { .status = 200 };
    bool known = rows[_i].remaining != UNKNOWN;

    for (size_t i = 0; i < 8 && rows[_i].fields[i]; i += 2)
        ck_assert_int_eq(
            head_add(&h, &a, str_of(rows[_i].fields[i]), str_of(rows[_i].fields[i + 1])), 0);
    ck_assert(ratelimit_read(&h, WALL_MS, levels) == known);
    for (int k = 0; k < METER_NKINDS; k++)
        ck_assert(levels[k].known == (known && k == (int)rows[_i].kind));
    if (known) {
        ck_assert_uint_eq(levels[rows[_i].kind].remaining, rows[_i].remaining);
        ck_assert_uint_eq(levels[rows[_i].kind].limit, rows[_i].limit);
        ck_assert_uint_eq(levels[rows[_i].kind].reset_ms, rows[_i].reset_ms);
    }
    arena_release(&a);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("ratelimit");

    tcase_add_loop_test(t, reads_what_is_left, 0, COUNT_OF(rows));
    return t;
}

UNIT_MAIN("ratelimit")
