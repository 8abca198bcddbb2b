/* A cache of names over one c-ares channel. */
#include "net/resolver.h"

#include <ares.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/deadline.h"
#include "net/loop.h"

enum {
    QUERY_TIMEOUT_MS = 2000, /* a try; doubles with each */
    QUERY_TRIES = 3,
    TTL_MIN_S = 1,
    TTL_MAX_S = 3600,
    FAILED_REFRESH_MS =
        5000,             /* until an answer past its TTL is asked for again after that failed */
    OTHER_FAMILY_MS = 50, /* RFC 8305 3: Resolution Delay */
    FRESH_WAIT_MS = 1000, /* for a new answer, while an old one could serve */
    STALE_MAX_MS = 3600 * 1000,
    ADDRS_MAX = 32,
    NAMES_KEPT =
        256, /* a new name beyond these replaces the one that was asked for least recently */
};

/*   valid -> expired (a lookup starts a query, and waits for it a while) -> valid
 *   A name without addresses, or whose addresses are too old, makes its lookups wait for the query.
 *   The query is for both families. If it is not complete after a while, a second one asks for IPv4
 *   alone: a query for AAAA that nobody answers would hold the addresses back for seconds. */
struct name {
    struct list_node node;     /* on the resolver's, the one asked for last first */
    struct resolver *resolver; /* NULL: it was closed while the query ran */
    struct list waiting;       /* lookups that have no answer yet */
    struct list answering;     /* lookups that get the known answer before the loop sleeps */
    struct deferred deferred;
    struct deferred_free deferred_free;
    struct addr addrs[ADDRS_MAX];
    size_t naddrs;
    uint64_t expires_ms, stale_ms; /* stale_ms: from then on the addresses are not used */
    uint64_t asked_ms;             /* when the query began */
    struct deadline patience;      /* of the query, then of those that wait beside an old answer */
    bool querying;
    bool hurrying; /* the query for IPv4 alone runs */
    bool halved;   /* ... and has brought addresses while the other one ran */
    bool again;    /* its query went with the old channel */
    char why[128];
    char text[];
};

struct resolver_socket {
    struct list_node node;
    ev_io io;
    struct deferred_free deferred_free;
    struct resolver *resolver;
};

struct resolver {
    ares_channel channel;
    struct list names, sockets;
    ev_timer timer; /* c-ares' own: retries and time-outs */
    uint64_t stale_max_ms;
    struct deferred_free deferred_free;
    bool renewing, closing;
};

static void resolver_on_socket(struct ev_loop *ev, ev_io *w, int revents);

static void resolver_update_timer(struct resolver *r)
{
    struct timeval tv, *due = ares_timeout(r->channel, NULL, &tv);

    ev_timer_stop(loop_ev(), &r->timer);
    if (!due)
        return;
    ev_timer_set(&r->timer, (double)due->tv_sec + (double)due->tv_usec / 1e6 + 1e-3, 0.);
    ev_timer_start(loop_ev(), &r->timer);
}

static void resolver_free_socket(void *what)
{
    free(what);
}

/* c-ares says which events of a descriptor it wants: none before it closes it. */
static void resolver_on_socket_state(void *data, ares_socket_t fd, int readable, int writable)
{
    struct resolver *r = data;
    struct resolver_socket *s = NULL;
    int want = (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0);

    LIST_EACH(n, &r->sockets) {
        struct resolver_socket *each = LIST_OWNER(n, struct resolver_socket, node);

        if (each->io.fd == fd)
            s = each;
    }
    if (!s && want) {
        s = calloc(1, sizeof(*s));
        if (!s)
            return; /* the query times out */
        s->resolver = r;
        ev_io_init(&s->io, resolver_on_socket, fd, 0);
        s->io.data = s;
        list_push(&r->sockets, &s->node);
    }
    if (!s)
        return;
    ev_io_stop(loop_ev(), &s->io);
    if (want) {
        ev_io_set(&s->io, fd, want);
        ev_io_start(loop_ev(), &s->io);
    } else {
        list_remove(&s->node);
        loop_free_later(&s->deferred_free, s, resolver_free_socket);
    }
}

