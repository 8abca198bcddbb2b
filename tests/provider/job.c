/* One request from its head to the end of its answer. */
#include "job.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "problem.h"
#include "provider.h"
#include "record.h"
#include "shape.h"

#define ECHO_BODY_MAX 65536
#define BODY_MAX (64u << 20)
/* What was sent before a cut should arrive: a TCP reset discards what the other side has not read
 * yet. */
#define CUT_GRACE_MS 50

struct job_gzip {
    z_stream z;
};

static void on_timer(struct ev_loop *ev, ev_timer *w, int revents);

struct job *job_new(struct provider *provider, const struct job_wire *wire, void *owner,
    const char *protocol, uint64_t connection, int32_t stream, bool tls)
{
    struct job *job = text_alloc(sizeof *job);

    job->provider = provider;
    job->wire = wire;
    job->owner = owner;
    job->connection = connection;
    job->stream = stream;
    job->tls = tls;
    job->ask = ask_new(protocol);
    list_init(&job->link);
    ev_init(&job->timer, on_timer);
    job->timer.data = job;
    return job;
}

void job_asked(struct job *job)
{
    struct provider *pr = job->provider;
    struct ask *ask = job->ask;
    enum plan_route route = plan_route(ask);
    bool by_body = plan_fault_spec(ask, &pr->options) && !ask_field(ask, "x-provider-key");

    if (route == PLAN_ECHO)
        ask->body_keep = ECHO_BODY_MAX;
    else if (route != PLAN_UNKNOWN)
        ask->body_keep = BODY_MAX;
    if (route == PLAN_ECHO || pr->record || by_body)
        ask_want_digest(ask);
    if (route == PLAN_STATS || route == PLAN_HEALTH)
        return;
    job->counted = true;
    pr->tally.requests++;
    if (++pr->tally.in_flight > pr->tally.peak_in_flight)
        pr->tally.peak_in_flight = pr->tally.in_flight;
}

/* Records that it is over, once, and takes it off the tally: what comes after is only clearing
 * away. */
static void done(struct job *job, const char *end, const char *why)
{
    if (job->state == JOB_DONE)
        return;
    job->state = JOB_DONE;
    ev_timer_stop(job->provider->loop, &job->timer);
    if (job->counted) {
        job->provider->tally.in_flight--;
        record_write(job, end, why);
    }
}

static void wait_ms(struct job *job, uint64_t ms)
{
    ev_timer_stop(job->provider->loop, &job->timer);
    ev_timer_set(&job->timer, (double)ms / 1000, 0.);
    ev_timer_start(job->provider->loop, &job->timer);
}

static const struct fault *fault(const struct job *job, enum fault_kind kind)
{
    return fault_find(job->plan.faults, kind);
}

void job_asked_all(struct job *job)
{
    struct provider *pr = job->provider;
    bool keep;

    ask_end_body(job->ask);
    plan_init(&job->plan, job->ask, &pr->options, &pr->counts, ++pr->serial);
    job->planned = true;
    if (job->plan.faults)
        pr->tally.faults++;
    keep = job->plan.route == PLAN_ECHO || job->plan.route == PLAN_STORED;
    if (!keep)
        ask_drop_body(job->ask);
    if (!keep && !pr->record) {
        ask_free(job->ask);
        job->ask = NULL;
    }
    if (fault(job, FAULT_SILENCE)) {
        job->state = JOB_STUCK;
        return;
    }
    job->state = JOB_WAITING;
    wait_ms(job, job->plan.delay_ms);
}

static void echo(const struct job *job, struct head *h, struct text *body)
{
    const struct ask *ask = job->ask;

    h->status = 200;
    head_add(h, "content-type", "application/json");
    head_add_date(h, "date", time(NULL));
    text_printf(body, "{\"protocol\":\"%s\",", ask->protocol);
    ask_describe(ask, body);
    text_puts(body, ",\"body\":");
    text_json(body, ask->body.p, ask->body.n, TEXT_LATIN1);
    text_puts(body, "}");
}

static void stats(const struct tally *t, struct text *body)
{
    text_printf(body,
        "{\"requests\":%llu,\"in_flight\":%llu,\"peak_in_flight\":%llu,\"connections\":%llu,"
        "\"peak_connections\":%llu,\"all_connections\":%llu,\"h2_streams\":%llu,\"faults\":%llu}",
        (unsigned long long)t->requests, (unsigned long long)t->in_flight,
        (unsigned long long)t->peak_in_flight, (unsigned long long)t->connections,
        (unsigned long long)t->peak_connections, (unsigned long long)t->all_connections,
        (unsigned long long)t->h2_streams, (unsigned long long)t->faults);
}

