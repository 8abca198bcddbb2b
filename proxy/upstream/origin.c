/* One origin: its conns, by state, and the waiters that wait for them. */
#include "upstream/origin.h"

#include <stdlib.h>

#include "http/h1client.h"
#include "http/h2client.h"
#include "net/deadline.h"
#include "observe/log.h"
#include "upstream/dial.h"

/*   DIALLING -> IDLE <-> OPEN <-> FULL      HTTP/2: no stream, room for more, no room
 *      |          ^                ^        HTTP/1.1: IDLE and FULL only
 *      |          +-- GOING <------+        GOING: takes no new streams, and closes itself after
 * the last A link is closed from any state. What is not on GOING counts towards max_connections. */
enum upstream_conn_state {
    UPSTREAM_CONN_DIALLING,
    UPSTREAM_CONN_IDLE,
    UPSTREAM_CONN_OPEN,
    UPSTREAM_CONN_FULL,
    UPSTREAM_CONN_GOING
};
#define UPSTREAM_CONN_NSTATES 5

static const char *const state_names[UPSTREAM_CONN_NSTATES] = {
    [UPSTREAM_CONN_DIALLING] = "dialling",
    [UPSTREAM_CONN_IDLE] = "idle",
    [UPSTREAM_CONN_OPEN] = "open",
    [UPSTREAM_CONN_FULL] = "full",
    [UPSTREAM_CONN_GOING] = "going",
};

/* One connection of an origin, or the attempt at one. Has exactly one of dial, h1 and h2. */
struct upstream_conn {
    struct list_node node; /* on the origin's conns[state] */
    struct origin *origin;
    struct dial *dial;
    struct h1_client *h1;
    struct h2_client *h2;
    struct deadline unused; /* closes it when idle for long */
    struct deferred_free deferred_free;
    enum upstream_conn_state state;
    bool closed;
};

enum speaks { SPEAKS_UNKNOWN, SPEAKS_HTTP1, SPEAKS_HTTP2 };

enum {
    HOLD_MS = 250, /* after a failed dial, while there is something else to wait for */
};

struct origin {
    struct list_node node; /* on the registry's lists */
    struct resolver *resolver;
    struct tls_peer *tls;
    struct list conns[UPSTREAM_CONN_NSTATES];
    struct list waiting; /* waiters, first come first served */
    struct deferred work;
    struct deadline held; /* no dial until then */
    struct deferred_free deferred_free;
    struct arena arena; /* of the strings */
    struct str name, origin, host, ca_file;
    struct h1_limits h1_limits;
    struct h2_limits h2_limits;
    uint64_t connect_timeout_ms, keep_alive_timeout_ms;
    size_t max_connections;
    size_t streams_each; /* what the peer allowed on a connection when it last said so */
    bool limit_known;    /* it has said so */
    enum speaks speaks;  /* as of the last connection */
    uint16_t port;
    bool http2, private_only, retired, closed;
};

static void origin_serve(void *owner);

static void origin_wake(struct origin *o)
{
    if (!o->closed)
        loop_defer(&o->work, origin_serve, o);
}

/* Links */

static void origin_set_state(struct upstream_conn *l, enum upstream_conn_state to)
{
    struct origin *o = l->origin;

    if (l->state != to || !list_on(&l->node))
        log_debug(NULL, "upstream \"" STR_FMT "\": connection %s -> %s", STR_ARG(o->name),
            list_on(&l->node) ? state_names[l->state] : "new", state_names[to]);
    /* Of idle ones the newest is taken first, so that the others may pass their time. */
    if (to == UPSTREAM_CONN_IDLE)
        list_push_front(&o->conns[to], &l->node);
    else if (l->state != to || !list_on(&l->node))
        list_push(&o->conns[to], &l->node);
    l->state = to;
    if (to == UPSTREAM_CONN_IDLE)
        deadline_set(&l->unused, o->keep_alive_timeout_ms);
    else
        deadline_clear(&l->unused);
}

static void origin_free_link(void *what)
{
    free(what);
}

/* Takes it off the origin, whatever is left of it. Its streams hear of it. */
static void origin_close_link(struct upstream_conn *l)
{
    if (l->closed)
        return;
    l->closed = true;
    list_remove(&l->node);
    deadline_close(&l->unused);
    loop_free_later(&l->deferred_free, l, origin_free_link);
    dial_close(l->dial);
    if (l->h1)
        h1_client_close(l->h1);
    if (l->h2)
        h2_client_close(l->h2);
    l->dial = NULL;
    l->h1 = NULL;
    l->h2 = NULL;
}

static void origin_on_unused(void *owner)
{
    struct upstream_conn *l = owner;

    if (l->h2)
        h2_client_drain(l->h2); /* says GOAWAY first, then H2_CLIENT_CLOSED comes */
    else
        origin_close_link(l);
    origin_wake(l->origin);
}

