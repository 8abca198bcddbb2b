/* The queue of an endpoint. Turns are on one of two lists, and leave it when they are answered with
 * a failure, when their owner leaves, or when the endpoint is closed. */
#include "upstream/endpoint.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "net/loop.h"
#include "observe/log.h"

/* What connections to it depend on beside its address: the files of its TLS, and its proxy. */
enum { WAY_PARTS = 5 };

struct endpoint {
    struct list_node node; /* on the registry's lists */
    struct origin *origin;
    struct list waiting; /* first come, first served */
    struct list using;
    struct list sockets; /* WebSockets whose connections are to be dialled */
    struct deferred work;
    struct deferred_free deferred_free;
    struct arena arena; /* of the strings */
    struct str upstream, name, address;
    struct str way[WAY_PARTS];
    uint16_t proxy_port;
    struct verdict verdict;
    struct budget budget;
    size_t websockets_max;
    bool http2, retired, closed, says_limits;
};

static void endpoint_serve(void *owner);

static void endpoint_wake(struct endpoint *e)
{
    if (!e->closed)
        loop_defer(&e->work, endpoint_serve, e);
}

static void endpoint_refuse(struct list_node *n, enum stream_error error, const char *why)
{
    struct endpoint_turn *t = LIST_OWNER(n, struct endpoint_turn, node);

    endpoint_leave(t);
    t->on_answer(t->owner, NULL, error, why);
}

static void endpoint_refuse_all(struct endpoint *e, enum stream_error error, const char *why)
{
    struct list local;
    struct list_node *n;

    list_init(&local);
    while ((n = list_first(&e->waiting)))
        list_push(&local, n);
    while ((n = list_first(&e->sockets)))
        list_push(&local, n);
    while ((n = list_first(&local)))
        endpoint_refuse(n, error, why);
}

static void endpoint_on_origin(void *owner, const struct origin_event *ev)
{
    struct endpoint *e = owner;
    struct list_node *first = list_first(&e->waiting);

    switch (ev->kind) {
    case ORIGIN_CHANGED:
        break;
    case ORIGIN_DIAL_FAILED:
        if (ev->for_all)
            endpoint_refuse_all(e, ev->error, ev->why);
        else if (first)
            endpoint_refuse(first, ev->error, ev->why);
        break;
    }
    endpoint_wake(e);
}

static bool endpoint_is_over(struct endpoint *e)
{
    return e->retired && e->waiting.count == 0 && e->using.count == 0 && e->sockets.count == 0 &&
           origin_let_idle_go(e->origin);
}

static void endpoint_on_single(
    void *owner, struct stream *s, enum stream_error error, const char *why)
{
    struct endpoint_turn *t = owner;

    t->single = NULL;
    if (!s)
        endpoint_leave(t);
    t->on_answer(t->owner, s, error, why);
}

/* They do not wait for each other: websockets_max bounds them. */
static void endpoint_open_sockets(struct endpoint *e)
{
    struct list_node *first;

    while (!e->closed && (first = list_first(&e->sockets))) {
        struct endpoint_turn *t = LIST_OWNER(first, struct endpoint_turn, node);

        list_push(&e->using, &t->node);
        t->single = origin_open_single(e->origin, endpoint_on_single, t);
        if (!t->single)
            endpoint_refuse(first, STREAM_E_MEMORY, "out of memory");
    }
}

/* Before the loop sleeps: streams for those that wait as far as there are any, connections for the
 * others. */
static void endpoint_serve(void *owner)
{
    struct endpoint *e = owner;
    struct list_node *first;

    while ((first = list_first(&e->waiting))) {
        struct endpoint_turn *t = LIST_OWNER(first, struct endpoint_turn, node);
        struct stream *s = origin_take(e->origin, t->fresh);

        if (!s)
            break;
        list_push(&e->using, &t->node);
        t->on_answer(t->owner, s, 0, "");
        if (e->closed)
            return;
    }
    if (origin_need(e->origin, e->waiting.count) < 0)
        endpoint_refuse_all(e, STREAM_E_MEMORY, "out of memory");
    endpoint_open_sockets(e);
    if (!e->closed && endpoint_is_over(e))
        endpoint_close(e);
}

