/* Heads: fields found, added, replaced, removed, copied. */
#include "http/head.h"

#include <check.h>
#include <stdlib.h>

#include "unit.h"

static const struct field sample[] = {
    { STR_INIT("Host"), STR_INIT("a") },
    { STR_INIT("Accept"), STR_INIT("x, y ,, Z") },
    { STR_INIT("Empty"), STR_INIT("") },
    { STR_INIT("ACCEPT"), STR_INIT("w") },
    { STR_INIT("Last"), STR_INIT("l") },
};

/* A head whose fields may be written to but not added to. */
static struct head make(struct field mem[COUNT_OF(sample)])
{
    memcpy(mem, sample, sizeof(sample));
    return (struct head){ .fields = mem, .nfields = COUNT_OF(sample) };
}

static void expect(const struct head *h, const char *text)
{
    char all[256] = "";

    for (size_t i = 0; i < h->nfields; i++) {
        strncat(all, h->fields[i].name.p, h->fields[i].name.n);
        strcat(all, "=");
        strncat(all, h->fields[i].value.p, h->fields[i].value.n);
        strcat(all, "|");
    }
    ck_assert_str_eq(all, text);
}

START_TEST(finds_fields_in_any_case)
{
    struct field mem[COUNT_OF(sample)];
    struct head h = make(mem);

    ck_assert_ptr_eq(head_find(&h, STR("accept")), &mem[1]);
    ck_assert_ptr_null(head_find(&h, STR("accep")));
    ck_assert_ptr_null(head_find(&h, STR("accepts")));
    ck_assert_ptr_null(head_find(&h, STR("")));
    ck_assert(str_eq(head_value(&h, STR("hOST")), STR("a")));
    ck_assert_ptr_nonnull(head_value(&h, STR("empty")).p);
    ck_assert_ptr_null(head_value(&h, STR("none")).p);
    ck_assert_uint_eq(head_count(&h, STR("Accept")), 2);
    ck_assert_uint_eq(head_count(&h, STR("None")), 0);
}
END_TEST

START_TEST(reads_lists_over_all_lines)
{
    static const struct {
        const char *token;
        bool is;
    } rows[] = { { "x", true }, { "Y", true }, { "z", true }, { "w", true }, { "", false },
        { "x, y", false }, { "xy", false }, { "a", false } };
    struct field mem[COUNT_OF(sample)];
    struct head h = make(mem);

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        ck_assert_int_eq(head_has_token(&h, STR("accept"), str_of(rows[i].token)), rows[i].is);
    ck_assert(!head_has_token(&h, STR("none"), STR("x")));
}
END_TEST

START_TEST(adds_without_touching_a_borrowed_array)
{
    struct field mem[COUNT_OF(sample)];
    struct head h = make(mem);
    struct arena a = { 0 };

    ck_assert_int_eq(head_add(&h, &a, STR("New"), STR("1")), 0);
    ck_assert_ptr_ne(h.fields, mem);
    expect(&h, "Host=a|Accept=x, y ,, Z|Empty=|ACCEPT=w|Last=l|New=1|");
    ck_assert_uint_gt(h.room, h.nfields);
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(head_add(&h, &a, STR("N"), STR("2")), 0);
    ck_assert_uint_eq(h.nfields, COUNT_OF(sample) + 1001);
    ck_assert(str_eq(h.fields[1005].value, STR("2")));
    ck_assert_mem_eq(mem, sample, sizeof(sample));
    arena_release(&a);
}
END_TEST

START_TEST(adds_to_an_empty_head)
{
    struct head h = { 0 };
    struct arena a = { 0 };

    ck_assert_int_eq(head_add(&h, &a, STR("A"), STR("1")), 0);
    expect(&h, "A=1|");
    arena_release(&a);
}
END_TEST

START_TEST(sets_in_the_first_ones_place)
{
    struct field mem[COUNT_OF(sample)];
    struct head h = make(mem);
    struct arena a = { 0 };

    ck_assert_int_eq(head_set(&h, &a, STR("accept"), STR("new")), 0);
    expect(&h, "Host=a|accept=new|Empty=|Last=l|");
    ck_assert_int_eq(head_set(&h, &a, STR("Other"), STR("o")), 0);
    expect(&h, "Host=a|accept=new|Empty=|Last=l|Other=o|");
    ck_assert_mem_eq(mem, sample, sizeof(sample)); /* had no room to write to: it was another's */
    arena_release(&a);
}
END_TEST

