/* A stream's operations that are the server's own. */
#include "http/h2reply.h"

#include <stdlib.h>

#include "base/num.h"
#include "http/date.h"
#include "http/h2served.h"
#include "net/loop.h"

/* Whether the owner can still send anything. */
static bool h2reply_is_open(const struct h2_stream *s)
{
    return s->owned && !s->closed && !s->error && !s->wire_closed && !s->session->dead;
}

static int h2reply_send_head(struct stream *stream, const struct head *head, bool end)
{
    const nghttp2_data_provider body = { .read_callback = h2_stream_read };
    struct h2_stream *s = h2_stream_of(stream);
    struct str length = head_value(head, STR("content-length"));
    char status[4];
    nghttp2_nv *nv;
    size_t n;
    int rc;

    if (!h2reply_is_open(s) || s->given_out != H2_OUT_NOTHING)
        return 0;
    nv = h2_head_response(
        head, status, date_cached(&h2_server_of(s->session)->acceptor->date, loop_wall_ms()), &n);
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

static int h2reply_send_data(struct stream *stream, const void *p, size_t n)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (!h2reply_is_open(s))
        return 0;
    if (n > s->serving->out_left) /* more than was announced is malformed */
        n = (size_t)s->serving->out_left;
    if (s->serving->out_left != UINT64_MAX)
        s->serving->out_left -= n;
    return h2_stream_send_data(stream, p, n);
}

static int h2reply_send_end(struct stream *stream)
{
    struct h2_stream *s = h2_stream_of(stream);

    /* A short body must not look whole: stream_close() will cut it. */
    if (s->given_out == H2_OUT_BODY && s->serving->out_left > 0 &&
        s->serving->out_left != UINT64_MAX)
        return 0;
    return h2_stream_send_end(stream);
}

static void h2reply_send_continue(struct stream *stream)
{
    static uint8_t name[] = ":status", value[] = "100";
    const nghttp2_nv nv = { name, value, sizeof(name) - 1, sizeof(value) - 1,
        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE };
    struct h2_stream *s = h2_stream_of(stream);

    if (!h2reply_is_open(s) || !s->serving->expects_continue || s->in_ended ||
        s->given_out != H2_OUT_NOTHING)
        return;
    s->serving->expects_continue = false;
    nghttp2_submit_headers(s->session->library, NGHTTP2_FLAG_NONE, s->id, NULL, &nv, 1, NULL);
    h2_wake(s->session);
}

static void h2reply_pause(struct stream *stream, bool paused)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (s->serving->websocket && !s->serving->tunnel) /* held until it is answered */
        return;
    if (!paused) /* a client that is held back is not slow */
        pace_begin(&s->serving->pace, loop_now_ms(), s->serving->in_bytes);
    h2_stream_pause(stream, paused);
}

/* The bytes that were given still arrive, and then the missing end shows. */
static void h2reply_end_short(struct h2_stream *s, uint32_t code)
{
    if (s->given_out == H2_OUT_BODY)
        s->given_out = H2_OUT_CUT;
    h2_stream_let_go(s, code);
}

static void h2reply_reset(struct stream *stream, enum stream_reset why)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (s->closed || !s->owned)
        return;
    if (why == STREAM_CANCEL && s->given_out == H2_OUT_BODY) {
        buf_release(&s->out);
        h2_stream_detach(s, NGHTTP2_CANCEL);
    }
    h2reply_end_short(s, why == STREAM_CANCEL ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
}

static void h2reply_close(struct stream *stream)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (s->closed || !s->owned)
        return;
    h2reply_end_short(s, s->given_out == H2_OUT_NOTHING ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
}

static const struct ssl_st *h2reply_tls(struct stream *s)
{
    return conn_ssl(h2_stream_of(s)->session->conn);
}

const struct stream_ops h2_reply_ops = {
    .send_head = h2reply_send_head,
    .send_data = h2reply_send_data,
    .send_end = h2reply_send_end,
    .send_continue = h2reply_send_continue,
    .pause = h2reply_pause,
    .reset = h2reply_reset,
    .close = h2reply_close,
    .tls = h2reply_tls,
};
