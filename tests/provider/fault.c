/* Reading fault specs, and counting whose turn it is. */
#include "fault.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "options.h"

#define FAULT_TIMES_FOREVER UINT64_MAX

/* How the argument must look. All are optional. */
enum arg_kind { ARG_NONE, ARG_SIZE, ARG_TIME, ARG_CODE, ARG_HINT };

static const struct {
    const char *name;
    enum arg_kind arg;
} rows[] = {
    [FAULT_STATUS] = { "", ARG_HINT },
    [FAULT_CLOSE] = { "close", ARG_NONE },
    [FAULT_CLOSE_MID] = { "close-mid", ARG_SIZE },
    [FAULT_DRIP] = { "drip", ARG_TIME },
    [FAULT_ERROR_EVENT] = { "error-event", ARG_SIZE },
    [FAULT_FILTER] = { "filter", ARG_NONE },
    [FAULT_GARBAGE] = { "garbage", ARG_NONE },
    [FAULT_GOAWAY] = { "goaway", ARG_NONE },
    [FAULT_GOAWAY_LOST] = { "goaway-lost", ARG_NONE },
    [FAULT_GOAWAY_PROCESSED] = { "goaway-processed", ARG_NONE },
    [FAULT_GZIP] = { "gzip", ARG_NONE },
    [FAULT_HTTP10] = { "http10", ARG_NONE },
    [FAULT_HUGE] = { "huge", ARG_SIZE },
    [FAULT_HUGEHEAD] = { "hugehead", ARG_SIZE },
    [FAULT_INTERIM] = { "1xx", ARG_SIZE },
    [FAULT_MALFORMED] = { "malformed", ARG_SIZE },
    [FAULT_NO_TERMINAL] = { "no-terminal", ARG_NONE },
    [FAULT_PAUSE] = { "pause", ARG_TIME },
    [FAULT_PING_SILENT] = { "ping-silent", ARG_NONE },
    [FAULT_PINGS] = { "pings", ARG_SIZE },
    [FAULT_REFUSED] = { "refused", ARG_NONE },
    [FAULT_RESET] = { "reset", ARG_NONE },
    [FAULT_RESET_MID] = { "reset-mid", ARG_SIZE },
    [FAULT_RST] = { "rst", ARG_CODE },
    [FAULT_RST_MID] = { "rst-mid", ARG_CODE },
    [FAULT_SHORT] = { "short", ARG_SIZE },
    [FAULT_SILENCE] = { "silence", ARG_NONE },
    [FAULT_STALL] = { "stall", ARG_SIZE },
    [FAULT_TINY_WINDOW] = { "tiny-window", ARG_SIZE },
    [FAULT_TRAILERS] = { "trailers", ARG_NONE },
};
#define ROWS (sizeof rows / sizeof *rows)

/* RFC 9113 7, by number. */
static const char *const h2_codes[] = { "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM",
    "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED" };

static bool read_size(const char *s, uint64_t *to)
{
    char *end;
    unsigned long long x;
    int shift = 0;

    if (*s < '0' || *s > '9')
        return false;
    x = strtoull(s, &end, 10);
    if (*end == 'K' || *end == 'M' || *end == 'G')
        shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 30, end++;
    if (*end || x > (1ull << 40) >> shift)
        return false;
    *to = x << shift;
    return true;
}

static bool read_code(const char *s, uint32_t *to)
{
    uint64_t number;

    for (uint32_t i = 0; i < sizeof h2_codes / sizeof *h2_codes; i++)
        if (strcasecmp(s, h2_codes[i]) == 0)
            return *to = i, true;
    if (!options_number(s, UINT32_MAX, &number))
        return false;
    *to = (uint32_t)number;
    return true;
}

static bool hint_is_good(const char *s)
{
    uint64_t ms;

    if (strcmp(s, "none") == 0 || strcmp(s, "quota") == 0 || strcmp(s, "context") == 0)
        return true;
    return options_duration(strncmp(s, "date:", 5) == 0 ? s + 5 : s, &ms);
}

static bool arg_is_good(enum arg_kind kind, const char *arg)
{
    uint64_t number;
    uint32_t code;

    if (!arg)
        return true;
    switch (kind) {
    case ARG_NONE:
        return false;
    case ARG_SIZE:
        return read_size(arg, &number);
    case ARG_TIME:
        return options_duration(arg, &number);
    case ARG_CODE:
        return read_code(arg, &code);
    case ARG_HINT:
        return hint_is_good(arg);
    }
    return false;
}

uint64_t fault_size(const struct fault *f, uint64_t missing)
{
    uint64_t size = missing;

    if (f->arg)
        read_size(f->arg, &size);
    return size;
}

uint64_t fault_time_ms(const struct fault *f, uint64_t missing)
{
    uint64_t ms = missing;

    if (f->arg)
        options_duration(f->arg, &ms);
    return ms;
}

