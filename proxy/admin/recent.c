/* One table a process, written by it alone. */
#include "admin/recent.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/url.h"
#include "exchange/account.h"
#include "net/loop.h"

enum { READ_TRIES = 8, UNIT_US = 10 };

struct recent_cell {
    uint32_t changes; /* odd: it is being written; 0: never */
    struct recent_record record;
};

struct recent_slot {
    struct recent_cell slow[RECENT_SLOW], failed[RECENT_FAILED], flying[RECENT_FLYING];
    uint32_t next_failed;
};

static struct {
    struct recent_slot *slots; /* NULL: no memory */
    size_t nslots, slot;
} recent;

int recent_share(size_t nslots)
{
    void *p = mmap(NULL, nslots * sizeof(struct recent_slot), PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return -1;
    recent.slots = p;
    recent.nslots = nslots;
    return 0;
}

/* A process that takes the place of one that died begins with an empty table. */
void recent_use_slot(size_t slot)
{
    recent.slot = slot;
    recent_clear_slot(slot);
}

void recent_clear_slot(size_t slot)
{
    if (recent.slots && slot < recent.nslots)
        memset(&recent.slots[slot], 0, sizeof(recent.slots[slot]));
}

static struct recent_slot *recent_own(void)
{
    if (!recent.slots) {
        recent.slots = calloc(1, sizeof(*recent.slots));
        recent.nslots = recent.slots ? 1 : 0;
        recent.slot = 0;
    }
    return recent.slot < recent.nslots ? &recent.slots[recent.slot] : NULL;
}

/* ---- writing ---- */

static void recent_text(char *to, size_t room, struct str s)
{
    size_t n = s.n < room - 1 ? s.n : room - 1;

    if (n > 0)
        memcpy(to, s.p, n);
    to[n] = '\0';
}

#define TEXT(field, s) recent_text(field, sizeof(field), s)

static uint32_t recent_units(uint64_t us)
{
    return us / UNIT_US < UINT32_MAX ? (uint32_t)(us / UNIT_US) : UINT32_MAX;
}

static void recent_put_phase(
    struct recent_record *r, const struct exchange *ex, const struct phase *p, uint64_t now)
{
    if (r->nphases < RECENT_PHASES)
        r->phases[r->nphases++] = (struct recent_phase){ recent_units(p->began_us - ex->started_us),
            recent_units((p->ended_us ? p->ended_us : now) - p->began_us), p->status, p->kind };
}

static void recent_put_phases(
    struct recent_record *r, const struct exchange *ex, uint64_t now, bool flying)
{
    const struct trail *t = ex->trail;
    struct phase last = account_phase(ex);

    r->nphases = 0;
    for (size_t i = 0; t && i < t->nphases; i++)
        recent_put_phase(r, ex, &t->phases[i], now);
    if (flying)
        recent_put_phase(r, ex, &last, now);
}

static void recent_write(struct recent_cell *cell, const struct exchange *ex, bool flying)
{
    const struct head *head = &ex->request.head;
    struct recent_record *r = &cell->record;
    struct arena scratch = { 0 };
    uint64_t now = loop_precise_us();

    __atomic_store_n(&cell->changes, cell->changes | 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    r->started_wall_ms = ex->started_wall_ms;
    r->total_us = now - ex->started_us;
    r->pid = (uint32_t)getpid();
    r->status = (uint16_t)ex->reply.status;
    memcpy(r->id, ex->id, sizeof(r->id));
    account_end_code(ex, r->code);
    TEXT(r->state, str_of(ex_state_name(ex->state)));
    TEXT(r->method, head->method);
    TEXT(r->path, url_hide_keys(&scratch, head->target));
    arena_release(&scratch);
    TEXT(r->route, account_route(ex));
    TEXT(r->upstream, account_upstream(ex));
    TEXT(r->endpoint, ex->record.endpoint ? ex->record.endpoint->name : STR(""));
    TEXT(r->label, ex->trail ? ex->trail->label : STR(""));
    TEXT(r->end, str_of(ex->end ? ex->end : "complete"));
    recent_put_phases(r, ex, now, flying);
    __atomic_store_n(&cell->changes, (cell->changes | 1) + 1, __ATOMIC_RELEASE);
}

static void recent_forget(struct recent_cell *cell)
{
    __atomic_store_n(&cell->changes, 0, __ATOMIC_RELEASE);
}

/* The place for one that took `total_us`: a free or outdated one, or that of the fastest. */
static struct recent_cell *recent_find_place(
    struct recent_slot *s, uint64_t total_us, uint64_t wall_ms)
{
    struct recent_cell *fastest = NULL;

    for (size_t i = 0; i < RECENT_SLOW; i++) {
        struct recent_cell *c = &s->slow[i];
        uint64_t ended_ms = c->record.started_wall_ms + c->record.total_us / 1000;

        if (c->changes == 0 || ended_ms + RECENT_MINUTES * 60000 < wall_ms)
            return c;
        if (!fastest || c->record.total_us < fastest->record.total_us)
            fastest = c;
    }
    return fastest->record.total_us < total_us ? fastest : NULL;
}

void recent_add(const struct exchange *ex)
{
    struct recent_slot *s = recent_own();
    struct recent_cell *place;
    char code[3];

    if (!s)
        return;
    place = recent_find_place(s, loop_precise_us() - ex->started_us, loop_wall_ms());
    if (place)
        recent_write(place, ex, false);
    account_end_code(ex, code);
    if (code[0] != '-' || ex->reply.status >= 500)
        recent_write(&s->failed[s->next_failed++ % RECENT_FAILED], ex, false);
}

/* Keeps `oldest` sorted, the oldest first. */
static void recent_rank(const struct exchange **oldest, size_t *n, const struct exchange *ex)
{
    size_t at = *n;

    while (at > 0 && oldest[at - 1]->started_us > ex->started_us)
        at--;
    if (at == RECENT_FLYING)
        return;
    if (*n < RECENT_FLYING)
        ++*n;
    memmove(&oldest[at + 1], &oldest[at], (*n - 1 - at) * sizeof(*oldest));
    oldest[at] = ex;
}

/* A state's list has those first that have been in it longest: only these are looked at, so that
 * the work of a second stays small. */
void recent_publish(const struct exchanges *all)
{
    const struct exchange *oldest[RECENT_FLYING];
    struct recent_slot *s = recent_own();
    size_t n = 0;

    for (size_t state = 0; state < EX_DONE; state++) {
        const struct list_node *at = list_first(&all->by_state[state]);

        for (size_t i = 0; at && i < RECENT_FLYING; i++, at = list_next(at))
            recent_rank(oldest, &n, LIST_OWNER(at, struct exchange, node));
    }
    for (size_t i = 0; s && i < RECENT_FLYING; i++) {
        if (i < n)
            recent_write(&s->flying[i], oldest[i], true);
        else
            recent_forget(&s->flying[i]);
    }
}

/* ---- reading ---- */

/* A consistent copy. False: there is none, or it is written all the time. */
static bool recent_read(const struct recent_cell *cell, struct recent_record *out)
{
    for (int i = 0; i < READ_TRIES; i++) {
        uint32_t before = __atomic_load_n(&cell->changes, __ATOMIC_ACQUIRE);

        if (before == 0)
            return false;
        memcpy(out, &cell->record, sizeof(*out));
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (!(before & 1) && before == __atomic_load_n(&cell->changes, __ATOMIC_RELAXED))
            return true;
    }
    return false;
}

void recent_each(
    enum recent_kind kind, void (*fn)(void *owner, const struct recent_record *r), void *owner)
{
    struct recent_record r;

    for (size_t i = 0; i < recent.nslots; i++) {
        const struct recent_slot *s = &recent.slots[i];
        const struct recent_cell *cells = kind == RECENT_IS_SLOW     ? s->slow
                                          : kind == RECENT_IS_FAILED ? s->failed
                                                                     : s->flying;
        size_t n = kind == RECENT_IS_SLOW     ? RECENT_SLOW
                   : kind == RECENT_IS_FAILED ? RECENT_FAILED
                                              : RECENT_FLYING;

        for (size_t k = 0; k < n; k++)
            if (recent_read(&cells[k], &r))
                fn(owner, &r);
    }
}
