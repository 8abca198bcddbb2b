/* Responses in parts: what each is read as, in one piece and cut in two at every octet; and what is
 * refused. */
#include "exchange/parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

static const struct {
    const char *in, *data, *then, *content, *left;
    int error; /* 0: PARTS_END */
} rows[] = {
    { "0\r\nTarry-Then: end\r\n\r\n", "", "end", "", "", 0 },
    { "3\r\nabc\r\n0\r\nTarry-Then: more\r\n\r\nnext", "abc", "more", "", "next", 0 },
    { "1;x=y\r\na\r\n00000002\r\nbc\r\n0\r\nTarry-Then: rest\r\n\r\n", "abc", "rest", "", "", 0 },
    { "0\r\nTarry-Then: replay\r\nTarry-Length: 5\r\n\r\nGET /xyz", "", "replay", "GET /", "xyz",
        0 },
    { "a\r\n0123456789\r\n0\r\nTarry-Then: end\r\nTarry-Length: 0\r\n\r\n", "0123456789", "end", "",
        "", 0 },
    { "0\r\nX: y\r\n\r\n", "", NULL, "", "", 0 },
    { "", "", NULL, "", "", PARTS_NEED_MORE },
    { "3\r\nab", "ab", NULL, "", "", PARTS_NEED_MORE },
    { "3\r\nabc\r\n0\r\nTarry-Then: end\r\n", "abc", NULL, "", "", PARTS_NEED_MORE },
    { "0\r\nTarry-Then: replay\r\nTarry-Length: 5\r\n\r\nGET", "", "replay", "GET", "",
        PARTS_NEED_MORE },
    { "\r\n", "", NULL, "", NULL, PARTS_E_MALFORMED },
    { "x\r\n", "", NULL, "", NULL, PARTS_E_MALFORMED },
    { "-1\r\n", "", NULL, "", NULL, PARTS_E_MALFORMED },
    { " 1\r\n", "", NULL, "", NULL, PARTS_E_MALFORMED },
    { "0x1\r\n", "", NULL, "", NULL, PARTS_E_MALFORMED },
    { "1ffffffffffffffff\r\n", "", NULL, "", NULL, PARTS_E_MALFORMED },
    { "3\nabc", "", NULL, "", NULL, PARTS_E_MALFORMED },
    { "3\r\nabcd\r\n", "abc", NULL, "", NULL, PARTS_E_MALFORMED },
    { "3\r\nabc\n", "abc", NULL, "", NULL, PARTS_E_MALFORMED },
    { "0\r\nTarry-Then: end\n\n", "", NULL, "", NULL, PARTS_E_MALFORMED },
    { "0\r\nno field\r\n\r\n", "", NULL, "", NULL, PARTS_E_MALFORMED },
    { "0\r\nTarry-Length: x\r\n\r\n", "", NULL, "", NULL, PARTS_E_MALFORMED },
    { "0\r\nTarry-Length: 1\r\nTarry-Length: 1\r\n\r\n", "", NULL, "", NULL, PARTS_E_MALFORMED },
};

static struct parts parts;
static struct buf data, content, left;

/* Feeds it; what is not used of the second piece is left. */
static int feed(struct str in)
{
    struct str s;
    int rc;

    while ((rc = parts_next(&parts, &in, &s)) > 0) {
        if (rc == PARTS_DATA)
            ck_assert_int_eq(buf_append(&data, s.p, s.n), 0);
        if (rc == PARTS_CONTENT)
            ck_assert_int_eq(buf_append(&content, s.p, s.n), 0);
        if (rc == PARTS_END)
            break;
    }
    ck_assert_int_eq(buf_append(&left, in.p, in.n), 0);
    return rc;
}

static void check(int row, size_t cut)
{
    struct str in = str_of(rows[row].in);
    int rc;

    parts_init(&parts, 1000);
    rc = feed(str_make(in.p, cut));
    if (rc == PARTS_END)
        ck_assert_int_eq(buf_append(&left, in.p + cut, in.n - cut), 0);
    else if (rc == PARTS_NEED_MORE)
        rc = feed(str_make(in.p + cut, in.n - cut));
    ck_assert_msg(rc == (rows[row].error ? rows[row].error : PARTS_END) ||
                      (rows[row].error == PARTS_NEED_MORE && rc == 0),
        "row %d cut at %zu: %d", row, cut, rc);
    if (rows[row].left) {
        ck_assert_span_eq(buf_str(&data), rows[row].data);
        ck_assert_span_eq(buf_str(&content), rows[row].content);
        ck_assert_span_eq(buf_str(&left), rows[row].left);
    }
    if (rows[row].then)
        ck_assert_span_eq(head_value(&parts.trailer, STR("tarry-then")), rows[row].then);
    parts_release(&parts);
    buf_release(&data);
    buf_release(&content);
    buf_release(&left);
}

START_TEST(reads_each_at_every_cut)
{
    for (size_t cut = 0; cut <= strlen(rows[_i].in); cut++)
        check(_i, cut);
}
END_TEST

START_TEST(bounds_the_trailer_section)
{
    char in[3000] = "0\r\nX: ";

    memset(in + strlen(in), 'y', 2000);
    parts_init(&parts, 1000);
    ck_assert_int_eq(feed(str_of(in)), PARTS_E_TOO_LARGE);
    parts_release(&parts);
    buf_release(&left);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("parts");

    tcase_add_loop_test(t, reads_each_at_every_cut, 0, COUNT_OF(rows));
    tcase_add_test(t, bounds_the_trailer_section);
    return t;
}

UNIT_MAIN("parts")
