/* Fair queueing by start times: each tenant has a virtual time at which its next call is due, and
 * the earliest of which a call can begin goes first. Its next one is then due later by the call's
 * cost, divided by the tenant's weight. A tenant that could not begin, or was not there, has saved
 * up nothing: it is due at the present virtual time at the earliest. */
#include "upstream/pacer.h"

#include <stdlib.h>

#include "base/arena.h"
#include "net/deadline.h"
#include "net/loop.h"
#include "observe/metric.h"

enum {
    POLL_MS = 5,        /* how often is looked whether another process has made room */
    PASS_MAX = 64,      /* calls that begin in one turn of the loop */
    TOKENS_COST = 1000, /* so many expected tokens cost a turn ... */
    COST_MAX = 16,      /* ... and no call costs more than so many */
    TURN = 27720,       /* of virtual time: weights from 1 to 12 divide it */
    OTHERS = 0,         /* the tenant that stands for those beyond queue_tenants_max */
};

/* What limits are now. */
struct pacer_limit {
    uint64_t id;
    struct meter_bounds most;
};

struct pacer_queue {
    struct list_node node;
    struct pacer *pacer;
    struct str upstream;
    struct pacer_limit limits[LIMITS_MAX];
    size_t nlimits;
    struct list tenants; /* those that are due first come first */
    uint64_t virtual_now;
    size_t waiting; /* calls */
    bool counts_tokens;
    struct deadline timer;
    uint64_t due_ms;     /* look again then, whatever the others do */
    uint64_t generation; /* of the meter, when it was looked last */
    struct deferred work;
    struct deferred_free deferred_free;
    char name[];
};

struct pacer_tenant {
    struct list_node node;
    struct pacer_queue *queue;
    uint64_t id;
    unsigned weight;
    uint64_t due;   /* of the queue's virtual time */
    size_t waiting; /* calls */
    struct list flows;
    struct deferred_free deferred_free;
};

struct pacer_flow {
    struct list_node node;
    struct pacer_tenant *tenant;
    struct list calls; /* retries first, then by age */
    uint32_t awaits;   /* place + 1 of the meter that this process waits at; 0: none */
    struct deferred_free deferred_free;
};

struct pacer {
    struct list queues;
    struct deferred_free deferred_free;
};

static uint64_t pacer_now_ms(void)
{
    return loop_precise_us() / 1000;
}

static void pacer_free(void *what)
{
    free(what);
}

/* ---- queues ---- */

static void pacer_serve(void *owner);
static void pacer_on_timer(void *owner);

static struct pacer_queue *pacer_find(const struct pacer *p, struct str upstream)
{
    LIST_EACH(n, &p->queues) {
        struct pacer_queue *q = LIST_OWNER(n, struct pacer_queue, node);

        if (str_eq(q->upstream, upstream))
            return q;
    }
    return NULL;
}

static struct pacer_queue *pacer_make_queue(struct pacer *p, struct str upstream)
{
    struct pacer_queue *q = calloc(1, sizeof(*q) + upstream.n + 1);

    if (!q)
        return NULL;
    memcpy(q->name, upstream.p, upstream.n);
    q->upstream = str_make(q->name, upstream.n);
    q->pacer = p;
    list_init(&q->tenants);
    deadline_init(&q->timer, pacer_on_timer, q);
    list_push(&p->queues, &q->node);
    return q;
}

static void pacer_wake(struct pacer_queue *q)
{
    if (q->waiting > 0)
        loop_defer(&q->work, pacer_serve, q);
}

static void pacer_close_queue(struct pacer_queue *q)
{
    list_remove(&q->node);
    deadline_close(&q->timer);
    loop_undefer(&q->work);
    loop_free_later(&q->deferred_free, q, pacer_free);
}

/* ---- tenants and flows ---- */

static void pacer_stop_awaiting(struct pacer_flow *f)
{
    if (f->awaits)
        meter_unawait(f->awaits - 1);
    f->awaits = 0;
}

static void pacer_await(struct pacer_flow *f, uint32_t at)
{
    if (f->awaits == at + 1)
        return;
    pacer_stop_awaiting(f);
    meter_await(at);
    f->awaits = at + 1;
}

