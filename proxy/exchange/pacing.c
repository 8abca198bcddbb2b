/* Keys are hashed: neither tenants nor credentials are kept. */
#include "exchange/pacing.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "conf/value.h"
#include "net/loop.h"
#include "upstream/estimate.h"
#include "upstream/pacer.h"
#include "upstream/ratelimit.h"
#include "upstream/rewrite.h"

enum {
    ACCOUNT_BOUNDS, /* what the conf says of the endpoint's key */
    ACCOUNT_STANDS, /* what the service says, by model */
    ACCOUNTS,
    WINDOW_MS = 60000,
    RETRY_AFTER_S = 5, /* if there is nothing to tell by */
    RETRY_AFTER_MAX_S = 60,
    IPV6_PREFIX = 8, /* bytes: whoever has one address has the others of it */
};

struct pacing {
    const struct upstream_conf *upstream;
    struct endpoints *endpoints;
    const struct piece *body;
    uint64_t tenant, credential;
    struct estimate estimate;
    unsigned weight;
    bool estimated;
    unsigned char naccounts;
    struct meter_hold accounts[ACCOUNTS];
    uint64_t queued_ms;
    void (*on_turn)(void *owner);
    uint64_t (*ready_in)(void *owner);
    void *owner;
    const struct endpoint_conf *known; /* whose account the next two are; NULL: none's */
    uint64_t account, model_account;
    struct pacer_turn turn; /* the last: its keys follow */
};

/* ---- who it is ---- */

static uint64_t pacing_hash(const char *kind, struct str text)
{
    struct siphash h;

    meter_hash(&h);
    siphash_add_field(&h, str_of(kind));
    siphash_add_field(&h, text);
    return siphash_end(&h);
}

static uint64_t pacing_mix(uint64_t a, uint64_t b)
{
    uint64_t both[2] = { a, b };
    struct siphash h;

    meter_hash(&h);
    siphash_add(&h, str_make((const char *)both, sizeof(both)));
    return siphash_end(&h);
}

/* Of all fields that services take keys from. */
static uint64_t pacing_credential(const struct head *head)
{
    struct siphash h;
    bool any = false;

    meter_hash(&h);
    for (size_t i = 0; i < head->nfields; i++)
        if (value_is_credential(head->fields[i].name)) {
            siphash_add_field(&h, head->fields[i].value);
            any = true;
        }
    return any ? siphash_end(&h) : 0;
}

static uint64_t pacing_address(const struct addr *a)
{
    if (!a || (a->family != AF_INET && a->family != AF_INET6))
        return 0;
    return pacing_hash("address",
        str_make((const char *)a->ip, a->family == AF_INET ? sizeof(struct in_addr) : IPV6_PREFIX));
}

/* The text that a selector means; empty if it means none. */
static struct str pacing_text(const struct pacing_request *r, const struct selector_conf *by)
{
    return by->kind == SELECTOR_HEADER ? head_value(r->head, by->name) : STR("");
}

static uint64_t pacing_select(
    const struct pacing *p, const struct pacing_request *r, const struct selector_conf *by)
{
    switch (by->kind) {
    case SELECTOR_HEADER:
        return pacing_hash("text", pacing_text(r, by));
    case SELECTOR_ADDRESS:
        return pacing_address(r->client);
    case SELECTOR_CREDENTIAL:
        return p->credential;
    case SELECTOR_TENANT:
        return p->tenant;
    case SELECTOR_NONE:
    case SELECTOR_FIELD:
    case SELECTOR_PROMPT:
        break;
    }
    return 0;
}

static void pacing_find_tenant(struct pacing *p, const struct pacing_request *r)
{
    const struct upstream_conf *u = r->upstream;
    struct str text = r->tenant.p ? r->tenant : pacing_text(r, &u->tenant);

    p->tenant = r->tenant.p ? pacing_hash("text", r->tenant) : pacing_select(p, r, &u->tenant);
    p->weight = 1;
    for (size_t i = 0; i < u->ntenant_weights; i++)
        if (text.n > 0 && str_eq(u->tenant_weights[i].tenant, text))
            p->weight = u->tenant_weights[i].weight;
}

static void pacing_find_keys(struct pacing *p, const struct pacing_request *r)
{
    for (unsigned i = 0; i < p->turn.nkeys; i++) {
        uint64_t limit = pacer_limit_id(r->upstream, i);

        p->turn.keys[i] = (struct pacer_key){ .limit = limit,
            .id = pacing_mix(limit, pacing_select(p, r, &r->upstream->limits[i].key)) };
    }
}