void endpoint_ask(struct endpoint *e, struct endpoint_turn *t)
{
    BUG_IF(t->endpoint || e->closed);
    t->endpoint = e;
    list_push(t->websocket ? &e->sockets : &e->waiting, &t->node);
    endpoint_wake(e);
}

bool endpoint_has_websocket_room(const struct endpoint *e)
{
    return e->sockets.count + origin_singles(e->origin) < e->websockets_max;
}

void endpoint_leave(struct endpoint_turn *t)
{
    struct endpoint *e = t->endpoint;

    single_close(t->single);
    t->single = NULL;
    list_remove(&t->node);
    t->endpoint = NULL;
    if (e && e->retired)
        endpoint_wake(e);
}

struct verdict_view endpoint_view(struct endpoint *e, const struct upstream_conf *u)
{
    return verdict_view(&e->verdict, u, loop_now_ms());
}

enum verdict_admission endpoint_admit(struct endpoint *e)
{
    return verdict_admit(&e->verdict, loop_now_ms());
}

static void endpoint_tell(
    const struct endpoint *e, enum verdict_change change, const struct upstream_conf *u)
{
    switch (change) {
    case VERDICT_SAME:
        break;
    case VERDICT_BROKE:
        log_warn(NULL,
            "endpoint \"" STR_FMT "\" of upstream \"" STR_FMT
            "\" fails too many calls: it gets none for %" PRIu64 " ms, then one to try",
            STR_ARG(e->name), STR_ARG(e->upstream), u->breaker_pause_ms);
        break;
    case VERDICT_RECOVERED:
    case VERDICT_CAME_BACK:
        log_info(NULL, "endpoint \"" STR_FMT "\" of upstream \"" STR_FMT "\" serves again",
            STR_ARG(e->name), STR_ARG(e->upstream));
        break;
    case VERDICT_WENT_OUT:
        log_error(NULL,
            "endpoint \"" STR_FMT "\" of upstream \"" STR_FMT
            "\" refuses its key, or the key's quota is used up: give it another key and reload, "
            "or raise the quota",
            STR_ARG(e->name), STR_ARG(e->upstream));
        break;
    }
}

void endpoint_report(struct endpoint *e, const struct upstream_conf *u,
    const struct endpoint_conf *conf, const struct verdict_report *r)
{
    struct verdict older;

    if (verdict_is_of(&e->verdict, e->upstream, conf)) {
        endpoint_tell(e, verdict_report(&e->verdict, u, r, loop_now_ms()), u);
        return;
    }
    /* A reload has brought another key since. Nobody asks for the old one's verdict, but a probe
     * must not stay in it: the key may come back. */
    verdict_init(&older, e->upstream, conf);
    verdict_report(&older, u, r, loop_now_ms());
}

bool endpoint_says_limits(const struct endpoint *e)
{
    return e->says_limits;
}

void endpoint_set_says_limits(struct endpoint *e)
{
    e->says_limits = true;
}

void endpoint_pause(struct endpoint *e, bool paused)
{
    verdict_pause(&e->verdict, paused, loop_now_ms());
}

struct budget *endpoint_budget(struct endpoint *e)
{
    return &e->budget;
}

struct tally_sum endpoint_calls(struct endpoint *e, const struct upstream_conf *u)
{
    return verdict_calls(&e->verdict, u, loop_now_ms());
}

size_t endpoint_load(const struct endpoint *e)
{
    return e->waiting.count + e->using.count + e->sockets.count;
}

struct endpoint_counts endpoint_counts(const struct endpoint *e)
{
    struct origin_counts c = origin_counts(e->origin);

    return (struct endpoint_counts){ .connections = c.connections,
        .streams = c.streams,
        .share = c.share,
        .waiting = e->waiting.count + e->sockets.count,
        .in_use = e->using.count };
}

void endpoint_counts_add(struct endpoint_counts *sum, const struct endpoint *e)
{
    struct endpoint_counts c = endpoint_counts(e);

    sum->connections += c.connections;
    sum->streams += c.streams;
    sum->waiting += c.waiting;
    sum->in_use += c.in_use;
}

