/* Connections by state, and the rules for dialling more. */
#include "upstream/origin.h"

#include <stdlib.h>

#include "base/entropy.h"
#include "http/h1client.h"
#include "http/h2client.h"
#include "net/deadline.h"
#include "net/loop.h"
#include "observe/log.h"
#include "upstream/dial.h"

/*   DIALLING -> IDLE <-> OPEN <-> FULL      HTTP/2: no stream, room for more, no room
 *                 |        |        |       HTTP/1.1: IDLE and FULL only
 *                 +--> DRAINING <---+       takes no new streams, and closes after its last one
 *   A connection is closed from any state. Those that are not DRAINING count towards
 *   max_connections. */
enum upstream_conn_state {
    UPSTREAM_CONN_DIALLING,
    UPSTREAM_CONN_IDLE,
    UPSTREAM_CONN_OPEN,
    UPSTREAM_CONN_FULL,
    UPSTREAM_CONN_DRAINING
};
#define UPSTREAM_CONN_NSTATES 5

static const char *const state_names[UPSTREAM_CONN_NSTATES] = {
    [UPSTREAM_CONN_DIALLING] = "dialling",
    [UPSTREAM_CONN_IDLE] = "idle",
    [UPSTREAM_CONN_OPEN] = "open",
    [UPSTREAM_CONN_FULL] = "full",
    [UPSTREAM_CONN_DRAINING] = "draining",
};

/* A connection of an origin, or an attempt to connect. Has exactly one of dial, h1 and h2. */
struct upstream_conn {
    struct list_node node; /* on the origin's conns[state] */
    struct origin *origin;
    struct dial *dial;
    struct h1_client *h1;
    struct h2_client *h2;
    struct deadline unused; /* closes it when idle for long */
    struct deferred_free deferred_free;
    uint64_t retire_at_ms;  /* it is too old then */
    uint64_t kept_until_ms; /* while it is idle: then it may be closed at any moment */
    size_t begun;           /* streams, in its life; HTTP/2 */
    enum upstream_conn_state state;
    bool retiring; /* takes no new stream */
    bool used;     /* it has carried a request */
    bool closed;
};

enum speaks { SPEAKS_UNKNOWN, SPEAKS_HTTP1, SPEAKS_HTTP2 };

enum {
    HOLD_MS = 250,     /* after a failed dial, while there is something else to wait for */
    REFRESH_MS = 1000, /* between two looks at the age of the addresses */
    AGE_SPREAD = 10,   /* a connection retires up to a tenth of its maximum age early */
};

struct origin {
    struct resolver *resolver;
    struct tls_peer *tls;
    origin_event_fn *on_event;
    void *owner;
    struct list conns[UPSTREAM_CONN_NSTATES];
    struct list singles;     /* of WebSockets; they do not count towards max_connections */
    struct deferred work;    /* tells the owner that something has changed */
    struct deadline backoff; /* no dial until then */
    struct deferred_free deferred_free;
    struct arena arena; /* of the strings */
    struct str name, host;
    struct dial_proxy proxy;
    struct h1_limits h1_limits;
    struct h2_limits h2_limits;
    uint64_t connect_timeout_ms, keep_alive_timeout_ms;
    uint64_t max_age_ms;
    uint64_t refresh_at_ms; /* the addresses' age is looked at then, if calls flow */
    size_t max_connections;
    size_t streams_max;   /* that may share a connection, by the conf */
    size_t share;         /* that may share one now: fewer while connections break */
    uint64_t recovery_ms; /* without a break, after which the share doubles */
    struct deadline recovery;
    size_t life_max;        /* streams that the peer takes in a connection's whole life ... */
    uint64_t life_until_ms; /* ... as was learned, which holds until then */
    size_t streams_each;    /* what the peer allowed on a connection when it last said so */
    bool limit_known;       /* it has said so */
    enum speaks speaks;     /* as of the last connection */
    uint16_t port;
    bool http2, private_only, closed;
};

static void origin_on_work(void *owner)
{
    struct origin *o = owner;

    o->on_event(o->owner, &(struct origin_event){ .kind = ORIGIN_CHANGED });
}

static void origin_wake(struct origin *o)
{
    if (!o->closed)
        loop_defer(&o->work, origin_on_work, o);
}

