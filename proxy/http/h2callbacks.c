/* The library's callbacks record events. None of them may call a stream's owner. */
#include "http/h2callbacks.h"

#include <stdlib.h>
#include <string.h>

#include "base/reserve.h"
#include "http/h2session.h"
#include "http/h2stream.h"

enum {
    HEAD_SENT_MAX =
        1 << 20, /* header block of ours; its parts have been bounded where they came from */
};

static struct h2_stream *h2callbacks_find(struct h2 *h, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h->library, id);
}

static void h2callbacks_note(struct h2 *h, enum h2_abuse what)
{
    if (h->role->on_abuse)
        h->role->on_abuse(h, what);
}

/* One stream is counted once: the library may tell of its fault twice. */
static void h2callbacks_note_glitch(struct h2 *h, struct h2_stream *s)
{
    if (s && s->glitched)
        return;
    if (s)
        s->glitched = true;
    h2callbacks_note(h, H2_GLITCHES);
}

static int h2callbacks_on_begin_headers(
    nghttp2_session *library, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;

    h->block = (struct h2_block){ 0 };
    h->block_open = true;
    h->block_ms = loop_now_ms();
    h->block_stream = h->role->begin_head(h, f);
    return 0;
}

static int h2callbacks_on_header(nghttp2_session *library, const nghttp2_frame *f,
    const uint8_t *name, size_t namelen, const uint8_t *value, size_t valuelen, uint8_t flags,
    void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2callbacks_find(h, f->hd.stream_id);
    enum stream_error error = h2_head_take(&h->block, h->limits->head_max, h->limits->fields_max,
        h->block_stream ? h->block_stream->inbox : NULL, str_make((const char *)name, namelen),
        str_make((const char *)value, valuelen));

    if (!error)
        return 0;
    if (error == STREAM_E_HEAD_TOO_LARGE && s && s == h->block_stream && h->role->head_too_large &&
        h->role->head_too_large(s, &h->block))
        return 0;
    h2callbacks_note_glitch(h, s);
    if (s)
        h2_stream_set_error(s, error);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the library resets the stream */
}

