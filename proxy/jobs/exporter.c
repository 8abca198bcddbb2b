/* Spans are gathered as text; a batch is that text with a frame around it. */
#include "jobs/exporter.h"

#include <inttypes.h>
#include <stdlib.h>

#include "exchange/call.h"
#include "jobs/span.h"
#include "net/deadline.h"
#include "observe/counter.h"

enum { TELL_EVERY_MS = 10000 };

struct exporter {
    struct exchanges *all;
    const char *version;
    struct conf *conf;      /* whose collector gets what is gathered; NULL: nothing is */
    struct buf gathered;    /* spans, separated by commas */
    unsigned spans;         /* exchanges in it */
    struct deadline timer;  /* the next batch is due */
    struct call *call;      /* NULL: none is on its way */
    struct conf *call_conf; /* of that call */
    struct buf sent;        /* its body */
    unsigned sent_spans;
    uint64_t dropped, told_ms; /* since the last line about it; when that was */
    void (*on_done)(void *owner);
    void *owner;
    struct deferred done;
    struct deadline finish;
    struct deferred_free deferred_free;
};

static void exporter_send(struct exporter *x);

static void exporter_drop(struct exporter *x, unsigned n, const char *why)
{
    uint64_t now = loop_now_ms();

    counter_add(COUNTER_TRACES_DROPPED, n);
    x->dropped += n;
    if (x->told_ms > 0 && now - x->told_ms < TELL_EVERY_MS)
        return;
    log_warn(NULL, "spans of %" PRIu64 " exchange(s) were dropped: %s", x->dropped, why);
    x->told_ms = now;
    x->dropped = 0;
}

static void exporter_on_done(void *owner)
{
    struct exporter *x = owner;

    deadline_clear(&x->finish);
    x->on_done(x->owner);
}

static void exporter_end_call(struct exporter *x)
{
    call_close(x->call);
    x->call = NULL;
    buf_release(&x->sent);
    x->sent = (struct buf){ 0 };
    conf_unref(x->call_conf);
    x->call_conf = NULL;
}

/* What comes after a batch: the next, the timer, or the end. */
static void exporter_go_on(struct exporter *x)
{
    size_t n = buf_len(&x->gathered);

    if (n == 0) {
        if (x->on_done)
            loop_defer(&x->done, exporter_on_done, x);
        return;
    }
    BUG_IF(!x->conf);
    if (x->on_done || n >= x->conf->tracing.batch_max)
        exporter_send(x);
    else
        deadline_set(&x->timer, x->conf->tracing.flush_interval_ms);
}

static void exporter_on_call(void *owner, struct call *c, const struct call_event *ev)
{
    struct exporter *x = owner;
    char why[96];

    switch (ev->kind) {
    case CALL_HEAD:
        if (ev->head->status >= 200 && ev->head->status <= 299) {
            counter_add(COUNTER_TRACES_SENT, x->sent_spans);
        } else {
            snprintf(why, sizeof(why), "the collector answered with %u", ev->head->status);
            exporter_drop(x, x->sent_spans, why);
        }
        x->sent_spans = 0;
        return;
    case CALL_DATA:
    case CALL_DRAINED:
        return;
    case CALL_END:
        break;
    case CALL_FAILED:
        if (x->sent_spans > 0)
            exporter_drop(x, x->sent_spans, ev->why);
        break;
    }
    exporter_end_call(x);
    exporter_go_on(x);
}

static int exporter_make_head(void *owner, struct call *c, struct arena *a, struct head *out)
{
    const struct exporter *x = owner;

    *out = (struct head){ .method = STR("POST"), .target = x->call_conf->tracing.path, .minor = 1 };
    return head_add(out, a, STR("Content-Type"), STR("application/json")) |
           head_add(out, a, STR("Content-Length"), arena_printf(a, "%zu", buf_len(&x->sent)));
}

/* The first batch_max bytes cannot be cut out: spans are not counted by length. All goes, which is
 * little more than a batch unless the collector was away. */
