/* Giving memory back after a wave. */
#include "frontend/peak.h"

#include <malloc.h>
#include <stdbool.h>

#include "base/buf.h"

enum {
    TRIM_PEAK = 512, /* fewer exchanges or connections leave nothing worth the work */
    TRIM_REST = 16,  /* but the rest of a wave does: its memory lies between what has gone */
    TRIM_PAUSE_MS = 1000,
};

/* The highest load is noted, and looked at again until it has gone down. */
void peak_watch(struct peak *p)
{
    struct load now = p->measure(p->owner);

    if (now.exchanges > p->highest.exchanges)
        p->highest.exchanges = now.exchanges;
    if (now.connections > p->highest.connections)
        p->highest.connections = now.connections;
    if (p->highest.exchanges < TRIM_REST && p->highest.connections < TRIM_REST)
        p->least = TRIM_PEAK; /* the wave is over */
    if ((p->highest.exchanges >= p->least || p->highest.connections >= p->least) &&
        !deadline_is_set(&p->timer))
        deadline_set(&p->timer, TRIM_PAUSE_MS);
}

static bool peak_has_gone(const struct peak *p, size_t highest, size_t now)
{
    return highest >= p->least && now < highest / 8;
}

/* Once no more are ending, for what is freed later would stay. */
static void peak_on_timer(void *owner)
{
    struct peak *p = owner;
    struct load now = p->measure(p->owner);
    bool ending = now.exchanges < p->seen.exchanges || now.connections < p->seen.connections;

    p->seen = now;
    if (!ending && (peak_has_gone(p, p->highest.exchanges, now.exchanges) ||
                       peak_has_gone(p, p->highest.connections, now.connections))) {
        p->highest = now;
        p->least = TRIM_REST;
        buf_trim();
#ifdef __GLIBC__
        malloc_trim(0);
#endif
    }
    peak_watch(p);
}

void peak_init(struct peak *p, struct load (*measure)(void *owner), void *owner)
{
    *p = (struct peak){ .measure = measure, .owner = owner, .least = TRIM_PEAK };
    deadline_init(&p->timer, peak_on_timer, p);
}

void peak_close(struct peak *p)
{
    deadline_close(&p->timer);
}