/* ---- what it will use ---- */

static void pacing_estimate(struct pacing *p)
{
    if (p->estimated)
        return;
    p->estimated = true;
    estimate_read(p->body, &p->estimate);
    p->turn.input = p->estimate.input;
    p->turn.output = p->estimate.output;
}

static bool pacing_counts_tokens(const struct upstream_conf *u)
{
    for (size_t i = 0; i < u->nlimits; i++)
        if (u->limits[i].tokens_per_minute > 0)
            return true;
    return false;
}

/* ---- the endpoint's account ---- */

static bool pacing_has_bounds(const struct endpoint_conf *e)
{
    return e->in_flight > 0 || e->requests_per_minute > 0 || e->tokens_per_minute > 0;
}

/* A service's limits hold for the key that a call is made with. */
static uint64_t pacing_account_of(const struct pacing *p, const struct endpoint_conf *e)
{
    struct siphash h;

    meter_hash(&h);
    siphash_add_field(&h, STR("account"));
    siphash_add_field(&h, p->upstream->name);
    siphash_add_field(&h, e->name);
    siphash_add_field(&h, e->origin);
    for (size_t i = 0; i < e->nset_header; i++)
        if (value_is_credential(e->set_header[i].name))
            siphash_add_field(&h, e->set_header[i].value);
    if (rewrite_has_key(e))
        return siphash_end(&h);
    return pacing_mix(siphash_end(&h), p->credential);
}

/* Services have limits for each model. */
static void pacing_know_account(struct pacing *p, const struct endpoint_conf *e)
{
    if (p->known == e)
        return;
    pacing_estimate(p);
    p->known = e;
    p->account = pacing_account_of(p, e);
    p->model_account =
        pacing_mix(p->account, e->model.n > 0 ? pacing_hash("model", e->model) : p->estimate.model);
}

static bool pacing_hears(const struct pacing *p, const struct endpoint_conf *e)
{
    const struct endpoint *ep;

    if (!p->upstream->rate_limit_headers)
        return false;
    ep = endpoints_find(p->endpoints, p->upstream, e);
    return ep && endpoint_says_limits(ep);
}

static size_t pacing_account_needs(
    struct pacing *p, const struct endpoint_conf *e, struct meter_need needs[ACCOUNTS])
{
    bool hears = pacing_hears(p, e), bounds = pacing_has_bounds(e);
    size_t n = 0;

    if (hears || bounds)
        pacing_know_account(p, e);
    if (bounds)
        needs[n++] = (struct meter_need){ .id = p->account,
            .most = { .in_flight = e->in_flight,
                .requests = e->requests_per_minute,
                .tokens = e->tokens_per_minute,
                .window_ms = WINDOW_MS } };
    if (hears)
        needs[n++] = (struct meter_need){ .id = p->model_account };
    for (size_t i = 0; i < n; i++) {
        needs[i].input = p->estimate.input;
        needs[i].output = p->estimate.output;
    }
    return n;
}

uint64_t pacing_account_wait(void *pacing, const struct endpoint_conf *e)
{
    struct pacing *p = pacing;
    struct meter_need needs[ACCOUNTS];
    struct meter_refusal no;
    size_t n = pacing_account_needs(p, e, needs);

    if (n == 0 || meter_has_room(loop_precise_us() / 1000, needs, n, &no))
        return 0;
    /* An answer that makes room wakes the queue. */
    return no.wait_ms < WINDOW_MS ? no.wait_ms : WINDOW_MS;
}

uint64_t pacing_begin(struct pacing *p, const struct endpoint_conf *e)
{
    struct meter_need needs[ACCOUNTS];
    struct meter_refusal no;
    size_t n = pacing_account_needs(p, e, needs);

    meter_refund(loop_precise_us() / 1000, p->accounts, p->naccounts); /* it went to another */
    p->naccounts = 0;
    if (n > 0 && !meter_take(loop_precise_us() / 1000, needs, n, p->accounts, &no))
        return no.wait_ms < WINDOW_MS ? no.wait_ms : WINDOW_MS;
    p->naccounts = (unsigned char)n;
    return 0;
}

