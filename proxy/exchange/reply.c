/* Replies. The bytes of a body pass, in this order: unpack (behind keep-alive bytes), shape (an
 * error as an event), spool, encode, the client's stream. */
#include "exchange/reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "exchange/apiproblem.h"
#include "exchange/forward.h"
#include "exchange/unpack.h"
#include "http/fields.h"
#include "observe/panic.h"

enum {
    SPOOL_STEP = 16 << 10,
    SPOOL_SHARE = 4, /* of body_memory_max: many clients may be slow at a time */
};

/* A head that waits; flushed at the end of the turn, if at all. */
struct reply_held {
    struct head head;
    struct deferred flush;
};

#define MAY(s) (1u << REPLY_##s)
static const struct machine_state states[REPLY_NSTATES] = {
    [REPLY_NONE] = { "none", MAY(KEEP_ALIVE) | MAY(HELD) | MAY(STREAMING) | MAY(CUT) },
    [REPLY_KEEP_ALIVE] = { "keep-alive", MAY(HELD) | MAY(STREAMING) | MAY(CUT) },
    [REPLY_HELD] = { "held", MAY(NONE) | MAY(KEEP_ALIVE) | MAY(STREAMING) | MAY(CUT) },
    [REPLY_STREAMING] = { "streaming", MAY(ENDED) | MAY(CUT) },
    [REPLY_ENDED] = { "ended", 0 },
    [REPLY_CUT] = { "cut", 0 },
};

const struct machine reply_machine = { "reply", states, REPLY_NSTATES };

const char *reply_state_name(enum reply_state s)
{
    return states[s].name;
}

static void reply_set_state(struct reply *r, enum reply_state to)
{
    BUG_IF(!machine_may_move(states, r->state, to));
    panic_move("reply", NULL, states[r->state].name, states[to].name);
    r->state = to;
}

static int reply_pass(void *owner, struct str data);
static int reply_begin(struct reply *r);

static void reply_on_encode_failed(void *owner)
{
    struct reply *r = owner;

    r->handler->on_failed(r->owner, REPLY_E_MEMORY);
}

void reply_init(struct reply *r, struct stream *client, const struct conf *conf,
    const struct head *request, struct arena *arena, const struct reply_handler *handler,
    void *owner)
{
    *r = (struct reply){
        .handler = handler,
        .owner = owner,
        .client = client,
        .conf = conf,
        .request = request,
        .arena = arena,
    };
}

static void reply_let_go(struct reply *r)
{
    struct stream *s = r->client;

    r->client = NULL;
    r->full = false;
    if (r->held)
        loop_undefer(&r->held->flush);
    if (r->encode)
        encode_release(r->encode);
    if (r->spool)
        body_clear(r->spool);
    r->spool_off = 0;
    if (s)
        stream_close(s);
}

static void reply_release_unpack(struct reply *r)
{
    if (r->unpack)
        unpack_release(r->unpack);
    r->unpack = NULL;
}

/* The last on the way: to the client's stream. */
static int reply_pass(void *owner, struct str data)
{
    struct reply *r = owner;
    int rc = stream_send_data(r->client, data.p, data.n);

    r->bytes += data.n;
    if (rc == STREAM_FULL)
        r->full = true;
    return rc < 0 && rc != STREAM_FULL ? -1 : 0;
}

static int reply_send(struct reply *r, struct str data)
{
    int rc = r->encode && r->encode->encoder ? encode_data(r->encode, data) : reply_pass(r, data);

    return rc < 0 ? REPLY_E_MEMORY : REPLY_OK;
}

/* Keeps what the client does not take yet. */
static int reply_keep(struct reply *r, struct str data)
{
    if (!r->spool) {
        r->spool = arena_alloc(r->arena, sizeof(*r->spool));
        if (!r->spool)
            return REPLY_E_MEMORY;
        body_init(r->spool, r->conf->body_memory_max / SPOOL_SHARE, r->conf->temp_dir.p);
    }
    return body_append(r->spool, data.p, data.n) < 0 ? REPLY_E_STORAGE : REPLY_OK;
}

/* Plain bytes for the client: sent in steps, for what it does not take is for the spool, not for
 * the memory of its stream. */
static int reply_put(struct reply *r, struct str data)
{
    if (!r->client) {
        r->bytes += data.n;
        return REPLY_OK;
    }
    while (data.n > 0 && (r->spool_max == 0 || (!r->full && reply_kept(r) == 0))) {
        size_t n = data.n < SPOOL_STEP || r->spool_max == 0 ? data.n : SPOOL_STEP;
        int rc = reply_send(r, str_make(data.p, n));

        if (rc < 0)
            return rc;
        data = str_make(data.p + n, data.n - n);
    }
    return data.n > 0 ? reply_keep(r, data) : REPLY_OK;
}

