/* Keys live while calls of theirs are in flight, wait, or began within the last minute. */
#include "upstream/pacer.h"

#include <stdlib.h>

#include "net/deadline.h"
#include "net/loop.h"

enum { MINUTE_MS = 60000, LISTS = 256, BEGUN_FIRST = 16 };

struct pacer_key {
    struct list_node node; /* on one of the pacer's lists */
    uint64_t id;
    size_t most_in_flight, most_begun; /* 0: no bound */
    struct list waiting, in_flight;
    uint64_t *begun; /* when the calls of the last minute began: a ring */
    size_t first, nbegun, room;
    struct deadline timer; /* until the oldest of them is a minute old */
    struct deferred work;
    struct deferred_free deferred_free;
};

struct pacer {
    struct list lists[LISTS]; /* of keys, by id */
    struct deferred_free deferred_free;
};

static void pacer_free(void *what)
{
    free(what);
}

static void pacer_free_key(void *what)
{
    struct pacer_key *k = what;

    free(k->begun);
    free(k);
}

static void pacer_close_key(struct pacer_key *k)
{
    struct list_node *n;

    while ((n = list_first(&k->waiting)) || (n = list_first(&k->in_flight)))
        pacer_leave(LIST_OWNER(n, struct pacer_turn, node));
    list_remove(&k->node);
    deadline_close(&k->timer);
    loop_undefer(&k->work);
    loop_free_later(&k->deferred_free, k, pacer_free_key);
}

static void pacer_forget_old(struct pacer_key *k)
{
    while (k->nbegun > 0 && k->begun[k->first] + MINUTE_MS <= loop_now_ms()) {
        k->first = (k->first + 1) % k->room;
        k->nbegun--;
    }
}

static bool pacer_has_room(const struct pacer_key *k)
{
    return (k->most_in_flight == 0 || k->in_flight.count < k->most_in_flight) &&
           (k->most_begun == 0 || k->nbegun < k->most_begun);
}

/* 0, or -1 without memory. */
static int pacer_note_begin(struct pacer_key *k)
{
    if (k->most_begun == 0)
        return 0;
    if (k->nbegun == k->room) {
        size_t room = k->room ? k->room * 2 : BEGUN_FIRST;
        uint64_t *more = malloc(room * sizeof(*more));

        if (!more)
            return -1;
        for (size_t i = 0; i < k->nbegun; i++)
            more[i] = k->begun[(k->first + i) % k->room];
        free(k->begun);
        k->begun = more;
        k->room = room;
        k->first = 0;
    }
    k->begun[(k->first + k->nbegun++) % k->room] = loop_now_ms();
    if (!deadline_is_set(&k->timer))
        deadline_set(&k->timer, MINUTE_MS);
    return 0;
}

static bool pacer_begin(struct pacer_key *k, struct pacer_turn *t)
{
    if (pacer_note_begin(k) < 0)
        return false;
    list_push(&k->in_flight, &t->node);
    return true;
}

/* From the loop: starts as many waiting calls as there is room for. */
static void pacer_serve(void *owner)
{
    struct pacer_key *k = owner;
    struct list_node *first;

    pacer_forget_old(k);
    while (pacer_has_room(k) && (first = list_first(&k->waiting))) {
        struct pacer_turn *t = LIST_OWNER(first, struct pacer_turn, node);

        if (!pacer_begin(k, t))
            break;
        t->on_turn(t->owner);
    }
    if (k->nbegun > 0)
        deadline_set(&k->timer, k->begun[k->first] + MINUTE_MS - loop_now_ms());
    else if (k->in_flight.count == 0 && k->waiting.count == 0)
        pacer_close_key(k);
}

struct pacer *pacer_open(void)
{
    struct pacer *p = calloc(1, sizeof(*p));

    for (size_t i = 0; p && i < LISTS; i++)
        list_init(&p->lists[i]);
    return p;
}

void pacer_close(struct pacer *p)
{
    struct list_node *n;

    if (!p)
        return;
    for (size_t i = 0; i < LISTS; i++)
        while ((n = list_first(&p->lists[i])))
            pacer_close_key(LIST_OWNER(n, struct pacer_key, node));
    loop_free_later(&p->deferred_free, p, pacer_free);
}

static struct pacer_key *pacer_find_key(struct pacer *p, uint64_t id)
{
    struct list *l = &p->lists[id % LISTS];
    struct pacer_key *k;

    LIST_EACH(n, l) {
        k = LIST_OWNER(n, struct pacer_key, node);
        if (k->id == id)
            return k;
    }
    k = calloc(1, sizeof(*k));
    if (!k)
        return NULL;
    k->id = id;
    list_init(&k->waiting);
    list_init(&k->in_flight);
    deadline_init(&k->timer, pacer_serve, k);
    list_push(l, &k->node);
    return k;
}

bool pacer_ask(struct pacer *p, struct pacer_turn *t, const struct limit_conf *l, uint64_t id)
{
    struct pacer_key *k = pacer_find_key(p, id);

    if (!k)
        return false;
    k->most_in_flight = l->in_flight;
    k->most_begun = l->requests_per_minute;
    pacer_forget_old(k);
    t->key = k;
    if (k->waiting.count == 0 && pacer_has_room(k) && pacer_begin(k, t))
        return true;
    list_push(&k->waiting, &t->node);
    return false;
}

void pacer_leave(struct pacer_turn *t)
{
    struct pacer_key *k = t->key;

    if (!k)
        return;
    list_remove(&t->node);
    t->key = NULL;
    if (list_on(&k->node))
        loop_defer(&k->work, pacer_serve, k);
}
