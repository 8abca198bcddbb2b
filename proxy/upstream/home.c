/* Sets of eight words. A word is a part of the id's hash, and one of the endpoint's: an id is noted
 * and found by single atomic operations. Two ids are taken for one in 2^36 * (ids / 8) cases. */
#include "upstream/home.h"

#include "base/entropy.h"
#include "base/sharedmem.h"
#include "llm/kept.h"
#include "llm/scanner.h"
#include "upstream/ledger.h"

enum { SET = 8, FALLBACK_SETS = 32, ENDPOINT_BITS = 28, LAYOUT = 1 };

#define ENDPOINT_MASK ((UINT64_C(1) << ENDPOINT_BITS) - 1)

static struct {
    uint64_t *words; /* NULL: not opened */
    size_t nsets;
} home;

int home_open(size_t ids)
{
    size_t nsets = (ids + SET - 1) / SET;
    uint64_t *words = sharedmem_open("home", LAYOUT, nsets * SET * sizeof(*words));

    if (!words)
        return -1;
    home.words = words;
    home.nsets = nsets;
    return 0;
}

/* A process that has opened none is alone with its own. */
static void home_need(void)
{
    static uint64_t own[FALLBACK_SETS * SET];

    if (home.words)
        return;
    home.words = own;
    home.nsets = FALLBACK_SETS;
}

static uint64_t home_hash(struct str kind, struct str upstream, struct str name)
{
    struct siphash h = ledger_hash();

    siphash_add_field(&h, kind);
    siphash_add_field(&h, upstream);
    siphash_add_field(&h, name);
    return siphash_end(&h);
}

/* A scanner tells no more of a value. */
static uint64_t home_id(const struct upstream_conf *u, struct str id)
{
    if (id.n > SCANNER_TEXT_MAX)
        id.n = SCANNER_TEXT_MAX;
    return home_hash(STR("id"), u->name, id);
}

/* Whatever its key is: a new key of an account finds what the old one has made. Never 0. */
static uint64_t home_tag(const struct upstream_conf *u, const struct endpoint_conf *e)
{
    return (home_hash(STR("at"), u->name, e->name) & ENDPOINT_MASK) | 1;
}

static uint64_t *home_set(uint64_t id)
{
    home_need();
    return &home.words[id % home.nsets * SET];
}

static bool home_is_of(uint64_t word, uint64_t id)
{
    return word != 0 && (word ^ id) >> ENDPOINT_BITS == 0;
}

void home_note(const struct upstream_conf *u, const struct endpoint_conf *e, struct str id)
{
    uint64_t hash = home_id(u, id), *set = home_set(hash);
    uint64_t word = (hash & ~ENDPOINT_MASK) | home_tag(u, e);
    size_t at = (size_t)entropy_below(SET);

    for (size_t i = SET; i-- > 0;) {
        uint64_t is = __atomic_load_n(&set[i], __ATOMIC_RELAXED);

        if (home_is_of(is, hash)) {
            at = i;
            break;
        }
        if (is == 0)
            at = i;
    }
    __atomic_store_n(&set[at], word, __ATOMIC_RELAXED);
}

static enum home_found home_of_response(
    const struct upstream_conf *u, struct str id, unsigned *place)
{
    uint64_t hash = home_id(u, id);
    const uint64_t *set = home_set(hash);

    for (size_t i = 0; i < SET; i++) {
        uint64_t word = __atomic_load_n(&set[i], __ATOMIC_RELAXED);

        if (!home_is_of(word, hash))
            continue;
        for (unsigned k = 0; k < u->nendpoints; k++)
            if (home_tag(u, &u->endpoints[k]) == (word & ENDPOINT_MASK)) {
                *place = k;
                return HOME_AT;
            }
        return HOME_GONE;
    }
    *place = u->home_place;
    return HOME_AT;
}

/* What a body names. */
struct home_named {
    struct scanner json;
    const struct upstream_conf *upstream;
    enum home_found found;
    unsigned place;
    bool response; /* by a response's id, which says more than the rest */
};

static void home_on_value(void *owner, unsigned path, const struct scanner_value *v)
{
    struct home_named *n = owner;

    switch (kept_by_value(path, v)) {
    case KEPT_NOTHING:
        break;
    case KEPT_RESPONSE:
        n->found = home_of_response(n->upstream, v->text, &n->place);
        n->response = true;
        break;
    case KEPT_OTHER:
        if (n->response)
            break;
        n->found = HOME_AT;
        n->place = n->upstream->home_place;
        break;
    }
}

static bool home_take(void *owner, struct str piece)
{
    struct home_named *n = owner;

    return scanner_feed(&n->json, piece);
}

enum home_found home_find(const struct upstream_conf *u, const struct head *head,
    const struct piece *body, unsigned *place)
{
    struct home_named n = { .upstream = u, .found = HOME_ANYWHERE };
    struct str id;

    switch (kept_by_path(head->method, head->target, &id)) {
    case KEPT_RESPONSE:
        return home_of_response(u, id, place);
    case KEPT_OTHER:
        *place = u->home_place;
        return HOME_AT;
    case KEPT_NOTHING:
        break;
    }
    scanner_init(&n.json, kept_paths, KEPT_NPATHS, false, home_on_value, &n);
    piece_each(body, home_take, &n);
    *place = n.place;
    return n.found;
}
