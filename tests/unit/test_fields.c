/* Field names and octets. */
#include "http/fields.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "cuts.h"
#include "unit.h"

START_TEST(knows_every_octet_of_a_token)
{
    for (int c = 0; c < 256; c++) {
        char s[] = { 'a', (char)c };
        bool is = c > 0x20 && c < 0x7f && !strchr("\"(),/:;<=>?@[\\]{}", c);

        ck_assert_int_eq(field_is_token(str_make(s, 2)), is);
        ck_assert_int_eq(field_is_token(str_make(s + 1, 1)), is);
    }
    ck_assert(!field_is_token(STR("")));
}
END_TEST

START_TEST(knows_every_octet_of_a_value) /* at every place of a word, and behind its end */
{
    for (int c = 0; c < 256; c++) {
        bool is = (c >= 0x20 && c != 0x7f) || c == '\t';

        for (size_t at = 0; at < 20; at++) {
            char s[20];

            memset(s, at % 2 ? 0xff : '\t', sizeof(s));
            s[at] = (char)c;
            ck_assert_uint_eq(field_text_len(cuts_guarded(str_make(s, 20))), is ? 20 : at);
            memset(s, at % 2 ? 0x80 : 'a', sizeof(s));
            s[at] = (char)c;
            ck_assert_uint_eq(field_text_len(cuts_guarded(str_make(s, 20))), is ? 20 : at);
            ck_assert_uint_eq(field_text_len(cuts_guarded(str_make(s, at))), at);
        }
    }
}
END_TEST

START_TEST(wants_values_without_blanks_around)
{
    static const struct {
        struct str s;
        bool is;
    } rows[] = {
        { STR_INIT(""), true },
        { STR_INIT("a"), true },
        { STR_INIT("a \t b"), true },
        { STR_INIT("\xff\x80"), true },
        { STR_INIT(" a"), false },
        { STR_INIT("a\t"), false },
        { STR_INIT(" "), false },
        { STR_INIT("a\nb"), false },
        { STR_INIT("a\r"), false },
        { STR_INIT("a\0b"), false },
        { STR_INIT("a\x7f"), false },
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        ck_assert_int_eq(field_is_value(rows[i].s), rows[i].is);
}
END_TEST

START_TEST(knows_hop_by_hop_fields)
{
    static const char *const ends[] = { "Connection", "keep-alive", "PROXY-CONNECTION", "TE",
        "Trailer", "Transfer-Encoding", "upgrade", "HTTP2-Settings", "Proxy-Authenticate",
        "Proxy-Authorization", "Proxy-Authentication-Info" };
    static const char *const stays[] = { "", "T", "TEE", "Trailers", "Content-Length", "Host",
        "Proxy-Status", "Content-Encoding", "Authorization", "Keep_Alive" };
    struct head h = { 0 };

    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        ck_assert_msg(field_is_hop_by_hop(str_of(ends[i])), "%s", ends[i]);
        ck_assert(field_ends_here(&h, str_of(ends[i])));
    }
    for (size_t i = 0; i < COUNT_OF(stays); i++) {
        ck_assert_msg(!field_is_hop_by_hop(str_of(stays[i])), "%s", stays[i]);
        ck_assert(!field_ends_here(&h, str_of(stays[i])));
    }
}
END_TEST

START_TEST(obeys_connection)
{
    struct field fields[] = {
        { STR_INIT("Connection"), STR_INIT("close, X-One") },
        { STR_INIT("connection"), STR_INIT("x-two") },
    };
    struct head h = { .fields = fields, .nfields = COUNT_OF(fields) };

    ck_assert(field_ends_here(&h, STR("x-one")));
    ck_assert(field_ends_here(&h, STR("X-Two")));
    ck_assert(!field_ends_here(&h, STR("x-three")));
}
END_TEST

START_TEST(knows_tarry_fields_in_every_spelling)
{
    static const struct {
        const char *name;
        bool is;
    } rows[] = {
        { "Tarry-State", true },
        { "tarry-", true },
        { "TARRY_STATE", true },
        { "Tarry.State", true },
        { "tArRy_x", true },
        { "Tarry", false },
        { "TarryX", false },
        { "X-Tarry-State", false },
        { "", false },
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        ck_assert_msg(field_is_tarry(str_of(rows[i].name)) == rows[i].is, "%s", rows[i].name);
}
END_TEST

START_TEST(folds_names_as_cgi_does) /* RFC 3875 4.1.18 */
{
    ck_assert(field_folds_to(STR("X_Forwarded.FOR"), STR("x-forwarded-for")));
    ck_assert(field_folds_to(STR("x-forwarded-for"), STR("X_Forwarded_For")));
    ck_assert(!field_folds_to(STR("x-forwarded-fo"), STR("x-forwarded-for")));
    ck_assert(!field_folds_to(STR("xx-orwarded-for"), STR("x-forwarded-for")));
    ck_assert(field_folds_to(STR("x~forwarded!for"), STR("x-forwarded-for")));
    ck_assert(!field_folds_to(STR("x1forwarded-for"), STR("x-forwarded-for")));
    ck_assert(field_begins_folded(STR("X_Forwarded_Any"), STR("x-forwarded-")));
    ck_assert(!field_begins_folded(STR("X-Forwarded"), STR("x-forwarded-")));
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("fields");

    tcase_add_test(t, knows_every_octet_of_a_token);
    tcase_add_test(t, knows_every_octet_of_a_value);
    tcase_add_test(t, wants_values_without_blanks_around);
    tcase_add_test(t, knows_hop_by_hop_fields);
    tcase_add_test(t, obeys_connection);
    tcase_add_test(t, knows_tarry_fields_in_every_spelling);
    tcase_add_test(t, folds_names_as_cgi_does);
    return t;
}

UNIT_MAIN("fields")