/* The error's body as the data of one event: each of its lines is one (WHATWG HTML 9.2.6). */
static int reply_put_lines(struct reply *r, struct str data)
{
    while (data.n > 0) {
        ssize_t end = str_find_char(data, '\n');
        size_t n = end < 0 ? data.n : (size_t)end + 1;
        int rc = reply_put(r, str_make(data.p, n));

        if (rc == REPLY_OK && end >= 0)
            rc = reply_put(r, STR("data: "));
        if (rc < 0)
            return rc;
        data = str_make(data.p + n, data.n - n);
    }
    return REPLY_OK;
}

static int reply_put_shaped(struct reply *r, struct str data)
{
    int rc = r->state == REPLY_HELD ? reply_begin(r) : REPLY_OK;

    if (rc < 0)
        return rc;
    return r->shape == REPLY_ERROR_EVENT ? reply_put_lines(r, data) : reply_put(r, data);
}

/* The head to send for `in`: with a coding for the body, where that suits. */
static const struct head *reply_encode(
    struct reply *r, struct arena *scratch, const struct head *in, struct head *out)
{
    const struct compression_conf *cc = &r->conf->compression;

    if (!r->compress || cc->ntypes == 0)
        return in;
    r->encode = arena_alloc(r->arena, sizeof(*r->encode));
    if (!r->encode)
        return in;
    *r->encode =
        (struct encode){ .pass = reply_pass, .on_failed = reply_on_encode_failed, .owner = r };
    return encode_begin(r->encode, cc, r->request, scratch, in, out);
}

/* Sends the head that was held. */
static int reply_begin(struct reply *r)
{
    struct reply_held *held = r->held;
    struct arena scratch = { 0 };
    struct head encoded;
    int rc = 0;

    r->held = NULL;
    reply_set_state(r, REPLY_STREAMING);
    if (!held)
        return r->shape == REPLY_ERROR_EVENT ? reply_put(r, STR("event: error\ndata: ")) : REPLY_OK;
    loop_undefer(&held->flush);
    r->status = held->head.status;
    if (!r->client)
        return REPLY_OK;
    rc = stream_send_head(r->client, reply_encode(r, &scratch, &held->head, &encoded), false);
    arena_release(&scratch);
    if (rc == STREAM_FULL)
        r->full = true;
    return rc < 0 && rc != STREAM_FULL ? REPLY_E_MEMORY : REPLY_OK;
}

static void reply_on_flush(void *owner)
{
    struct reply *r = owner;
    int rc = reply_begin(r);

    if (rc < 0)
        r->handler->on_failed(r->owner, rc);
}

static int reply_on_unpacked(void *owner, struct str data)
{
    return reply_put_shaped(owner, data) < 0 ? -1 : 0;
}

static void reply_on_unpack_done(void *owner, int result)
{
    struct reply *r = owner;

    if (result < 0)
        r->handler->on_failed(r->owner, REPLY_E_CODING);
    else if (r->source == REPLY_SOURCE_ENDED)
        reply_drained(r);
    else if (!r->full)
        r->handler->on_room(r->owner);
}

/* Keep-alive bytes have fixed the head: it announces no coding, and in an event stream an error has
 * to be an event. */
static int reply_adapt(struct reply *r, const struct head *head)
{
    enum coding coding;

    if (r->keep_alive == KEEP_ALIVE_SSE && head->status >= 400 && !head_is_event_stream(head))
        r->shape = REPLY_ERROR_EVENT;
    if (decoder_coding_of(head, &coding) < 0)
        return REPLY_E_CODING;
    if (coding == CODING_IDENTITY)
        return REPLY_OK;
    r->unpack = arena_alloc(r->arena, sizeof(*r->unpack));
    if (!r->unpack || unpack_init(r->unpack, coding, UINT64_MAX, reply_on_unpacked,
                          reply_on_unpack_done, r) < 0) {
        r->unpack = NULL;
        return REPLY_E_MEMORY;
    }
    return REPLY_OK;
}

