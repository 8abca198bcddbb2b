/* A table of entries, found by id in one of 64 rows, and for each process a cell beside each entry.
 *
 * Windows are rings of 61 parts of a 60th of the window each: a call counts until its part is a
 * whole window old, so that no window has more than the bound, and room comes at most a 60th late.
 *
 * A process may be killed at any instruction. Its cells are its own and are cleared; the lock is
 * taken from it; a ring that it was about to move on is moved on by the next one. */
#include "upstream/meter.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/entropy.h"
#include "base/procid.h"
#include "base/sharedmem.h"
#include "base/str.h"
#include "observe/log.h"

enum {
    ROWS = 64,
    OWNERS_MAX = 512, /* twice the processes that there may be: another binary takes over beside */
    PARTS = 61,
    KEYS_DEFAULT = 4096,
    SPINS = 2000,
    BUSY_MS = 1,      /* until a process that did not get the lock comes again */
    POLL_MS = 5,      /* until one looks whether another has made room */
    TURN_MS = 50,     /* a process that does not take its turn by then loses it */
    FRESH_MS = 60000, /* what a service said longer ago only holds back all but one call */
    LATE_MAX = 65536  /* corrections that wait for the lock */
};
#define METER_LAYOUT UINT64_C(2)
#define LEVEL_MAX                                                                                  \
    (UINT64_C(1) << 53) /* services say anything; doubles count exactly up to here                 \
                         */
#define NEVER UINT64_MAX

struct meter_entry {
    uint64_t part_ms, newest; /* the length of a part, and the number of the newest */
    uint64_t requests[PARTS], tokens[PARTS];
    uint64_t used_ms;
    uint64_t offered_ms; /* there is room for a process that has not taken it; 0: there is none */
    uint32_t turn;       /* the process that comes next among those that wait */
    struct meter_stand {
        uint64_t limit, remaining, at_ms, reset_ms; /* at_ms 0: unknown */
    } stands[METER_NKINDS];
};

/* What one process has under one key. Only that process writes it, or its master after its end. */
struct meter_cell {
    uint32_t in_flight, waiting, unheard;
    uint64_t input, output;
};

struct meter_area {
    uint32_t lock; /* 0, or the number of the process that has it, from 1 on */
    uint32_t nowners;
    uint64_t generation;
    uint64_t key[2];
    uint64_t owners[OWNERS_MAX]; /* see procid.h; 0: free */
};

/* A change that is applied when this process has the lock. */
struct meter_late {
    uint64_t now_ms;
    bool says; /* a service: `levels` of the account hold.id; otherwise a correction of the hold */
    bool undo;
    uint64_t tokens;
    struct meter_hold hold;
    struct meter_level levels[METER_NKINDS];
};

static struct {
    struct meter_area *area; /* NULL until the first use */
    uint64_t *ids;           /* by entry; 0: free */
    struct meter_entry *entries;
    struct meter_cell *cells; /* by process, then by entry */
    size_t per_row, n;
    uint32_t me;
    struct meter_late *late; /* what the lock was not to be had for */
    size_t nlate, late_room;
} meter;

/* ---- the memory ---- */

static size_t meter_size(size_t n)
{
    return sizeof(struct meter_area) + n * (sizeof(uint64_t) + sizeof(struct meter_entry) +
                                               OWNERS_MAX * sizeof(struct meter_cell));
}

static void meter_lay_out(void *p, size_t n)
{
    meter.area = p;
    meter.ids = (void *)(meter.area + 1);
    meter.entries = (void *)(meter.ids + n);
    meter.cells = (void *)(meter.entries + n);
    meter.n = n;
    meter.per_row = n / ROWS;
    if (meter.area->key[0] == 0)
        entropy_fill(meter.area->key, sizeof(meter.area->key));
}

/* The last entry of a row is for keys that find no room in it. */
static size_t meter_entries_for(size_t keys_max)
{
    return ((keys_max + ROWS - 1) / ROWS + 1) * ROWS;
}