static void exporter_send(struct exporter *x)
{
    static const struct log_context no_exchange;
    struct call_request r = { .retries = SIZE_MAX };
    const struct tracing_conf *t;
    bool good;

    BUG_IF(!x->conf);
    t = &x->conf->tracing;
    r.upstream = t->upstream;
    deadline_clear(&x->timer);
    good = span_open(&x->sent, t->service, x->version) == 0 &&
           buf_append_str(&x->sent, buf_str(&x->gathered)) == 0 && span_close(&x->sent) == 0;
    buf_release(&x->gathered);
    x->gathered = (struct buf){ 0 };
    x->sent_spans = x->spans;
    x->spans = 0;
    x->call_conf = conf_ref(x->conf);
    r.body = (struct piece){ .mem = buf_str(&x->sent).p, .len = buf_len(&x->sent) };
    if (good)
        x->call =
            call_open(x->all->endpoints, &r, exporter_make_head, exporter_on_call, x, &no_exchange);
    if (!x->call) {
        exporter_drop(x, x->sent_spans, "out of memory");
        exporter_end_call(x);
        exporter_go_on(x);
    }
}

static void exporter_on_timer(void *owner)
{
    struct exporter *x = owner;

    if (!x->call && buf_len(&x->gathered) > 0)
        exporter_send(x);
}

/* A reload may have named another collector, or another interval: what waits goes by the conf in
 * force, or by the exchange's own if that one has no collector any more. True if it is another. */
static bool exporter_take_conf(struct exporter *x, const struct exchange *ex)
{
    struct conf *now = x->all->conf->tracing.upstream ? x->all->conf : ex->conf;

    if (x->conf == now)
        return false;
    conf_unref(x->conf);
    x->conf = conf_ref(now);
    return true;
}

void exporter_add(struct exporter *x, const struct exchange *ex)
{
    const struct tracing_conf *t;
    size_t before;
    bool anew;

    if (!ex->conf->tracing.upstream || !trail_is_sampled(ex->trail))
        return;
    anew = exporter_take_conf(x, ex);
    t = &x->conf->tracing;
    before = buf_len(&x->gathered);
    if (before >= t->buffer_max) {
        exporter_drop(x, 1, "buffer_max of tracing is full: the collector is too slow, or away");
        return;
    }
    if (span_write(&x->gathered, ex) < 0) {
        exporter_drop(x, 1, "out of memory");
        return;
    }
    x->spans++;
    if (x->call)
        return;
    if (buf_len(&x->gathered) >= t->batch_max || x->on_done)
        deadline_set(&x->timer, 0);
    else if (before == 0 || anew)
        deadline_set(&x->timer, t->flush_interval_ms);
}

struct exporter *exporter_open(struct exchanges *all, const char *version)
{
    struct exporter *x = calloc(1, sizeof(*x));

    if (!x)
        return NULL;
    x->all = all;
    x->version = version;
    deadline_init(&x->timer, exporter_on_timer, x);
    deadline_init(&x->finish, exporter_on_done, x);
    return x;
}

void exporter_finish(struct exporter *x, void (*on_done)(void *owner), void *owner)
{
    x->on_done = on_done;
    x->owner = owner;
    if (x->conf)
        deadline_set(&x->finish, x->conf->tracing.finish_timeout_ms);
    if (!x->call)
        exporter_go_on(x);
}

static void exporter_free(void *what)
{
    free(what);
}

void exporter_close(struct exporter *x)
{
    if (!x)
        return;
    if (x->spans + x->sent_spans > 0)
        exporter_drop(x, x->spans + x->sent_spans, "Tarry stops");
    exporter_end_call(x);
    deadline_close(&x->timer);
    deadline_close(&x->finish);
    loop_undefer(&x->done);
    buf_release(&x->gathered);
    conf_unref(x->conf);
    loop_free_later(&x->deferred_free, x, exporter_free);
}