/* An HTTP/2 link's state follows from its session. */
static void origin_settle(struct upstream_conn *l)
{
    if (h2_client_settled(l->h2) && !h2_client_going(l->h2)) {
        l->origin->streams_each = h2_client_limit(l->h2);
        l->origin->limit_known = true;
    }
    if (h2_client_going(l->h2))
        origin_set_state(l, UPSTREAM_CONN_GOING);
    else if (h2_client_streams(l->h2) > 0)
        origin_set_state(l, h2_client_room(l->h2) > 0 ? UPSTREAM_CONN_OPEN : UPSTREAM_CONN_FULL);
    else if (l->state != UPSTREAM_CONN_IDLE)
        origin_set_state(l, UPSTREAM_CONN_IDLE);
}

static void origin_on_h2(void *owner, struct h2_client *c, enum h2_client_event ev)
{
    struct upstream_conn *l = owner;
    struct origin *o = l->origin;

    switch (ev) {
    case H2_CLIENT_CHANGED:
        origin_settle(l);
        break;
    case H2_CLIENT_CLOSED:
        log_debug(NULL, "upstream \"" STR_FMT "\": connection ended: %s", STR_ARG(o->name),
            h2_client_describe_error(c));
        l->h2 = NULL;
        origin_close_link(l);
        break;
    }
    origin_wake(o);
}

static void origin_on_h1(void *owner, struct h1_client *c, enum h1_client_event ev)
{
    struct upstream_conn *l = owner;

    switch (ev) {
    case H1_CLIENT_IDLE:
        origin_set_state(l, UPSTREAM_CONN_IDLE);
        break;
    case H1_CLIENT_CLOSED:
        l->h1 = NULL;
        origin_close_link(l);
        break;
    }
    origin_wake(l->origin);
}

/* Wishes */

static void origin_answer(
    struct origin_waiter *w, struct stream *s, enum stream_error error, const char *why)
{
    list_remove(&w->node);
    w->origin = NULL;
    w->on_answer(w->owner, s, error, why);
}

static void origin_answer_all(struct origin *o, enum stream_error error, const char *why)
{
    struct list local;
    struct list_node *n;

    list_init(&local);
    while ((n = list_first(&o->waiting)))
        list_push(&local, n);
    while ((n = list_first(&local)))
        origin_answer(LIST_OWNER(n, struct origin_waiter, node), NULL, error, why);
}

static struct stream *origin_begin_on(struct upstream_conn *l)
{
    struct stream *s;

    if (l->h2) {
        s = h2_client_begin(l->h2);
        origin_settle(l);
        return s;
    }
    if (!h1_client_usable(l->h1)) {
        origin_close_link(l);
        return NULL;
    }
    s = h1_client_begin(l->h1);
    origin_set_state(l, UPSTREAM_CONN_FULL);
    return s;
}

/* A stream on a connection that stands: the oldest with room, so that newer ones empty and go.
 * NULL: there is none. */
static struct stream *origin_take_stream(struct origin *o)
{
    static const enum upstream_conn_state from[] = { UPSTREAM_CONN_OPEN, UPSTREAM_CONN_IDLE };

    for (size_t i = 0; i < sizeof(from) / sizeof(*from); i++) {
        LIST_EACH(n, &o->conns[from[i]])
        {
            struct upstream_conn *l = LIST_OWNER(n, struct upstream_conn, node);
            struct stream *s = l->h2 && h2_client_room(l->h2) == 0 ? NULL : origin_begin_on(l);

            if (s)
                return s;
        }
    }
    return NULL;
}

/* Dialling */

static bool origin_may_be_http2(const struct origin *o)
{
    return o->tls && o->http2 && o->speaks != SPEAKS_HTTP1;
}

static bool origin_any_standing(const struct origin *o)
{
    return o->conns[UPSTREAM_CONN_IDLE].count + o->conns[UPSTREAM_CONN_OPEN].count +
               o->conns[UPSTREAM_CONN_FULL].count >
           0;
}

/* Over HTTP/1.1 each dial is made for one waiter, which hears how it failed. Over HTTP/2 all wait
 * for what any connection brings; they are told once there is nothing left to wait for. Either way
 * a failed dial is not followed by another for the same waiters. */
static void origin_dial_failed(struct origin *o, enum stream_error error, const char *why)
{
    struct list_node *first = list_first(&o->waiting);

    if (!origin_may_be_http2(o)) {
        if (first)
            origin_answer(LIST_OWNER(first, struct origin_waiter, node), NULL, error, why);
    } else if (origin_any_standing(o) || o->conns[UPSTREAM_CONN_DIALLING].count > 0) {
        deadline_set(&o->held, HOLD_MS);
    } else {
        deadline_clear(&o->held);
        origin_answer_all(o, error, why);
    }
}