static struct pacer_tenant *pacer_find_tenant(const struct pacer_queue *q, uint64_t id)
{
    LIST_EACH(n, &q->tenants) {
        struct pacer_tenant *te = LIST_OWNER(n, struct pacer_tenant, node);

        if (te->id == id)
            return te;
    }
    return NULL;
}

/* Behind those that are due at the same time. */
static void pacer_sort_in(struct pacer_tenant *te)
{
    struct list *all = &te->queue->tenants;
    struct list_node *at = NULL;

    list_remove(&te->node);
    for (struct list_node *n = list_last(all); n; n = n->prev) {
        if (n == &all->head || LIST_OWNER(n, struct pacer_tenant, node)->due <= te->due)
            break;
        at = n;
    }
    if (at)
        list_insert_before(at, &te->node);
    else
        list_push(all, &te->node);
}

static struct pacer_tenant *pacer_make_tenant(struct pacer_queue *q, const struct pacer_ask *ask)
{
    uint64_t id = ask->tenant != OTHERS ? ask->tenant : 1;
    struct pacer_tenant *te = pacer_find_tenant(q, id);

    if (!te && q->tenants.count >= ask->upstream->queue_tenants_max) {
        id = OTHERS;
        te = pacer_find_tenant(q, id);
    }
    if (te)
        return te;
    te = calloc(1, sizeof(*te));
    if (!te)
        return NULL;
    te->queue = q;
    te->id = id;
    te->weight = id != OTHERS && ask->weight > 0 ? ask->weight : 1;
    te->due = q->virtual_now;
    list_init(&te->flows);
    pacer_sort_in(te);
    return te;
}

static void pacer_drop_tenant(struct pacer_tenant *te)
{
    if (te->flows.count > 0)
        return;
    list_remove(&te->node);
    loop_free_later(&te->deferred_free, te, pacer_free);
}

static bool pacer_is_flow_of(const struct pacer_flow *f, const struct pacer_turn *t)
{
    const struct pacer_turn *first = LIST_OWNER(list_first(&f->calls), struct pacer_turn, node);

    if (first->nkeys != t->nkeys)
        return false;
    for (unsigned i = 0; i < t->nkeys; i++)
        if (first->keys[i].id != t->keys[i].id)
            return false;
    return true;
}

static struct pacer_flow *pacer_make_flow(struct pacer_tenant *te, const struct pacer_turn *t)
{
    struct pacer_flow *f;

    LIST_EACH(n, &te->flows) {
        f = LIST_OWNER(n, struct pacer_flow, node);
        if (pacer_is_flow_of(f, t))
            return f;
    }
    f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    f->tenant = te;
    list_init(&f->calls);
    list_push(&te->flows, &f->node);
    return f;
}

static void pacer_dequeue(struct pacer_turn *t)
{
    struct pacer_flow *f = t->flow;

    BUG_IF(!f); /* it waits */
    t->flow = NULL;
    list_remove(&t->node);
    f->tenant->waiting--;
    f->tenant->queue->waiting--;
    if (f->calls.count > 0)
        return;
    pacer_stop_awaiting(f);
    list_remove(&f->node);
    loop_free_later(&f->deferred_free, f, pacer_free);
    pacer_drop_tenant(f->tenant);
}

/* Behind the retries that wait already, and ahead of the rest. */
static void pacer_put(struct pacer_flow *f, struct pacer_turn *t, bool again)
{
    struct list_node *at = again ? list_first(&f->calls) : NULL;

    t->again = again;
    while (at && LIST_OWNER(at, struct pacer_turn, node)->again)
        at = list_next(at);
    if (at)
        list_insert_before(at, &t->node);
    else
        list_push(&f->calls, &t->node);
    t->flow = f;
    f->tenant->waiting++;
    f->tenant->queue->waiting++;
}

/* ---- beginning ---- */

static struct meter_bounds pacer_bounds(const struct pacer_queue *q, uint64_t limit)
{
    for (size_t i = 0; i < q->nlimits; i++)
        if (q->limits[i].id == limit)
            return q->limits[i].most;
    return (struct meter_bounds){ 0 }; /* no longer in the conf */
}

