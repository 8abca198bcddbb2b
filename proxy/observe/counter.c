/* The counters' storage and names. */
#include "observe/counter.h"

/* Used until the shared memory exists. */
static uint64_t counter_first[COUNTER_COUNT];

uint64_t *counter_values = counter_first;

static const struct {
    const char *name, *help;
} table[COUNTER_COUNT] = {
#define COUNTER_ROW(id, name, help) [COUNTER_##id] = { name, help },
    COUNTERS(COUNTER_ROW)
#undef COUNTER_ROW
};

const char *counter_name(enum counter c)
{
    return table[c].name;
}

const char *counter_help(enum counter c)
{
    return table[c].help;
}