static void origin_on_dialled(
    void *owner, struct conn *conn, enum stream_error error, const char *why)
{
    struct upstream_conn *l = owner;
    struct origin *o = l->origin;
    bool http2;

    l->dial = NULL;
    if (!conn) {
        origin_close_link(l);
        origin_dial_failed(o, error, why);
        origin_wake(o);
        return;
    }
    http2 = str_eq(conn_alpn(conn), STR("h2"));
    o->speaks = http2 ? SPEAKS_HTTP2 : SPEAKS_HTTP1;
    if (http2)
        l->h2 = h2_client_open(conn, &o->h2_limits, origin_on_h2, l);
    else
        l->h1 = h1_client_open(conn, &o->h1_limits, origin_on_h1, l);
    if (!l->h2 && !l->h1) {
        origin_close_link(l);
        origin_dial_failed(o, STREAM_E_MEMORY, "out of memory");
    } else {
        origin_set_state(l, UPSTREAM_CONN_IDLE);
    }
    origin_wake(o);
}

static bool origin_dial_one(struct origin *o)
{
    const struct dial_target t = { .host = o->host,
        .port = o->port,
        .tls = o->tls,
        .http2 = o->http2,
        .private_only = o->private_only,
        .timeout_ms = o->connect_timeout_ms };
    struct upstream_conn *l = calloc(1, sizeof(*l));

    if (!l)
        return false;
    l->origin = o;
    deadline_init(&l->unused, origin_on_unused, l);
    l->dial = dial_open(o->resolver, &t, origin_on_dialled, l);
    if (!l->dial) {
        free(l);
        return false;
    }
    origin_set_state(l, UPSTREAM_CONN_DIALLING);
    return true;
}

static bool origin_any_unsettled(const struct origin *o)
{
    LIST_EACH(at, &o->conns[UPSTREAM_CONN_FULL])
    {
        const struct upstream_conn *l = LIST_OWNER(at, struct upstream_conn, node);

        if (l->h2 && !h2_client_settled(l->h2))
            return true;
    }
    return false;
}

/* How many streams the connections that are being made will bring. */
static size_t origin_promised(const struct origin *o, size_t each)
{
    size_t n = o->conns[UPSTREAM_CONN_DIALLING].count * each;

    LIST_EACH(at, &o->conns[UPSTREAM_CONN_FULL])
    {
        const struct upstream_conn *l = LIST_OWNER(at, struct upstream_conn, node);

        /* Its SETTINGS may have come within this turn and not been told yet. */
        if (l->h2)
            n += h2_client_settled(l->h2) ? h2_client_room(l->h2) : each - 1;
    }
    return n;
}

static size_t origin_dials_wanted(const struct origin *o)
{
    size_t waiting = o->waiting.count, dialling = o->conns[UPSTREAM_CONN_DIALLING].count, each;

    if (!origin_may_be_http2(o))
        return waiting > dialling ? waiting - dialling : 0;
    /* Whether it speaks HTTP/2, and how many streams it allows, the first connection tells. */
    if (!o->limit_known)
        return waiting > 0 && dialling == 0 && !origin_any_unsettled(o);
    if (o->streams_each ==
        0) /* a peer that allows none for now would not allow more on another connection */
        return waiting > 0 && dialling == 0 && !origin_any_standing(o);
    each = o->streams_each;
    if (waiting <= origin_promised(o, each))
        return 0;
    return (waiting - origin_promised(o, each) + each - 1) / each;
}

static void origin_dial_as_needed(struct origin *o)
{
    size_t wanted = origin_dials_wanted(o);
    size_t have = o->conns[UPSTREAM_CONN_DIALLING].count + o->conns[UPSTREAM_CONN_IDLE].count +
                  o->conns[UPSTREAM_CONN_OPEN].count + o->conns[UPSTREAM_CONN_FULL].count;

    if (deadline_is_set(&o->held))
        return;
    for (; wanted > 0 && have < o->max_connections; wanted--, have++) {
        if (origin_dial_one(o))
            continue;
        if (have == 0)
            origin_answer_all(o, STREAM_E_MEMORY, "out of memory");
        return;
    }
}

static bool origin_is_over(struct origin *o)
{
    if (!o->retired || o->waiting.count > 0)
        return false;
    LIST_EACH(n, &o->conns[UPSTREAM_CONN_IDLE])
    {
        origin_on_unused(LIST_OWNER(n, struct upstream_conn, node));
    }
    for (int i = 0; i < UPSTREAM_CONN_NSTATES; i++) {
        if (o->conns[i].count > 0)
            return false;
    }
    return true;
}

/* Before the loop sleeps: streams for waiters as far as there are any, connections for the others.
 */
