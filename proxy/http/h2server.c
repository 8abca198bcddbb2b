/* The server's part of HTTP/2: requests and responses, the connection's deadlines, what is put up
 * with, and how it ends.
 *
 *   DRAIN_NOT -> DRAIN_NOTICED -> DRAIN_LAST -> (dead)
 *
 * RFC 9113 6.8: who drains says so first (DRAIN_NOTICED: GOAWAY with the largest id), because requests
 * may be on their way; a round trip later it names the last one that it serves (DRAIN_LAST), and ends
 * when that is answered. */
#include "http/h2server.h"

#include <stdlib.h>

#include "base/num.h"
#include "http/h2.h"
#include "http/h2request.h"
#include "net/deadline.h"
#include "observe/counter.h"
#include "observe/log.h"

enum drain { DRAIN_NOT, DRAIN_NOTICED, DRAIN_LAST };

enum {
    HUGE_COUNTS = 10, /* glitches that a head counts as which is not read to its end */
    TICKS = 4,        /* looks at slow streams within the time that they have */
};

static const uint8_t notice_ping[8] = { 'l', 'a', 's', 't', ' ', 'i', 'd', '?' };

struct h2_server {
    struct h2 h2;
    struct accepted accepted;
    struct acceptor *acceptor;
    struct deadline early; /* for requests that were answered before they were complete */
    struct deadline watch; /* idle: its end; else the next look at what is slow */
    struct h2_guard guard;
    uint64_t opened_ms, noticed_ms;
    struct pace taken;   /* of what the connection has queued */
    struct pace framing; /* of all data that waits in streams */
    size_t requests;
    unsigned char drain; /* enum drain */
    bool watching;       /* time runs for something: the paces have begun */
    bool acknowledged;   /* our SETTINGS are */
    bool heard_back;     /* the notice's ping is answered */
};

static const struct stream_ops ops;

static struct h2_server *h2server_server_of(const struct h2 *h)
{
    return LIST_OWNER(h, struct h2_server, h2);
}

static void h2server_free_server(void *what)
{
    free(h2server_server_of(what));
}

/* What the role records */

static struct h2_stream *h2server_begin_head(struct h2 *h, const nghttp2_frame *f)
{
    struct h2_server *v = h2server_server_of(h);
    struct h2_stream *s;

    if (f->headers.cat != NGHTTP2_HCAT_REQUEST)
        return NULL; /* trailers: counted and dropped */
    h->open++;
    s = h2_stream_new(h);
    if (s)
        s->inbox = h2_inbox_new();
    if (!s || !s->inbox) {
        if (s) {
            s->wire_closed = true;
            h2_stream_ready(s);
        }
        nghttp2_submit_rst_stream(
            h->library, NGHTTP2_FLAG_NONE, f->hd.stream_id, NGHTTP2_REFUSED_STREAM);
        return NULL;
    }
    s->id = f->hd.stream_id;
    nghttp2_session_set_stream_user_data(h->library, s->id, s);
    v->requests++;
    return s;
}

static void h2server_refuse(struct h2_stream *s, int error)
{
    struct h2_server *v = h2server_server_of(s->session);

    s->serving->refusal = (signed char)error;
    if (s->glitched)
        return;
    s->glitched = true;
    s->session->role->on_abuse(&v->h2, H2_GLITCHES);
}

static bool h2server_head_too_large(struct h2_stream *s, const struct h2_block *block)
{
    const struct h2_limits *limits = s->session->limits;
    size_t excess = h2server_server_of(s->session)->acceptor->http2.head_excess;

    h2server_refuse(s, H1_E_HEAD_TOO_LARGE);
    if (block->bytes / excess <= limits->head_max && block->fields / excess <= limits->fields_max)
        return true;
    for (unsigned i = 0; i < HUGE_COUNTS; i++)
        s->session->role->on_abuse(s->session, H2_GLITCHES);
    return false;
}

static enum stream_error h2server_take_head(struct h2_stream *s, bool last)
{
    struct h2_server *v = h2server_server_of(s->session);
    struct head *head = &s->inbox->head;
    struct h1_message m;
    int error;

