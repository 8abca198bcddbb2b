/* Counts, percentiles and the two ways to print them. */
#include "tally.h"

#include <stdlib.h>
#include <string.h>

int tally_init(struct tally *t, size_t requests)
{
    memset(t, 0, sizeof(*t));
    t->us = calloc(requests, sizeof(*t->us));
    t->room = requests;
    return t->us != NULL ? 0 : -1;
}

void tally_release(struct tally *t)
{
    free(t->us);
    t->us = NULL;
}

void tally_ok(struct tally *t, uint64_t us, uint64_t bytes)
{
    t->bytes += bytes;
    if (t->ok < t->room)
        t->us[t->ok++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

void tally_failed(struct tally *t, const char *kind)
{
    size_t i;

    t->failed++;
    for (i = 0; i < t->nkinds; i++) {
        if (strcmp(t->kinds[i].name, kind) == 0)
            break;
    }
    if (i ==
        TALLY_KINDS) /* more kinds than there are names for: the last one stands for the rest */
        i--;
    else if (i == t->nkinds)
        snprintf(t->kinds[t->nkinds++].name, sizeof(t->kinds[0].name), "%s", kind);
    t->kinds[i].count++;
}

static int by_time(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* The smallest time that `percent` of the good requests did not pass; the times are sorted. In
 * milliseconds. */
static double percentile(const struct tally *t, double percent)
{
    size_t at;

    if (t->ok == 0)
        return 0;
    at = (size_t)((double)t->ok * percent / 100.0 + 0.999999);
    at = at > 0 ? at - 1 : 0;
    return t->us[at < t->ok ? at : t->ok - 1] / 1000.0;
}

static double rate(const struct tally *t, double seconds)
{
    return seconds > 0 ? (double)t->ok / seconds : 0;
}

void tally_print_json(struct tally *t, size_t requests, double seconds, FILE *f)
{
    size_t i;

    qsort(t->us, t->ok, sizeof(*t->us), by_time);
    fprintf(f, "{\"requests\": %zu, \"ok\": %zu, \"failed\": %zu, \"errors\": {", requests, t->ok,
        t->failed);
    for (i = 0; i < t->nkinds; i++)
        fprintf(f, "%s\"%s\": %zu", i > 0 ? ", " : "", t->kinds[i].name, t->kinds[i].count);
    fprintf(f,
        "}, \"seconds\": %.3f, \"per_second\": %.1f, \"p50_ms\": %.1f, \"p90_ms\": %.1f, "
        "\"p99_ms\": "
        "%.1f, \"max_ms\": %.1f, \"body_bytes\": %llu}\n",
        seconds, rate(t, seconds), percentile(t, 50), percentile(t, 90), percentile(t, 99),
        percentile(t, 100), (unsigned long long)t->bytes);
}

void tally_print_text(struct tally *t, size_t requests, double seconds, FILE *f)
{
    size_t i;

    qsort(t->us, t->ok, sizeof(*t->us), by_time);
    fprintf(f, "%zu of %zu right in %.2f s, %.1f a second\n", t->ok, requests, seconds,
        rate(t, seconds));
    fprintf(f, "ms: p50 %.1f, p90 %.1f, p99 %.1f, max %.1f\n", percentile(t, 50), percentile(t, 90),
        percentile(t, 99), percentile(t, 100));
    for (i = 0; i < t->nkinds; i++)
        fprintf(f, "%s: %zu\n", t->kinds[i].name, t->kinds[i].count);
}