static void resolver_on_socket(struct ev_loop *ev, ev_io *w, int revents)
{
    struct resolver_socket *s = w->data;
    struct resolver *r = s->resolver;

    ares_process_fd(r->channel, revents & EV_READ ? w->fd : ARES_SOCKET_BAD,
        revents & EV_WRITE ? w->fd : ARES_SOCKET_BAD);
    resolver_update_timer(r);
}

static void resolver_on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct resolver *r = w->data;

    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    resolver_update_timer(r);
}

static void resolver_free_name(void *what)
{
    free(what);
}

/* Gives each lookup the present answer. A callback may ask again, cancel others, or close the
 * resolver. */
static void resolver_answer_all(void *owner)
{
    struct name *n = owner;

    for (;;) {
        struct list_node *first = list_take_first(&n->answering);
        struct resolver_answer a = { n->addrs, n->naddrs, n->why, n->expires_ms };
        struct resolver_lookup *l;

        if (!first)
            return;
        l = LIST_OWNER(first, struct resolver_lookup, node);
        LOOP_ASSERT_OPEN(l->owner);
        l->on_answer(l->owner, &a);
    }
}

/* Takes over the addresses that c-ares has found. Their port stays 0. */
static void resolver_take_addresses(struct name *n, const struct ares_addrinfo *found)
{
    int ttl = TTL_MAX_S;

    n->naddrs = 0;
    for (const struct ares_addrinfo_node *a = found->nodes; a && n->naddrs < ADDRS_MAX;
         a = a->ai_next) {
        if (a->ai_family != AF_INET && a->ai_family != AF_INET6)
            continue;
        n->addrs[n->naddrs] = addr_of(a->ai_addr);
        n->addrs[n->naddrs++].port = 0;
        if (a->ai_ttl < ttl)
            ttl = a->ai_ttl;
    }
    if (ttl < TTL_MIN_S)
        ttl = TTL_MIN_S;
    n->expires_ms = loop_now_ms() + (uint64_t)ttl * 1000;
    n->stale_ms = n->expires_ms + n->resolver->stale_max_ms;
}

/* Those that wait get what is known. */
static void resolver_stop_waiting(struct name *n)
{
    deadline_clear(&n->patience);
    while (list_first(&n->waiting))
        list_push(&n->answering, list_first(&n->waiting));
    if (list_first(&n->answering))
        loop_defer(&n->deferred, resolver_answer_all, n);
}

static bool resolver_is_stale(const struct name *n)
{
    return n->naddrs > 0 && loop_now_ms() >= n->stale_ms;
}

/* No new answer: the old one serves on, if it is not too old. */
static void resolver_take_failure(struct name *n, int status)
{
    snprintf(n->why, sizeof(n->why), "%s",
        status == ARES_SUCCESS ? "no address" : ares_strerror(status));
    if (resolver_is_stale(n))
        n->naddrs = 0;
    n->expires_ms = n->naddrs > 0 ? loop_now_ms() + FAILED_REFRESH_MS : 0;
}

static void resolver_free_if_forgotten(struct name *n)
{
    if (!n->querying && !n->hurrying)
        loop_free_later(&n->deferred_free, n, resolver_free_name);
}

/* c-ares may call this from within ares_getaddrinfo() or ares_destroy(): the answer is recorded
 * here and given later. */
static void resolver_on_found(void *arg, int status, int timeouts, struct ares_addrinfo *found)
{
    struct name *n = arg;

    n->querying = false;
    if (!n->resolver) {
        resolver_free_if_forgotten(n);
    } else if (n->resolver->renewing) {
        n->again = true;
    } else {
        if (status == ARES_SUCCESS && found->nodes)
            resolver_take_addresses(n, found);
        else if (!n->halved)
            resolver_take_failure(n, status);
        resolver_stop_waiting(n);
    }
    if (found)
        ares_freeaddrinfo(found);
}