    s->serving->bodiless = str_eq(head->method, STR("HEAD"));
    s->head_complete = true;
    if (s->serving->refusal)
        return 0;
    switch (h2_check_request(s->inbox, &v->acceptor->limits, s->stream.secure, last, &m, &error)) {
    case H2_RESET:
        return STREAM_E_PROTOCOL;
    case H2_ANSWER:
        h2server_refuse(s, error);
        return 0;
    case H2_SERVE:
        break;
    }
    if (m.framing == H1_LENGTH)
        s->in_left = m.length;
    s->serving->expects_continue = m.expects_continue;
    return 0;
}

static enum stream_error h2server_close_error(
    const struct h2_stream *s, uint32_t code, bool by_peer)
{
    return STREAM_E_GONE;
}

static enum stream_error h2server_end_error(
    const struct h2_stream *s, uint64_t sent, enum stream_error error)
{
    return error == STREAM_E_TIMEOUT ? error : STREAM_E_GONE;
}

static void h2server_on_frame(struct h2 *h, const nghttp2_frame *f)
{
    struct h2_server *v = h2server_server_of(h);

    if (!(f->hd.flags & NGHTTP2_FLAG_ACK))
        return;
    if (f->hd.type == NGHTTP2_SETTINGS)
        v->acknowledged = true;
    else if (f->hd.type == NGHTTP2_PING && v->drain == DRAIN_NOTICED &&
             memcmp(f->ping.opaque_data, notice_ping, sizeof(notice_ping)) == 0)
        v->heard_back = true;
    h2_wake(h);
}

static void h2server_on_abuse(struct h2 *h, enum h2_abuse what)
{
    struct h2_server *v = h2server_server_of(h);

    if (what == H2_RESETS)
        counter_add(COUNTER_HTTP2_RESETS, 1);
    else if (what == H2_GLITCHES)
        counter_add(COUNTER_HTTP2_GLITCHES, 1);
    if (!h2_guard_count(&v->guard, &v->acceptor->http2.abuse, what, loop_now_ms()) || h->abuse)
        return;
    h->abuse = h2_abuse_name(what);
    h2_wake(h);
}

static void h2server_on_wrote(struct h2 *h, size_t n)
{
    struct h2_server *v = h2server_server_of(h);

    h2_guard_wrote(&v->guard, &v->acceptor->http2.abuse, n);
}

static void h2server_on_short_write(struct h2 *h, size_t n)
{
    if (n < h2server_server_of(h)->acceptor->http2.abuse.tiny_write)
        h2server_on_abuse(h, H2_TINY);
}

/* RFC 9113 8.1: the rest of the request is not wanted, and RST_STREAM with NO_ERROR says so. Not at
 * once: curl 7.88 loses a response that comes in one read with its reset, and node never ends the
 * stream. Most clients end or stop by themselves meanwhile. */
static void h2server_on_answered_early(struct h2_stream *s)
{
    struct h2_server *v = h2server_server_of(s->session);

    s->serving->ended_ms = loop_now_ms();
    if (!deadline_is_set(&v->early))
        deadline_set(&v->early, v->acceptor->http2.early_answer_wait_ms);
}

static bool h2server_was_answered_early(const struct h2_stream *s)
{
    return s->end_sent && !s->in_ended && !s->owned && !s->wire_closed;
}

static void h2server_on_early(void *owner)
{
    struct h2_server *v = owner;
    struct list *lists[] = { &v->h2.quiet, &v->h2.ready };
    uint64_t now = loop_now_ms(), wait = v->acceptor->http2.early_answer_wait_ms;
    uint64_t next = UINT64_MAX;

    for (size_t i = 0; i < 2; i++) {
        LIST_EACH(n, lists[i]) {
            struct h2_stream *s = LIST_OWNER(n, struct h2_stream, node);
            uint64_t due = s->serving->ended_ms + wait;

            if (!h2server_was_answered_early(s))
                continue;
            if (due <= now)
                nghttp2_submit_rst_stream(
                    v->h2.library, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR);
            else if (due - now < next)
                next = due - now;
        }
    }
    if (next != UINT64_MAX)
        deadline_set(&v->early, next);
    h2_wake(&v->h2);
}

