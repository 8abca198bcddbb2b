/* Delivery to the owner, and the owner's operations. */
#include "http/h2stream.h"

#include <stdlib.h>
#include <string.h>

#include "http/h2.h"

enum {
    OUT_HIGH = 64 << 10, /* of data that is not framed yet */
    OUT_LOW = 16 << 10,
};

void h2_stream_ready(struct h2_stream *s)
{
    if (s->closed)
        return;
    list_push(&s->session->ready, &s->node);
    h2_wake(s->session);
}

void h2_stream_set_error(struct h2_stream *s, enum stream_error error)
{
    if (s->in_ended || s->error || s->closed)
        return;
    s->error = (signed char)error;
    h2_stream_ready(s);
}

struct h2_stream *h2_stream_new(struct h2 *h)
{
    struct h2_stream *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
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

static void free_stream(void *what)
{
    free(what);
}

/* Delivery */

static void emit(struct h2_stream *s, struct stream_event ev)
{
    if (s->stream.on_event)
        s->stream.on_event(s->stream.owner, &s->stream, &ev);
}

static void deliver_head(struct h2_stream *s)
{
    struct h2_inbox *inbox = s->inbox;

    s->inbox = NULL;
    s->given_in = H2_IN_BODY;
    emit(s, (struct stream_event){ .kind = STREAM_HEAD, .head = &inbox->head });
    h2_inbox_free(inbox);
}

static void deliver_data(struct h2_stream *s)
{
    struct buf data = s->in;
    size_t n = buf_len(&data);

    s->in = (struct buf){ 0 };
    emit(s, (struct stream_event){ .kind = STREAM_DATA, .data = buf_str(&data) });
    buf_release(&data);
    if (!s->closed && !s->wire_closed && !s->session->dead) {
        nghttp2_session_consume_stream(s->session->library, s->id, n);
        h2_wake(s->session);
    }
}

/* What has come, in order: head, data, and how it ended. Each step may close the stream. */
void h2_stream_deliver(struct h2_stream *s)
{
    if (s->given_in == H2_IN_HEAD && s->head_complete && s->inbox)
        deliver_head(s);
    if (!s->closed && s->given_in == H2_IN_BODY && !s->paused && buf_len(&s->in) > 0)
        deliver_data(s);
    if (!s->closed && s->given_in == H2_IN_BODY && !s->paused && buf_len(&s->in) == 0 &&
        s->in_ended) {
        s->given_in = H2_IN_DONE;
        emit(s, (struct stream_event){ .kind = STREAM_END });
    }
    /* A reader that has paused gets the data first, and then hears that more will not come. */
    if (!s->closed && s->error && s->given_in < H2_IN_DONE && buf_len(&s->in) == 0) {
        s->given_in = H2_IN_FAILED;
        emit(s,
            (struct stream_event){ .kind = STREAM_FAILED, .error = (enum stream_error)s->error });
        return;
    }
    if (!s->closed && s->drained_due) {
        s->drained_due = false;
        if (!s->wire_closed && s->given_in != H2_IN_FAILED)
            emit(s, (struct stream_event){ .kind = STREAM_DRAINED });
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

    if (!s)
        return NGHTTP2_ERR_DEFERRED; /* its reset is on the way */
    if (n > buf_len(&s->out))
        n = buf_len(&s->out);
    if (n == 0 && s->given_out != H2_OUT_DONE)
        return NGHTTP2_ERR_DEFERRED;
    if (n > 0) {
        memcpy(to, buf_str(&s->out).p, n);
        buf_consume(&s->out, n);
    }
    if (s->full && buf_len(&s->out) <= OUT_LOW) {
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
    if (buf_append(&s->out, p, n) < 0) {
        h2_stream_reset(stream, STREAM_ABORT);
        return STREAM_E_MEMORY;
    }
    nghttp2_session_resume_data(h->library, s->id);
    h2_wake(h);
    if (buf_len(&s->out) <= OUT_HIGH)
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

/* The library forgets whose stream it is, and tells the peer unless both sides are through with it.
 */
static void detach(struct h2_stream *s, uint32_t code)
{
    struct h2 *h = s->session;

    if (h->dead || s->wire_closed || s->given_out == H2_OUT_NOTHING)
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
    stream->on_event = NULL;
    detach(s, why == STREAM_CANCEL ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
    s->given_in = H2_IN_FAILED;
    buf_release(&s->in);
    buf_release(&s->out);
}

void h2_stream_close(struct stream *stream)
{
    struct h2_stream *s = h2_stream_of(stream);
    struct h2 *h = s->session;

    if (s->closed)
        return;
    detach(s, s->in_ended ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
    s->closed = true;
    stream->on_event = NULL;
    h2_inbox_free(s->inbox);
    buf_release(&s->in);
    buf_release(&s->out);
    list_remove(&s->node);
    loop_bury(&s->grave, s, free_stream);
    h2_forget_stream(h);
}
