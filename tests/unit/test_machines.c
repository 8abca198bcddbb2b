/* The tables of the state machines are the drawings of docs/internals.md. */
#include "machines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exchange/attempt.h"
#include "exchange/exchange.h"
#include "unit.h"

START_TEST(are_as_the_manual_has_them)
{
    static char page[200000];
    FILE *f = fopen(TOP_SRCDIR "/docs/internals.md", "r");
    struct buf out = { 0 };
    const char *begin, *end;
    size_t n;

    ck_assert_ptr_nonnull(f);
    n = fread(page, 1, sizeof(page) - 1, f);
    fclose(f);
    page[n] = '\0';
    begin = strstr(page, "```states\n");
    ck_assert_ptr_nonnull(begin);
    begin += strlen("```states\n");
    end = strstr(begin, "```");
    ck_assert_ptr_nonnull(end);
    machines_print(&out);
    ck_assert_msg(buf_len(&out) == (size_t)(end - begin) &&
                      memcmp(buf_str(&out).p, begin, buf_len(&out)) == 0,
        "docs/internals.md has other tables than those that tests/unit/machine_tables prints");
    buf_release(&out);
}
END_TEST

/* Every state can be reached from the first one, has an end, and moves to no state twice named. */
static const struct machine *const machines[] = { &exchange_machine, &step_machine, &reply_machine,
    &call_machine, &attempt_machine };

START_TEST(have_no_state_that_is_never_reached)
{
    const struct machine *m = machines[_i];
    unsigned reached = 1u, before;

    do {
        before = reached;
        for (size_t k = 0; k < m->n; k++)
            if (reached & (1u << k))
                reached |= m->states[k].next;
    } while (reached != before);
    ck_assert_msg(reached == (1u << m->n) - 1, "%s: states %x of %x are reached", m->name, reached,
        (1u << m->n) - 1);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("machines");

    tcase_add_test(t, are_as_the_manual_has_them);
    tcase_add_loop_test(t, have_no_state_that_is_never_reached, 0, COUNT_OF(machines));
    return t;
}

UNIT_MAIN("machines")