/* Connections */

/* Unused, it is kept for as long as the conf says, or the peer if that is less. */
static void origin_begin_idle(struct upstream_conn *c)
{
    uint64_t ms = c->origin->keep_alive_timeout_ms,
             peer_ms = c->h1 ? h1_client_kept_ms(c->h1) : UINT64_MAX;

    if (peer_ms < ms)
        ms = peer_ms;
    c->kept_until_ms = loop_now_ms() + ms;
    deadline_set(&c->unused, ms);
}

static void origin_set_state(struct upstream_conn *c, enum upstream_conn_state to)
{
    struct origin *o = c->origin;

    if (c->state != to || !list_on(&c->node))
        log_debug(NULL, "upstream \"" STR_FMT "\": connection %s -> %s", STR_ARG(o->name),
            list_on(&c->node) ? state_names[c->state] : "new", state_names[to]);
    /* Takes the newest idle connection first, so that the others can reach their idle timeout. */
    if (to == UPSTREAM_CONN_IDLE)
        list_push_front(&o->conns[to], &c->node);
    else if (c->state != to || !list_on(&c->node))
        list_push(&o->conns[to], &c->node);
    c->state = to;
    if (to == UPSTREAM_CONN_IDLE)
        origin_begin_idle(c);
    else
        deadline_clear(&c->unused);
}

static void origin_free_conn(void *what)
{
    free(what);
}

/* Removes it from the origin in any state. Its streams are notified. */
static void origin_close_conn(struct upstream_conn *c)
{
    if (c->closed)
        return;
    c->closed = true;
    list_remove(&c->node);
    deadline_close(&c->unused);
    loop_free_later(&c->deferred_free, c, origin_free_conn);
    dial_close(c->dial);
    if (c->h1)
        h1_client_close(c->h1);
    if (c->h2)
        h2_client_close(c->h2);
    c->dial = NULL;
    c->h1 = NULL;
    c->h2 = NULL;
}

/* It takes no new stream, and closes after its last one. */
static void origin_retire_conn(struct upstream_conn *c)
{
    c->retiring = true;
    if (c->h2)
        h2_client_drain(c->h2); /* says GOAWAY first, then H2_CLIENT_CLOSED comes */
    else if (c->state == UPSTREAM_CONN_IDLE)
        origin_close_conn(c);
}

static void origin_on_unused(void *owner)
{
    struct upstream_conn *c = owner;

    origin_retire_conn(c);
    origin_wake(c->origin);
}

/* Some peers say GOAWAY after a number of streams, to all that wait behind: then connections are
 * given no more than that. */
static size_t origin_life(const struct origin *o)
{
    return loop_now_ms() < o->life_until_ms ? o->life_max : SIZE_MAX;
}

static void origin_learn_life(const struct upstream_conn *c)
{
    size_t taken = h2_client_taken(c->h2);

    if (c->retiring || taken >= c->begun)
        return;
    c->origin->life_max = taken > 0 ? taken : 1;
    c->origin->life_until_ms = loop_now_ms() + c->origin->max_age_ms;
}

/* How many more streams may be begun on an HTTP/2 connection: what the peer and the conf allow. */
static size_t origin_room(const struct upstream_conn *c)
{
    size_t room = h2_client_room(c->h2), used = h2_client_streams(c->h2), most = c->origin->share;

    if (c->retiring || used >= most || c->begun >= origin_life(c->origin))
        return 0;
    if (most - used > origin_life(c->origin) - c->begun)
        most = used + origin_life(c->origin) - c->begun;
    return room < most - used ? room : most - used;
}

/* An HTTP/2 connection's state follows from its session. */
static void origin_settle(struct upstream_conn *c)
{
    if (h2_client_settled(c->h2) && !h2_client_draining(c->h2)) {
        c->origin->streams_each = h2_client_limit(c->h2);
        c->origin->limit_known = true;
    }
    if (h2_client_draining(c->h2))
        origin_set_state(c, UPSTREAM_CONN_DRAINING);
    else if (h2_client_streams(c->h2) > 0)
        origin_set_state(c, origin_room(c) > 0 ? UPSTREAM_CONN_OPEN : UPSTREAM_CONN_FULL);
    else if (c->begun >= origin_life(c->origin))
        origin_retire_conn(c);
    else if (c->state != UPSTREAM_CONN_IDLE)
        origin_set_state(c, UPSTREAM_CONN_IDLE);
}