/* Requests and their deadlines */

static void h2server_give_head(struct h2_stream *s, const struct h2_inbox *inbox)
{
    struct h2_server *v = h2server_server_of(s->session);
    struct stream_request r = {
        .head = inbox->head.method.n && inbox->head.target.n ? &inbox->head : NULL,
        .body = !s->in_ended || buf_len(&s->in) > 0,
        .length_known = s->in_left != UINT64_MAX,
        .length = s->in_left != UINT64_MAX ? s->in_left + buf_len(&s->in) : 0,
        .expects_continue = s->serving->expects_continue,
        .error_status = s->serving->refusal ? h1_error_status(s->serving->refusal) : 0,
        .error = s->serving->refusal ? h1_strerror(s->serving->refusal) : NULL,
    };

    s->serving->websocket = inbox->head.websocket && !s->serving->refusal;
    if (s->serving->websocket) {
        /* What comes before the answer waits in the stream's window. */
        r.body = false;
        r.length_known = true;
        r.length = 0;
        r.websocket_only = true;
        s->paused = true;
    }
    s->owned = true;
    if (!s->serving->refusal)
        addrlimit_settle(conn_place(v->h2.conn));
    if (!r.body && !s->serving->websocket) /* nothing will be told of it */
        s->given_in = H2_IN_DONE;
    v->acceptor->on_request(v->acceptor->owner, &s->stream, &r);
}

/* Whether something must happen on the stream for it to go on, and has not for so long. */
static bool h2server_is_slow(struct h2_server *v, struct h2_stream *s, bool *sending)
{
    struct pace_limits out = acceptor_send_pace(v->acceptor);
    struct pace_limits in = acceptor_body_pace(v->acceptor);
    uint64_t now = loop_now_ms();

    *sending = h2_stream_waits(s);
    if (*sending) {
        /* It waits for its turn behind others, not for its own window: that is not its fault. */
        if (nghttp2_session_get_stream_remote_window_size(v->h2.library, s->id) > 0)
            pace_begin(&s->serving->pace, now, s->serving->out_bytes);
        return !pace_keeps_up(&s->serving->pace, &out, now, s->serving->out_bytes);
    }
    return s->owned && s->given_in == H2_IN_BODY && !s->serving->websocket && !s->in_ended &&
           !s->paused && !s->error &&
           !pace_keeps_up(&s->serving->pace, &in, now, s->serving->in_bytes);
}

/* The owner hears of it, and may answer if only the request was slow. */
static void h2server_time_out(struct h2_stream *s, bool sending)
{
    counter_add(COUNTER_CLIENTS_TOO_SLOW, 1);
    s->given_in = H2_IN_FAILED;
    s->told = true;
    if (sending) {
        buf_release(&s->out);
        h2_stream_detach(s, NGHTTP2_CANCEL);
        h2_stream_ready(s);
    }
    if (s->owned)
        stream_emit(
            &s->stream, (struct message){ .kind = MESSAGE_FAILED, .cause = STREAM_E_TIMEOUT });
}

static struct h2_stream *h2server_find_slow(struct h2_server *v, bool *sending)
{
    struct list *lists[] = { &v->h2.quiet, &v->h2.ready };

    for (size_t i = 0; i < 2; i++) {
        LIST_EACH(n, lists[i]) {
            struct h2_stream *s = LIST_OWNER(n, struct h2_stream, node);

            if (h2server_is_slow(v, s, sending))
                return s;
        }
    }
    return NULL;
}

/* Whether there is anything whose time runs. */
static bool h2server_needs_watch(const struct h2_server *v)
{
    const struct h2 *h = &v->h2;
    const struct list *lists[] = { &h->quiet, &h->ready };

    if (h->read_paused || h->block_open || !v->acknowledged || v->drain != DRAIN_NOT ||
        conn_queued(h->conn) > 0)
        return true;
    for (size_t i = 0; i < 2; i++) {
        LIST_EACH(n, lists[i]) {
            const struct h2_stream *s = LIST_OWNER(n, struct h2_stream, node);

            if (h2_stream_waits(s) || !s->owned ||
                (s->given_in == H2_IN_BODY && !s->serving->websocket))
                return true;
        }
    }
    return false;
}