/* Head and, unless it is a stream's, the whole body. */
static void compose(struct job *job, struct head *h, struct text *body)
{
    const struct fault *status = fault(job, FAULT_STATUS), *huge = fault(job, FAULT_HUGE);
    struct plan *plan = &job->plan;

    if (!plan->problem && !status && plan->route == PLAN_STORED)
        plan->problem = store_answer(&job->provider->store, plan, job->ask, job->tls, h, body);
    if (plan->problem || status) {
        plan->stream = false;
        problem_answer(plan, plan->problem ? plan->problem : status->status, plan->problem_word,
            plan->problem ? NULL : status->arg, h, body);
    } else if (plan->route == PLAN_STORED) {
        plan->stream = false; /* store_answer has made the rest */
    } else if (plan->route == PLAN_ECHO) {
        echo(job, h, body);
    } else if (plan->route == PLAN_HEALTH || plan->route == PLAN_STATS) {
        h->status = 200;
        head_add(h, "content-type", "application/json");
        if (plan->route == PLAN_STATS)
            stats(&job->provider->tally, body);
        else
            text_puts(body, "{\"status\":\"ok\"}");
    } else if (plan->stream) {
        stream_head(plan, h);
    } else {
        shape_answer(plan, fault(job, FAULT_FILTER), h, body);
    }
    if (huge) {
        plan->stream = false;
        text_free(body);
        job->filler = fault_size(huge, 100u << 20);
    }
}