int meter_open(size_t keys_max)
{
    size_t n = meter_entries_for(keys_max);
    void *p = sharedmem_open("tarry-meter", METER_LAYOUT, meter_size(n));

    if (!p)
        return -1;
    meter_lay_out(p, n);
    meter_forget_dead(); /* of an earlier binary's processes the ones that still run count */
    return 0;
}

/* This process has one of its own. */
static bool meter_open_alone(void)
{
    size_t n = meter_entries_for(KEYS_DEFAULT);
    void *p;

    p = mmap(NULL, meter_size(n), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    meter_lay_out(p, n);
    return true;
}

static bool meter_is_open(void)
{
    return meter.area || meter_open_alone();
}

static uint32_t meter_load(const uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void meter_store(uint32_t *p, uint32_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static uint64_t meter_load64(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void meter_store64(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static struct meter_cell *meter_cell(uint32_t owner, uint32_t at)
{
    return &meter.cells[owner * meter.n + at];
}

static struct meter_cell *meter_mine(uint32_t at)
{
    return meter_cell(meter.me, at);
}

static void meter_tell_of_change(void)
{
    __atomic_fetch_add(&meter.area->generation, 1, __ATOMIC_RELEASE);
}

uint64_t meter_generation(void)
{
    return meter.area ? __atomic_load_n(&meter.area->generation, __ATOMIC_ACQUIRE) : 0;
}

/* ---- processes ---- */

void meter_begin(void)
{
    uint64_t self = procid_self();

    meter.nlate = 0; /* the parent applies its own */
    if (!meter_is_open())
        return;
    for (uint32_t i = 0; i < OWNERS_MAX; i++) {
        uint64_t none = 0;

        if (!__atomic_compare_exchange_n(
                &meter.area->owners[i], &none, self, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            continue;
        meter.me = i;
        for (uint32_t n = meter_load(&meter.area->nowners); n < i + 1;)
            if (__atomic_compare_exchange_n(
                    &meter.area->nowners, &n, i + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
                break;
        return;
    }
    log_error(NULL,
        "limits: more than %d processes share them, and this one counts alone; end processes of "
        "earlier binaries that still drain",
        OWNERS_MAX);
    meter_open_alone();
    meter.me = 0;
}

/* The one that clears the cells of a dead process has its number meanwhile: nobody else gets it
 * before they are clear, and if it dies too, the next one does it. */
static void meter_forget_owner(uint32_t i, uint64_t dead)
{
    uint32_t locked = i + 1;

    if (!__atomic_compare_exchange_n(&meter.area->owners[i], &dead, procid_self(), false,
            __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return;
    __atomic_compare_exchange_n(
        &meter.area->lock, &locked, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    for (uint32_t at = 0; at < meter.n; at++)
        if (meter.ids[at])
            *meter_cell(i, at) = (struct meter_cell){ 0 };
    __atomic_store_n(&meter.area->owners[i], 0, __ATOMIC_RELEASE);
    meter_tell_of_change();
}

void meter_forget_dead(void)
{
    for (uint32_t i = 0; meter.area && i < OWNERS_MAX; i++) {
        uint64_t owner = __atomic_load_n(&meter.area->owners[i], __ATOMIC_ACQUIRE);

        if (owner && procid_is_dead(owner))
            meter_forget_owner(i, owner);
    }
}

static void meter_apply_late(void);

static bool meter_try_lock(void)
{
    for (int i = 0; i < SPINS; i++) {
        uint32_t free_lock = 0;

        if (__atomic_compare_exchange_n(&meter.area->lock, &free_lock, meter.me + 1, false,
                __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
    }
    return false;
}

static bool meter_lock(void)
{
    if (!meter_try_lock())
        return false;
    if (meter.nlate > 0)
        meter_apply_late();
    return true;
}

static void meter_unlock(void)
{
    __atomic_store_n(&meter.area->lock, 0, __ATOMIC_RELEASE);
}

static uint32_t meter_nowners(void)
{
    uint32_t n = meter_load(&meter.area->nowners);

    return n == 0 ? 1 : n < OWNERS_MAX ? n : OWNERS_MAX;
}

bool meter_is_alone(void)
{
    for (uint32_t i = 0; meter.area && i < meter_nowners(); i++)
        if (i != meter.me && __atomic_load_n(&meter.area->owners[i], __ATOMIC_RELAXED))
            return false;
    return true;
}

/* ---- entries ---- */

static struct meter_cell meter_sum(uint32_t at)
{
    struct meter_cell sum = { 0 };

    for (uint32_t i = 0; i < meter_nowners(); i++) {
        const struct meter_cell *c = meter_cell(i, at);

        sum.in_flight += meter_load(&c->in_flight);
        sum.waiting += meter_load(&c->waiting);
        sum.unheard += meter_load(&c->unheard);
        sum.input += meter_load64(&c->input);
        sum.output += meter_load64(&c->output);
    }
    return sum;
}

static bool meter_is_idle(uint32_t at, uint64_t now_ms)
{
    const struct meter_entry *e = &meter.entries[at];
    struct meter_cell sum;

    if (e->used_ms + PARTS * (e->part_ms ? e->part_ms : 1) > now_ms)
        return false;
    for (size_t i = 0; i < METER_NKINDS; i++)
        if (e->stands[i].at_ms && e->stands[i].at_ms + FRESH_MS > now_ms)
            return false;
    sum = meter_sum(at);
    return sum.in_flight == 0 && sum.waiting == 0 && sum.unheard == 0;
}

/* The entry of that id; a new one if `add`. Without room for it, the one that all such keys of its
 * row share. Under the lock. */
static uint32_t meter_find(uint64_t id, uint64_t now_ms, bool add)
{
    uint32_t row = (uint32_t)(id % ROWS) * (uint32_t)meter.per_row;
    uint32_t last = row + (uint32_t)meter.per_row - 1, spare = last;

    if (id == 0 || id == NEVER) /* they mean something else here */
        id = 1;
    for (uint32_t at = row; at < last; at++) {
        if (meter.ids[at] == id)
            return at;
        if (spare == last && (!meter.ids[at] || (add && meter_is_idle(at, now_ms))))
            spare = at;
    }
    if (spare != last && add) {
        meter.entries[spare] = (struct meter_entry){ .used_ms = now_ms };
        meter.ids[spare] = id;
    } else if (spare == last) {
        meter.ids[last] = NEVER; /* counts, for meter_forget() */
    }
    return spare;
}

size_t meter_keys(void)
{
    uint64_t used = 0;

    for (uint32_t at = 0; meter.area && at < meter.n; at++)
        used += meter.ids[at] != 0;
    return used;
}

size_t meter_calls(void)
{
    size_t n = 0;

    for (uint32_t at = 0; meter.area && at < meter.n; at++)
        if (meter.ids[at])
            n += meter_load(&meter_mine(at)->in_flight);
    return n;
}

void meter_hash(struct siphash *h)
{
    static const uint64_t none[2];

    siphash_init(h, meter_is_open() ? meter.area->key : none);
}

/* ---- windows ---- */

static uint64_t meter_total(const uint64_t parts[PARTS])
{
    uint64_t sum = 0;

    for (size_t i = 0; i < PARTS; i++)
        sum = parts[i] < UINT64_MAX - sum ? sum + parts[i] : UINT64_MAX;
    return sum;
}

/* Another window: what the old one has is counted as of now. */
static void meter_refit(struct meter_entry *e, uint64_t part_ms, uint64_t now_ms)
{
    uint64_t requests = meter_total(e->requests), tokens = meter_total(e->tokens);

    memset(e->requests, 0, sizeof(e->requests));
    memset(e->tokens, 0, sizeof(e->tokens));
    e->part_ms = part_ms;
    e->newest = now_ms / part_ms;
    e->requests[e->newest % PARTS] = requests;
    e->tokens[e->newest % PARTS] = tokens;
}

/* Moves the ring on to now. */
static void meter_move(struct meter_entry *e, uint32_t window_ms, uint64_t now_ms)
{
    uint64_t part_ms = (window_ms + PARTS - 2) / (PARTS - 1);

    if (e->part_ms == 0)
        e->part_ms = part_ms;
    if (e->part_ms != part_ms)
        meter_refit(e, part_ms, now_ms);
    if (now_ms / part_ms > e->newest + PARTS)
        e->newest = now_ms / part_ms - PARTS;
    while (e->newest < now_ms / part_ms) {
        e->requests[(e->newest + 1) % PARTS] = 0;
        e->tokens[(e->newest + 1) % PARTS] = 0;
        e->newest++;
    }
}

/* In how many milliseconds no more than `most` are left in the window. */
static uint64_t meter_wait_for(
    const struct meter_entry *e, const uint64_t parts[PARTS], uint64_t most, uint64_t now_ms)
{
    uint64_t sum = meter_total(parts);

    for (uint64_t i = PARTS - 1; sum > most; i--) {
        uint64_t part = e->newest - i, over_ms = (part + PARTS) * e->part_ms;

        if (i > e->newest) /* the machine has not run for so long */
            continue;
        sum -= parts[part % PARTS];
        if (sum <= most || i == 0)
            return over_ms > now_ms ? over_ms - now_ms : 1;
    }
    return 0;
}

/* 0: there is room for it. A call that alone is over the bound needs an empty window. */
static uint64_t meter_window_wait(const struct meter_entry *e, const uint64_t parts[PARTS],
    uint64_t most, uint64_t n, uint64_t now_ms)
{
    if (most == 0)
        return 0;
    return meter_wait_for(e, parts, n < most ? most - n : 0, now_ms);
}

/* A service may report any number of tokens for a call: the sum of a window must not wrap. */
static void meter_add(uint64_t *part, uint64_t n)
{
    if (n > LEVEL_MAX)
        n = LEVEL_MAX;
    *part = *part < LEVEL_MAX - n ? *part + n : LEVEL_MAX;
}

static void meter_sub(uint64_t *part, uint64_t n)
{
    *part = *part > n ? *part - n : 0;
}

/* ---- changes that wait for the lock ---- */

static void meter_put_off(const struct meter_late *late)
{
    if (meter.nlate == meter.late_room) {
        size_t room = meter.late_room ? 2 * meter.late_room : 16;
        struct meter_late *more = NULL;

        if (room <= LATE_MAX)
            more = realloc(meter.late, room * sizeof(*more));
        if (!more)
            return; /* the windows count the estimate */
        meter.late = more;
        meter.late_room = room;
    }
    meter.late[meter.nlate++] = *late;
}

void meter_catch_up(void)
{
    if (meter.nlate == 0 || !meter_lock())
        return;
    meter_unlock();
    meter_tell_of_change();
}

/* ---- what the service has said ---- */

/* What should be left now: services fill up evenly until the time that they name. */
static uint64_t meter_left(const struct meter_stand *s, uint64_t now_ms)
{
    uint64_t passed = now_ms - s->at_ms;

    if (passed >= s->reset_ms)
        return s->limit ? s->limit : NEVER;
    if (s->limit <= s->remaining)
        return s->remaining;
    return s->remaining +
           (uint64_t)((double)(s->limit - s->remaining) * (double)passed / (double)s->reset_ms);
}

/* `unheard`: what calls may use that the service has not counted when it said so. */
static uint64_t meter_stand_wait(
    const struct meter_stand *s, uint64_t n, uint64_t unheard, bool others, uint64_t now_ms)
{
    uint64_t left, wait;

    if (s->at_ms == 0 || s->at_ms > now_ms)
        return 0;
    left = meter_left(s, now_ms);
    if (s->limit && n > s->limit)
        n = s->limit;
    if (left == NEVER || left >= n + unheard)
        return 0;
    /* It was said long ago, or it is not what it seems: one call asks. */
    if (now_ms - s->at_ms >= FRESH_MS || now_ms - s->at_ms >= s->reset_ms)
        return others ? FRESH_MS : 0;
    wait = s->reset_ms - (now_ms - s->at_ms);
    if (s->limit > s->remaining && n + unheard < s->limit) {
        double per_ms = (double)(s->limit - s->remaining) / (double)s->reset_ms;
        uint64_t fills = (uint64_t)((double)(n + unheard - left) / per_ms) + 1;

        wait = fills < wait ? fills : wait;
    }
    return wait < FRESH_MS ? wait : FRESH_MS;
}

static uint64_t meter_account_wait(
    const struct meter_entry *e, const struct meter_need *n, uint32_t at, uint64_t now_ms)
{
    struct meter_cell sum = meter_sum(at);
    const uint64_t asked[METER_NKINDS] = { 1, (uint64_t)n->input + n->output, n->input, n->output };
    const uint64_t unheard[METER_NKINDS] = { sum.unheard, sum.input + sum.output, sum.input,
        sum.output };
    uint64_t longest = 0;

    for (size_t i = 0; i < METER_NKINDS; i++) {
        uint64_t wait =
            meter_stand_wait(&e->stands[i], asked[i], unheard[i], sum.unheard > 0, now_ms);

        if (wait > longest)
            longest = wait;
    }
    return longest;
}

static uint64_t meter_capped(uint64_t level)
{
    return level < LEVEL_MAX ? level : LEVEL_MAX;
}

/* Under the lock. Levels that a later answer has reported stay. */
static void meter_take_note(
    uint64_t now_ms, uint64_t id, const struct meter_level levels[METER_NKINDS])
{
    struct meter_entry *e = &meter.entries[meter_find(id, now_ms, true)];

    for (size_t i = 0; i < METER_NKINDS; i++)
        if (levels[i].known && e->stands[i].at_ms <= now_ms)
            /* It was said within the millisecond now_ms: its end is what the reset counts from. */
            e->stands[i] = (struct meter_stand){ meter_capped(levels[i].limit),
                meter_capped(levels[i].remaining), now_ms,
                levels[i].reset_ms + (levels[i].reset_ms > 0) };
    if (e->used_ms < now_ms)
        e->used_ms = now_ms;
}

void meter_note(uint64_t now_ms, uint64_t id, const struct meter_level levels[METER_NKINDS])
{
    if (!meter_is_open())
        return;
    if (!meter_lock()) {
        struct meter_late late = { .now_ms = now_ms, .says = true, .hold = { .id = id } };

        memcpy(late.levels, levels, sizeof(late.levels));
        meter_put_off(&late);
        return;
    }
    meter_take_note(now_ms, id, levels);
    meter_unlock();
    meter_tell_of_change();
}

/* ---- turns of the processes ---- */

/* The first process from `from` on that waits; `me` if there is none. */
static uint32_t meter_next_waiting(uint32_t from, uint32_t at)
{
    uint32_t n = meter_nowners();

    for (uint32_t i = 0; i < n; i++) {
        uint32_t owner = (from + i) % n;

        if (meter_load(&meter_cell(owner, at)->waiting) > 0)
            return owner;
    }
    return meter.me;
}

/* There is room: whether it is this process that may have it. */
static bool meter_is_my_turn(struct meter_entry *e, uint32_t at, uint64_t now_ms)
{
    uint32_t next = meter_next_waiting(e->turn, at);

    if (next == meter.me)
        return true;
    if (e->offered_ms == 0 || e->offered_ms > now_ms)
        e->offered_ms = now_ms;
    return now_ms - e->offered_ms >= TURN_MS;
}

/* ---- taking ---- */

/* 0: there is room. */
static uint64_t meter_wait(
    const struct meter_need *n, uint32_t at, uint64_t now_ms, struct meter_refusal *no)
{
    struct meter_entry *e = &meter.entries[at];
    uint64_t wait, tokens = (uint64_t)n->input + n->output, other;

    if (n->most.window_ms)
        meter_move(e, n->most.window_ms, now_ms);
    wait = meter_window_wait(e, e->requests, n->most.requests, 1, now_ms);
    other = meter_window_wait(e, e->tokens, n->most.tokens, tokens, now_ms);
    wait = other > wait ? other : wait;
    other = meter_account_wait(e, n, at, now_ms);
    wait = other > wait ? other : wait;
    no->open_ms = wait;
    if (n->most.in_flight && meter_sum(at).in_flight >= n->most.in_flight && wait < NEVER)
        wait = NEVER;
    if (wait > 0)
        e->offered_ms = 0;
    else if (!meter_is_my_turn(e, at, now_ms))
        wait = POLL_MS;
    /* Another process may make room without a word. */
    if (wait == NEVER && !meter_is_alone())
        wait = POLL_MS;
    return wait;
}

static bool meter_check(uint64_t now_ms, const struct meter_need *needs, size_t n, uint32_t *places,
    bool add, struct meter_refusal *no)
{
    for (size_t i = 0; i < n; i++) {
        places[i] = meter_find(needs[i].id, now_ms, add);
        if (!add && meter.ids[places[i]] != needs[i].id)
            continue; /* not known: room for all */
        no->wait_ms = meter_wait(&needs[i], places[i], now_ms, no);
        if (no->wait_ms > 0) {
            no->index = i;
            no->at = places[i];
            return false;
        }
    }
    return true;
}

static void meter_take_one(
    uint64_t now_ms, const struct meter_need *n, uint32_t at, struct meter_hold *h)
{
    struct meter_entry *e = &meter.entries[at];
    struct meter_cell *c = meter_mine(at);

    *h = (struct meter_hold){ .id = meter.ids[at],
        .begun_ms = now_ms,
        .at = at,
        .tokens = (uint64_t)n->input + n->output,
        .window_ms = n->most.window_ms,
        .input = n->input,
        .output = n->output,
        .in_flight = true,
        .unheard = true };
    e->used_ms = now_ms;
    if (n->most.window_ms) {
        meter_add(&e->requests[e->newest % PARTS], 1);
        meter_add(&e->tokens[e->newest % PARTS], h->tokens);
    }
    meter_store(&c->in_flight, c->in_flight + 1);
    meter_store(&c->unheard, c->unheard + 1);
    meter_store64(&c->input, c->input + h->input);
    meter_store64(&c->output, c->output + h->output);
    e->offered_ms = 0;
    e->turn = meter_next_waiting(meter.me + 1, at);
}

bool meter_take(uint64_t now_ms, const struct meter_need *needs, size_t n, struct meter_hold *holds,
    struct meter_refusal *no)
{
    uint32_t places[METER_NEEDS_MAX];
    bool room;

    *no = (struct meter_refusal){ .index = n, .wait_ms = BUSY_MS };
    memset(holds, 0, n * sizeof(*holds));
    if (!meter_is_open())
        return true;
    if (!meter_lock())
        return false;
    room = meter_check(now_ms, needs, n, places, true, no);
    for (size_t i = 0; room && i < n; i++)
        meter_take_one(now_ms, &needs[i], places[i], &holds[i]);
    meter_unlock();
    return room;
}

bool meter_has_room(
    uint64_t now_ms, const struct meter_need *needs, size_t n, struct meter_refusal *no)
{
    uint32_t places[METER_NEEDS_MAX];
    bool room;

    *no = (struct meter_refusal){ .index = n, .wait_ms = BUSY_MS };
    if (!meter_is_open())
        return true;
    if (!meter_lock())
        return false;
    room = meter_check(now_ms, needs, n, places, false, no);
    meter_unlock();
    return room;
}

/* ---- giving back ---- */

static void meter_take_off(uint32_t *count, uint32_t n)
{
    meter_store(count, *count > n ? *count - n : 0);
}

static void meter_take_off64(uint64_t *count, uint64_t n)
{
    meter_store64(count, *count > n ? *count - n : 0);
}

void meter_heard(struct meter_hold *h)
{
    struct meter_cell *c;

    if (!h->unheard)
        return;
    h->unheard = false;
    c = meter_mine(h->at);
    meter_take_off(&c->unheard, 1);
    meter_take_off64(&c->input, h->input);
    meter_take_off64(&c->output, h->output);
    meter_tell_of_change();
}

void meter_release(struct meter_hold *holds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        meter_heard(&holds[i]);
        if (!holds[i].in_flight)
            continue;
        holds[i].in_flight = false;
        meter_take_off(&meter_mine(holds[i].at)->in_flight, 1);
        meter_tell_of_change();
    }
}

/* The part of the ring in which the call began, or NULL if it has left the window. */
static uint64_t *meter_part_of(
    struct meter_entry *e, uint64_t parts[PARTS], const struct meter_hold *h)
{
    uint64_t part = e->part_ms ? h->begun_ms / e->part_ms : 0;

    return part <= e->newest && part + PARTS > e->newest ? &parts[part % PARTS] : NULL;
}

/* What is used beyond the estimate counts from now on if the call's part is out of the window. */
static void meter_correct(uint64_t now_ms, const struct meter_hold *h, uint64_t tokens, bool undo)
{
    struct meter_entry *e = &meter.entries[h->at];
    uint64_t *part, *requests;

    if (meter.ids[h->at] != h->id)
        return;
    meter_move(e, h->window_ms, now_ms);
    part = meter_part_of(e, e->tokens, h);
    requests = meter_part_of(e, e->requests, h);
    if (undo && requests)
        meter_sub(requests, 1);
    if (tokens > h->tokens)
        meter_add(part ? part : &e->tokens[e->newest % PARTS], tokens - h->tokens);
    else if (part)
        meter_sub(part, h->tokens - tokens);
}

static void meter_correct_all(
    uint64_t now_ms, struct meter_hold *holds, size_t n, uint64_t tokens, bool undo)
{
    bool locked = false;

    for (size_t i = 0; i < n; i++) {
        if (!holds[i].window_ms)
            continue;
        if (!locked)
            locked = meter_lock();
        if (locked)
            meter_correct(now_ms, &holds[i], tokens, undo);
        else
            meter_put_off(&(struct meter_late){
                .now_ms = now_ms, .undo = undo, .tokens = tokens, .hold = holds[i] });
        holds[i].window_ms = 0; /* once */
    }
    if (!locked)
        return;
    meter_unlock();
    meter_tell_of_change();
}

/* Under the lock. */
static void meter_apply_late(void)
{
    for (size_t i = 0; i < meter.nlate; i++) {
        const struct meter_late *l = &meter.late[i];

        if (l->says)
            meter_take_note(l->now_ms, l->hold.id, l->levels);
        else
            meter_correct(l->now_ms, &l->hold, l->tokens, l->undo);
    }
    meter.nlate = 0;
    free(meter.late);
    meter.late = NULL;
    meter.late_room = 0;
}

void meter_refund(uint64_t now_ms, struct meter_hold *holds, size_t n)
{
    meter_correct_all(now_ms, holds, n, 0, true);
    meter_release(holds, n);
}

void meter_settle(uint64_t now_ms, struct meter_hold *holds, size_t n, uint64_t tokens)
{
    meter_correct_all(now_ms, holds, n, tokens, false);
}

void meter_await(uint32_t at)
{
    struct meter_cell *c = meter_mine(at);

    meter_store(&c->waiting, c->waiting + 1);
}

void meter_unawait(uint32_t at)
{
    meter_take_off(&meter_mine(at)->waiting, 1);
}
