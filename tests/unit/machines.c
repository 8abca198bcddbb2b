/* One line a state: what may follow it. */
#include "machines.h"

#include "exchange/attempt.h"
#include "exchange/call.h"
#include "exchange/exchange.h"
#include "exchange/reply.h"

static void print_machine(struct buf *out, const struct machine *m)
{
    buf_printf(out, "%s\n", m->name);
    for (size_t i = 0; i < m->n; i++) {
        const char *between = " ->";

        buf_printf(out, "  %-10s", m->states[i].name);
        for (size_t k = 0; k < m->n; k++)
            if (machine_may_move(m->states, (unsigned)i, (unsigned)k)) {
                buf_printf(out, "%s %s", between, m->states[k].name);
                between = ",";
            }
        buf_printf(out, "%s\n", m->states[i].next ? "" : " the end");
    }
}

void machines_print(struct buf *out)
{
    static const struct machine *const all[] = { &exchange_machine, &step_machine, &reply_machine,
        &call_machine, &attempt_machine };

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        print_machine(out, all[i]);
}