static bool pacer_take(const struct pacer_queue *q, struct pacer_turn *t, struct meter_refusal *no)
{
    struct meter_need needs[LIMITS_MAX];
    struct meter_hold holds[LIMITS_MAX];

    for (unsigned i = 0; i < t->nkeys; i++)
        needs[i] = (struct meter_need){ .id = t->keys[i].id,
            .most = pacer_bounds(q, t->keys[i].limit),
            .input = t->input,
            .output = t->output };
    *no = (struct meter_refusal){ 0 };
    if (t->nkeys > 0 && !meter_take(pacer_now_ms(), needs, t->nkeys, holds, no))
        return false;
    for (unsigned i = 0; i < t->nkeys; i++) {
        t->keys[i].hold = holds[i];
        meter_heard(&t->keys[i].hold); /* nobody says what is left of a limit of the conf */
    }
    t->holds = true;
    return true;
}

/* 0: it has begun. Otherwise it is to be tried again in so many milliseconds. */
static uint64_t pacer_try(
    const struct pacer_queue *q, struct pacer_turn *t, struct meter_refusal *no)
{
    uint64_t wait = t->ready_in ? t->ready_in(t->owner) : 0;

    t->open_ms = wait;
    no->index = t->nkeys;
    if (wait > 0 || pacer_take(q, t, no))
        return wait;
    t->open_ms = no->open_ms;
    return no->wait_ms;
}

/* In virtual time. */
static uint64_t pacer_cost(const struct pacer_queue *q, const struct pacer_turn *t, unsigned weight)
{
    uint64_t tokens = (uint64_t)t->input + t->output, cost = 1;

    if (q->counts_tokens && tokens > TOKENS_COST)
        cost = tokens / TOKENS_COST < COST_MAX ? tokens / TOKENS_COST : COST_MAX;
    return cost * TURN / weight;
}

static void pacer_charge(struct pacer_tenant *te, const struct pacer_turn *t)
{
    struct pacer_queue *q = te->queue;

    if (te->due > q->virtual_now)
        q->virtual_now = te->due;
    te->due = q->virtual_now + pacer_cost(q, t, te->weight);
    pacer_sort_in(te);
}

static void pacer_measure(const struct pacer_queue *q, const struct pacer_turn *t)
{
    metric_observe(METRIC_UPSTREAM_QUEUE_SECONDS, (loop_now_ms() - t->since_ms) * 1000,
        METRIC_LABELS(q->upstream));
}

/* One look at the queue. */
struct pacer_pass {
    struct list passed;        /* tenants of which no call can begin */
    uint64_t wait;             /* until the next look at the latest */
    uint64_t full[LIMITS_MAX]; /* keys without room: nobody goes past one who waits for them */
    size_t nfull;
};

static bool pacer_is_full(const struct pacer_pass *pass, const struct pacer_turn *t)
{
    for (unsigned i = 0; i < t->nkeys; i++)
        for (size_t k = 0; k < pass->nfull; k++)
            if (pass->full[k] == t->keys[i].id)
                return true;
    return false;
}

static void pacer_note_refusal(struct pacer_pass *pass, struct pacer_flow *f,
    const struct pacer_turn *t, const struct meter_refusal *no, uint64_t wait)
{
    if (wait < pass->wait)
        pass->wait = wait;
    if (no->index >= t->nkeys)
        return;
    pacer_await(f, no->at);
    if (pass->nfull < LIMITS_MAX)
        pass->full[pass->nfull++] = t->keys[no->index].id;
}

/* The first call of a flow that can begin does. False: none can. */
static bool pacer_serve_tenant(struct pacer_tenant *te, struct pacer_pass *pass)
{
    struct pacer_queue *q = te->queue;

    for (size_t i = te->flows.count; i > 0; i--) {
        struct pacer_flow *f = LIST_OWNER(list_first(&te->flows), struct pacer_flow, node);
        struct pacer_turn *t = LIST_OWNER(list_first(&f->calls), struct pacer_turn, node);
        struct meter_refusal no;
        uint64_t wait;

        list_push(&te->flows, &f->node); /* the next one comes first next time */
        if (pacer_is_full(pass, t)) {
            pacer_stop_awaiting(f); /* the one that waits for that key does */
            continue;
        }
        wait = pacer_try(q, t, &no);
        if (wait == 0) {
            pacer_charge(te, t);
            pacer_dequeue(t);
            pacer_measure(q, t);
            t->on_turn(t->owner);
            return true;
        }
        pacer_note_refusal(pass, f, t, &no, wait);
    }
    return false;
}

