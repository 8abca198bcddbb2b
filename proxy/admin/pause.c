/* The second word of a pool's row is 1 while it is paused; the first one says of other rows what
 * they are. */
#include "admin/pause.h"

#include "frontend/front.h"
#include "net/loop.h"
#include "observe/log.h"
#include "upstream/ledger.h"

enum { PAUSED_WORD = 1 };

static uint64_t *pause_word(struct ledger_place *place, struct str pool)
{
    struct siphash h = ledger_hash();

    siphash_add_field(&h, STR("pool"));
    siphash_add_field(&h, pool);
    place->id = siphash_end(&h) | 1;
    return ledger_words(place, loop_now_ms()) + PAUSED_WORD;
}

bool pause_set(const struct front *f, struct str name, bool paused)
{
    struct pool *p = pools_find(f->exchanges.pools, name);
    struct ledger_place place = { 0 };

    if (!p)
        return false;
    __atomic_store_n(pause_word(&place, name), paused, __ATOMIC_RELAXED);
    pool_hold(p, paused);
    log_info(NULL, "pool \"" STR_FMT "\" %s over the control socket", STR_ARG(name),
        paused ? "paused" : "resumed");
    return true;
}

void pause_apply(const struct front *f)
{
    for (size_t i = 0; i < front_conf(f)->npools; i++) {
        struct str name = front_conf(f)->pools[i].name;
        struct pool *p = pools_find(f->exchanges.pools, name);
        struct ledger_place place = { 0 };
        uint64_t paused = __atomic_load_n(pause_word(&place, name), __ATOMIC_RELAXED);

        if (p && place.words != place.own && pool_is_held(p) != (paused != 0))
            pool_hold(p, paused != 0);
    }
}
