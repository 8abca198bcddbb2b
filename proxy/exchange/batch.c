/* Batches: one visit with the pieces of many exchanges. */
#include "exchange/batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "exchange/forward.h"
#include "exchange/parts.h"
#include "exchange/visit.h"
#include "http/h1write.h"
#include "http/limits.h"
#include "net/deadline.h"
#include "net/loop.h"
#include "observe/counter.h"
#include "observe/panic.h"

enum { BATCH_MAX = 64 };

enum batch_state { BATCH_IDLE, BATCH_DUE, BATCH_VISITING, BATCH_PAUSING, BATCH_CLOSED };

/* Where the response stands: in the head of an enclosed one, in its content. */
enum batch_reading { BATCH_IN_HEAD, BATCH_IN_PARTS, BATCH_IN_LENGTH };

struct batch {
    struct list_node node; /* on the list of all */
    struct pool *pool;
    struct conf *conf;
    struct arena arena; /* of the process's names */
    struct str server, at;
    struct list due;
    struct deadline timer; /* piece_interval */
    struct deferred start;
    struct deferred_free deferred_free;
    enum batch_state state;

    /* Of the visit under way. */
    struct visit *visit;
    struct arena visit_arena;
    struct head head;
    struct body body; /* what it is sent: copied, for its members may leave */
    struct piece piece;
    size_t round; /* how many of those that were due when the first visit began are still due */
    struct batch_member *seats[BATCH_MAX];
    size_t nseats, seat; /* seat: whose response is being read */
    enum batch_reading reading;
    struct parts parts;
    struct buf in; /* of a head of which more is to come */
    uint64_t left; /* of BATCH_IN_LENGTH */
};

static const struct visit_handler batch_visit_handler;

static void free_batch(void *what)
{
    struct batch *b = what;

    arena_release(&b->arena);
    arena_release(&b->visit_arena);
    body_release(&b->body);
    conf_unref(b->conf);
    pool_unref(b->pool);
    free(b);
}

static void batch_set_state(struct batch *b, enum batch_state to)
{
    static const char *const names[] = { "idle", "due", "visiting", "pausing", "closed" };

    panic_move("batch", NULL, names[b->state], names[to]);
    b->state = to;
}

static void batch_close(struct batch *b)
{
    if (b->state == BATCH_CLOSED)
        return;
    batch_set_state(b, BATCH_CLOSED);
    visit_close(b->visit);
    parts_release(&b->parts);
    buf_release(&b->in);
    deadline_close(&b->timer);
    loop_undefer(&b->start);
    list_remove(&b->node);
    loop_free_later(&b->deferred_free, b, free_batch);
}

static void batch_on_start(void *owner);

static void batch_on_timer(void *owner)
{
    struct batch *b = owner;

    if (b->due.count == 0) {
        batch_close(b);
        return;
    }
    batch_set_state(b, BATCH_DUE);
    loop_defer(&b->start, batch_on_start, b);
}

/* The member is out of the batch: nothing that follows concerns it. */
static void batch_forget(struct batch_member *m)
{
    if (m->seat)
        *m->seat = NULL;
    m->seat = NULL;
    m->batch = NULL;
    list_remove(&m->node);
}

static void batch_fail(struct batch_member *m, enum problem p, const char *why)
{
    batch_forget(m);
    m->ops->on_failed(m->owner, p, why);
}

/* The visit is over; those whose responses have not come hear why. What one visit had no room for
 * comes with the next one at once: it is late already. */
static void batch_end_visit(struct batch *b, enum problem p, const char *why)
{
    struct batch_member *left[BATCH_MAX];
    size_t n = 0;

    for (size_t i = b->seat; i < b->nseats; i++)
        if (b->seats[i])
            left[n++] = b->seats[i];
    visit_close(b->visit);
    b->visit = NULL;
    arena_release(&b->visit_arena);
    body_clear(&b->body);
    parts_release(&b->parts);
    buf_release(&b->in);
    if (b->round > 0 && b->due.count > 0) {
        batch_set_state(b, BATCH_DUE);
        loop_defer(&b->start, batch_on_start, b);
    } else {
        b->round = 0;
        batch_set_state(b, BATCH_PAUSING);
        deadline_set(&b->timer, pool_conf(b->pool)->piece_interval_ms);
    }
    for (size_t i = 0; i < n; i++) {
        /* One that fails may make another leave. */
        for (size_t k = b->seat; k < b->nseats; k++)
            if (b->seats[k] == left[i]) {
                batch_fail(left[i], p, why);
                break;
            }
    }
    b->nseats = b->seat = 0;
}

