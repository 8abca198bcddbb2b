/* Looks at streams and connections a few times within the time that they have. */
#include "http/h2watch.h"

#include "http/h2.h"
#include "observe/counter.h"

enum {
    TICKS = 4, /* looks at slow streams within the time that they have */
};

/* Whether something must happen on the stream for it to go on, and has not for so long. */
static bool h2watch_is_slow(struct h2_server *v, struct h2_stream *s, bool *sending)
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
static void h2watch_time_out(struct h2_stream *s, bool sending)
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

static struct h2_stream *h2watch_find_slow(struct h2_server *v, bool *sending)
{
    struct list *lists[] = { &v->h2.quiet, &v->h2.ready };

    for (size_t i = 0; i < 2; i++) {
        LIST_EACH(n, lists[i]) {
            struct h2_stream *s = LIST_OWNER(n, struct h2_stream, node);

            if (h2watch_is_slow(v, s, sending))
                return s;
        }
    }
    return NULL;
}

/* Whether there is anything whose time runs. */
bool h2_watch_is_needed(const struct h2_server *v)
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

uint64_t h2_watch_tick_ms(const struct acceptor *a)
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
static bool h2watch_waits_for_window(struct h2_server *v)
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
static bool h2watch_is_stalled(struct h2_server *v)
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
static const char *h2watch_look_at_connection(struct h2_server *v, uint32_t *code)
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
    if (h2watch_is_stalled(v)) {
        h->peer_stalled = conn_queued(h->conn) > 0;
        return "it takes nothing of too many responses";
    }
    *code = NGHTTP2_NO_ERROR;
    if (conn_queued(h->conn) == 0)
        pace_begin(&v->taken, now, conn_bytes_taken(h->conn));
    if (!h2watch_waits_for_window(v))
        pace_begin(&v->framing, now, h->out_bytes);
    if (!pace_keeps_up(&v->taken, &out, now, conn_bytes_taken(h->conn)) ||
        !pace_keeps_up(&v->framing, &out, now, h->out_bytes))
        return "it takes what it asked for too slowly (send_timeout, send_rate_min)";
    *code = NGHTTP2_SETTINGS_TIMEOUT;
    if (!v->acknowledged && now - v->opened_ms >= a->http2.common.ping_timeout_ms)
        return "it does not acknowledge our SETTINGS";
    return NULL;
}

void h2_watch_on_deadline(void *owner)
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
    why = h2watch_look_at_connection(v, &code);
    if (why) {
        counter_add(COUNTER_CLIENTS_TOO_SLOW, 1);
        h2_refuse(h, code, why);
        return;
    }
    while (!h->dead && (s = h2watch_find_slow(v, &sending)))
        h2watch_time_out(s, sending);
    if (!h->dead)
        h2_wake(h); /* which sets the next one */
}

/* RFC 9113 8.1: the rest of the request is not wanted, and RST_STREAM with NO_ERROR says so. Not at
 * once: curl 7.88 loses a response that comes in one read with its reset, and node never ends the
 * stream. Most clients end or stop by themselves meanwhile. */
void h2_watch_on_answered_early(struct h2_stream *s)
{
    struct h2_server *v = h2_server_of(s->session);

    s->serving->ended_ms = loop_now_ms();
    if (!deadline_is_set(&v->early))
        deadline_set(&v->early, v->acceptor->http2.early_answer_wait_ms);
}

static bool h2watch_was_answered_early(const struct h2_stream *s)
{
    return s->end_sent && !s->in_ended && !s->owned && !s->wire_closed;
}

void h2_watch_on_early(void *owner)
{
    struct h2_server *v = owner;
    struct list *lists[] = { &v->h2.quiet, &v->h2.ready };
    uint64_t now = loop_now_ms(), wait = v->acceptor->http2.early_answer_wait_ms;
    uint64_t next = UINT64_MAX;

    for (size_t i = 0; i < 2; i++) {
        LIST_EACH(n, lists[i]) {
            struct h2_stream *s = LIST_OWNER(n, struct h2_stream, node);
            uint64_t due = s->serving->ended_ms + wait;

            if (!h2watch_was_answered_early(s))
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
