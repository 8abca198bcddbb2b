/* The server's part of HTTP/2: requests, abuse, and the connection's end. */
#include "http/h2server.h"

#include <stdlib.h>

#include "base/num.h"
#include "http/h2.h"
#include "http/h2callbacks.h"
#include "http/h2reply.h"
#include "http/h2request.h"
#include "http/h2served.h"
#include "http/h2watch.h"
#include "net/deadline.h"
#include "observe/counter.h"
#include "observe/log.h"

enum {
    HUGE_COUNTS = 10, /* glitches that a head counts as which is not read to its end */
};

static const uint8_t notice_ping[8] = { 'l', 'a', 's', 't', ' ', 'i', 'd', '?' };

static bool h2server_is_idle(const struct h2_server *v)
{
    return v->h2.open == 0 && !list_first(&v->h2.quiet) && !list_first(&v->h2.ready);
}

static void h2server_free_server(void *what)
{
    free(h2_server_of(what));
}

/* Called by the library: these only record */

static struct h2_stream *h2server_begin_head(struct h2 *h, const nghttp2_frame *f)
{
    struct h2_server *v = h2_server_of(h);
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
    struct h2_server *v = h2_server_of(s->session);

    s->serving->refusal = (signed char)error;
    if (s->glitched)
        return;
    s->glitched = true;
    s->session->role->on_abuse(&v->h2, H2_GLITCHES);
}

static bool h2server_head_too_large(struct h2_stream *s, const struct h2_block *block)
{
    const struct h2_limits *limits = s->session->limits;
    size_t excess = h2_server_of(s->session)->acceptor->http2.head_excess;

    h2server_refuse(s, H1_E_HEAD_TOO_LARGE);
    if (block->bytes / excess <= limits->head_max && block->fields / excess <= limits->fields_max)
        return true;
    for (unsigned i = 0; i < HUGE_COUNTS; i++)
        s->session->role->on_abuse(s->session, H2_GLITCHES);
    return false;
}

static enum stream_error h2server_take_head(struct h2_stream *s, bool last)
{
    struct h2_server *v = h2_server_of(s->session);
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
    struct h2_server *v = h2_server_of(h);

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
    struct h2_server *v = h2_server_of(h);

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
    struct h2_server *v = h2_server_of(h);

    h2_guard_wrote(&v->guard, &v->acceptor->http2.abuse, n);
}

static void h2server_on_short_write(struct h2 *h, size_t n)
{
    if (n < h2_server_of(h)->acceptor->http2.abuse.tiny_write)
        h2server_on_abuse(h, H2_TINY);
}

/* Requests and their deadlines */

static void h2server_give_head(struct h2_stream *s, const struct h2_inbox *inbox)
{
    struct h2_server *v = h2_server_of(s->session);
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
        addrlimit_settle(conn_address_slot(v->h2.conn));
    if (!r.body && !s->serving->websocket) /* nothing will be told of it */
        s->given_in = H2_IN_DONE;
    v->acceptor->on_request(v->acceptor->owner, &s->stream, &r);
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
    struct h2_server *v = h2_server_of(h);
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
    if (!h2_watch_is_needed(v)) {
        v->watching = false;
        return;
    }
    if (!v->watching) {
        pace_begin(&v->taken, loop_now_ms(), conn_bytes_taken(h->conn));
        pace_begin(&v->framing, loop_now_ms(), h->out_bytes);
    }
    v->watching = true;
    deadline_set(&v->watch, h2_watch_tick_ms(a));
}

static void h2server_on_dead(struct h2 *h)
{
    struct h2_server *v = h2_server_of(h);
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
    .on_answered_early = h2_watch_on_answered_early,
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
    h2_cut(&h2server_of_accepted(c)->h2, STREAM_E_GONE, "shutdown");
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
    deadline_init(&v->watch, h2_watch_on_deadline, v);
    deadline_init(&v->early, h2_watch_on_early, v);
    h2_init(&v->h2, conn, library, &role, &h2_reply_ops, &a->http2.common, h2server_free_server);
    list_push(&a->busy, &v->accepted.node);
    counter_add(COUNTER_HTTP2_CONNECTIONS, 1);
    if (h2_greet(&v->h2, own, a->websockets ? 2 : 1) < 0) {
        h2_die(&v->h2, STREAM_E_MEMORY, "out of memory", false);
        return -1;
    }
    h2_receive(&v->h2);
    return 0;
}