/* Puts the member's piece behind the others'. */
static int batch_take_seat(struct batch *b, struct batch_member *m)
{
    struct arena *a = &b->visit_arena;
    struct buf text = { 0 };
    struct head head = { 0 };
    struct piece data = { 0 };
    uint64_t off = 0;
    char scratch[16 << 10];
    int rc = m->ops->make(m->owner, a, &head, &data);

    head.method = STR("POST");
    head.target = STR("/.tarry/piece");
    head.minor = 1;
    if (rc == 0)
        rc = head_add(&head, a, STR("Content-Length"), arena_printf(a, "%" PRIu64, data.len));
    if (rc == 0)
        rc = h1_write_head(&text, H1_REQUEST, &head);
    if (rc == 0)
        rc = body_append(&b->body, buf_str(&text).p, buf_len(&text));
    buf_release(&text);
    while (rc == 0 && off < data.len) {
        uint64_t want = data.len - off < sizeof(scratch) ? data.len - off : sizeof(scratch);
        struct str s;

        rc = body_read(data.body, data.off + off, (size_t)want, scratch, &s);
        if (rc == 0)
            rc = body_append(&b->body, s.p, s.n);
        off += s.n;
    }
    if (rc < 0)
        return -1;
    b->seats[b->nseats] = m;
    m->seat = &b->seats[b->nseats++];
    counter_add(COUNTER_PIECES, 1);
    return 0;
}

static int batch_make_head(struct batch *b)
{
    struct forward_hop hop = { .kind = STR("pieces") };
    struct arena *a = &b->visit_arena;

    b->head = (struct head){ .method = STR("POST"),
        .target = STR("/.tarry/pieces"),
        .authority = STR("tarry"),
        .minor = 1 };
    if (head_add(&b->head, a, STR("Content-Type"), STR("application/http; msgtype=request")) < 0 ||
        head_add(&b->head, a, STR("Content-Length"),
            arena_printf(a, "%" PRIu64, body_size(&b->body))) < 0 ||
        forward_add_tarry(&b->head, a, b->conf, pool_conf(b->pool), &hop) < 0)
        return -1;
    return head_set(&b->head, a, STR("Tarry-Features"), forward_features(true));
}

static void batch_on_start(void *owner)
{
    struct batch *b = owner;
    const struct pool_conf *pc = pool_conf(b->pool);
    struct visit_request r = { .want = { .ahead = true,
                                   .server = b->server,
                                   .server_wait_ms = pc->sticky_max_ms,
                                   .at = b->at,
                                   .only = true,
                                   .pieces = true } };

    batch_set_state(b, BATCH_VISITING);
    b->nseats = b->seat = 0;
    b->reading = BATCH_IN_HEAD;
    if (b->round == 0)
        b->round = b->due.count;
    while (b->nseats < BATCH_MAX && b->round > 0 && list_first(&b->due)) {
        struct batch_member *m = LIST_OWNER(list_take_first(&b->due), struct batch_member, node);

        b->round--;
        if (batch_take_seat(b, m) < 0) {
            batch_end_visit(b, PROBLEM_STORAGE, "the pieces cannot be put together");
            batch_fail(m, PROBLEM_STORAGE, "its piece cannot be put together");
            return;
        }
    }
    if (batch_make_head(b) == 0) {
        b->piece = (struct piece){ .body = &b->body, .len = body_size(&b->body) };
        r.head = &b->head;
        r.pieces = &b->piece;
        r.npieces = 1;
        b->visit = visit_open(b->pool, &r, &batch_visit_handler, b);
    }
    if (!b->visit)
        batch_end_visit(b, PROBLEM_INTERNAL, "out of memory");
}

/* The enclosed response of the seat in hand is complete. */
static void batch_next_seat(struct batch *b)
{
    struct batch_member *m = b->seats[b->seat++];

    b->reading = BATCH_IN_HEAD;
    parts_release(&b->parts);
    if (!m)
        return;
    batch_forget(m);
    m->ops->on_end(m->owner);
}

static int batch_check_head(struct batch *b, const struct head *head)
{
    struct h1_message m;

    if (h1_check_response(head, STR("POST"), &m) < 0)
        return -1;
    switch (m.framing) {
    case H1_CHUNKED:
        b->reading = BATCH_IN_PARTS;
        parts_init(&b->parts, b->conf->header_max);
        return 0;
    case H1_NO_BODY:
    case H1_LENGTH:
        b->reading = BATCH_IN_LENGTH;
        b->left = m.framing == H1_LENGTH ? m.length : 0;
        return 0;
    case H1_UNTIL_CLOSE:
        break;
    }
    return -1;
}

