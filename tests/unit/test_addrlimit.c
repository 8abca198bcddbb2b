/* Connections counted by address: limits, what stands for an address, and memory that goes with who
 * leaves. */
#include "net/addrlimit.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

static struct addrlimit limit;

static void set_up(void)
{
    addrlimit_init(&limit);
}

static void tear_down(void)
{
    ck_assert_uint_eq(limit.nentries, 0);
    ck_assert_uint_eq(limit.pending, 0);
    addrlimit_release(&limit);
}

static struct addr of(const char *text)
{
    struct addr a = { .family = strchr(text, ':') ? AF_INET6 : AF_INET, .port = 1234 };

    ck_assert_int_eq(inet_pton(a.family, text, a.ip), 1);
    return a;
}

static int join(struct addrlimit_slot *p, const char *text)
{
    struct addr a = of(text);

    return addrlimit_add(&limit, p, &a, true);
}

START_TEST(bounds_the_connections_of_an_address)
{
    struct addrlimit_slot p[3] = { 0 }, other = { 0 };

    limit.limits.connections_max = 2;
    ck_assert_int_eq(join(&p[0], "192.0.2.1"), 0);
    addrlimit_settle(&p[0]);
    ck_assert_int_eq(join(&p[1], "192.0.2.1"), 0);
    ck_assert_int_eq(join(&p[2], "192.0.2.1"), ADDRLIMIT_E_CONNECTIONS);
    ck_assert_ptr_null(p[2].entry);
    ck_assert_int_eq(join(&other, "192.0.2.2"), 0);
    addrlimit_remove(&p[0]);
    addrlimit_remove(&p[0]);
    ck_assert_int_eq(join(&p[2], "192.0.2.1"), 0);
    for (int i = 0; i < COUNT_OF(p); i++)
        addrlimit_remove(&p[i]);
    addrlimit_remove(&other);
}
END_TEST

START_TEST(bounds_the_pending_of_an_address)
{
    struct addrlimit_slot p[3] = { 0 };

    limit.limits.pending_max = 1;
    ck_assert_int_eq(join(&p[0], "192.0.2.1"), 0);
    ck_assert_int_eq(join(&p[1], "192.0.2.1"), ADDRLIMIT_E_PENDING);
    ck_assert_uint_eq(limit.pending, 1);
    addrlimit_settle(&p[0]);
    addrlimit_settle(&p[0]);
    ck_assert_uint_eq(limit.pending, 0);
    ck_assert_int_eq(join(&p[1], "192.0.2.1"), 0);
    addrlimit_remove(&p[1]); /* without a request */
    ck_assert_int_eq(join(&p[2], "192.0.2.1"), 0);
    addrlimit_remove(&p[2]);
    addrlimit_remove(&p[0]);
}
END_TEST

START_TEST(counts_the_exempt_but_lets_them_in)
{
    struct addr a = of("192.0.2.1");
    struct addrlimit_slot p[3] = { 0 };

    limit.limits = (struct addrlimit_bounds){ 1, 1 };
    for (int i = 0; i < COUNT_OF(p); i++)
        ck_assert_int_eq(addrlimit_add(&limit, &p[i], &a, false), 0);
    ck_assert_uint_eq(limit.pending, 3);
    ck_assert_uint_eq(limit.nentries, 1);
    for (int i = 0; i < COUNT_OF(p); i++)
        addrlimit_remove(&p[i]);
}
END_TEST

START_TEST(knows_what_belongs_to_one_client)
{
    static const struct {
        const char *a, *b;
        bool same;
    } rows[] = {
        { "192.0.2.1", "192.0.2.1", true }, { "192.0.2.1", "192.0.2.2", false },
        { "2001:db8::1", "2001:db8::2", true },
        { "2001:db8:0:0:ffff::1", "2001:db8:0:0:1234:5678:9abc:def0", true },
        { "2001:db8:0:1::1", "2001:db8:0:2::1", false },
        { "c000:201::", "192.0.2.1", false }, /* the same first bytes */
    };
    struct addrlimit_slot a = { 0 }, b = { 0 };

    limit.limits.connections_max = 1;
    ck_assert_int_eq(join(&a, rows[_i].a), 0);
    ck_assert_int_eq(join(&b, rows[_i].b), rows[_i].same ? ADDRLIMIT_E_CONNECTIONS : 0);
    addrlimit_remove(&a);
    addrlimit_remove(&b);
}
END_TEST

/* A proxy tells where the connection really comes from. */
START_TEST(moves_to_another_address)
{
    struct addrlimit_slot p = { 0 }, q = { 0 };

    limit.limits.connections_max = 1;
    ck_assert_int_eq(join(&p, "192.0.2.1"), 0);
    ck_assert_int_eq(join(&p, "198.51.100.1"), 0);
    ck_assert_uint_eq(limit.nentries, 1);
    ck_assert_uint_eq(limit.pending, 1);
    ck_assert_int_eq(join(&q, "198.51.100.1"), ADDRLIMIT_E_CONNECTIONS);
    ck_assert_int_eq(join(&q, "192.0.2.1"), 0);
    addrlimit_remove(&p);
    addrlimit_remove(&q);
}
END_TEST

START_TEST(takes_no_more_memory_than_there_are_addresses)
{
    enum { MANY = 20000 };
    struct addrlimit_slot *p = calloc(MANY, sizeof(*p));
    struct addr a = { .family = AF_INET6, .ip = { 0x20, 0x01 } };

    for (unsigned i = 0; i < MANY; i++) {
        memcpy(a.ip + 4, &i, sizeof(i));
        ck_assert_int_eq(addrlimit_add(&limit, &p[i], &a, true), 0);
    }
    ck_assert_uint_eq(limit.nentries, MANY);
    ck_assert_uint_ge(limit.nbuckets, MANY / 2);
    ck_assert_uint_le(limit.nbuckets, MANY * 2);
    for (unsigned i = 0; i < MANY; i++)
        addrlimit_remove(&p[i]);
    ck_assert_uint_eq(limit.nentries, 0);
    ck_assert_uint_le(limit.nbuckets, 64);
    free(p);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, bounds_the_connections_of_an_address);
    tcase_add_test(t, bounds_the_pending_of_an_address);
    tcase_add_test(t, counts_the_exempt_but_lets_them_in);
    tcase_add_loop_test(t, knows_what_belongs_to_one_client, 0, 6);
    tcase_add_test(t, moves_to_another_address);
    tcase_add_test(t, takes_no_more_memory_than_there_are_addresses);
    return t;
}

UNIT_MAIN("limit")