static uint64_t h2server_tick_ms(const struct acceptor *a)
{
    uint64_t times[] = { a->header_timeout_ms, a->body_timeout_ms, a->send_timeout_ms,
        a->rate_window_ms, a->http2.common.ping_timeout_ms, a->http2.stalled_timeout_ms,
        a->http2.goaway_wait_ms };
    uint64_t least = a->http2.unread_timeout_ms;

    for (size_t i = 0; i < sizeof(times) / sizeof(*times); i++)
        if (times[i] < least)
            least = times[i];
    return least / TICKS > 0 ? least / TICKS : 1;
}

/* Whether the connection's window is what its streams wait for. */
static bool h2server_waits_for_window(struct h2_server *v)
{
    struct list *lists[] = { &v->h2.quiet, &v->h2.ready };

    for (size_t i = 0; i < 2; i++) {
        LIST_EACH(n, lists[i]) {
            struct h2_stream *s = LIST_OWNER(n, struct h2_stream, node);

            if (h2_stream_waits(s) &&
                nghttp2_session_get_stream_remote_window_size(v->h2.library, s->id) > 0)
                return true;
        }
    }
    return false;
}

/* Whether the client takes nothing of so many responses that it is none that is only slow. */
static bool h2server_is_stalled(struct h2_server *v)
{
    struct list *lists[] = { &v->h2.quiet, &v->h2.ready };
    const struct h2_server_limits *limits = &v->acceptor->http2;
    uint64_t now = loop_now_ms();
    bool all = now - v->framing.moved_ms >= limits->stalled_timeout_ms;
    size_t n = 0;

    for (size_t i = 0; i < 2; i++) {
        LIST_EACH(at, lists[i]) {
            struct h2_stream *s = LIST_OWNER(at, struct h2_stream, node);

            n += h2_stream_waits(s) &&
                 (all || now - s->serving->pace.moved_ms >= limits->stalled_timeout_ms);
        }
    }
    return n > limits->stalled_max;
}

/* The connection as a whole. NULL, or why it has been slow for too long, with the code to say so.
 */
static const char *h2server_look_at_connection(struct h2_server *v, uint32_t *code)
{
    const struct acceptor *a = v->acceptor;
    struct h2 *h = &v->h2;
    struct pace_limits out = acceptor_send_pace(a);
    uint64_t now = loop_now_ms();

    *code = NGHTTP2_ENHANCE_YOUR_CALM;
    if (h->read_paused && now - h->read_paused_ms >= a->http2.unread_timeout_ms) {
        h->peer_stalled = true;
        return "it does not read what it makes us send";
    }
    if (h->block_open && now - h->block_ms >= a->header_timeout_ms)
        return "a request's head did not come in time";
    if (h2server_is_stalled(v)) {
        h->peer_stalled = conn_queued(h->conn) > 0;
        return "it takes nothing of too many responses";
    }
    *code = NGHTTP2_NO_ERROR;
    if (conn_queued(h->conn) == 0)
        pace_begin(&v->taken, now, conn_bytes_taken(h->conn));
    if (!h2server_waits_for_window(v))
        pace_begin(&v->framing, now, h->out_bytes);
    if (!pace_keeps_up(&v->taken, &out, now, conn_bytes_taken(h->conn)) ||
        !pace_keeps_up(&v->framing, &out, now, h->out_bytes))
        return "it takes what it asked for too slowly (send_timeout, send_rate_min)";
    *code = NGHTTP2_SETTINGS_TIMEOUT;
    if (!v->acknowledged && now - v->opened_ms >= a->http2.common.ping_timeout_ms)
        return "it does not acknowledge our SETTINGS";
    return NULL;
}

static bool h2server_is_idle(const struct h2_server *v)
{
    return v->h2.open == 0 && !list_first(&v->h2.quiet) && !list_first(&v->h2.ready);
}

