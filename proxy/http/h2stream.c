/* Delivery to the owner, and the owner's operations. */
#include "http/h2stream.h"

#include <stdlib.h>
#include <string.h>

#include "http/h2session.h"

enum {
    OUT_LOW = 4, /* a fourth of out_max: room again */
    DELIVER_STEP = 16 << 10,
};

void h2_stream_ready(struct h2_stream *s)
{
    if (s->closed)
        return;
    list_push(&s->session->ready, &s->node);
    h2_wake(s->session);
}

/* A request that is complete still waits for its response to be taken. */
bool h2_stream_may_fail(const struct h2_stream *s)
{
    if (s->error || s->closed)
        return false;
    return s->session->role->server ? !s->wire_closed : !s->in_ended;
}

void h2_stream_set_error(struct h2_stream *s, enum stream_error error)
{
    if (!h2_stream_may_fail(s))
        return;
    s->error = (signed char)error;
    h2_stream_ready(s);
}

struct h2_stream *h2_stream_new(struct h2 *h)
{
    size_t more = h->role->server ? sizeof(struct h2_serving) : 0;
    struct h2_stream *s = calloc(1, sizeof(*s) + more);

    if (!s)
        return NULL;
    if (more > 0) {
        s->serving = (struct h2_serving *)(void *)(s + 1);
        s->serving->out_left = UINT64_MAX;
    }
    s->session = h;
    s->stream.ops = h->ops;
    s->stream.peer = &h->peer;
    s->stream.secure = conn_has_tls(h->conn);
    s->stream.http2 = true;
    s->begins_at = H2_NOT_SENT;
    s->in_left = UINT64_MAX;
    list_push(&h->quiet, &s->node);
    return s;
}

static void h2stream_free_stream(void *what)
{
    free(what);
}

/* Delivery */

static void h2stream_deliver_head(struct h2_stream *s)
{
    struct h2_inbox *inbox = s->inbox;

    s->inbox = NULL;
    s->given_in = H2_IN_BODY;
    if (s->serving)
        pace_begin(&s->serving->pace, loop_now_ms(), s->serving->in_bytes);
    if (s->session->role->give_head)
        s->session->role->give_head(s, inbox);
    else
        stream_emit(&s->stream, (struct message){ .kind = MESSAGE_HEAD, .head = &inbox->head });
    h2_inbox_free(inbox);
}

/* Data that nobody wants any more: the connection's window must not shrink by it. */
static void h2stream_drop_in(struct h2_stream *s)
{
    size_t n = buf_len(&s->in);
    struct h2 *h = s->session;

    buf_release(&s->in);
    if (n == 0 || h->dead || h->limits->connection_window == INT32_MAX)
        return;
    nghttp2_session_consume_connection(h->library, n);
    h2_wake(h);
}

/* A large body whose owner keeps up may come faster: the round trip no longer bounds it. */
static void h2stream_widen(struct h2_stream *s, size_t n)
{
    const struct h2_limits *limits = s->session->limits;
    struct h2_read_ahead *ahead = limits->read_ahead;
    uint32_t more = limits->wide_window - limits->stream_window;

    if (!ahead || s->wider_by > 0)
        return;
    s->delivered += (uint32_t)n;
    if (s->delivered < limits->stream_window / 2 || s->paused || buf_len(&s->in) > 0 ||
        ahead->used + more > ahead->max ||
        nghttp2_session_set_local_window_size(
            s->session->library, NGHTTP2_FLAG_NONE, s->id, (int32_t)limits->wide_window) != 0)
        return;
    s->wider_by = more;
    ahead->used += more;
}

void h2_stream_narrow(struct h2_stream *s)
{
    if (s->wider_by > 0)
        s->session->limits->read_ahead->used -= s->wider_by;
    s->wider_by = 0;
}