static void gzip_begin(struct job *job)
{
    job->gzip = text_alloc(sizeof *job->gzip);
    /* 15 + 16: the largest window, in gzip's clothes. */
    if (deflateInit2(&job->gzip->z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        abort();
}

/* Each piece can be unpacked when it has come, as the services do it. */
static void gzip_piece(struct job *job, struct text *piece, bool last)
{
    z_stream *z = &job->gzip->z;
    struct text packed = { 0 };

    z->next_in = (unsigned char *)piece->p;
    z->avail_in = (unsigned)piece->n;
    do {
        z->next_out = (unsigned char *)text_reserve(&packed, 4096);
        z->avail_out = 4096;
        deflate(z, last ? Z_FINISH : Z_SYNC_FLUSH);
        packed.n += 4096 - z->avail_out;
    } while (z->avail_out == 0);
    text_free(piece);
    *piece = packed;
}

static void add_faults_to_head(struct job *job, struct head *h)
{
    const struct fault *f = fault(job, FAULT_HUGEHEAD);
    uint64_t left = f ? fault_size(f, 100 << 10) : 0;
    char name[32], value[4001];

    memset(value, 'x', sizeof value);
    for (unsigned i = 1; left > 0;
         i++) { /* in fields of 4000 bytes: one field would be another limit */
        size_t n = left < sizeof value - 1 ? left : sizeof value - 1;

        snprintf(name, sizeof name, "x-huge-%u", i);
        value[n] = 0;
        head_add(h, name, value);
        value[n] = 'x';
        left -= n;
    }
    if (job->gzip)
        head_add(h, "content-encoding", "gzip");
    if (fault(job, FAULT_TRAILERS)) {
        head_add(h, "trailer", "x-provider-trailer");
        text_add(&job->trailers, "x-provider-trailer", sizeof "x-provider-trailer");
        text_add(&job->trailers, "the end", sizeof "the end");
    }
    head_replace(h, &job->plan.extra);
}

/* Where the fault of the middle strikes: its argument, or half-way. */
static void set_mid(struct job *job)
{
    static const enum fault_kind kinds[] = { FAULT_CLOSE_MID, FAULT_ERROR_EVENT, FAULT_MALFORMED,
        FAULT_PAUSE, FAULT_RESET_MID, FAULT_RST_MID, FAULT_SHORT, FAULT_STALL };
    uint64_t all = job->plan.stream ? job->plan.tokens : job->out.n + job->filler;

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !job->mid; i++)
        job->mid = fault(job, kinds[i]);
    if (!job->mid)
        return;
    if (!job->plan.stream && job->mid->kind == FAULT_ERROR_EVENT) {
        job->mid = NULL;
        return;
    }
    job->mid_at = (all + 1) / 2;
    if (job->mid->kind == FAULT_STALL)
        job->mid_at = fault_size(job->mid, 0);
    else if (job->mid->kind != FAULT_PAUSE && job->mid->kind != FAULT_RST_MID)
        job->mid_at = fault_size(job->mid, job->mid_at);
}

/* A broken body in one piece is half a body, whole in its framing. */
static void break_body(struct job *job)
{
    if (!job->mid || job->mid->kind != FAULT_MALFORMED || job->plan.stream)
        return;
    if (job->mid_at < job->out.n)
        job->out.n = job->mid_at;
    job->filler = 0;
    job->mid = NULL;
}

static bool bodyless(const struct job *job)
{
    return job->plan.head || job->status == 204 || job->status == 304;
}

/* The answer begins. */
static void answer(struct job *job)
{
    struct head h = { .length = HEAD_LENGTH_UNKNOWN };
    const struct fault *drip = fault(job, FAULT_DRIP), *pings = fault(job, FAULT_PINGS);

    job->state = JOB_SENDING;
    compose(job, &h, &job->out);
    job->status = h.status;
    job->http10 = fault(job, FAULT_HTTP10);
    if (fault(job, FAULT_GZIP) && !job->filler && !bodyless(job))
        gzip_begin(job);
    if (job->gzip && !job->plan.stream)
        gzip_piece(job, &job->out, true);
    set_mid(job);
    break_body(job);
    if (!job->plan.stream) {
        job->finished = true;
        h.length = (int64_t)(job->out.n + job->filler);
    } else {
        job->events.filtered = fault(job, FAULT_FILTER);
        job->events.unfinished = fault(job, FAULT_NO_TERMINAL);
        job->pings = pings ? fault_size(pings, UINT64_MAX) : 0;
    }
    add_faults_to_head(job, &h);
    if (drip && job->wire->drip)
        job->wire->drip(job, fault_time_ms(drip, 1));
    else if (drip)
        job->byte_wise = true;
    if (bodyless(job)) {
        text_free(&job->out);
        job->filler = 0;
        done(job, "complete", NULL);
    }
    job->wire->head(job, &h, bodyless(job));
    head_release(&h);
}

static void interim(struct job *job, uint64_t times)
{
    struct head h = { .status = 103, .length = HEAD_LENGTH_UNKNOWN };

    head_add(&h, "link", "</style.css>; rel=preload; as=style");
    while (times-- > 0)
        job->wire->interim(job, &h);
    head_release(&h);
}

static void cut(struct job *job, enum job_cut how, uint32_t code)
{
    if (how != JOB_CUT_SILENT)
        done(job, "cut", NULL);
    else
        job->state = JOB_STUCK;
    job->wire->cut(job, how, code);
}

/* Faults that come instead of an answer. True: one did, and the job may be gone. */
static bool fail_at_once(struct job *job)
{
    static const struct {
        enum fault_kind kind;
        enum job_cut how;
    } cuts[] = { { FAULT_RESET, JOB_CUT_RESET }, { FAULT_CLOSE, JOB_CUT_CLOSE },
        { FAULT_GARBAGE, JOB_CUT_GARBAGE }, { FAULT_GOAWAY, JOB_CUT_GOAWAY },
        { FAULT_GOAWAY_LOST, JOB_CUT_GOAWAY_LOST }, { FAULT_REFUSED, JOB_CUT_STREAM },
        { FAULT_RST, JOB_CUT_STREAM }, { FAULT_PING_SILENT, JOB_CUT_SILENT } };

    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        const struct fault *f = fault(job, cuts[i].kind);

        if (!f)
            continue;
        cut(job, cuts[i].how, f->kind == FAULT_REFUSED ? 7 : fault_h2_code(f));
        return true;
    }
    return false;
}

static void begin(struct job *job)
{
    const struct fault *f;

    if ((f = fault(job, FAULT_INTERIM)))
        interim(job, fault_size(f, 1));
    if (fail_at_once(job))
        return;
    if (fault(job, FAULT_GOAWAY_PROCESSED))
        job->wire->drain(job);
    if ((f = fault(job, FAULT_TINY_WINDOW)) && job->wire->narrow)
        job->wire->narrow(job, (uint32_t)(fault_size(f, 1) & 0x7fffffff));
    answer(job);
}

static void cut_in_the_middle(struct job *job)
{
    switch (job->mid->kind) {
    case FAULT_RESET_MID:
        cut(job, JOB_CUT_RESET, 0);
        break;
    case FAULT_RST_MID:
        cut(job, JOB_CUT_STREAM, fault_h2_code(job->mid));
        break;
    default:
        cut(job, JOB_CUT_CLOSE, 0);
    }
}

static void on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct job *job = w->data;

    if (job->state == JOB_WAITING) {
        begin(job); /* may end the job */
    } else if (job->cut_next) {
        cut_in_the_middle(job); /* ends it */
    } else if (job->state == JOB_SENDING) {
        job->held = false;
        job->wire->more(job);
    }
}

static void hold(struct job *job, uint64_t ms)
{
    job->held = true;
    wait_ms(job, ms);
}