/* Takes an enclosed response's head off `in`. 1; 0: more is needed; or -1: it is malformed. */
static int batch_read_head(struct batch *b, struct str *in)
{
    struct h1_limits limits = limits_of(b->conf);
    struct field fields[H1_FIELDS_MAX];
    struct head head = { .fields = fields };
    struct h1_scan scan = { 0 };
    size_t before = buf_len(&b->in);
    ssize_t n;

    if (buf_append(&b->in, in->p, in->n) < 0)
        return -1;
    n = h1_parse_head(&scan, H1_RESPONSE, &limits, buf_str(&b->in), &head);
    if (n < 0 || (n == 0 && buf_len(&b->in) > limits.head_max))
        return -1;
    if (n == 0) {
        *in = str_make(in->p + in->n, 0);
        return 0;
    }
    *in = str_make(in->p + ((size_t)n - before), in->n - ((size_t)n - before));
    if (b->seat == b->nseats || batch_check_head(b, &head) < 0) {
        buf_release(&b->in);
        return -1;
    }
    if (b->seats[b->seat])
        b->seats[b->seat]->ops->on_head(b->seats[b->seat]->owner, &head);
    buf_release(&b->in);
    return 1;
}

/* Of a response in parts, or of a whole one that is chunked. */
static int batch_read_parts(struct batch *b, struct str *in)
{
    struct batch_member *m = b->seats[b->seat];
    struct str data;
    int rc = parts_next(&b->parts, in, &data);

    switch (rc) {
    case PARTS_DATA:
        if (m)
            m->ops->on_data(m->owner, data);
        return 1;
    case PARTS_TRAILER:
        if (m)
            m->ops->on_trailer(m->owner, &b->parts.trailer);
        return 1;
    case PARTS_CONTENT:
        if (m)
            m->ops->on_content(m->owner, data);
        return 1;
    case PARTS_END:
        batch_next_seat(b);
        return 1;
    default:
        return rc;
    }
}

static int batch_read_length(struct batch *b, struct str *in)
{
    size_t n = b->left < in->n ? (size_t)b->left : in->n;
    struct batch_member *m = b->seats[b->seat];

    b->left -= n;
    if (n > 0 && m)
        m->ops->on_data(m->owner, str_make(in->p, n));
    *in = str_make(in->p + n, in->n - n);
    if (b->left > 0)
        return 0;
    batch_next_seat(b);
    return 1;
}

/* The responses take effect as they come. -1: nonsense. */
static int batch_read(struct batch *b, struct str in)
{
    int rc = 1;

    while (rc > 0 && b->state == BATCH_VISITING) {
        switch (b->reading) {
        case BATCH_IN_HEAD:
            rc = in.n > 0 ? batch_read_head(b, &in) : 0;
            break;
        case BATCH_IN_PARTS:
            rc = batch_read_parts(b, &in);
            break;
        case BATCH_IN_LENGTH:
            rc = batch_read_length(b, &in);
            break;
        }
    }
    return rc < 0 ? -1 : 0;
}

static bool batch_is_answer(const struct head *head)
{
    struct str type, rest;

    str_cut(head_value(head, STR("content-type")), ';', &type, &rest);
    return head->status == 200 && str_eq_nocase(str_trim(type), STR("application/http"));
}

static void batch_on_message(void *owner, struct visit *v, const struct message *m)
{
    struct batch *b = owner;
    enum problem p;

    switch (m->kind) {
    case MESSAGE_HEAD:
        /* Another kind of response is not the helper's: it knows nothing of pieces. */
        if (!batch_is_answer(m->head))
            batch_end_visit(b, PROBLEM_WORKER_UNREACHABLE, "no process that takes pieces is there");
        break;
    case MESSAGE_DATA:
        if (batch_read(b, m->data) < 0)
            batch_end_visit(b, PROBLEM_WORKER_PROTOCOL, "the response to pieces is malformed");
        break;
    case MESSAGE_END:
        batch_end_visit(b, PROBLEM_WORKER_INCOMPLETE, "the response to pieces ended early");
        break;
    case MESSAGE_FAILED:
        p = (enum problem)m->detail;
        batch_end_visit(b,
            p == PROBLEM_QUEUE_TIMEOUT || p == PROBLEM_QUEUE_FULL ? PROBLEM_WORKER_UNREACHABLE : p,
            m->why);
        break;
    }
}

static void batch_on_started(void *owner, struct visit *v)
{
    counter_add(COUNTER_VISITS, 1);
    counter_add(COUNTER_PIECE_VISITS, 1);
}