int reply_head(struct reply *r, const struct head *head, enum reply_hold hold, size_t spool_max)
{
    struct reply_held borrowed = { .head = *head };
    int rc;

    BUG_IF(r->state == REPLY_HELD);
    r->spool_max = spool_max;
    r->shape = REPLY_PLAIN;
    if (r->keep_alive != KEEP_ALIVE_OFF) {
        rc = reply_adapt(r, head);
        if (rc == REPLY_OK)
            reply_set_state(r, REPLY_HELD);
        return rc;
    }
    r->held = &borrowed;
    if (hold == REPLY_AT_ONCE) {
        reply_set_state(r, REPLY_HELD);
        return reply_begin(r);
    }
    r->held = arena_alloc(r->arena, sizeof(*r->held));
    if (!r->held || head_copy(r->arena, &r->held->head, head, 0) < 0) {
        r->held = NULL;
        return REPLY_E_MEMORY;
    }
    reply_set_state(r, REPLY_HELD);
    if (hold == REPLY_WITH_TURN)
        loop_defer(&r->held->flush, reply_on_flush, r);
    return REPLY_OK;
}

void reply_drop_held(struct reply *r)
{
    if (r->state != REPLY_HELD)
        return;
    if (r->held)
        loop_undefer(&r->held->flush);
    r->held = NULL;
    reply_release_unpack(r);
    reply_set_state(r, r->keep_alive == KEEP_ALIVE_OFF ? REPLY_NONE : REPLY_KEEP_ALIVE);
}

static int reply_pressure(const struct reply *r)
{
    if (!r->client)
        return REPLY_OK;
    if (r->spool_max > 0)
        return reply_kept(r) > r->spool_max ? REPLY_FULL : REPLY_OK;
    return r->full ? REPLY_FULL : REPLY_OK;
}

int reply_data(struct reply *r, struct str data)
{
    int rc;

    if (data.n == 0)
        return reply_pressure(r);
    if (r->unpack) {
        rc = unpack_put(r->unpack, data); /* nothing has begun until plain bytes come of it */
        if (rc != UNPACK_OK)
            return rc == UNPACK_BUSY ? REPLY_FULL : REPLY_E_CODING;
    } else {
        rc = reply_put_shaped(r, data);
    }
    return rc == REPLY_OK ? reply_pressure(r) : rc;
}

/* All that was kept has gone: the end. */
static int reply_finish(struct reply *r)
{
    if (r->client && r->encode && r->encode->encoder && encode_end(r->encode) < 0)
        return REPLY_E_MEMORY;
    if (r->client)
        stream_send_end(r->client);
    reply_set_state(r, REPLY_ENDED);
    reply_let_go(r);
    return REPLY_OK;
}

int reply_end(struct reply *r)
{
    int rc = REPLY_OK;

    r->source = REPLY_SOURCE_ENDED;
    if (r->unpack) {
        rc = unpack_end(r->unpack);
        if (rc == UNPACK_BUSY)
            return REPLY_FULL;
        if (rc < 0)
            return REPLY_E_CODING;
    }
    if (r->state == REPLY_HELD)
        rc = reply_begin(r);
    if (rc < 0)
        return rc;
    if (r->shape == REPLY_ERROR_EVENT) {
        r->shape = REPLY_PLAIN;
        if (reply_put(r, STR("\n\n")) < 0)
            return REPLY_E_MEMORY;
    }
    if (r->client && reply_kept(r) > 0)
        return REPLY_FULL;
    return reply_finish(r);
}

/* Sends what was kept, as far as the client takes it. */
static int reply_pump(struct reply *r)
{
    char scratch[SPOOL_STEP];

    while (r->client && !r->full && reply_kept(r) > 0) {
        struct str data;
        int rc;

        if (body_read(r->spool, r->spool_off, sizeof(scratch), scratch, &data) < 0)
            return REPLY_E_STORAGE;
        r->spool_off += data.n;
        body_forget(r->spool, r->spool_off);
        rc = reply_send(r, data);
        if (rc < 0)
            return rc;
    }
    if (reply_kept(r) == 0 && r->spool) {
        body_clear(r->spool);
        r->spool_off = 0;
    }
    return REPLY_OK;
}

void reply_drained(struct reply *r)
{
    int rc;

    r->full = false;
    rc = reply_pump(r);
    if (rc == REPLY_OK && r->source == REPLY_SOURCE_ENDED) {
        rc = reply_end(r);
        if (rc == REPLY_OK)
            r->handler->on_ended(r->owner);
    } else if (rc == REPLY_OK && !(r->unpack && r->unpack->busy) &&
               (r->spool_max == 0 ? !r->full : reply_kept(r) < r->spool_max / 2 + 1)) {
        r->handler->on_room(r->owner);
    }
    if (rc < 0)
        r->handler->on_failed(r->owner, rc);
}

