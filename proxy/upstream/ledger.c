/* A row is claimed by one compare-and-swap of its id, and its words are zero by then: no process
 * sees a row that is half made. Two processes may claim two rows for one name if a third row was
 * forgotten at that moment; both look again every ten seconds, and the first row in the table
 * counts. */
#include "upstream/ledger.h"

#include <stdbool.h>
#include <string.h>

#include "base/entropy.h"
#include "base/sharedmem.h"
#include "observe/log.h"

enum {
    ROWS_FALLBACK = 256,
    KEEP_FALLBACK_MS = 600000,
    LOOK_EVERY_MS = 10000, /* through the whole table */
    ASK_EVERY_MS = 1000,
    LAYOUT = 2, /* another number when the meaning of a word changes */
    NO_ROW = -1,
};

struct ledger_row {
    uint64_t words[LEDGER_WORDS];
};

struct ledger_area {
    uint64_t hash_key[2];
    uint64_t spare[6];
    /* Then for each row its id (0: free), when a process asked for it last, and its words. */
    uint64_t rest[];
};

static struct {
    struct ledger_area *area; /* NULL: not opened */
    uint64_t *ids, *asked_ms;
    struct ledger_row *rows;
    size_t n;
    uint64_t keep_ms;
    bool complained;
} ledger;

static size_t ledger_size(size_t n)
{
    return sizeof(struct ledger_area) + n * (2 * sizeof(uint64_t) + sizeof(struct ledger_row));
}

static void ledger_use(struct ledger_area *a, size_t n, uint64_t keep_ms)
{
    if (a->hash_key[0] == 0)
        entropy_fill(a->hash_key, sizeof(a->hash_key));
    ledger.area = a;
    ledger.ids = a->rest;
    ledger.asked_ms = a->rest + n;
    ledger.rows = (struct ledger_row *)(void *)(a->rest + 2 * n);
    ledger.n = n;
    ledger.keep_ms = keep_ms;
}

int ledger_open(size_t rows, uint64_t keep_ms)
{
    size_t n = (rows + 7) / 8 * 8; /* so that rows begin at a cache line */
    struct ledger_area *a = sharedmem_open("ledger", LAYOUT, ledger_size(n));

    if (!a)
        return -1;
    ledger_use(a, n, keep_ms);
    return 0;
}

/* A process that has opened none is alone with its own. */
static void ledger_need(void)
{
    static uint64_t own[(sizeof(struct ledger_area) +
                            ROWS_FALLBACK * (2 * sizeof(uint64_t) + sizeof(struct ledger_row))) /
                        sizeof(uint64_t)];

    if (!ledger.area)
        ledger_use((struct ledger_area *)(void *)own, ROWS_FALLBACK, KEEP_FALLBACK_MS);
}

struct siphash ledger_hash(void)
{
    struct siphash h;

    ledger_need();
    siphash_init(&h, ledger.area->hash_key);
    return h;
}

/* If it has not been asked for in time. Of several processes one does it. */
static void ledger_forget_old(size_t i, uint64_t now_ms)
{
    uint64_t asked = __atomic_load_n(&ledger.asked_ms[i], __ATOMIC_RELAXED);

    if (asked + ledger.keep_ms > now_ms || !__atomic_compare_exchange_n(&ledger.asked_ms[i], &asked,
                                               now_ms, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return;
    for (size_t k = 0; k < LEDGER_WORDS; k++)
        __atomic_store_n(&ledger.rows[i].words[k], 0, __ATOMIC_RELAXED);
    __atomic_store_n(&ledger.ids[i], 0, __ATOMIC_RELEASE);
}

static int ledger_claim(uint64_t id, uint64_t now_ms)
{
    for (size_t i = 0; i < ledger.n; i++) {
        uint64_t was = 0;

        if (__atomic_load_n(&ledger.ids[i], __ATOMIC_RELAXED) != 0)
            continue;
        /* Before the id: otherwise another process could find it old already. */
        __atomic_store_n(&ledger.asked_ms[i], now_ms, __ATOMIC_RELAXED);
        if (__atomic_compare_exchange_n(
                &ledger.ids[i], &was, id, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE) ||
            was == id)
            return (int)i;
    }
    return NO_ROW;
}

static int ledger_find(uint64_t id, uint64_t now_ms)
{
    for (size_t i = 0; i < ledger.n; i++) {
        uint64_t is = __atomic_load_n(&ledger.ids[i], __ATOMIC_ACQUIRE);

        if (is == 0)
            continue;
        ledger_forget_old(i, now_ms);
        if (is == id && __atomic_load_n(&ledger.ids[i], __ATOMIC_ACQUIRE) == id)
            return (int)i;
    }
    return ledger_claim(id, now_ms);
}

static uint64_t *ledger_look(struct ledger_place *p, uint64_t now_ms)
{
    int row;

    ledger_need();
    row = ledger_find(p->id, now_ms);
    p->looked_ms = now_ms;
    if (row >= 0) {
        __atomic_store_n(&ledger.asked_ms[row], now_ms, __ATOMIC_RELAXED);
        p->row = (uint32_t)row;
        return ledger.rows[row].words;
    }
    if (!ledger.complained)
        log_error(NULL, "the table of verdicts is full: each process has its own for the rest; "
                        "raise verdicts_max and restart");
    ledger.complained = true;
    return p->own;
}

uint64_t *ledger_words(struct ledger_place *p, uint64_t now_ms)
{
    bool own = p->words == p->own;

    if (!p->words || now_ms - p->looked_ms >= LOOK_EVERY_MS ||
        (!own && __atomic_load_n(&ledger.ids[p->row], __ATOMIC_ACQUIRE) != p->id))
        p->words = ledger_look(p, now_ms);
    else if (!own &&
             __atomic_load_n(&ledger.asked_ms[p->row], __ATOMIC_RELAXED) + ASK_EVERY_MS <= now_ms)
        __atomic_store_n(&ledger.asked_ms[p->row], now_ms, __ATOMIC_RELAXED);
    return p->words;
}

void ledger_each(void (*fn)(void *owner, uint64_t *words), void *owner)
{
    for (size_t i = 0; i < ledger.n; i++)
        if (__atomic_load_n(&ledger.ids[i], __ATOMIC_ACQUIRE) != 0)
            fn(owner, ledger.rows[i].words);
}

struct ledger_counts ledger_counts(void)
{
    struct ledger_counts c = { .all = ledger.n };

    for (size_t i = 0; i < ledger.n; i++)
        c.used += __atomic_load_n(&ledger.ids[i], __ATOMIC_RELAXED) != 0;
    return c;
}
