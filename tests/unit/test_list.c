/* Intrusive lists. */
#include "base/list.h"

#include "unit.h"

struct item {
    int number;
    struct list_node node;
};

static struct item *item_of(struct list_node *n)
{
    return LIST_OWNER(n, struct item, node);
}

START_TEST(keeps_order_and_count)
{
    struct item i[3] = { { .number = 0 }, { .number = 1 }, { .number = 2 } };
    struct list l;

    list_init(&l);
    ck_assert_ptr_null(list_first(&l));
    ck_assert_ptr_null(list_last(&l));
    list_push(&l, &i[1].node);
    list_push(&l, &i[2].node);
    list_push_front(&l, &i[0].node);
    ck_assert_uint_eq(l.count, 3);
    ck_assert_int_eq(item_of(list_first(&l))->number, 0);
    ck_assert_int_eq(item_of(list_next(list_first(&l)))->number, 1);
    ck_assert_int_eq(item_of(list_last(&l))->number, 2);
    ck_assert_ptr_null(list_next(list_last(&l)));
    list_push(&l, &i[0].node); /* from first to last on the same list */
    ck_assert_uint_eq(l.count, 3);
    ck_assert_int_eq(item_of(list_last(&l))->number, 0);
}
END_TEST

START_TEST(a_node_moves_with_its_count)
{
    struct item i = { 0 };
    struct list a, b;

    list_init(&a);
    list_init(&b);
    ck_assert(!list_on(&i.node));
    list_push(&a, &i.node);
    list_push(&b, &i.node);
    ck_assert_uint_eq(a.count, 0);
    ck_assert_uint_eq(b.count, 1);
    ck_assert_ptr_eq(i.node.on, &b);
    list_remove(&i.node);
    list_remove(&i.node); /* twice does no harm */
    ck_assert_uint_eq(b.count, 0);
    ck_assert(!list_on(&i.node));
    ck_assert_ptr_null(list_take_first(&b));
}
END_TEST

START_TEST(the_walk_may_remove_its_node)
{
    struct item i[5] = { 0 };
    struct list l;
    int seen = 0;

    list_init(&l);
    for (int k = 0; k < 5; k++) {
        i[k].number = k;
        list_push(&l, &i[k].node);
    }
    LIST_EACH(n, &l) {
        ck_assert_int_eq(item_of(n)->number, seen++);
        if (item_of(n)->number % 2 == 0)
            list_remove(n);
    }
    ck_assert_int_eq(seen, 5);
    ck_assert_uint_eq(l.count, 2);
    ck_assert_int_eq(item_of(list_take_first(&l))->number, 1);
    ck_assert_int_eq(item_of(list_take_first(&l))->number, 3);
    ck_assert_uint_eq(l.count, 0);
}
END_TEST

START_TEST(inserts_before_a_node)
{
    struct item i[3] = { { .number = 0 }, { .number = 1 }, { .number = 2 } };
    struct list l;

    list_init(&l);
    list_push(&l, &i[0].node);
    list_push(&l, &i[2].node);
    list_insert_before(&i[2].node, &i[1].node);
    ck_assert_uint_eq(l.count, 3);
    for (int k = 0; k < 3; k++)
        ck_assert_int_eq(item_of(list_take_first(&l))->number, k);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("list");

    tcase_add_test(t, keeps_order_and_count);
    tcase_add_test(t, a_node_moves_with_its_count);
    tcase_add_test(t, the_walk_may_remove_its_node);
    tcase_add_test(t, inserts_before_a_node);
    return t;
}

UNIT_MAIN("list")