static void h2stream_free_later(struct h2_stream *s)
{
    struct h2 *h = s->session;

    s->closed = true;
    s->stream.handler = NULL;
    h2_inbox_free(s->inbox);
    h2stream_drop_in(s);
    h2_stream_narrow(s);
    buf_release(&s->out);
    list_remove(&s->node);
    loop_free_later(&s->deferred_free, s, h2stream_free_stream);
    h2_forget_stream(h);
}

/* A step at a time: an owner who pauses is not given all that the window holds. */
static void h2stream_deliver_data(struct h2_stream *s)
{
    struct h2 *h = s->session;
    struct buf data = s->in; /* the owner may close the stream, and with it what it holds */
    size_t n = buf_len(&data) < DELIVER_STEP ? buf_len(&data) : DELIVER_STEP;

    s->in = (struct buf){ 0 };
    stream_emit(&s->stream,
        (struct message){ .kind = MESSAGE_DATA, .data = str_make(buf_str(&data).p, n) });
    if (s->closed || s->given_in != H2_IN_BODY) {
        n = buf_len(&data);
        buf_release(&data);
    } else {
        buf_consume(&data, n);
        s->in = data;
    }
    if (h->dead)
        return;
    if (h->limits->connection_window != INT32_MAX)
        nghttp2_session_consume_connection(h->library, n);
    if (!s->closed && !s->wire_closed) {
        h2stream_widen(s, n);
        nghttp2_session_consume_stream(h->library, s->id, n);
    }
    h2_wake(h);
}

/* Delivers head, data and end in order. Each step may close the stream. */
void h2_stream_deliver(struct h2_stream *s)
{
    bool server = s->session->role->server, gone;

    /* A request that was taken back before anybody saw it is not seen at all. */
    if (s->given_in == H2_IN_HEAD && s->head_complete && s->inbox && (s->owned || !s->error))
        h2stream_deliver_head(s);
    if (!s->closed && !s->owned) {
        if (s->wire_closed || s->session->dead)
            h2stream_free_later(s);
        return;
    }
    gone = server && s->error; /* nobody is left to answer */
    if (!s->closed && gone)
        h2stream_drop_in(s);
    while (!s->closed && s->given_in == H2_IN_BODY && !s->paused && buf_len(&s->in) > 0)
        h2stream_deliver_data(s);
    if (!s->closed && s->given_in == H2_IN_BODY && !s->paused && buf_len(&s->in) == 0 &&
        s->in_ended && !gone) {
        s->given_in = H2_IN_DONE;
        stream_emit(&s->stream, (struct message){ .kind = MESSAGE_END });
    }
    /* A reader that has paused gets the data first, and then hears that more will not come. */
    if (!s->closed && s->error && buf_len(&s->in) == 0 &&
        (server ? s->given_in != H2_IN_FAILED || !s->told : s->given_in < H2_IN_DONE)) {
        s->told = true;
        s->given_in = H2_IN_FAILED;
        stream_emit(&s->stream,
            (struct message){ .kind = MESSAGE_FAILED, .cause = (enum stream_error)s->error });
        return;
    }
    if (!s->closed && s->drained_due) {
        s->drained_due = false;
        if (!s->wire_closed && !s->error && (server || s->given_in != H2_IN_FAILED))
            stream_emit_drained(&s->stream);
    }
}

void h2_stream_cut(struct h2_stream *s)
{
    s->wire_closed = true;
    buf_release(&s->out);
}