static void origin_serve(void *owner)
{
    struct origin *o = owner;
    struct list_node *first;

    while ((first = list_first(&o->waiting))) {
        struct stream *s = origin_take_stream(o);

        if (!s)
            break;
        origin_answer(LIST_OWNER(first, struct origin_waiter, node), s, 0, "");
        if (o->closed)
            return;
    }
    origin_dial_as_needed(o);
    if (!o->closed && origin_is_over(o))
        origin_close(o);
}

static void origin_on_held(void *owner)
{
    origin_wake(owner);
}

void origin_ask(struct origin *o, struct origin_waiter *w)
{
    BUG_IF(w->origin || o->closed);
    w->origin = o;
    list_push(&o->waiting, &w->node);
    origin_wake(o);
}

void origin_cancel(struct origin_waiter *w)
{
    list_remove(&w->node);
    w->origin = NULL;
}

struct origin_counts origin_counts(const struct origin *o)
{
    struct origin_counts c = { .waiting = o->waiting.count };

    for (int i = UPSTREAM_CONN_IDLE; i < UPSTREAM_CONN_NSTATES; i++) {
        c.connections += o->conns[i].count;
        LIST_EACH(n, &o->conns[i])
        {
            const struct upstream_conn *l = LIST_OWNER(n, struct upstream_conn, node);

            c.streams += l->h2 ? h2_client_streams(l->h2) : l->state == UPSTREAM_CONN_FULL;
        }
    }
    return c;
}

static void free_origin(void *what)
{
    struct origin *o = what;

    tls_peer_unref(o->tls);
    arena_release(&o->arena);
    free(o);
}

struct origin *origin_open(struct list *list, struct resolver *r, const struct origin_terms *t)
{
    struct origin *o = calloc(1, sizeof(*o));

    if (!o)
        return NULL;
    o->resolver = r;
    o->name = arena_copy(&o->arena, t->u->name);
    o->origin = arena_copy(&o->arena, t->u->origin);
    o->host = arena_copy(&o->arena, t->u->host);
    o->ca_file = arena_copy(&o->arena, t->u->ca_file);
    if (!o->name.p || !o->origin.p || !o->host.p || !o->ca_file.p) {
        free_origin(o);
        return NULL;
    }
    o->port = t->u->port;
    o->http2 = t->u->http2;
    for (int i = 0; i < UPSTREAM_CONN_NSTATES; i++)
        list_init(&o->conns[i]);
    list_init(&o->waiting);
    deadline_init(&o->held, origin_on_held, o);
    origin_update(o, t);
    list_push(list, &o->node);
    return o;
}

bool origin_is_for(const struct origin *o, const struct upstream_conf *u)
{
    return str_eq(o->name, u->name) && str_eq(o->origin, u->origin) &&
           str_eq(o->ca_file, u->ca_file) && o->http2 == u->http2;
}

void origin_update(struct origin *o, const struct origin_terms *t)
{
    struct tls_peer *old = o->tls;

    o->tls = t->tls ? tls_peer_ref(t->tls) : NULL;
    tls_peer_unref(old);
    o->h1_limits = t->limits;
    o->h2_limits = (struct h2_limits){ .stream_window = H2_CLIENT_STREAM_WINDOW,
        .connection_window = H2_CLIENT_CONNECTION_WINDOW,
        .out_max = H2_CLIENT_OUT_MAX,
        .head_max = t->limits.head_max,
        .fields_max = t->limits.fields_max,
        .interim_max = t->limits.interim_max,
        .ping_interval_ms = t->u->ping_interval_ms,
        .ping_timeout_ms = t->u->ping_timeout_ms };
    o->connect_timeout_ms = t->u->connect_timeout_ms;
    o->keep_alive_timeout_ms = t->u->keep_alive_timeout_ms;
    o->max_connections = t->u->max_connections;
    o->private_only = !t->u->tls && !t->u->insecure;
}

void origin_enlist(struct origin *o, struct list *list)
{
    list_push(list, &o->node);
    o->retired = false;
}

void origin_retire(struct origin *o, struct list *list)
{
    list_push(list, &o->node);
    o->retired = true;
    origin_wake(o);
}

void origin_close(struct origin *o)
{
    struct list_node *n;

    if (o->closed)
        return;
    o->closed = true;
    list_remove(&o->node);
    loop_undefer(&o->work);
    deadline_close(&o->held);
    loop_free_later(&o->deferred_free, o, free_origin);
    origin_answer_all(o, STREAM_E_CONNECT, "closing down");
    for (int i = 0; i < UPSTREAM_CONN_NSTATES; i++) {
        while ((n = list_first(&o->conns[i])))
            origin_close_link(LIST_OWNER(n, struct upstream_conn, node));
    }
}

struct origin *origin_on(struct list_node *n)
{
    return LIST_OWNER(n, struct origin, node);
}