static void h2server_on_watch(void *owner)
{
    struct h2_server *v = owner;
    struct h2 *h = &v->h2;
    struct h2_stream *s;
    const char *why;
    uint32_t code;
    bool sending;

    if (v->accepted.node.on == &v->acceptor->idle) {
        h2_refuse(h, NGHTTP2_NO_ERROR, "idle");
        return;
    }
    why = h2server_look_at_connection(v, &code);
    if (why) {
        counter_add(COUNTER_CLIENTS_TOO_SLOW, 1);
        h2_refuse(h, code, why);
        return;
    }
    while (!h->dead && (s = h2server_find_slow(v, &sending)))
        h2server_time_out(s, sending);
    if (!h->dead)
        h2_wake(h); /* which sets the next one */
}

/* The end of the connection */

/* Whether it has nothing more to serve and has said so. */
static void h2server_drain_step(struct h2_server *v)
{
    struct h2 *h = &v->h2;
    uint64_t now = loop_now_ms();

    switch ((enum drain)v->drain) {
    case DRAIN_NOT:
        if (!v->acceptor->draining &&
            (v->acceptor->requests_max == 0 || v->requests < v->acceptor->requests_max))
            return;
        if (!v->acceptor->draining)
            counter_add(COUNTER_CONNECTIONS_USED_UP, 1);
        nghttp2_submit_shutdown_notice(h->library);
        nghttp2_submit_ping(h->library, NGHTTP2_FLAG_NONE, notice_ping);
        v->drain = DRAIN_NOTICED;
        v->noticed_ms = now;
        h2_wake(h);
        break;
    case DRAIN_NOTICED:
        if (!v->heard_back && now - v->noticed_ms < v->acceptor->http2.goaway_wait_ms)
            return;
        nghttp2_submit_goaway(h->library, NGHTTP2_FLAG_NONE,
            nghttp2_session_get_last_proc_stream_id(h->library), NGHTTP2_NO_ERROR, NULL, 0);
        v->drain = DRAIN_LAST;
        h2_wake(h);
        break;
    case DRAIN_LAST:
        if (h2server_is_idle(v) && !nghttp2_session_want_write(h->library))
            h2_finish(h);
        break;
    }
}

static void h2server_on_turn(struct h2 *h)
{
    struct h2_server *v = h2server_server_of(h);
    struct acceptor *a = v->acceptor;
    bool idle = h2server_is_idle(v) && !h->block_open;
    struct list *list = idle && v->acknowledged && v->drain == DRAIN_NOT ? &a->idle : &a->busy;

    h2server_drain_step(v);
    if (h->dead)
        return;
    if (v->accepted.node.on != list) {
        list_push(list, &v->accepted.node);
        deadline_clear(&v->watch);
    }
    if (deadline_is_set(&v->watch))
        return;
    if (list == &a->idle) {
        v->watching = false;
        deadline_set(&v->watch, a->keep_alive_timeout_ms);
        return;
    }
    if (!h2server_needs_watch(v)) {
        v->watching = false;
        return;
    }
    if (!v->watching) {
        pace_begin(&v->taken, loop_now_ms(), conn_bytes_taken(h->conn));
        pace_begin(&v->framing, loop_now_ms(), h->out_bytes);
    }
    v->watching = true;
    deadline_set(&v->watch, h2server_tick_ms(a));
}

static void h2server_on_dead(struct h2 *h)
{
    struct h2_server *v = h2server_server_of(h);
    char peer[ADDR_TEXT_MAX];

    list_remove(&v->accepted.node);
    deadline_close(&v->watch);
    deadline_close(&v->early);
    addr_ip_text(&h->peer, peer);
    if (h->sent_calm) {
        counter_add(COUNTER_HTTP2_FLOODS, 1);
        log_info(NULL, "HTTP/2 connection of %s ended: %s", peer, h->why);
    } else {
        log_debug(NULL, "HTTP/2 connection of %s ended: %s", peer, h->why);
    }
}