static void endpoint_free(void *what)
{
    struct endpoint *e = what;

    arena_release(&e->arena);
    free(e);
}

static void endpoint_way_of(const struct endpoint_conf *c, struct str out[WAY_PARTS])
{
    const struct str parts[WAY_PARTS] = { c->ca_file, c->certificate, c->private_key, c->proxy.host,
        c->proxy.authorization };

    memcpy(out, parts, sizeof(parts));
}

static bool endpoint_copy_way(struct endpoint *e, const struct endpoint_conf *c)
{
    bool good = true;

    endpoint_way_of(c, e->way);
    e->proxy_port = c->proxy.port;
    for (int i = 0; i < WAY_PARTS; i++) {
        e->way[i] = arena_copy(&e->arena, e->way[i]);
        good = good && e->way[i].p;
    }
    return good;
}

static bool endpoint_goes_the_way(const struct endpoint *e, const struct endpoint_conf *c)
{
    struct str way[WAY_PARTS];

    endpoint_way_of(c, way);
    for (int i = 0; i < WAY_PARTS; i++)
        if (!str_eq(e->way[i], way[i]))
            return false;
    return e->proxy_port == c->proxy.port;
}

struct endpoint *endpoint_open(struct list *list, struct resolver *r, const struct origin_terms *t)
{
    struct endpoint *e = calloc(1, sizeof(*e));

    if (!e)
        return NULL;
    e->upstream = arena_copy(&e->arena, t->policy->name);
    e->name = arena_copy(&e->arena, t->endpoint->name);
    e->address = arena_copy(&e->arena, t->endpoint->origin);
    e->http2 = t->endpoint->http2;
    e->websockets_max = t->policy->websockets_max;
    budget_init(&e->budget, t->policy->name);
    verdict_init(&e->verdict, t->policy->name, t->endpoint);
    if (e->upstream.p && e->name.p && e->address.p && endpoint_copy_way(e, t->endpoint))
        e->origin = origin_open(r, t, endpoint_on_origin, e);
    if (!e->origin) {
        endpoint_free(e);
        return NULL;
    }
    list_init(&e->waiting);
    list_init(&e->using);
    list_init(&e->sockets);
    list_push(list, &e->node);
    return e;
}

bool endpoint_is_for(
    const struct endpoint *ep, const struct upstream_conf *u, const struct endpoint_conf *e)
{
    return str_eq(ep->upstream, u->name) && str_eq(ep->name, e->name) &&
           str_eq(ep->address, e->origin) && ep->http2 == e->http2 && endpoint_goes_the_way(ep, e);
}

void endpoint_update(struct endpoint *e, const struct origin_terms *t)
{
    e->websockets_max = t->policy->websockets_max;
    /* The place in the table stays as long as the key does. */
    if (!verdict_is_of(&e->verdict, e->upstream, t->endpoint))
        verdict_init(&e->verdict, e->upstream, t->endpoint);
    origin_update(e->origin, t);
    origin_drain(e->origin);
}

void endpoint_enlist(struct endpoint *e, struct list *list)
{
    list_push(list, &e->node);
    e->retired = false;
}

void endpoint_retire(struct endpoint *e, struct list *list)
{
    list_push(list, &e->node);
    e->retired = true;
    endpoint_wake(e);
}

void endpoint_close(struct endpoint *e)
{
    struct list_node *n;

    if (e->closed)
        return;
    e->closed = true;
    list_remove(&e->node);
    loop_undefer(&e->work);
    loop_free_later(&e->deferred_free, e, endpoint_free);
    endpoint_refuse_all(e, STREAM_E_CONNECT, "closing down");
    /* Their streams are told by the origin; their turns point here no longer. */
    while ((n = list_first(&e->using))) {
        if (LIST_OWNER(n, struct endpoint_turn, node)->single)
            endpoint_refuse(n, STREAM_E_CONNECT, "closing down");
        else
            endpoint_leave(LIST_OWNER(n, struct endpoint_turn, node));
    }
    origin_close(e->origin);
}

struct endpoint *endpoint_on(struct list_node *n)
{
    return LIST_OWNER(n, struct endpoint, node);
}