static void malformed_event(const struct job *job, struct text *to)
{
    if (job->plan.sse && job->plan.service != PLAN_OPENAI)
        text_puts(to, "event: content_block_delta\n");
    text_puts(to, "data: {\"id\":\"broken\",\"choices\":[{\"index\":0,\"delta\":{\"cont\n\n");
}

/* The fault of the middle strikes. */
static void strike(struct job *job)
{
    const struct fault *f = job->mid;

    switch (f->kind) {
    case FAULT_STALL:
        job->state = JOB_STUCK;
        job->held = true;
        return; /* `mid` stays: what the peer has not got must not be pulled */
    case FAULT_PAUSE:
        hold(job, fault_time_ms(f, 1000));
        break;
    case FAULT_SHORT:
        job->finished = true;
        job->out_at = job->out.n;
        job->filler = 0;
        break;
    case FAULT_ERROR_EVENT:
        problem_event(&job->plan, job->events.sequence, &job->out);
        job->finished = true;
        break;
    case FAULT_MALFORMED:
        malformed_event(job, &job->out);
        break;
    default:
        job->cut_next = true;
        hold(job, CUT_GRACE_MS);
        return;
    }
    job->mid = NULL;
}

/* The next piece of a stream into the empty `out`. */
static void produce(struct job *job)
{
    struct plan *plan = &job->plan;
    uint64_t pace = plan->pace_ms;

    if (job->mid && job->events.token >= job->mid_at &&
        (job->events.part != STREAM_OPENING || job->mid_at == 0)) {
        strike(job);
    } else if (job->pings > 0 && job->events.part != STREAM_OPENING) {
        stream_ping(plan, &job->out);
        if (job->pings == UINT64_MAX) /* for ever, but not as fast as the machine can */
            pace = pace ? pace : 10;
        else
            job->pings--;
    } else {
        stream_next(plan, &job->events, &job->out);
        job->finished = job->events.part == STREAM_ENDED;
        if (job->events.part == STREAM_CLOSING)
            pace = 0; /* the last token and the closing events come together */
    }
    if (job->gzip && (job->out.n || job->finished))
        gzip_piece(job, &job->out, job->finished);
    if (pace > 0 && !job->finished && !job->held)
        hold(job, pace);
}

/* Bytes of a body in one piece that may go out before the fault of the middle. */
static size_t limit_by_mid(const struct job *job, size_t n)
{
    if (!job->mid || job->plan.stream || job->mid_at - job->pulled > n)
        return n;
    return (size_t)(job->mid_at - job->pulled);
}

static size_t take(struct job *job, void *to, size_t room)
{
    size_t n = job->out.n - job->out_at;
    bool from_out = n > 0;

    if (!from_out)
        n = job->filler < room ? (size_t)job->filler : room;
    n = n < room ? n : room;
    n = limit_by_mid(job, n);
    if (from_out) {
        memcpy(to, job->out.p + job->out_at, n);
        job->out_at += n;
    } else {
        memset(to, 'x', n);
        job->filler -= n;
    }
    job->pulled += n;
    return n;
}

size_t job_pull(struct job *job, void *to, size_t room, bool *end)
{
    const struct fault *drip = job->byte_wise ? fault(job, FAULT_DRIP) : NULL;
    uint64_t held_ms;
    size_t n;

    *end = false;
    if (job->state != JOB_SENDING)
        return 0;
    if (!job->held && !job->finished && job->out_at == job->out.n) {
        job->out.n = job->out_at = 0;
        produce(job);
    } else if (!job->held && job->mid && !job->plan.stream && job->pulled >= job->mid_at) {
        strike(job);
    }
    if (job->state == JOB_STUCK || (job->held && job->out_at == job->out.n))
        return 0;
    if (job->held && !job->plan.stream)
        return 0;
    n = take(job, to, drip ? 1 : room);
    if (drip && (held_ms = fault_time_ms(drip, 1)) > 0)
        hold(job, held_ms);
    if (job->finished && job->out_at == job->out.n && !job->filler) {
        *end = true;
        done(job, "complete", NULL);
    }
    return n;
}

static void gzip_free(struct job_gzip *gzip)
{
    if (!gzip)
        return;
    deflateEnd(&gzip->z);
    free(gzip);
}

void job_close(struct job *job, const char *end, const char *why)
{
    done(job, end, why);
    ev_timer_stop(job->provider->loop, &job->timer);
    list_remove(&job->link);
    if (job->planned)
        plan_release(&job->plan);
    gzip_free(job->gzip);
    text_free(&job->out);
    text_free(&job->trailers);
    ask_free(job->ask);
    free(job);
}