static const struct h2_role role = {
    .server = true,
    .begin_head = h2server_begin_head,
    .take_head = h2server_take_head,
    .close_error = h2server_close_error,
    .head_too_large = h2server_head_too_large,
    .on_frame = h2server_on_frame,
    .on_abuse = h2server_on_abuse,
    .on_wrote = h2server_on_wrote,
    .on_short_write = h2server_on_short_write,
    .on_answered_early = h2server_on_answered_early,
    .end_error = h2server_end_error,
    .give_head = h2server_give_head,
    .on_turn = h2server_on_turn,
    .on_dead = h2server_on_dead,
};

static struct h2_server *h2server_of_accepted(struct accepted *c)
{
    return LIST_OWNER(c, struct h2_server, accepted);
}

static void h2server_drain(struct accepted *c)
{
    h2_wake(&h2server_of_accepted(c)->h2);
}

static void h2server_cut(struct accepted *c)
{
    h2_die(&h2server_of_accepted(c)->h2, STREAM_E_GONE, "shutdown", false);
}

static bool h2server_retire(struct accepted *c)
{
    struct h2_server *v = h2server_of_accepted(c);

    if (!h2server_is_idle(v) || v->h2.block_open || conn_queued(v->h2.conn) > 0)
        return false;
    h2_refuse(&v->h2, NGHTTP2_NO_ERROR, "its place is needed");
    return true;
}

static const struct accepted_ops accepted_ops = {
    .drain = h2server_drain, .cut = h2server_cut, .retire = h2server_retire
};

/* A stream's operations that are the server's own */

/* Whether the owner can still send anything. */
static bool h2server_is_open(const struct h2_stream *s)
{
    return s->owned && !s->closed && !s->error && !s->wire_closed && !s->session->dead;
}

static int h2server_op_send_head(struct stream *stream, const struct head *head, bool end)
{
    const nghttp2_data_provider body = { .read_callback = h2_stream_read };
    struct h2_stream *s = h2_stream_of(stream);
    struct str length = head_value(head, STR("content-length"));
    char status[4];
    nghttp2_nv *nv;
    size_t n;
    int rc;

    if (!h2server_is_open(s) || s->given_out != H2_OUT_NOTHING)
        return 0;
    nv = h2_head_response(head, status,
        date_cached(&h2server_server_of(s->session)->acceptor->date, loop_wall_ms()), &n);
    s->serving->bodiless |= head->status == 204 || head->status == 304;
    rc = nv ? nghttp2_submit_response(
                  s->session->library, s->id, nv, n, end || s->serving->bodiless ? NULL : &body)
            : NGHTTP2_ERR_NOMEM;
    free(nv);
    if (rc != 0) {
        h2_stream_set_error(s, STREAM_E_MEMORY);
        return STREAM_E_MEMORY;
    }
    s->serving->tunnel = head->status == 101;
    if (s->serving->tunnel)
        h2_stream_pause(stream, false);
    else if (length.p && !num_parse_u64(length, &s->serving->out_left))
        s->serving->out_left = UINT64_MAX;
    if (end || s->serving->bodiless)
        s->serving->out_left = 0;
    s->given_out = end ? H2_OUT_DONE : H2_OUT_BODY;
    pace_begin(&s->serving->pace, loop_now_ms(), s->serving->out_bytes);
    h2_wake(s->session);
    return 0;
}

static int h2server_op_send_data(struct stream *stream, const void *p, size_t n)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (!h2server_is_open(s))
        return 0;
    if (n > s->serving->out_left) /* more than was announced is malformed */
        n = (size_t)s->serving->out_left;
    if (s->serving->out_left != UINT64_MAX)
        s->serving->out_left -= n;
    return h2_stream_send_data(stream, p, n);
}

static int h2server_op_send_end(struct stream *stream)
{
    struct h2_stream *s = h2_stream_of(stream);

    /* A short body must not look whole: stream_close() will cut it. */
    if (s->given_out == H2_OUT_BODY && s->serving->out_left > 0 &&
        s->serving->out_left != UINT64_MAX)
        return 0;
    return h2_stream_send_end(stream);
}