/* The calls of those on `passed` could not begin. The last one that was passed over is the latest:
 * those that have had a turn are due later. */
static void pacer_put_back(struct pacer_queue *q, struct list *passed)
{
    struct list_node *n;

    while ((n = list_take_first(passed)))
        pacer_sort_in(LIST_OWNER(n, struct pacer_tenant, node));
}

static void pacer_set_timer(struct pacer_queue *q, uint64_t wait)
{
    q->due_ms = wait == UINT64_MAX ? UINT64_MAX : loop_now_ms() + wait;
    if (q->waiting == 0 || wait == UINT64_MAX)
        deadline_clear(&q->timer);
    else
        deadline_set(&q->timer, wait < POLL_MS || meter_is_alone() ? wait : POLL_MS);
}

/* From the loop: one pass over the tenants. */
static void pacer_serve(void *owner)
{
    struct pacer_queue *q = owner;
    struct pacer_pass pass = { .wait = UINT64_MAX };
    struct list_node *n;
    int begun = 0;

    list_init(&pass.passed);
    q->generation = meter_generation();
    while (begun < PASS_MAX && (n = list_first(&q->tenants))) {
        struct pacer_tenant *te = LIST_OWNER(n, struct pacer_tenant, node);

        if (pacer_serve_tenant(te, &pass))
            begun++;
        else
            list_push(&pass.passed, &te->node);
    }
    pacer_put_back(q, &pass.passed);
    if (begun == PASS_MAX && q->waiting > 0)
        loop_defer_to_next_turn(&q->work, pacer_serve, q);
    pacer_set_timer(q, pass.wait);
}

static void pacer_on_timer(void *owner)
{
    struct pacer_queue *q = owner;

    if (loop_now_ms() < q->due_ms && meter_generation() == q->generation)
        pacer_set_timer(q, q->due_ms - loop_now_ms());
    else
        pacer_serve(q);
}

/* ---- the calls ---- */

enum pacer_result pacer_ask(struct pacer *p, struct pacer_turn *t, const struct pacer_ask *ask)
{
    const struct upstream_conf *u = ask->upstream;
    struct pacer_queue *q = pacer_find(p, u->name);
    struct pacer_tenant *te;
    struct pacer_flow *f;
    struct meter_refusal no;

    if (!q && !(q = pacer_make_queue(p, u->name)))
        return PACER_NO_MEMORY;
    t->since_ms = loop_now_ms();
    if (q->waiting == 0 && pacer_try(q, t, &no) == 0) {
        pacer_measure(q, t);
        return PACER_GO;
    }
    /* A retry has been admitted before. */
    if (q->waiting >= u->queue_max && !ask->again)
        return PACER_FULL;
    te = pacer_make_tenant(q, ask);
    if (!te)
        return PACER_NO_MEMORY;
    if (ask->tenant && te->waiting >= u->queue_tenant_max && !ask->again) {
        pacer_drop_tenant(te); /* a new one, if queue_tenant_max is 0 */
        return PACER_SHARE;
    }
    f = pacer_make_flow(te, t);
    if (!f) {
        pacer_drop_tenant(te);
        return PACER_NO_MEMORY;
    }
    pacer_put(f, t, ask->again);
    pacer_wake(q);
    return PACER_WAITS;
}

static void pacer_give_back(struct pacer_turn *t, bool begun)
{
    for (unsigned i = 0; i < t->nkeys; i++) {
        if (!begun)
            meter_refund(pacer_now_ms(), &t->keys[i].hold, 1);
        meter_release(&t->keys[i].hold, 1);
    }
    t->holds = false;
}

void pacer_leave(struct pacer *p, struct pacer_turn *t, bool begun)
{
    if (t->flow)
        pacer_dequeue(t);
    if (!t->holds)
        return;
    pacer_give_back(t, begun);
    LIST_EACH(n, &p->queues)
        pacer_wake(LIST_OWNER(n, struct pacer_queue, node));
}