/* The problem as the end of what keep-alive bytes began. */
static int reply_send_late_problem(
    struct reply *r, enum problem p, unsigned status, const char *exchange)
{
    struct str json = apiproblem_json(r->arena, r->errors, p, status, exchange);

    reply_drop_held(r);
    reply_release_unpack(r);
    reply_set_state(r, REPLY_STREAMING);
    if (r->keep_alive == KEEP_ALIVE_SSE)
        json = arena_printf(r->arena, "event: error\ndata: " STR_FMT "\n\n", STR_ARG(json));
    return json.p ? reply_put(r, json) : REPLY_E_MEMORY;
}

int reply_problem(struct reply *r, enum problem p, unsigned status, const char *exchange,
    const struct head *cookies)
{
    struct str json;
    struct head head;
    int rc;

    r->shape = REPLY_PLAIN;
    r->spool_max = 0;
    r->source = REPLY_OPEN;
    if (r->keep_alive != KEEP_ALIVE_OFF)
        return reply_send_late_problem(r, p, status, exchange);
    reply_drop_held(r);
    json = apiproblem_json(r->arena, r->errors, p, status, exchange);
    if (problem_head(r->arena, p, status, loop_wall_ms(), json, &head) < 0 ||
        (r->retry_after_s && problem_retry_after(r->arena, r->retry_after_s, &head) < 0) ||
        apiproblem_head(r->arena, r->errors, exchange, &head) < 0 ||
        forward_add_cookies(r->arena, cookies, &head) < 0 ||
        /* After a malformed request the next bytes cannot be trusted. */
        (p == PROBLEM_BAD_REQUEST &&
            head_add(&head, r->arena, STR("Connection"), STR("close")) < 0))
        return REPLY_E_MEMORY;
    rc = reply_head(r, &head, REPLY_AT_ONCE, 0);
    if (rc == REPLY_OK && !r->head_only)
        rc = reply_put(r, json);
    return rc;
}

int reply_keep_alive(struct reply *r, enum keep_alive kind, const struct head *head)
{
    struct str bytes;

    if (!r->client || (r->state != REPLY_NONE && r->keep_alive == KEEP_ALIVE_OFF) ||
        !reply_may_answer(r))
        return 0;
    if (r->state == REPLY_NONE) {
        int rc = stream_send_head(r->client, head, false);

        if (rc < 0 && rc != STREAM_FULL)
            return -1;
        reply_set_state(r, REPLY_KEEP_ALIVE);
        r->status = head->status;
        r->keep_alive = kind;
        r->full = rc == STREAM_FULL;
    }
    /* A head that an earlier handoff has fixed stays what it is. */
    bytes = r->keep_alive == KEEP_ALIVE_SSE ? STR(": keep-alive\n\n") : STR(" ");
    return r->full ? 0 : reply_pass(r, bytes);
}

void reply_comment(struct reply *r)
{
    if (r->client && !r->full && reply_kept(r) == 0 &&
        (r->state == REPLY_STREAMING || r->state == REPLY_KEEP_ALIVE))
        reply_send(r, STR(": keep-alive\n\n"));
}

int reply_tunnel(struct reply *r, const struct head *head)
{
    int rc = r->client ? stream_send_head(r->client, head, false) : 0;

    reply_set_state(r, REPLY_STREAMING);
    r->status = head->status;
    r->spool_max = 0;
    return rc < 0 && rc != STREAM_FULL ? -1 : 0;
}

void reply_cut(struct reply *r)
{
    struct stream *s = r->client;

    if (r->state == REPLY_ENDED || r->state == REPLY_CUT)
        return;
    reply_set_state(r, REPLY_CUT);
    r->client = NULL;
    reply_let_go(r);
    reply_release_unpack(r);
    r->held = NULL;
    if (s)
        stream_reset(s, STREAM_ABORT);
}

void reply_client_gone(struct reply *r)
{
    reply_let_go(r);
}

void reply_release(struct reply *r)
{
    if (r->state != REPLY_ENDED && r->state != REPLY_CUT)
        reply_set_state(r, REPLY_CUT);
    reply_let_go(r);
    reply_release_unpack(r);
    if (r->spool)
        body_release(r->spool);
    r->spool = NULL;
}

void reply_describe(const struct reply *r, char *buf, size_t n)
{
    snprintf(buf, n, "reply %s, %s, status %u, %" PRIu64 " bytes, %" PRIu64 " kept%s%s",
        states[r->state].name, r->client ? "client there" : "no client", r->status, r->bytes,
        reply_kept(r), r->full ? ", full" : "",
        r->keep_alive != KEEP_ALIVE_OFF ? ", head fixed by keep-alive" : "");
}