/* The same for the query for IPv4 alone. What it brings is used until the other one is complete. */
static void resolver_on_half_found(void *arg, int status, int timeouts, struct ares_addrinfo *found)
{
    struct name *n = arg;

    n->hurrying = false;
    if (!n->resolver) {
        resolver_free_if_forgotten(n);
    } else if (n->querying && !n->resolver->renewing && status == ARES_SUCCESS && found->nodes) {
        resolver_take_addresses(n, found);
        n->halved = true;
        resolver_stop_waiting(n);
    }
    if (found)
        ares_freeaddrinfo(found);
}

static void resolver_ask_for_half(struct name *n)
{
    const struct ares_addrinfo_hints hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };

    if (n->hurrying)
        return;
    n->hurrying = true;
    ares_getaddrinfo(n->resolver->channel, n->text, NULL, &hints, resolver_on_half_found, n);
    resolver_update_timer(n->resolver);
}

/* First the query takes longer than it should, then longer than an old answer is held back. */
static void resolver_on_impatient(void *owner)
{
    struct name *n = owner;
    uint64_t waited = loop_now_ms() - n->asked_ms;

    if (n->querying && waited < FRESH_WAIT_MS) {
        resolver_ask_for_half(n);
        deadline_set(&n->patience, FRESH_WAIT_MS - waited);
    } else if (n->naddrs > 0 && !resolver_is_stale(n)) {
        resolver_stop_waiting(n);
    }
}

/* Takes the name off the cache. If a query still runs, the memory is freed when that ends. */
static void resolver_forget_name(struct name *n)
{
    list_remove(&n->node);
    loop_undefer(&n->deferred);
    while (list_take_first(&n->waiting))
        ;
    while (list_take_first(&n->answering))
        ;
    n->resolver = NULL;
    deadline_close(&n->patience);
    resolver_free_if_forgotten(n);
}

static void resolver_make_room(struct resolver *r)
{
    for (struct list_node *at = list_last(&r->names); at && r->names.count >= NAMES_KEPT;) {
        struct name *n = LIST_OWNER(at, struct name, node);

        at = at->prev == &r->names.head ? NULL : at->prev;
        if (!n->querying && !n->hurrying && !list_first(&n->answering))
            resolver_forget_name(n);
    }
}

/* The name is an address itself: it needs no query and does not expire. */
static void resolver_take_literal(struct name *n)
{
    struct addr *a = &n->addrs[0];

    if (inet_pton(AF_INET, n->text, a->ip) == 1)
        a->family = AF_INET;
    else if (inet_pton(AF_INET6, n->text, a->ip) == 1)
        a->family = AF_INET6;
    else
        return;
    n->naddrs = 1;
    n->expires_ms = n->stale_ms = UINT64_MAX;
}

static struct name *resolver_find_known(struct resolver *r, struct str text)
{
    LIST_EACH(at, &r->names) {
        struct name *n = LIST_OWNER(at, struct name, node);

        if (str_eq_nocase(str_of(n->text), text))
            return n;
    }
    return NULL;
}

static struct name *resolver_find_name(struct resolver *r, struct str text)
{
    struct name *n = resolver_find_known(r, text);

    if (n)
        return n;
    resolver_make_room(r);
    n = calloc(1, sizeof(*n) + text.n + 1);
    if (!n)
        return NULL;
    memcpy(n->text, text.p, text.n);
    n->resolver = r;
    list_init(&n->waiting);
    list_init(&n->answering);
    deadline_init(&n->patience, resolver_on_impatient, n);
    resolver_take_literal(n);
    return n;
}

/* A channel to the servers, or to the system's. NULL if there is no memory or they are malformed.
 */
static ares_channel resolver_open_channel(struct resolver *r, const char *servers)
{
    struct ares_options options = { .timeout = QUERY_TIMEOUT_MS, .tries = QUERY_TRIES };
    ares_channel channel;

    options.sock_state_cb = resolver_on_socket_state;
    options.sock_state_cb_data = r;
    if (ares_init_options(&channel, &options,
            ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES) != ARES_SUCCESS)
        return NULL;
    if (servers && ares_set_servers_ports_csv(channel, servers) != ARES_SUCCESS) {
        ares_destroy(channel);
        return NULL;
    }
    return channel;
}