static void batch_on_requeued(void *owner, struct visit *v)
{
}

static const struct visit_handler batch_visit_handler = {
    .on_message = batch_on_message,
    .on_started = batch_on_started,
    .on_requeued = batch_on_requeued,
};

static struct batch *batch_find(struct list *batches, const struct batch_process *at)
{
    LIST_EACH(n, batches) {
        struct batch *b = LIST_OWNER(n, struct batch, node);

        if (b->pool == at->pool && str_eq(b->server, at->server) && str_eq(b->at, at->at))
            return b;
    }
    return NULL;
}

static struct batch *batch_open(struct list *batches, const struct batch_process *at)
{
    struct batch *b = calloc(1, sizeof(*b));

    if (!b)
        return NULL;
    b->pool = pool_ref(at->pool);
    b->conf = conf_ref(at->conf);
    b->server = arena_copy(&b->arena, at->server);
    b->at = arena_copy(&b->arena, at->at);
    body_init(&b->body, b->conf->body_memory_max, b->conf->temp_dir.p);
    list_init(&b->due);
    deadline_init(&b->timer, batch_on_timer, b);
    list_push(batches, &b->node);
    if (b->server.p && b->at.p)
        return b;
    batch_close(b);
    return NULL;
}

int batch_join(struct list *batches, const struct batch_process *at, struct batch_member *m,
    const struct batch_ops *ops, void *owner)
{
    struct batch *b = batch_find(batches, at);

    if (!b)
        b = batch_open(batches, at);
    if (!b)
        return -1;
    m->ops = ops;
    m->owner = owner;
    m->batch = b;
    list_push(&b->due, &m->node);
    if (b->state == BATCH_IDLE) {
        batch_set_state(b, BATCH_DUE);
        loop_defer(&b->start, batch_on_start, b);
    }
    return 0;
}

void batch_leave(struct batch_member *m)
{
    if (m->batch)
        batch_forget(m);
}

/* A run whose exchange has ended: it outlives that until its process has been told. */
struct batch_cancelled {
    struct batch_member member;
    struct deferred_free deferred_free;
    unsigned hop;
    char exchange[64 + 1];
};

static void batch_free_cancelled(void *what)
{
    free(what);
}

static int batch_make_cancelled(void *owner, struct arena *a, struct head *head, struct piece *data)
{
    struct batch_cancelled *f = owner;

    if (head_add(head, a, STR("Tarry-Exchange"), str_of(f->exchange)) < 0 ||
        head_add(head, a, STR("Tarry-Hop"), arena_printf(a, "%u", f->hop)) < 0)
        return -1;
    return head_add(head, a, STR("Tarry-Outcome"), STR("cancelled"));
}

static void batch_ignore_head(void *owner, const struct head *head)
{
}

static void batch_ignore_data(void *owner, struct str data)
{
}

static void batch_end_cancelled(void *owner)
{
    struct batch_cancelled *f = owner;

    loop_free_later(&f->deferred_free, f, batch_free_cancelled);
}

static void batch_fail_cancelled(void *owner, enum problem p, const char *why)
{
    batch_end_cancelled(owner);
}

static const struct batch_ops cancelled_ops = {
    .make = batch_make_cancelled,
    .on_head = batch_ignore_head,
    .on_data = batch_ignore_data,
    .on_trailer = batch_ignore_head,
    .on_content = batch_ignore_data,
    .on_end = batch_end_cancelled,
    .on_failed = batch_fail_cancelled,
};

void batch_tell_cancelled(
    struct list *batches, const struct batch_process *at, const char *exchange, unsigned hop)
{
    struct batch_cancelled *f = calloc(1, sizeof(*f));

    if (!f)
        return;
    snprintf(f->exchange, sizeof(f->exchange), "%s", exchange);
    f->hop = hop;
    if (batch_join(batches, at, &f->member, &cancelled_ops, f) < 0)
        free(f);
}

void batches_close(struct list *batches)
{
    while (list_first(batches)) {
        struct batch *b = LIST_OWNER(list_first(batches), struct batch, node);

        while (list_first(&b->due))
            batch_fail(LIST_OWNER(list_first(&b->due), struct batch_member, node),
                PROBLEM_WORKER_UNREACHABLE, "Tarry stops");
        for (size_t i = b->seat; i < b->nseats; i++)
            if (b->seats[i])
                batch_fail(b->seats[i], PROBLEM_WORKER_UNREACHABLE, "Tarry stops");
        batch_close(b);
    }
}