static void h2server_op_send_continue(struct stream *stream)
{
    static uint8_t name[] = ":status", value[] = "100";
    const nghttp2_nv nv = { name, value, sizeof(name) - 1, sizeof(value) - 1,
        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE };
    struct h2_stream *s = h2_stream_of(stream);

    if (!h2server_is_open(s) || !s->serving->expects_continue || s->in_ended ||
        s->given_out != H2_OUT_NOTHING)
        return;
    s->serving->expects_continue = false;
    nghttp2_submit_headers(s->session->library, NGHTTP2_FLAG_NONE, s->id, NULL, &nv, 1, NULL);
    h2_wake(s->session);
}

static void h2server_op_pause(struct stream *stream, bool paused)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (s->serving->websocket && !s->serving->tunnel) /* held until it is answered */
        return;
    if (!paused) /* a client that is held back is not slow */
        pace_begin(&s->serving->pace, loop_now_ms(), s->serving->in_bytes);
    h2_stream_pause(stream, paused);
}

/* What was given still arrives, and then the missing end shows. */
static void h2server_end_short(struct h2_stream *s, uint32_t code)
{
    if (s->given_out == H2_OUT_BODY)
        s->given_out = H2_OUT_CUT;
    h2_stream_let_go(s, code);
}

static void h2server_op_reset(struct stream *stream, enum stream_reset why)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (s->closed || !s->owned)
        return;
    if (why == STREAM_CANCEL && s->given_out == H2_OUT_BODY) {
        buf_release(&s->out);
        h2_stream_detach(s, NGHTTP2_CANCEL);
    }
    h2server_end_short(s, why == STREAM_CANCEL ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
}

static void h2server_op_close(struct stream *stream)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (s->closed || !s->owned)
        return;
    h2server_end_short(s, s->given_out == H2_OUT_NOTHING ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
}

static const struct ssl_st *h2server_op_tls(struct stream *s)
{
    return conn_ssl(h2_stream_of(s)->session->conn);
}

static const struct stream_ops ops = {
    .send_head = h2server_op_send_head,
    .send_data = h2server_op_send_data,
    .send_end = h2server_op_send_end,
    .send_continue = h2server_op_send_continue,
    .pause = h2server_op_pause,
    .reset = h2server_op_reset,
    .close = h2server_op_close,
    .tls = h2server_op_tls,
};

static nghttp2_session *h2server_make_library(struct h2 *h)
{
    nghttp2_session_callbacks *cbs;
    nghttp2_option *options;
    nghttp2_session *library = NULL;

    if (h2_library_setup(&cbs, &options) < 0)
        return NULL;
    nghttp2_option_set_builtin_recv_extension_type(options, NGHTTP2_PRIORITY_UPDATE);
    if (nghttp2_session_server_new3(&library, cbs, h, options, h2_memory()) != 0)
        library = NULL;
    nghttp2_session_callbacks_del(cbs);
    nghttp2_option_del(options);
    return library;
}

int h2_server_open(struct conn *conn, struct acceptor *a)
{
    struct h2_server *v = calloc(1, sizeof(*v));
    nghttp2_session *library = v ? h2server_make_library(&v->h2) : NULL;
    const nghttp2_settings_entry own[] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, a->http2.streams_max },
        { NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1 },
    };

    if (!library) {
        conn_close(conn);
        free(v);
        return -1;
    }
    v->acceptor = a;
    v->accepted.ops = &accepted_ops;
    v->opened_ms = loop_now_ms();
    deadline_init(&v->watch, h2server_on_watch, v);
    deadline_init(&v->early, h2server_on_early, v);
    h2_init(&v->h2, conn, library, &role, &ops, &a->http2.common, h2server_free_server);
    list_push(&a->busy, &v->accepted.node);
    counter_add(COUNTER_HTTP2_CONNECTIONS, 1);
    if (h2_greet(&v->h2, own, a->websockets ? 2 : 1) < 0) {
        h2_die(&v->h2, STREAM_E_MEMORY, "out of memory", false);
        return -1;
    }
    h2_receive(&v->h2);
    return 0;
}