struct resolver *resolver_open(const char *servers)
{
    struct resolver *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->stale_max_ms = STALE_MAX_MS;
    list_init(&r->names);
    list_init(&r->sockets);
    ev_timer_init(&r->timer, resolver_on_timer, 0., 0.);
    r->timer.data = r;
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
        goto fail;
    r->channel = resolver_open_channel(r, servers);
    if (r->channel)
        return r;
    ares_library_cleanup();
fail:
    free(r);
    return NULL;
}

static void resolver_query(struct resolver *r, struct name *n)
{
    const struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };

    n->querying = true;
    n->halved = false;
    n->asked_ms = loop_now_ms();
    deadline_set(&n->patience, OTHER_FAMILY_MS);
    ares_getaddrinfo(r->channel, n->text, NULL, &hints, resolver_on_found, n);
}

void resolver_set_stale_max(struct resolver *r, uint64_t ms)
{
    r->stale_max_ms = ms;
}

void resolver_refresh(struct resolver *r, struct str name)
{
    struct name *n = resolver_find_known(r, name);

    if (!n || n->querying || loop_now_ms() < n->expires_ms)
        return;
    resolver_query(r, n);
    resolver_update_timer(r);
}

int resolver_renew(struct resolver *r, const char *servers)
{
    ares_channel channel = resolver_open_channel(r, servers);

    if (!channel)
        return -1;
    r->renewing = true;
    ares_destroy(r->channel);
    r->renewing = false;
    r->channel = channel;
    LIST_EACH(at, &r->names) {
        struct name *n = LIST_OWNER(at, struct name, node);

        if (n->expires_ms != UINT64_MAX)
            n->expires_ms = 0; /* stale_ms stays */
        if (n->again)
            resolver_query(r, n);
        n->again = false;
    }
    resolver_update_timer(r);
    return 0;
}

static void free_resolver(void *what)
{
    struct resolver *r = what;

    ares_destroy(r->channel);
    ares_library_cleanup();
    free(r);
}

void resolver_close(struct resolver *r)
{
    if (!r || r->closing)
        return;
    r->closing = true;
    while (list_first(&r->names))
        resolver_forget_name(LIST_OWNER(list_first(&r->names), struct name, node));
    ares_cancel(r->channel);
    ev_timer_stop(loop_ev(), &r->timer);
    loop_free_later(&r->deferred_free, r, free_resolver);
}

/* A fresh answer comes at once. Otherwise the lookup waits for the query, unless that has taken too
 * long already and an old answer can serve. */
static void resolver_answer_or_query(struct resolver *r, struct name *n, struct resolver_lookup *l)
{
    uint64_t now = loop_now_ms();
    bool fresh = n->naddrs > 0 && now < n->expires_ms;

    if (resolver_is_stale(n))
        n->naddrs = 0;
    if (!fresh && !n->querying) {
        resolver_query(r, n);
        resolver_update_timer(r);
    } else if (!fresh && now - n->asked_ms >= FRESH_WAIT_MS) {
        resolver_ask_for_half(n); /* the other one hangs */
    }
    if (n->naddrs > 0 && (fresh || !n->querying || now - n->asked_ms >= FRESH_WAIT_MS)) {
        list_push(&n->answering, &l->node);
        loop_defer(&n->deferred, resolver_answer_all, n);
    } else {
        list_push(&n->waiting, &l->node);
        if (!n->querying)
            resolver_stop_waiting(n);
    }
}

int resolver_ask(struct resolver *r, struct resolver_lookup *l, struct str text,
    void (*on_answer)(void *owner, const struct resolver_answer *a), void *owner)
{
    struct name *n = resolver_find_name(r, text);

    BUG_IF(r->closing || list_on(&l->node));
    if (!n)
        return -1;
    l->on_answer = on_answer;
    l->owner = owner;
    list_push_front(&r->names, &n->node);
    resolver_answer_or_query(r, n, l);
    return 0;
}

void resolver_cancel(struct resolver_lookup *l)
{
    list_remove(&l->node);
}