START_TEST(removes_all_of_a_name)
{
    struct field mem[COUNT_OF(sample)];
    struct head h = make(mem);

    head_remove(&h, STR("None"));
    ck_assert_uint_eq(h.nfields, COUNT_OF(sample));
    head_remove(&h, STR("aCCEPT"));
    expect(&h, "Host=a|Empty=|Last=l|");
    head_remove(&h, STR("host"));
    head_remove(&h, STR("last"));
    head_remove(&h, STR("empty"));
    ck_assert_uint_eq(h.nfields, 0);
}
END_TEST

START_TEST(copies_everything)
{
    char text[] = "POST/a?bhostokNameValue";
    struct field mem[] = { { { text + 14, 4 }, { text + 18, 5 } },
        { { text + 14, 4 }, { text, 0 } } };
    struct head from = { .method = { text, 4 },
        .target = { text + 4, 4 },
        .authority = { text + 8, 4 },
        .reason = { text + 12, 2 },
        .status = 201,
        .minor = 1,
        .fields = mem,
        .nfields = 2 };
    struct head to;
    struct arena a = { 0 };

    ck_assert_int_eq(head_copy(&a, &to, &from, 3), 0);
    memset(text, 'x', sizeof(text));
    memset(mem, 0, sizeof(mem));
    ck_assert(str_eq(to.method, STR("POST")));
    ck_assert(str_eq(to.target, STR("/a?b")));
    ck_assert(str_eq(to.authority, STR("host")));
    ck_assert(str_eq(to.reason, STR("ok")));
    ck_assert_uint_eq(to.status, 201);
    ck_assert_uint_eq(to.minor, 1);
    ck_assert_uint_eq(to.room, 5);
    expect(&to, "Name=Value|Name=|");
    ck_assert_ptr_nonnull(to.fields[1].value.p);
    mem[0] = to.fields[0];
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(head_add(&to, &a, mem[0].name, mem[0].value), 0);
    ck_assert_uint_eq(to.room, 5); /* the spare room was enough */
    expect(&to, "Name=Value|Name=|Name=Value|Name=Value|Name=Value|");
    arena_release(&a);
}
END_TEST

START_TEST(copies_onto_itself_and_keeps_what_is_absent_absent)
{
    struct field mem[COUNT_OF(sample)];
    struct head h = make(mem);
    struct arena a = { 0 };

    h.method = STR("GET");
    ck_assert_int_eq(head_copy(&a, &h, &h, 0), 0);
    memset(mem, 0, sizeof(mem));
    expect(&h, "Host=a|Accept=x, y ,, Z|Empty=|ACCEPT=w|Last=l|");
    ck_assert(str_eq(h.method, STR("GET")));
    ck_assert_ptr_null(h.reason.p);
    h = (struct head){ 0 };
    ck_assert_int_eq(head_copy(&a, &h, &h, 0), 0);
    ck_assert_uint_eq(h.nfields, 0);
    arena_release(&a);
}
END_TEST

/* What an arena without memory gives instead of a text must not become an empty field. */
START_TEST(takes_no_text_that_could_not_be_made)
{
    const struct str none = { NULL, 0 };
    struct arena a = { 0 };
    struct head h = { 0 };

    ck_assert_int_eq(head_add(&h, &a, STR("Content-Length"), none), -1);
    ck_assert_int_eq(head_add(&h, &a, none, STR("1")), -1);
    ck_assert_int_eq(head_add(&h, &a, STR("Content-Length"), STR("1")), 0);
    ck_assert_int_eq(head_set(&h, &a, STR("Content-Length"), none), -1);
    ck_assert_int_eq(head_set(&h, &a, STR("Empty"), STR("")), 0);
    ck_assert_uint_eq(h.nfields, 2);
    ck_assert_span_eq(head_value(&h, STR("content-length")), "1");
    arena_release(&a);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("heads");

    tcase_add_test(t, finds_fields_in_any_case);
    tcase_add_test(t, reads_lists_over_all_lines);
    tcase_add_test(t, adds_without_touching_a_borrowed_array);
    tcase_add_test(t, adds_to_an_empty_head);
    tcase_add_test(t, sets_in_the_first_ones_place);
    tcase_add_test(t, removes_all_of_a_name);
    tcase_add_test(t, copies_everything);
    tcase_add_test(t, copies_onto_itself_and_keeps_what_is_absent_absent);
    tcase_add_test(t, takes_no_text_that_could_not_be_made);
    return t;
}

UNIT_MAIN("head")
