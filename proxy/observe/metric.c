/* One block of shared memory: a table of series that only grows, and for each slot an array of
 * cells. Each process has its own hash table to find series. */
#include "observe/metric.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/num.h"
#include "base/procid.h"
#include "base/sharedmem.h"
#include "observe/counter.h"

enum {
    SERIES_MAX = 2048,
    CELLS_MAX = 16384,
    PROCESSES_MAX = 257, /* of one binary: the conf's 256 and their master */
    BINARIES = 4,        /* that may run at a time: all but one finish what is in flight */
    SLOTS_MAX = 2048,
    KEY_MAX = 240,
    HASH_SIZE = 8192,         /* a power of two, several times SERIES_MAX */
    BUCKETS = METRIC_BUCKETS, /* of a histogram, the last one without a bound; a cell for the sum
                                 follows */
};

/* Upper bounds in microseconds, from a worker on the same machine to a long completion.
 */
static const uint64_t bounds_us[BUCKETS - 1] = { 1000, 5000, 10000, 25000, 50000, 100000, 250000,
    500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 120000000, 300000000,
    600000000 };
static const char *const bounds_text[BUCKETS] = { "0.001", "0.005", "0.01", "0.025", "0.05", "0.1",
    "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "120.0", "300.0", "600.0", "+Inf" };

#define METRIC_NAMES(...) __VA_ARGS__
static const struct {
    const char *name, *help;
    enum metric_kind kind;
    const char *labels[METRIC_LABELS_MAX];
} table[METRIC_COUNT] = {
#define METRIC_ROW(id, kind_, name_, labels_, help_)                                               \
    [METRIC_##id] = {                                                                              \
        .name = name_, .help = help_, .kind = METRIC_##kind_, .labels = { METRIC_NAMES labels_ }   \
    },
    METRICS(METRIC_ROW)
#undef METRIC_ROW
};

/* `ready` is set last: no process reads the rest before. */
struct metric_series {
    uint32_t ready;
    uint32_t cell; /* the first of its cells */
    uint16_t metric, key_n;
    char key[KEY_MAX]; /* the labels as they are printed, without braces */
};

struct metric_area {
    uint32_t nseries, ncells; /* claimed; may count past the end */
    uint64_t nused;           /* slots; those behind have never been owned */
    /* By slot: procid of the master that has it, and of the process that writes to it, which may
     * outlive a master that was killed. 0: none. Counters stay. */
    uint64_t owners[SLOTS_MAX], writers[SLOTS_MAX];
    struct metric_series series[SERIES_MAX];
};

/* The cells that one process writes. */
struct metric_slot {
    uint64_t counters[COUNTER_COUNT];
    uint64_t cells[CELLS_MAX];
};

static struct {
    struct metric_area *area; /* NULL until the first use */
    struct metric_slot *slots;
    size_t mine;
    uint16_t slot_of[PROCESSES_MAX]; /* by number of the process */
    uint16_t by_hash[HASH_SIZE];     /* index + 1; 0: empty */
    uint32_t nhashed;                /* series that are in this process's table without a gap */
    bool set[SERIES_MAX];            /* since the last sweep */
} metric;

static size_t metric_width(enum metric m)
{
    return table[m].kind == METRIC_HISTOGRAM ? BUCKETS + 1 : 1;
}

#define METRIC_COUNTER_NAME(id, name, help) name " "
static const char counters_text[] = COUNTERS(METRIC_COUNTER_NAME);
#undef METRIC_COUNTER_NAME

/* Another number if any metric or bound differs. */
static uint64_t metric_layout(void)
{
    uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */

    for (size_t m = 0; m < METRIC_COUNT; m++) {
        for (const char *c = table[m].name; *c; c++)
            h = (h ^ (unsigned char)*c) * UINT64_C(1099511628211);
        h = (h ^ (uint64_t)table[m].kind) * UINT64_C(1099511628211);
    }
    for (const char *c = counters_text; *c; c++)
        h = (h ^ (unsigned char)*c) * UINT64_C(1099511628211);
    for (size_t i = 0; i < BUCKETS - 1; i++)
        h = (h ^ bounds_us[i]) * UINT64_C(1099511628211);
    return h;
}

static size_t metric_size(size_t nslots)
{
    return sizeof(struct metric_area) + nslots * sizeof(struct metric_slot);
}

static size_t metric_nused(void)
{
    return metric.area ? (size_t)__atomic_load_n(&metric.area->nused, __ATOMIC_ACQUIRE) : 0;
}

static void metric_use_area(void *p)
{
    metric.area = p;
    metric.slots = (void *)((char *)p + sizeof(struct metric_area));
}

static void metric_reset_gauges(size_t at);

static bool metric_is_gone(const uint64_t *id)
{
    uint64_t was = __atomic_load_n(id, __ATOMIC_ACQUIRE);

    return was == 0 || procid_is_dead(was);
}

/* Slots without an owner, or whose owner has ended. False if there are too few: then none is taken.
 */
static bool metric_take_slots(size_t n, size_t total)
{
    uint64_t self = procid_self();
    size_t have = 0;

    for (size_t i = 0; i < total && have < n; i++) {
        uint64_t *owner = &metric.area->owners[i], was = __atomic_load_n(owner, __ATOMIC_ACQUIRE);
        uint64_t used = __atomic_load_n(&metric.area->nused, __ATOMIC_ACQUIRE);

        if (!metric_is_gone(owner) || !metric_is_gone(&metric.area->writers[i]) ||
            !__atomic_compare_exchange_n(
                owner, &was, self, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            continue;
        while (used < i + 1 && !__atomic_compare_exchange_n(&metric.area->nused, &used, i + 1,
                                   false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            ;
        __atomic_store_n(&metric.area->writers[i], (uint64_t)0, __ATOMIC_RELEASE);
        metric_reset_gauges(i);
        metric.slot_of[have++] = (uint16_t)i;
    }
    if (have == n)
        return true;
    while (have > 0)
        __atomic_store_n(
            &metric.area->owners[metric.slot_of[--have]], (uint64_t)0, __ATOMIC_RELEASE);
    return false;
}

/* Memory of no other binary. */
static bool metric_map_own(size_t nslots)
{
    void *p =
        mmap(NULL, metric_size(nslots), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return false;
    metric_use_area(p);
    return metric_take_slots(nslots, nslots);
}

static bool metric_map_shared(size_t nslots)
{
    size_t total = 8;
    void *p;

    while (total < nslots * BINARIES)
        total *= 2;
    if (total > SLOTS_MAX)
        total = SLOTS_MAX;
    p = sharedmem_open("metrics", metric_layout(), metric_size(total));
    if (!p)
        return false;
    metric_use_area(p);
    return metric_take_slots(nslots, total);
}

/* A process that shares none is alone with its own. */
static bool metric_map_alone(void)
{
    const uint64_t *before = counter_values;

    if (!metric_map_own(1))
        return false;
    memcpy(metric.slots[0].counters, before, sizeof(metric.slots[0].counters));
    metric_use_slot(0);
    return true;
}

int metric_share(size_t nslots)
{
    struct metric_slot *first;

    if (nslots > PROCESSES_MAX) {
        errno = EINVAL;
        return -1;
    }
    if (!metric_map_shared(nslots) && !metric_map_own(nslots))
        return -1;
    first = &metric.slots[metric.slot_of[0]];
    for (size_t i = 0; i < COUNTER_COUNT; i++)
        first->counters[i] += counter_values[i];
    metric_use_slot(0);
    return 0;
}

void metric_use_slot(size_t slot)
{
    metric.mine = metric.slot_of[slot];
    counter_values = metric.slots[metric.mine].counters;
    __atomic_store_n(&metric.area->writers[metric.mine], procid_self(), __ATOMIC_RELEASE);
}

/* Each process writes only its own cells; a scrape by another process may read them at the same
 * time. */
static void metric_store(uint64_t *cell, uint64_t value)
{
    __atomic_store_n(cell, value, __ATOMIC_RELAXED);
}

static uint64_t metric_load(const uint64_t *cell)
{
    return __atomic_load_n(cell, __ATOMIC_RELAXED);
}

/* Formats the labels for a scrape: name="value",name="value". The length, or -1 if they are too
 * long. */
static int metric_key(enum metric m, const struct str *labels, char key[KEY_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < METRIC_LABELS_MAX && table[m].labels[i]; i++) {
        size_t name_n = strlen(table[m].labels[i]);

        if (n + name_n + 4 > KEY_MAX)
            return -1;
        if (i > 0)
            key[n++] = ',';
        memcpy(key + n, table[m].labels[i], name_n);
        n += name_n;
        key[n++] = '=';
        key[n++] = '"';
        for (size_t k = 0; k < labels[i].n; k++) {
            unsigned char c = (unsigned char)labels[i].p[k];

            if (n + 3 > KEY_MAX)
                return -1;
            if (c == '"' || c == '\\')
                key[n++] = '\\';
            key[n++] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
        }
        key[n++] = '"';
    }
    return (int)n;
}

static uint32_t metric_hash(enum metric m, const char *key, size_t n)
{
    uint32_t h = 2166136261u ^ (uint32_t)m; /* FNV-1a */

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)key[i]) * 16777619u;
    return h;
}

static bool metric_is(const struct metric_series *s, enum metric m, const char *key, size_t n)
{
    return s->metric == m && s->key_n == n && memcmp(s->key, key, n) == 0;
}

/* The slot of the series in this process's hash table; an empty slot if it is not there. */
static uint16_t *metric_place(enum metric m, const char *key, size_t n)
{
    uint32_t at = metric_hash(m, key, n) & (HASH_SIZE - 1);

    while (
        metric.by_hash[at] && !metric_is(&metric.area->series[metric.by_hash[at] - 1], m, key, n))
        at = (at + 1) & (HASH_SIZE - 1);
    return &metric.by_hash[at];
}

static uint32_t metric_nseries(void)
{
    uint32_t n = __atomic_load_n(&metric.area->nseries, __ATOMIC_ACQUIRE);

    return n < SERIES_MAX ? n : SERIES_MAX;
}

static bool metric_ready(const struct metric_series *s)
{
    return __atomic_load_n(&s->ready, __ATOMIC_ACQUIRE) != 0;
}

/* Adds series of other processes to the table. A series that is still being written is left for the
 * next time: for good if its process was killed meanwhile, so those behind it are not held up. */
static void metric_learn(void)
{
    uint32_t n = metric_nseries();
    bool whole = true;

    for (uint32_t i = metric.nhashed; i < n; i++) {
        const struct metric_series *s = &metric.area->series[i];
        uint16_t *place;

        if (!metric_ready(s)) {
            whole = false;
            continue;
        }
        place = metric_place((enum metric)s->metric, s->key, s->key_n);
        if (!*place)
            *place = (uint16_t)(i + 1);
        if (whole)
            metric.nhashed = i + 1;
    }
}

/* Adds a new series. Two processes may add the same series at the same moment: a scrape adds them
 * up. */
static const struct metric_series *metric_claim(enum metric m, const char *key, size_t n)
{
    uint32_t width = (uint32_t)metric_width(m);
    uint32_t cell = __atomic_fetch_add(&metric.area->ncells, width, __ATOMIC_RELAXED), i;
    struct metric_series *s;

    if (cell + width > CELLS_MAX) {
        __atomic_fetch_sub(&metric.area->ncells, width, __ATOMIC_RELAXED);
        return NULL;
    }
    i = __atomic_fetch_add(&metric.area->nseries, 1, __ATOMIC_RELAXED);
    if (i >= SERIES_MAX) {
        __atomic_fetch_sub(&metric.area->nseries, 1, __ATOMIC_RELAXED);
        return NULL;
    }
    s = &metric.area->series[i];
    s->metric = (uint16_t)m;
    s->key_n = (uint16_t)n;
    s->cell = cell;
    memcpy(s->key, key, n);
    __atomic_store_n(&s->ready, 1, __ATOMIC_RELEASE);
    *metric_place(m, key, n) = (uint16_t)(i + 1);
    return s;
}

/* NULL if there is no room for a new one. */
static const struct metric_series *metric_find(enum metric m, const struct str *labels)
{
    char key[KEY_MAX];
    int n = metric_key(m, labels, key);
    uint16_t *place;
    const struct metric_series *s = NULL;

    if (!metric.area && !metric_map_alone())
        return NULL;
    if (n >= 0) {
        place = metric_place(m, key, (size_t)n);
        if (!*place) {
            metric_learn();
            place = metric_place(m, key, (size_t)n);
        }
        if (*place)
            return &metric.area->series[*place - 1];
        s = metric_claim(m, key, (size_t)n);
    }
    if (!s)
        counter_add(COUNTER_SERIES_REFUSED, 1);
    return s;
}

void metric_add(enum metric m, uint64_t n, const struct str *labels)
{
    const struct metric_series *s = metric_find(m, labels);
    uint64_t *cell = s ? &metric.slots[metric.mine].cells[s->cell] : NULL;

    if (cell)
        metric_store(cell, *cell + n);
}

void metric_set(enum metric m, uint64_t value, const struct str *labels)
{
    const struct metric_series *s = metric_find(m, labels);

    if (!s)
        return;
    metric_store(&metric.slots[metric.mine].cells[s->cell], value);
    metric.set[s - metric.area->series] = true;
}

void metric_sweep_gauges(void)
{
    for (uint32_t i = 0; metric.area && i < metric_nseries(); i++) {
        const struct metric_series *s = &metric.area->series[i];

        if (metric_ready(s) && table[s->metric].kind >= METRIC_GAUGE && !metric.set[i])
            metric_store(&metric.slots[metric.mine].cells[s->cell], 0);
        metric.set[i] = false;
    }
}

void metric_observe(enum metric m, uint64_t us, const struct str *labels)
{
    const struct metric_series *s = metric_find(m, labels);
    uint64_t *cells = s ? &metric.slots[metric.mine].cells[s->cell] : NULL;
    size_t i = 0;

    if (!s)
        return;
    while (i < BUCKETS - 1 && us > bounds_us[i])
        i++;
    metric_store(&cells[i], cells[i] + 1);
    metric_store(&cells[BUCKETS], cells[BUCKETS] + us);
}

static void metric_reset_gauges(size_t at)
{
    for (uint32_t i = 0; i < metric_nseries(); i++) {
        const struct metric_series *s = &metric.area->series[i];

        if (metric_ready(s) && table[s->metric].kind >= METRIC_GAUGE)
            metric_store(&metric.slots[at].cells[s->cell], 0);
    }
}

void metric_clear_gauges(size_t slot)
{
    metric_reset_gauges(metric.slot_of[slot]);
}

void metric_forget_dead(void)
{
    uint64_t self = procid_self();

    for (size_t i = 0; i < metric_nused(); i++) {
        uint64_t *owner = &metric.area->owners[i], *writer = &metric.area->writers[i];
        uint64_t was = __atomic_load_n(owner, __ATOMIC_ACQUIRE);

        /* This master's own are cleared as their processes end. */
        if (was == 0 || was == self || !procid_is_dead(was) || !metric_is_gone(writer))
            continue;
        /* Levels first: the slot may have another owner as soon as it is free. */
        metric_reset_gauges(i);
        __atomic_compare_exchange_n(
            owner, &was, (uint64_t)0, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
}

/* ---- reading ---- */

/* The cells of a series over all processes. */
static void metric_sum(const struct metric_series *s, uint64_t sums[BUCKETS + 1])
{
    bool largest = table[s->metric].kind == METRIC_MAXIMUM;

    for (size_t k = 0; k < metric_width((enum metric)s->metric); k++)
        for (size_t i = 0; i < metric_nused(); i++) {
            uint64_t v = metric_load(&metric.slots[i].cells[s->cell + k]);

            sums[k] = !largest ? sums[k] + v : v > sums[k] ? v : sums[k];
        }
}

/* The first series from `i` on that is the same as `s`: NULL if there is none. */
static const struct metric_series *metric_same(
    const struct metric_series *s, uint32_t i, uint32_t end)
{
    for (; i < end; i++) {
        const struct metric_series *t = &metric.area->series[i];

        if (t != s && metric_ready(t) && metric_is(t, (enum metric)s->metric, s->key, s->key_n))
            return t;
    }
    return NULL;
}

uint64_t metric_value(enum metric m, const struct str *labels)
{
    uint64_t sums[BUCKETS + 1] = { 0 }, n = 0;
    char key[KEY_MAX];
    int key_n = metric_key(m, labels, key);

    for (uint32_t i = 0; metric.area && key_n >= 0 && i < metric_nseries(); i++) {
        const struct metric_series *s = &metric.area->series[i];

        if (metric_ready(s) && metric_is(s, m, key, (size_t)key_n))
            metric_sum(s, sums);
    }
    if (table[m].kind != METRIC_HISTOGRAM)
        return sums[0];
    for (size_t i = 0; i < BUCKETS; i++)
        n += sums[i];
    return n;
}

void metric_histogram(enum metric m, uint64_t out[METRIC_BUCKETS])
{
    uint64_t sums[BUCKETS + 1] = { 0 };

    for (uint32_t i = 0; metric.area && i < metric_nseries(); i++) {
        const struct metric_series *s = &metric.area->series[i];

        if (metric_ready(s) && s->metric == m)
            metric_sum(s, sums);
    }
    memcpy(out, sums, BUCKETS * sizeof(*out));
}

uint64_t metric_bound_us(size_t bucket)
{
    return bucket < BUCKETS - 1 ? bounds_us[bucket] : UINT64_MAX;
}

uint64_t metric_total(enum metric m)
{
    uint64_t sums[BUCKETS + 1] = { 0 }, n = 0;

    for (uint32_t i = 0; metric.area && i < metric_nseries(); i++) {
        const struct metric_series *s = &metric.area->series[i];

        if (metric_ready(s) && s->metric == m)
            metric_sum(s, sums);
    }
    for (size_t i = 0; table[m].kind == METRIC_HISTOGRAM && i < BUCKETS; i++)
        n += sums[i];
    return table[m].kind == METRIC_HISTOGRAM ? n : sums[0];
}

static void metric_print_value(
    struct buf *b, const char *name, const char *suffix, const struct metric_series *s)
{
    buf_printf(b, "%s%s", name, suffix);
    if (s->key_n > 0)
        buf_printf(b, "{%.*s}", (int)s->key_n, s->key);
}

static void metric_print_seconds(struct buf *b, uint64_t us)
{
    buf_printf(b, " %" PRIu64 ".%06u\n", us / 1000000, (unsigned)(us % 1000000));
}

static void metric_print_histogram(
    struct buf *b, const struct metric_series *s, const uint64_t *sums)
{
    const char *name = table[s->metric].name;
    uint64_t n = 0;

    for (size_t i = 0; i < BUCKETS; i++) {
        n += sums[i];
        buf_printf(b, "%s_bucket{%.*s%sle=\"%s\"} %" PRIu64 "\n", name, (int)s->key_n, s->key,
            s->key_n ? "," : "", bounds_text[i], n);
    }
    metric_print_value(b, name, "_sum", s);
    metric_print_seconds(b, sums[BUCKETS]);
    metric_print_value(b, name, "_count", s);
    buf_printf(b, " %" PRIu64 "\n", n);
}

static void metric_print_series(struct buf *b, const struct metric_series *s, uint32_t end)
{
    uint64_t sums[BUCKETS + 1] = { 0 };

    for (const struct metric_series *t = s; t;
         t = metric_same(s, (uint32_t)(t - metric.area->series) + 1, end))
        metric_sum(t, sums);
    switch (table[s->metric].kind) {
    case METRIC_HISTOGRAM:
        metric_print_histogram(b, s, sums);
        return;
    case METRIC_SECONDS:
        metric_print_value(b, table[s->metric].name, "", s);
        metric_print_seconds(b, sums[0]);
        return;
    case METRIC_COUNTER:
    case METRIC_GAUGE:
    case METRIC_MAXIMUM:
        metric_print_value(b, table[s->metric].name, "", s);
        buf_printf(b, " %" PRIu64 "\n", sums[0]);
        return;
    }
}

/* OpenMetrics names a counter's family without the ending of its samples. */
static void metric_print_head(
    struct buf *b, const char *name, const char *type, const char *help, bool openmetrics)
{
    size_t n = strlen(name);

    if (openmetrics && strcmp(type, "counter") == 0 && n > 6)
        n -= strlen("_total");
    buf_printf(b, "# HELP %.*s %s\n# TYPE %.*s %s\n", (int)n, name, help, (int)n, name, type);
}

static void metric_print_counters(struct buf *b, bool openmetrics)
{
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        const char *name = counter_name((enum counter)i);
        uint64_t sum = 0;

        for (size_t k = 0; k < metric_nused(); k++)
            sum += metric_load(&metric.slots[k].counters[i]);
        metric_print_head(b, name, "counter", counter_help((enum counter)i), openmetrics);
        buf_printf(b, "%s %" PRIu64 "\n", name, sum);
    }
}

void metric_print(struct buf *b, bool openmetrics)
{
    static const char *const types[] = { [METRIC_COUNTER] = "counter",
        [METRIC_SECONDS] = "counter",
        [METRIC_HISTOGRAM] = "histogram",
        [METRIC_GAUGE] = "gauge",
        [METRIC_MAXIMUM] = "gauge" };
    uint32_t end;

    if (!metric.area && !metric_map_alone())
        return;
    metric_print_counters(b, openmetrics);
    end = metric_nseries();
    for (size_t m = 0; m < METRIC_COUNT; m++) {
        bool headed = false;

        for (uint32_t i = 0; i < end; i++) {
            const struct metric_series *s = &metric.area->series[i];

            if (!metric_ready(s) || s->metric != m)
                continue;
            if (metric_same(s, 0, i)) /* it was printed with the earlier one */
                continue;
            if (!headed)
                metric_print_head(
                    b, table[m].name, types[table[m].kind], table[m].help, openmetrics);
            headed = true;
            metric_print_series(b, s, end);
        }
    }
}