void pacer_settle(struct pacer_turn *t, uint64_t tokens)
{
    for (unsigned i = 0; i < t->nkeys; i++)
        meter_settle(pacer_now_ms(), &t->keys[i].hold, 1, tokens);
}

void pacer_stir(struct pacer *p, const struct upstream_conf *u)
{
    struct pacer_queue *q = pacer_find(p, u->name);

    if (q)
        pacer_wake(q);
}

struct pacer_counts pacer_counts(const struct pacer *p, struct str upstream)
{
    const struct pacer_queue *q = pacer_find(p, upstream);

    return q ? (struct pacer_counts){ q->waiting, q->tenants.count }
             : (struct pacer_counts){ 0, 0 };
}

/* ---- life ---- */

/* Limits with the same key count for themselves: the ordinal tells them apart. */
uint64_t pacer_limit_id(const struct upstream_conf *u, size_t i)
{
    const struct selector_conf *key = &u->limits[i].key;
    struct siphash h;
    unsigned char about[2] = { (unsigned char)key->kind, 0 };

    for (size_t k = 0; k < i; k++)
        about[1] += u->limits[k].key.kind == key->kind && str_eq(u->limits[k].key.name, key->name);
    meter_hash(&h);
    siphash_add_field(&h, STR("limit"));
    siphash_add_field(&h, u->name);
    siphash_add_field(&h, str_make((const char *)about, sizeof(about)));
    siphash_add_field(&h, key->name);
    return siphash_end(&h);
}

static uint64_t pacer_in_window(uint64_t per_minute, uint64_t window_ms)
{
    return per_minute * window_ms / 60000;
}

static void pacer_update_queue(struct pacer_queue *q, const struct upstream_conf *u)
{
    q->nlimits = u->nlimits < LIMITS_MAX ? u->nlimits : LIMITS_MAX;
    q->counts_tokens = false;
    for (size_t i = 0; i < q->nlimits; i++) {
        const struct limit_conf *l = &u->limits[i];

        q->limits[i] = (struct pacer_limit){ .id = pacer_limit_id(u, i),
            .most = { .in_flight = l->in_flight,
                .requests = pacer_in_window(l->requests_per_minute, l->window_ms),
                .tokens = pacer_in_window(l->tokens_per_minute, l->window_ms),
                .window_ms = (uint32_t)l->window_ms } };
        q->counts_tokens |= l->tokens_per_minute > 0;
    }
    pacer_wake(q);
}

void pacer_update(struct pacer *p, const struct conf *conf)
{
    LIST_EACH(n, &p->queues) {
        struct pacer_queue *q = LIST_OWNER(n, struct pacer_queue, node);
        const struct upstream_conf *u = conf_find_upstream(conf, q->upstream);

        if (!u) {
            q->nlimits = 0;
            pacer_wake(q);
        }
        if (!u && q->waiting == 0)
            pacer_close_queue(q);
    }
    for (size_t i = 0; i < conf->nupstreams; i++) {
        const struct upstream_conf *u = &conf->upstreams[i];
        struct pacer_queue *q = pacer_find(p, u->name);

        if (!q)
            q = pacer_make_queue(p, u->name);
        if (q)
            pacer_update_queue(q, u);
    }
}

struct pacer *pacer_open(void)
{
    struct pacer *p = calloc(1, sizeof(*p));

    if (p)
        list_init(&p->queues);
    return p;
}

static void pacer_empty_queue(struct pacer_queue *q)
{
    struct list_node *n;

    while ((n = list_first(&q->tenants))) {
        struct pacer_tenant *te = LIST_OWNER(n, struct pacer_tenant, node);
        struct pacer_flow *f = LIST_OWNER(list_first(&te->flows), struct pacer_flow, node);

        pacer_dequeue(LIST_OWNER(list_first(&f->calls), struct pacer_turn, node));
    }
}

void pacer_close(struct pacer *p)
{
    struct list_node *n;

    if (!p)
        return;
    while ((n = list_first(&p->queues))) {
        struct pacer_queue *q = LIST_OWNER(n, struct pacer_queue, node);

        pacer_empty_queue(q);
        pacer_close_queue(q);
    }
    loop_free_later(&p->deferred_free, p, pacer_free);
}