void pacing_answered(struct pacing *p, const struct endpoint_conf *e, const struct head *head)
{
    struct meter_level levels[METER_NKINDS];
    struct endpoint *ep;

    for (unsigned i = 0; i < p->naccounts; i++)
        meter_heard(&p->accounts[i]);
    if (!p->upstream->rate_limit_headers || !ratelimit_read(head, loop_wall_ms(), levels))
        return;
    ep = endpoints_find(p->endpoints, p->upstream, e);
    if (ep)
        endpoint_set_says_limits(ep);
    pacing_know_account(p, e);
    meter_note(loop_precise_us() / 1000, p->model_account, levels);
    pacer_stir(endpoints_pacer(p->endpoints), p->upstream);
}

/* ---- turns ---- */

static void pacing_on_turn(void *owner)
{
    struct pacing *p = owner;

    p->queued_ms += loop_now_ms() - p->turn.since_ms;
    p->on_turn(p->owner);
}

static uint64_t pacing_ready_in(void *owner)
{
    struct pacing *p = owner;

    return p->ready_in(p->owner);
}

bool pacing_is_needed(struct endpoints *es, const struct upstream_conf *u)
{
    if (u->nlimits > 0)
        return true;
    for (size_t i = 0; i < u->nendpoints; i++) {
        const struct endpoint *ep = NULL;

        if (u->rate_limit_headers)
            ep = endpoints_find(es, u, &u->endpoints[i]);
        if (pacing_has_bounds(&u->endpoints[i]) || (ep && endpoint_says_limits(ep)))
            return true;
    }
    return false;
}

struct pacing *pacing_new(const struct pacing_request *r)
{
    size_t nkeys = r->upstream->nlimits;
    struct pacing *p = calloc(1, sizeof(*p) + nkeys * sizeof(struct pacer_key));

    if (!p)
        return NULL;
    p->upstream = r->upstream;
    p->endpoints = r->endpoints;
    p->body = r->body;
    p->credential = pacing_credential(r->head);
    p->turn.nkeys = (unsigned char)nkeys;
    p->on_turn = r->on_turn;
    p->ready_in = r->ready_in;
    p->owner = r->owner;
    p->turn.on_turn = pacing_on_turn;
    p->turn.ready_in = pacing_ready_in;
    p->turn.owner = p;
    pacing_find_tenant(p, r);
    pacing_find_keys(p, r);
    if (pacing_counts_tokens(r->upstream))
        pacing_estimate(p);
    return p;
}

enum pacer_result pacing_ask(struct pacing *p, bool again)
{
    const struct pacer_ask ask = {
        .upstream = p->upstream, .tenant = p->tenant, .weight = p->weight, .again = again
    };

    return pacer_ask(endpoints_pacer(p->endpoints), &p->turn, &ask);
}

static void pacing_settle(struct pacing *p, uint64_t tokens)
{
    pacer_settle(&p->turn, tokens);
    meter_settle(loop_precise_us() / 1000, p->accounts, p->naccounts, tokens);
}

void pacing_leave(struct pacing *p, enum pacing_end end, const struct llm_usage *usage)
{
    uint64_t now_ms = loop_precise_us() / 1000;

    if (p->turn.flow)
        p->queued_ms += loop_now_ms() - p->turn.since_ms;
    if (end == PACING_FREE)
        pacing_settle(p, 0);
    else if (end == PACING_USED && usage && usage->known)
        pacing_settle(p, (uint64_t)usage->input + usage->output);
    if (end == PACING_UNBEGUN)
        meter_refund(now_ms, p->accounts, p->naccounts);
    meter_release(p->accounts, p->naccounts);
    if (p->naccounts > 0)
        pacer_stir(endpoints_pacer(p->endpoints), p->upstream);
    p->naccounts = 0;
    pacer_leave(endpoints_pacer(p->endpoints), &p->turn, end != PACING_UNBEGUN);
}

void pacing_free(struct pacing *p)
{
    free(p);
}

uint64_t pacing_until_ms(const struct pacing *p)
{
    return p->turn.since_ms + p->upstream->queue_timeout_ms;
}

unsigned pacing_retry_after_s(const struct pacing *p)
{
    uint64_t s = (p->turn.open_ms + 999) / 1000;

    if (s == 0 || p->turn.open_ms == UINT64_MAX)
        return RETRY_AFTER_S;
    return s < RETRY_AFTER_MAX_S ? (unsigned)s : RETRY_AFTER_MAX_S;
}

uint64_t pacing_queued_ms(const struct pacing *p)
{
    return p->queued_ms;
}