uint32_t fault_h2_code(const struct fault *f)
{
    uint32_t code = 2;

    if (f->arg)
        read_code(f->arg, &code);
    return code;
}

const struct fault *fault_find(const struct fault_set *set, enum fault_kind kind)
{
    for (size_t i = 0; set && i < set->n; i++)
        if (set->list[i].kind == kind)
            return &set->list[i];
    return NULL;
}

static char *trim(char *s)
{
    char *end;

    while (*s == ' ' || *s == '\t')
        s++;
    end = s + strlen(s);
    while (end > s && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = 0;
    return s;
}

/* Cuts `s` at the first `c`; what follows, or NULL. */
static char *cut_at(char *s, char c)
{
    char *at = strchr(s, c);

    if (at)
        *at++ = 0;
    return at;
}

/* `word` is NAME or NAME=ARG and is cut there. */
static bool read_fault(char *word, struct fault *f)
{
    char *arg = cut_at(word, '=');
    char *name = trim(word);
    uint64_t status;

    f->arg = arg ? trim(arg) : NULL;
    f->status = 0;
    if (options_number(name, 599, &status) && status >= 200) {
        f->kind = FAULT_STATUS;
        f->status = (int)status;
        return arg_is_good(ARG_HINT, f->arg);
    }
    for (size_t i = 1; i < ROWS; i++) {
        f->kind = (enum fault_kind)i;
        if (strcmp(name, rows[i].name) == 0)
            return arg_is_good(rows[i].arg, f->arg);
    }
    return false;
}

/* Reads and cuts one step into the set's faults; its times into `times`, 0 if it names none. */
static bool read_step(char *step, struct fault_set *set, uint64_t *times)
{
    char *count = cut_at(step, '*');

    *times = 0;
    if (count && (!options_number(trim(count), UINT32_MAX, times) || *times == 0))
        return false;
    for (char *next; step; step = next) {
        next = cut_at(step, '+');
        if (set->n == sizeof set->list / sizeof *set->list || !read_fault(step, &set->list[set->n]))
            return false;
        set->n++;
    }
    return true;
}

/* A set whose words are twice the length `n`: the name, and the copy that is cut. */
static struct fault_set *set_new(const char *step, size_t n)
{
    struct fault_set *set = text_alloc(sizeof *set + 2 * (n + 1));
    char *name = set->words + n + 1;

    memcpy(set->words, step, n);
    memcpy(name, step, n);
    cut_at(name, '*');
    set->name = trim(name);
    return set;
}

bool fault_check(const char *spec, struct text *why)
{
    while (*spec) {
        size_t n = strcspn(spec, ",");
        struct fault_set *set = set_new(spec, n);
        uint64_t times;
        bool good = read_step(set->words, set, &times);

        free(set);
        if (!good) {
            text_printf(why,
                "fault \"%.*s\" is not one that README.md lists, or its argument is wrong",
                (int)(n < 200 ? n : 200), spec);
            return false;
        }
        spec += n;
        spec += *spec == ',';
    }
    return true;
}

struct fault_set *fault_choose(const char *spec, uint32_t before)
{
    uint64_t seen = 0;

    while (*spec) {
        size_t n = strcspn(spec, ",");
        struct fault_set *set = set_new(spec, n);
        uint64_t times;

        spec += n;
        if (!read_step(set->words, set, &times) || !times)
            times = *spec ? 1 : FAULT_TIMES_FOREVER - seen;
        seen += times;
        if (before < seen)
            return set;
        free(set);
        spec += *spec == ',';
    }
    return NULL;
}

struct fault_count {
    uint64_t key;
    uint32_t n; /* 0: the slot is free */
};

static struct fault_count *find_slot(const struct fault_counts *counts, uint64_t key)
{
    size_t i = key & (counts->room - 1);

    while (counts->slots[i].n && counts->slots[i].key != key)
        i = (i + 1) & (counts->room - 1);
    return &counts->slots[i];
}

static void grow(struct fault_counts *counts)
{
    struct fault_counts larger = { NULL, counts->n, counts->room ? counts->room * 2 : 256 };

    larger.slots = text_alloc(larger.room * sizeof *larger.slots);
    for (size_t i = 0; i < counts->room; i++)
        if (counts->slots[i].n)
            *find_slot(&larger, counts->slots[i].key) = counts->slots[i];
    free(counts->slots);
    *counts = larger;
}

uint32_t fault_counts_next(struct fault_counts *counts, uint64_t key)
{
    struct fault_count *slot;

    if (counts->n >= counts->room / 2)
        grow(counts);
    slot = find_slot(counts, key);
    if (!slot->n)
        counts->n++;
    slot->key = key;
    if (slot->n == UINT32_MAX)
        return slot->n - 1;
    return slot->n++;
}

void fault_counts_release(struct fault_counts *counts)
{
    free(counts->slots);
    *counts = (struct fault_counts){ 0 };
}