/* How many streams share a connection */

static void origin_set_share(struct origin *o, size_t share)
{
    static const enum upstream_conn_state settled[] = { UPSTREAM_CONN_FULL, UPSTREAM_CONN_OPEN };

    if (share == o->share)
        return;
    log_debug(NULL, "upstream \"" STR_FMT "\": %zu calls share a connection, not %zu",
        STR_ARG(o->name), share, o->share);
    o->share = share;
    for (size_t i = 0; i < sizeof(settled) / sizeof(*settled); i++) {
        LIST_EACH(n, &o->conns[settled[i]]) {
            struct upstream_conn *c = LIST_OWNER(n, struct upstream_conn, node);

            if (c->h2)
                origin_settle(c);
        }
    }
    origin_wake(o);
}

/* A connection broke under `lost` calls, which may not be repeated. The next one that breaks is to
 * take half as many. Connections of one incident, such as a restart of the service, count once: of
 * two that break together the second changes nothing. */
static void origin_learn_break(struct origin *o, size_t lost)
{
    size_t share = lost > 3 ? lost / 2 : 1;

    if (lost > 1 && share < o->share) {
        if (o->share == o->streams_max)
            log_info(NULL,
                "upstream \"" STR_FMT "\": a connection broke under %zu calls: %zu share one from "
                "now on, until connections hold again",
                STR_ARG(o->name), lost, share);
        origin_set_share(o, share);
    }
    if (o->share < o->streams_max)
        deadline_set(&o->recovery, o->recovery_ms);
}

static void origin_on_recovery(void *owner)
{
    struct origin *o = owner;

    origin_set_share(o, o->share > o->streams_max / 2 ? o->streams_max : o->share * 2);
    if (o->share < o->streams_max)
        deadline_set(&o->recovery, o->recovery_ms);
}

/* `more` calls wait, and no connection may be made for them: so that they need not wait, more of
 * them share one. */
static void origin_make_room(struct origin *o, size_t more)
{
    size_t connections = o->max_connections > 0 ? o->max_connections : 1;
    size_t share = o->share + (more + connections - 1) / connections;

    origin_set_share(o, share < o->streams_max ? share : o->streams_max);
}

static void origin_on_h2(void *owner, struct h2_client *h2, enum h2_client_event ev)
{
    struct upstream_conn *c = owner;
    struct origin *o = c->origin;
    size_t lost;

    origin_learn_life(c);
    switch (ev) {
    case H2_CLIENT_CHANGED:
        origin_settle(c);
        break;
    case H2_CLIENT_CLOSED:
        log_debug(NULL, "upstream \"" STR_FMT "\": connection ended: %s", STR_ARG(o->name),
            h2_client_describe_error(h2));
        lost = h2_client_lost(h2);
        c->h2 = NULL;
        origin_close_conn(c);
        if (lost > 0)
            origin_learn_break(o, lost);
        break;
    }
    origin_wake(o);
}

static void origin_on_h1(void *owner, struct h1_client *h1, enum h1_client_event ev)
{
    struct upstream_conn *c = owner;

    switch (ev) {
    case H1_CLIENT_IDLE:
        if (c->retiring)
            origin_close_conn(c);
        else
            origin_set_state(c, UPSTREAM_CONN_IDLE);
        break;
    case H1_CLIENT_CLOSED:
        c->h1 = NULL;
        origin_close_conn(c);
        break;
    }
    origin_wake(c->origin);
}

static struct stream *origin_begin_on(struct upstream_conn *c)
{
    struct stream *s;

    if (c->h2) {
        s = h2_client_begin(c->h2);
        c->begun += s != NULL;
        origin_settle(c);
        return s;
    }
    if (loop_now_ms() >= c->kept_until_ms || !h1_client_usable(c->h1)) {
        origin_close_conn(c);
        return NULL;
    }
    s = h1_client_begin(c->h1);
    c->used = true;
    origin_set_state(c, UPSTREAM_CONN_FULL);
    return s;
}