ssize_t h2_stream_read(nghttp2_session *library, int32_t id, uint8_t *to, size_t n, uint32_t *flags,
    nghttp2_data_source *source, void *user)
{
    struct h2_stream *s = nghttp2_session_get_stream_user_data(library, id);

    struct h2 *h = user;

    if (!s)
        return NGHTTP2_ERR_DEFERRED; /* its reset is on the way */
    if (n < buf_len(&s->out) && h->role->on_short_write)
        h->role->on_short_write(h, n);
    if (n > buf_len(&s->out))
        n = buf_len(&s->out);
    if (n == 0 && s->given_out == H2_OUT_CUT)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the library resets the stream */
    if (n == 0 && s->given_out != H2_OUT_DONE)
        return NGHTTP2_ERR_DEFERRED;
    if (s->serving)
        s->serving->out_bytes += (uint64_t)n;
    h->out_bytes += (uint64_t)n;
    if (n > 0) {
        memcpy(to, buf_str(&s->out).p, n);
        buf_consume(&s->out, n);
    }
    if (s->full && buf_len(&s->out) <= h->limits->out_max / OUT_LOW) {
        s->full = false;
        s->drained_due = true;
        h2_stream_ready(s);
    }
    if (buf_len(&s->out) == 0 && s->given_out == H2_OUT_DONE)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

/* A stream's operations */

int h2_stream_send_data(struct stream *stream, const void *p, size_t n)
{
    struct h2_stream *s = h2_stream_of(stream);
    struct h2 *h = s->session;

    if (n == 0 || s->given_out != H2_OUT_BODY || s->wire_closed || s->error || h->dead)
        return 0; /* how it ended is told, or about to be */
    if (s->serving && buf_len(&s->out) == 0)
        pace_begin(&s->serving->pace, loop_now_ms(), s->serving->out_bytes);
    if (buf_append(&s->out, p, n) < 0) {
        h2_stream_reset(stream, STREAM_ABORT);
        return STREAM_E_MEMORY;
    }
    nghttp2_session_resume_data(h->library, s->id);
    h2_wake(h);
    if (buf_len(&s->out) < h->limits->out_max)
        return 0;
    s->full = true;
    return STREAM_FULL;
}

int h2_stream_send_end(struct stream *stream)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (s->given_out != H2_OUT_BODY)
        return 0;
    s->given_out = H2_OUT_DONE;
    if (s->serving && buf_len(&s->out) == 0)
        pace_begin(&s->serving->pace, loop_now_ms(), s->serving->out_bytes);
    if (!s->wire_closed && !s->session->dead) {
        nghttp2_session_resume_data(s->session->library, s->id);
        h2_wake(s->session);
    }
    return 0;
}

void h2_stream_pause(struct stream *stream, bool paused)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (s->closed || s->paused == paused)
        return;
    s->paused = paused;
    if (!paused)
        h2_stream_ready(s);
}

void h2_stream_detach(struct h2_stream *s, uint32_t code)
{
    struct h2 *h = s->session;

    if (h->dead || s->wire_closed || s->id <= 0)
        return;
    if (h->block_stream == s)
        h->block_stream = NULL;
    nghttp2_session_set_stream_user_data(h->library, s->id, NULL);
    nghttp2_submit_rst_stream(h->library, NGHTTP2_FLAG_NONE, s->id, code);
    s->wire_closed = true;
    h2_wake(h);
}

void h2_stream_reset(struct stream *stream, enum stream_reset why)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (s->closed)
        return;
    stream->handler = NULL;
    h2_stream_detach(s, why == STREAM_CANCEL ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
    s->given_in = H2_IN_FAILED;
    buf_release(&s->in);
    buf_release(&s->out);
}

void h2_stream_close(struct stream *stream)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (s->closed)
        return;
    h2_stream_detach(s, s->in_ended ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
    h2stream_free_later(s);
}

void h2_stream_let_go(struct h2_stream *s, uint32_t code)
{
    struct h2 *h = s->session;

    s->stream.handler = NULL;
    s->owned = false;
    s->given_in = H2_IN_FAILED;
    h2stream_drop_in(s);
    if (h->dead || s->wire_closed) {
        h2_stream_ready(s);
        if (h->dead)
            h2stream_free_later(s);
        return;
    }
    if (s->given_out == H2_OUT_DONE) {
        if (s->end_sent && !s->in_ended && h->role->on_answered_early)
            h->role->on_answered_early(s);
    } else if (s->given_out == H2_OUT_CUT) {
        nghttp2_session_resume_data(h->library, s->id);
    } else {
        buf_release(&s->out);
        h2_stream_detach(s, code);
        h2_stream_ready(s);
    }
    h2_wake(h);
}