static int h2callbacks_on_invalid_header(nghttp2_session *library, const nghttp2_frame *f,
    const uint8_t *name, size_t namelen, const uint8_t *value, size_t valuelen, uint8_t flags,
    void *user)
{
    struct h2_stream *s = h2callbacks_find(user, f->hd.stream_id);

    if (s)
        h2_stream_set_error(s, STREAM_E_PROTOCOL);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void h2callbacks_take_end(struct h2_stream *s)
{
    if (s->error)
        return;
    s->in_ended = true;
    h2_stream_ready(s);
}

static void h2callbacks_on_headers_complete(struct h2 *h, const nghttp2_frame *f)
{
    struct h2_stream *s = h->block_stream;
    bool last = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    enum stream_error error;

    h->block_stream = NULL;
    if (s && !s->error) {
        error = h->role->take_head(s, last);
        if (error) {
            h2callbacks_note_glitch(h, s);
            h2_stream_set_error(s, error);
            nghttp2_submit_rst_stream(
                h->library, NGHTTP2_FLAG_NONE, f->hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
            return;
        }
        h2_stream_ready(s);
    }
    s = h2callbacks_find(h, f->hd.stream_id);
    if (last && s)
        h2callbacks_take_end(s);
}

static int h2callbacks_on_frame(nghttp2_session *library, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s;

    if (h->role->on_frame)
        h->role->on_frame(h, f);
    switch (f->hd.type) {
    case NGHTTP2_HEADERS:
        h->block_open = false;
        h2callbacks_on_headers_complete(h, f);
        break;
    case NGHTTP2_DATA:
        if (f->hd.length > 0 && f->hd.length == f->data.padlen &&
            !(f->hd.flags & NGHTTP2_FLAG_END_STREAM))
            h2callbacks_note(h, H2_EMPTIES);
        s = f->hd.flags & NGHTTP2_FLAG_END_STREAM ? h2callbacks_find(h, f->hd.stream_id) : NULL;
        if (s)
            h2callbacks_take_end(s);
        break;
    case NGHTTP2_RST_STREAM:
        s = h2callbacks_find(h, f->hd.stream_id);
        if (s)
            h2_stream_set_error(s, h->role->close_error(s, f->rst_stream.error_code, true));
        break;
    case NGHTTP2_SETTINGS:
        if (!(f->hd.flags & NGHTTP2_FLAG_ACK))
            h->settled = true;
        break;
    case NGHTTP2_GOAWAY:
        h->draining = true;
        h->goaway_code = f->goaway.error_code;
        h->goaway_last = (uint32_t)f->goaway.last_stream_id;
        h->goaway_heard = true;
        break;
    default:
        break;
    }
    return 0;
}

static int h2callbacks_on_begin_frame(
    nghttp2_session *library, const nghttp2_frame_hd *hd, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = hd->type == NGHTTP2_DATA ? h2callbacks_find(h, hd->stream_id) : NULL;

    if (s && hd->length > s->in_left)
        s->in_too_long = true;
    switch (hd->type) {
    case NGHTTP2_DATA:
        if (hd->length == 0 && !(hd->flags & NGHTTP2_FLAG_END_STREAM))
            h2callbacks_note(h, H2_EMPTIES);
        break;
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION:
        if (hd->length == 0 && !(hd->flags & NGHTTP2_FLAG_END_HEADERS))
            h2callbacks_note(h, H2_EMPTIES);
        break;
    case NGHTTP2_RST_STREAM:
        h2callbacks_note(h, H2_RESETS);
        break;
    case NGHTTP2_WINDOW_UPDATE:
        h2callbacks_note(h, H2_UPDATES);
        break;
    case NGHTTP2_PRIORITY:
        /* RFC 9113 6.3. The library ignores all of them, since we use no priorities. */
        if (hd->stream_id == 0)
            h->fault = "PRIORITY on stream 0";
        h2callbacks_note(h, H2_CONTROLS);
        break;
    default:
        h2callbacks_note(h, H2_CONTROLS);
        break;
    }
    return 0;
}

static int h2callbacks_on_invalid_frame(
    nghttp2_session *library, const nghttp2_frame *f, int error, void *user)
{
    struct h2 *h = user;

    if (f->hd.type == NGHTTP2_HEADERS)
        h->block_open = false;
    h2callbacks_note_glitch(h, f->hd.stream_id > 0 ? h2callbacks_find(h, f->hd.stream_id) : NULL);
    return 0;
}

static int h2callbacks_on_data(
    nghttp2_session *library, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *user)
{
    struct h2_stream *s = h2callbacks_find(user, id);

    struct h2 *h = user;
    bool dropped = !s || s->error || s->given_in == H2_IN_FAILED;

    /* Bytes that are kept are credited to the connection window when the stream's owner has read
     * them, unless the connection window bounds nothing. */
    if (dropped || h->limits->connection_window == INT32_MAX)
        nghttp2_session_consume_connection(library, n);
    if (dropped)
        return 0;
    if (buf_append(&s->in, data, n) < 0) {
        h2_stream_set_error(s, STREAM_E_MEMORY);
        return nghttp2_submit_rst_stream(library, NGHTTP2_FLAG_NONE, id, NGHTTP2_INTERNAL_ERROR);
    }
    if (s->serving)
        s->serving->in_bytes += n;
    if (s->in_left != UINT64_MAX)
        s->in_left -= n;
    h2_stream_ready(s);
    return 0;
}

static int h2callbacks_before_frame(nghttp2_session *library, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s =
        f->hd.type == NGHTTP2_HEADERS ? h2callbacks_find(h, f->hd.stream_id) : NULL;

    if (s && s->begins_at == H2_NOT_SENT)
        s->begins_at = h->written;
    if (f->hd.type == NGHTTP2_RST_STREAM && f->rst_stream.error_code != NGHTTP2_NO_ERROR &&
        f->rst_stream.error_code != NGHTTP2_CANCEL &&
        f->rst_stream.error_code != NGHTTP2_INTERNAL_ERROR)
        h2callbacks_note_glitch(h, h2callbacks_find(h, f->hd.stream_id));
    /* The library's own, when the peer breaks the protocol. */
    if (f->hd.type == NGHTTP2_GOAWAY && f->goaway.error_code != NGHTTP2_NO_ERROR)
        h->broken = true;
    return 0;
}

static int h2callbacks_on_frame_sent(nghttp2_session *library, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s;

    if (f->hd.type == NGHTTP2_DATA && h->role->on_wrote)
        h->role->on_wrote(h, f->hd.length);
    if ((f->hd.type != NGHTTP2_DATA && f->hd.type != NGHTTP2_HEADERS) ||
        !(f->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    s = h2callbacks_find(h, f->hd.stream_id);
    if (!s)
        return 0;
    s->end_sent = true;
    if (h->role->on_answered_early && !s->owned && !s->in_ended)
        h->role->on_answered_early(s);
    return 0;
}

static int h2callbacks_on_frame_not_sent(
    nghttp2_session *library, const nghttp2_frame *f, int error, void *user)
{
    struct h2_stream *s =
        f->hd.type == NGHTTP2_HEADERS ? h2callbacks_find(user, f->hd.stream_id) : NULL;

    /* After GOAWAY no stream may begin; anything else is a head that cannot be framed. */
    if (s)
        h2_stream_set_error(
            s, error == NGHTTP2_ERR_START_STREAM_NOT_ALLOWED || error == NGHTTP2_ERR_SESSION_CLOSING
                   ? STREAM_E_REFUSED
                   : STREAM_E_PROTOCOL);
    return 0;
}

/* Never fails: some versions of the library leak then (CVE-2023-35945). */
static int h2callbacks_on_stream_close(
    nghttp2_session *library, int32_t id, uint32_t code, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2callbacks_find(h, id);

    if (h->open > 0)
        h->open--;
    h2_wake(h);
    if (!s)
        return 0;
    if (h->block_stream == s)
        h->block_stream = NULL;
    if (h->role->server ? !s->end_sent || !s->in_ended : !s->in_ended)
        h2_stream_set_error(s, h->role->close_error(s, code, false));
    h2_stream_cut(s);
    h2_stream_ready(s);
    return 0;
}

static void *h2callbacks_on_malloc(size_t n, void *data)
{
    return reserve_realloc(NULL, n > 0 ? n : 1);
}

static void h2callbacks_on_free(void *p, void *data)
{
    free(p);
}

static void *h2callbacks_on_calloc(size_t n, size_t size, void *data)
{
    void *p = size > 0 && n > SIZE_MAX / size ? NULL : h2callbacks_on_malloc(n * size, data);

    return p ? memset(p, 0, n * size) : NULL;
}

static void *h2callbacks_on_realloc(void *p, size_t n, void *data)
{
    return reserve_realloc(p, n);
}

nghttp2_mem *h2_memory(void)
{
    static nghttp2_mem memory = { .malloc = h2callbacks_on_malloc,
        .free = h2callbacks_on_free,
        .calloc = h2callbacks_on_calloc,
        .realloc = h2callbacks_on_realloc };

    return &memory;
}

int h2_library_setup(nghttp2_session_callbacks **cbs, nghttp2_option **options)
{
    if (nghttp2_session_callbacks_new(cbs) != 0)
        return -1;
    if (nghttp2_option_new(options) != 0) {
        nghttp2_session_callbacks_del(*cbs);
        return -1;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(*cbs, h2callbacks_on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(*cbs, h2callbacks_on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(*cbs, h2callbacks_on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(*cbs, h2callbacks_on_frame);
    nghttp2_session_callbacks_set_on_begin_frame_callback(*cbs, h2callbacks_on_begin_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(*cbs, h2callbacks_on_data);
    nghttp2_session_callbacks_set_before_frame_send_callback(*cbs, h2callbacks_before_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(
        *cbs, h2callbacks_on_invalid_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(*cbs, h2callbacks_on_frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(*cbs, h2callbacks_on_frame_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(*cbs, h2callbacks_on_stream_close);
    nghttp2_option_set_no_auto_window_update(*options, 1);
    nghttp2_option_set_no_closed_streams(*options, 1);
    nghttp2_option_set_max_send_header_block_length(*options, HEAD_SENT_MAX);
    return 0;
}