/* So that a new connection finds the addresses that are right by then. */
static void origin_refresh_addresses(struct origin *o)
{
    if (loop_now_ms() < o->refresh_at_ms)
        return;
    o->refresh_at_ms = loop_now_ms() + REFRESH_MS;
    resolver_refresh(o->resolver, o->host);
}

/* Takes the oldest connection with room, so that newer ones become idle and close. */
struct stream *origin_take(struct origin *o, bool fresh)
{
    static const enum upstream_conn_state from[] = { UPSTREAM_CONN_OPEN, UPSTREAM_CONN_IDLE };

    origin_refresh_addresses(o);
    for (size_t i = 0; i < sizeof(from) / sizeof(*from); i++) {
        LIST_EACH(n, &o->conns[from[i]]) {
            struct upstream_conn *c = LIST_OWNER(n, struct upstream_conn, node);
            struct stream *s = NULL;

            if (loop_now_ms() >= c->retire_at_ms || (fresh && c->h1 && c->used))
                origin_retire_conn(c);
            else if (!c->h2 || (!h2_client_must_answer(c->h2) && origin_room(c) > 0))
                s = origin_begin_on(c);
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

/* Over HTTP/1.1 each dial serves one waiting call, which gets the error if it fails. Over HTTP/2
 * all calls wait for any connection; they get the error when no dial is left. Either way a failed
 * dial is not repeated for the same calls. */
static void origin_dial_failed(struct origin *o, enum stream_error error, const char *why)
{
    struct origin_event ev = { .kind = ORIGIN_DIAL_FAILED, .error = error, .why = why };

    if (origin_may_be_http2(o) &&
        (origin_any_standing(o) || o->conns[UPSTREAM_CONN_DIALLING].count > 0)) {
        deadline_set(&o->backoff, HOLD_MS);
        return;
    }
    ev.for_all = origin_may_be_http2(o);
    deadline_clear(&o->backoff);
    o->on_event(o->owner, &ev);
}

static void origin_on_dialled(
    void *owner, struct conn *conn, enum stream_error error, const char *why)
{
    struct upstream_conn *c = owner;
    struct origin *o = c->origin;
    bool http2;

    c->dial = NULL;
    if (!conn) {
        origin_close_conn(c);
        origin_dial_failed(o, error, why);
        origin_wake(o);
        return;
    }
    http2 = str_eq(conn_alpn(conn), STR("h2"));
    o->speaks = http2 ? SPEAKS_HTTP2 : SPEAKS_HTTP1;
    if (http2)
        c->h2 = h2_client_open(conn, &o->h2_limits, origin_on_h2, c);
    else
        c->h1 = h1_client_open(conn, &o->h1_limits, origin_on_h1, c);
    if (!c->h2 && !c->h1) {
        origin_close_conn(c);
        origin_dial_failed(o, STREAM_E_MEMORY, "out of memory");
    } else {
        /* Connections that were made together are not retired together. */
        c->retire_at_ms =
            loop_now_ms() + o->max_age_ms - entropy_below(o->max_age_ms / AGE_SPREAD + 1);
        origin_set_state(c, UPSTREAM_CONN_IDLE);
    }
    origin_wake(o);
}

static struct dial_target origin_target(const struct origin *o, bool http2)
{
    return (struct dial_target){ .proxy = o->proxy,
        .host = o->host,
        .port = o->port,
        .tls = o->tls,
        .http2 = http2,
        .private_only = o->private_only,
        .timeout_ms = o->connect_timeout_ms };
}

static bool origin_dial_one(struct origin *o)
{
    const struct dial_target t = origin_target(o, o->http2);
    struct upstream_conn *c = calloc(1, sizeof(*c));

    if (!c)
        return false;
    c->origin = o;
    deadline_init(&c->unused, origin_on_unused, c);
    c->dial = dial_open(o->resolver, &t, origin_on_dialled, c);
    if (!c->dial) {
        free(c);
        return false;
    }
    origin_set_state(c, UPSTREAM_CONN_DIALLING);
    return true;
}

static bool origin_any_unsettled(const struct origin *o)
{
    LIST_EACH(at, &o->conns[UPSTREAM_CONN_FULL]) {
        const struct upstream_conn *c = LIST_OWNER(at, struct upstream_conn, node);

        if (c->h2 && !h2_client_settled(c->h2))
            return true;
    }
    return false;
}

/* How many streams the connections that are being made will bring. */
static size_t origin_promised(const struct origin *o, size_t each)
{
    size_t n = o->conns[UPSTREAM_CONN_DIALLING].count * each;

    /* Those that are asked whether they live are about to. */
    LIST_EACH(at, &o->conns[UPSTREAM_CONN_IDLE]) {
        const struct upstream_conn *c = LIST_OWNER(at, struct upstream_conn, node);

        if (c->h2 && !c->retiring && h2_client_room(c->h2) == 0)
            n += each;
    }

    LIST_EACH(at, &o->conns[UPSTREAM_CONN_FULL]) {
        const struct upstream_conn *c = LIST_OWNER(at, struct upstream_conn, node);

        /* Its SETTINGS may have come within this turn and not been reported yet. */
        if (c->h2)
            n += h2_client_settled(c->h2) ? origin_room(c) : each - 1;
    }
    return n;
}

static size_t origin_dials_wanted(const struct origin *o, size_t waiting)
{
    size_t dialling = o->conns[UPSTREAM_CONN_DIALLING].count, each;

    if (!origin_may_be_http2(o))
        return waiting > dialling ? waiting - dialling : 0;
    /* The first connection shows whether the origin speaks HTTP/2 and how many streams it allows.
     */
    if (!o->limit_known)
        return waiting > 0 && dialling == 0 && !origin_any_unsettled(o);
    if (o->streams_each ==
        0) /* a peer that allows none for now would not allow more on another connection */
        return waiting > 0 && dialling == 0 && !origin_any_standing(o);
    each = o->streams_each < o->share ? o->streams_each : o->share;
    if (each > origin_life(o))
        each = origin_life(o);
    if (waiting <= origin_promised(o, each))
        return 0;
    return (waiting - origin_promised(o, each) + each - 1) / each;
}

int origin_need(struct origin *o, size_t waiting)
{
    size_t wanted = origin_dials_wanted(o, waiting);
    size_t have = o->conns[UPSTREAM_CONN_DIALLING].count + o->conns[UPSTREAM_CONN_IDLE].count +
                  o->conns[UPSTREAM_CONN_OPEN].count + o->conns[UPSTREAM_CONN_FULL].count;

    if (deadline_is_set(&o->backoff))
        return 0;
    for (; wanted > 0 && have < o->max_connections; wanted--, have++)
        if (!origin_dial_one(o))
            return have == 0 ? -1 : 0;
    if (wanted > 0 && o->limit_known && o->share < o->streams_max)
        origin_make_room(o, wanted * o->share);
    return 0;
}

struct single *origin_open_single(struct origin *o, single_answer_fn *on_answer, void *owner)
{
    const struct dial_target t = origin_target(o, false);

    return single_open(&o->singles, o->resolver, &t, &o->h1_limits, on_answer, owner);
}

size_t origin_singles(const struct origin *o)
{
    return o->singles.count;
}

bool origin_let_idle_go(struct origin *o)
{
    LIST_EACH(n, &o->conns[UPSTREAM_CONN_IDLE]) {
        origin_on_unused(LIST_OWNER(n, struct upstream_conn, node));
    }
    for (int i = 0; i < UPSTREAM_CONN_NSTATES; i++) {
        if (o->conns[i].count > 0)
            return false;
    }
    return true;
}

void origin_drain(struct origin *o)
{
    static const enum upstream_conn_state all[] = { UPSTREAM_CONN_IDLE, UPSTREAM_CONN_OPEN,
        UPSTREAM_CONN_FULL };

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        LIST_EACH(n, &o->conns[all[i]]) {
            origin_retire_conn(LIST_OWNER(n, struct upstream_conn, node));
        }
    }
    origin_wake(o);
}

static void origin_on_backoff_over(void *owner)
{
    origin_wake(owner);
}

struct origin_counts origin_counts(const struct origin *o)
{
    struct origin_counts counts = {
        .connections = o->singles.count, .streams = o->singles.count, .share = o->share
    };

    for (int i = UPSTREAM_CONN_IDLE; i < UPSTREAM_CONN_NSTATES; i++) {
        counts.connections += o->conns[i].count;
        LIST_EACH(n, &o->conns[i]) {
            const struct upstream_conn *c = LIST_OWNER(n, struct upstream_conn, node);

            counts.streams += c->h2 ? h2_client_streams(c->h2) : c->state == UPSTREAM_CONN_FULL;
        }
    }
    return counts;
}

static void free_origin(void *what)
{
    struct origin *o = what;

    tls_peer_unref(o->tls);
    arena_release(&o->arena);
    free(o);
}

struct origin *origin_open(
    struct resolver *r, const struct origin_terms *t, origin_event_fn *on_event, void *owner)
{
    struct origin *o = calloc(1, sizeof(*o));

    if (!o)
        return NULL;
    o->resolver = r;
    o->on_event = on_event;
    o->owner = owner;
    o->name = arena_copy(&o->arena, t->endpoint->name);
    o->host = arena_copy(&o->arena, t->endpoint->host);
    o->proxy = (struct dial_proxy){ .host = arena_copy(&o->arena, t->endpoint->proxy.host),
        .port = t->endpoint->proxy.port,
        .authorization = arena_copy(&o->arena, t->endpoint->proxy.authorization) };
    if (!o->name.p || !o->host.p || !o->proxy.host.p || !o->proxy.authorization.p) {
        free_origin(o);
        return NULL;
    }
    o->port = t->endpoint->port;
    o->http2 = t->endpoint->http2;
    for (int i = 0; i < UPSTREAM_CONN_NSTATES; i++)
        list_init(&o->conns[i]);
    list_init(&o->singles);
    deadline_init(&o->backoff, origin_on_backoff_over, o);
    deadline_init(&o->recovery, origin_on_recovery, o);
    origin_update(o, t);
    return o;
}

void origin_update(struct origin *o, const struct origin_terms *t)
{
    size_t streams_max = t->policy->streams_per_connection;
    struct tls_peer *old = o->tls;
    bool same = tls_peer_same_identity(old, t->tls);

    o->tls = t->tls ? tls_peer_ref(t->tls) : NULL;
    tls_peer_unref(old);
    if (!same)
        origin_drain(o); /* they were made with another certificate of ours */
    o->h1_limits = t->limits;
    o->h2_limits = (struct h2_limits){ .stream_window = H2_CLIENT_STREAM_WINDOW,
        .connection_window = H2_CLIENT_CONNECTION_WINDOW,
        .wide_window = H2_CLIENT_WIDE_WINDOW,
        .read_ahead = t->read_ahead,
        .out_max = H2_CLIENT_OUT_MAX,
        .head_max = t->limits.head_max,
        .fields_max = t->limits.fields_max,
        .interim_max = t->limits.interim_max,
        .ping_interval_ms = t->policy->ping_interval_ms,
        .check_after_ms = t->policy->probe_after_ms,
        .check_timeout_ms = t->policy->probe_timeout_ms,
        .ping_timeout_ms = t->policy->ping_timeout_ms,
        .finish_ms = t->policy->ping_timeout_ms,
        .calm_ms = t->policy->ping_timeout_ms };
    o->connect_timeout_ms = t->policy->connect_timeout_ms;
    o->keep_alive_timeout_ms = t->policy->keep_alive_timeout_ms;
    o->max_age_ms = t->policy->connection_max_age_ms;
    o->max_connections = t->policy->max_connections;
    o->recovery_ms = t->policy->streams_recovery_interval_ms;
    if (o->share == o->streams_max || o->share > streams_max)
        o->share = streams_max;
    o->streams_max = streams_max;
    /* Where a proxy leads is not known here: the conf has been checked. */
    o->private_only = !t->endpoint->tls && !t->endpoint->insecure && t->endpoint->proxy.host.n == 0;
}

void origin_close(struct origin *o)
{
    struct list_node *n;

    if (!o || o->closed)
        return;
    o->closed = true;
    loop_undefer(&o->work);
    deadline_close(&o->backoff);
    deadline_close(&o->recovery);
    loop_free_later(&o->deferred_free, o, free_origin);
    for (int i = 0; i < UPSTREAM_CONN_NSTATES; i++) {
        while ((n = list_first(&o->conns[i])))
            origin_close_conn(LIST_OWNER(n, struct upstream_conn, node));
    }
    single_close_all(&o->singles);
}
