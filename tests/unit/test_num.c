/* Numbers, sizes and durations. */
#include "base/num.h"

#include "cuts.h"
#include "unit.h"

#define NO UINT64_MAX /* is refused */

struct row {
    const char *text;
    uint64_t value;
};

typedef bool parse_fn(struct str s, uint64_t *out);

static void check(parse_fn *parse, const struct row *row)
{
    uint64_t v = 0;
    bool ok = parse(cuts_guarded(str_of(row->text)), &v);

    ck_assert_msg(ok == (row->value != NO), "\"%s\" is %s", row->text, ok ? "taken" : "refused");
    if (ok)
        ck_assert_msg(v == row->value, "\"%s\" is %llu", row->text, (unsigned long long)v);
}

static const struct row decimals[] = { { "0", 0 }, { "7", 7 }, { "007", 7 },
    { "999999999999999999", UINT64_C(999999999999999999) }, { "9999999999999999999", NO },
    { "", NO }, { "-1", NO }, { "+1", NO }, { " 1", NO }, { "1 ", NO }, { "0x1", NO },
    { "1.0", NO }, { "1_0", NO } };

START_TEST(reads_decimals)
{
    check(num_parse_u64, &decimals[_i]);
}
END_TEST

static const struct row hexes[] = { { "0", 0 }, { "fF", 255 },
    { "123456789abcdef", UINT64_C(0x123456789abcdef) }, { "0123456789abcdef", NO }, { "", NO },
    { "g", NO }, { "0x1", NO }, { "-1", NO }, { "1 ", NO } };

START_TEST(reads_hex)
{
    check(num_parse_hex, &hexes[_i]);
}
END_TEST

static const struct row sizes[] = { { "0", 0 }, { "512", 512 }, { "64K", 65536 }, { "64k", 65536 },
    { "10M", 10 << 20 }, { "2G", UINT64_C(2) << 30 }, { "1073741824G", UINT64_C(1) << 60 },
    { "1073741825G", NO }, { "K", NO }, { "", NO }, { "1KB", NO }, { "1.5M", NO }, { "1 M", NO },
    { "-1K", NO }, { "1T", NO } };

START_TEST(reads_sizes)
{
    check(num_parse_size, &sizes[_i]);
}
END_TEST

static const struct row durations[] = { { "0ms", 0 }, { "250ms", 250 }, { "30s", 30000 },
    { "1.5s", 1500 }, { "0.0001s", 1 }, { "5m", 300000 }, { "2h", 7200000 }, { "1d", 86400000 },
    { "30", NO }, { "s", NO }, { "ms", NO }, { "", NO }, { "-1s", NO }, { "1 s", NO },
    { "1sec", NO }, { "1S", NO }, { ".5s", NO }, { "1.s", NO }, { "999999999999d", NO },
    { "999999999999999999d", NO } };

START_TEST(reads_durations)
{
    check(num_parse_duration, &durations[_i]);
}
END_TEST

static const struct row seconds[] = { { "2", 2000 }, { "0.5", 500 }, { "17.25", 17250 },
    { "0.0004", 1 }, { "0.0000000000001", 1 }, { "1.9999", 2000 }, { "0", 0 }, { "", NO },
    { "1s", NO }, { "-1", NO }, { "1e3", NO }, { "1.2.3", NO }, { "inf", NO },
    { "999999999999999999", NUM_SECONDS_MAX_MS }, { "99999999999999999999", NUM_SECONDS_MAX_MS },
    { "99999999999999999999.5", NO }, { "9999999999999999999x", NO } };

START_TEST(reads_seconds_and_rounds_up)
{
    check(num_parse_seconds, &seconds[_i]);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("num");

    tcase_add_loop_test(t, reads_decimals, 0, COUNT_OF(decimals));
    tcase_add_loop_test(t, reads_hex, 0, COUNT_OF(hexes));
    tcase_add_loop_test(t, reads_sizes, 0, COUNT_OF(sizes));
    tcase_add_loop_test(t, reads_durations, 0, COUNT_OF(durations));
    tcase_add_loop_test(t, reads_seconds_and_rounds_up, 0, COUNT_OF(seconds));
    return t;
}

UNIT_MAIN("num")
