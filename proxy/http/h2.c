/* The common part of HTTP/2: library callbacks, delivery, the turn, the probe, the end, and the
 * operations of a stream. */
#include "http/h2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reserve.h"

enum {
    HEAD_SENT_MAX =
        1 << 20,       /* header block of ours; its parts have been bounded where they came from */
    FINISH_MS = 5000, /* for the last bytes of a connection that is done */
    CALM_MS = 500,     /* the same of one that is sent away */
    READ_AT_ONCE = 8192, /* bytes given to the library between two looks at what it answers */
    QUEUE_TOP = 5,       /* times queue_max */
};

static void h2_on_turn(void *owner);

void h2_wake(struct h2 *h)
{
    loop_defer(&h->turn, h2_on_turn, h);
}

/* The memory goes with the last stream: their owners may hold them for longer than the connection
 * stands. */
static void h2_free_if_over(struct h2 *h)
{
    if (!h->dead || h->freed || list_first(&h->quiet) || list_first(&h->ready))
        return;
    h->freed = true;
    loop_undefer(&h->turn);
    loop_free_later(&h->deferred_free, h, h->free_role);
}

static void h2_deliver(struct h2 *h)
{
    struct list_node *first;

    BUG_IF(h->inside);
    while ((first = list_first(&h->ready))) {
        list_push(&h->quiet, first);
        h2_stream_deliver(LIST_OWNER(first, struct h2_stream, node));
    }
}

/* What the library tells: recorded. None of these may call an owner. */

static struct h2_stream *h2_find(struct h2 *h, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h->library, id);
}

static void h2_note(struct h2 *h, enum h2_abuse what)
{
    if (h->role->on_abuse)
        h->role->on_abuse(h, what);
}

/* One stream is counted once: the library may tell of its fault twice. */
static void h2_note_glitch(struct h2 *h, struct h2_stream *s)
{
    if (s && s->glitched)
        return;
    if (s)
        s->glitched = true;
    h2_note(h, H2_GLITCHES);
}

static int h2_on_begin_headers(nghttp2_session *library, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;

    h->block = (struct h2_block){ 0 };
    h->block_open = true;
    h->block_ms = loop_now_ms();
    h->block_stream = h->role->begin_head(h, f);
    return 0;
}

static int h2_on_header(nghttp2_session *library, const nghttp2_frame *f, const uint8_t *name,
    size_t namelen, const uint8_t *value, size_t valuelen, uint8_t flags, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2_find(h, f->hd.stream_id);
    enum stream_error error = h2_head_take(&h->block, h->limits->head_max, h->limits->fields_max,
        h->block_stream ? h->block_stream->inbox : NULL, str_make((const char *)name, namelen),
        str_make((const char *)value, valuelen));

    if (!error)
        return 0;
    if (error == STREAM_E_HEAD_TOO_LARGE && s && s == h->block_stream && h->role->head_too_large &&
        h->role->head_too_large(s, &h->block))
        return 0;
    h2_note_glitch(h, s);
    if (s)
        h2_stream_set_error(s, error);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the library resets the stream */
}

static int h2_on_invalid_header(nghttp2_session *library, const nghttp2_frame *f,
    const uint8_t *name, size_t namelen, const uint8_t *value, size_t valuelen, uint8_t flags,
    void *user)
{
    struct h2_stream *s = h2_find(user, f->hd.stream_id);

    if (s)
        h2_stream_set_error(s, STREAM_E_PROTOCOL);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void h2_take_end(struct h2_stream *s)
{
    if (s->error)
        return;
    s->in_ended = true;
    h2_stream_ready(s);
}

static void h2_on_headers_complete(struct h2 *h, const nghttp2_frame *f)
{
    struct h2_stream *s = h->block_stream;
    bool last = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    enum stream_error error;

    h->block_stream = NULL;
    if (s && !s->error) {
        error = h->role->take_head(s, last);
        if (error) {
            h2_note_glitch(h, s);
            h2_stream_set_error(s, error);
            nghttp2_submit_rst_stream(
                h->library, NGHTTP2_FLAG_NONE, f->hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
            return;
        }
        h2_stream_ready(s);
    }
    s = h2_find(h, f->hd.stream_id);
    if (last && s)
        h2_take_end(s);
}

static int h2_on_frame(nghttp2_session *library, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s;

    if (h->role->on_frame)
        h->role->on_frame(h, f);
    switch (f->hd.type) {
    case NGHTTP2_HEADERS:
        h->block_open = false;
        h2_on_headers_complete(h, f);
        break;
    case NGHTTP2_DATA:
        if (f->hd.length > 0 && f->hd.length == f->data.padlen &&
            !(f->hd.flags & NGHTTP2_FLAG_END_STREAM))
            h2_note(h, H2_EMPTIES);
        s = f->hd.flags & NGHTTP2_FLAG_END_STREAM ? h2_find(h, f->hd.stream_id) : NULL;
        if (s)
            h2_take_end(s);
        break;
    case NGHTTP2_RST_STREAM:
        s = h2_find(h, f->hd.stream_id);
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
        break;
    default:
        break;
    }
    return 0;
}

static int h2_on_begin_frame(nghttp2_session *library, const nghttp2_frame_hd *hd, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = hd->type == NGHTTP2_DATA ? h2_find(h, hd->stream_id) : NULL;

    if (s && hd->length > s->in_left)
        s->in_too_long = true;
    switch (hd->type) {
    case NGHTTP2_DATA:
        if (hd->length == 0 && !(hd->flags & NGHTTP2_FLAG_END_STREAM))
            h2_note(h, H2_EMPTIES);
        break;
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION:
        if (hd->length == 0 && !(hd->flags & NGHTTP2_FLAG_END_HEADERS))
            h2_note(h, H2_EMPTIES);
        break;
    case NGHTTP2_RST_STREAM:
        h2_note(h, H2_RESETS);
        break;
    case NGHTTP2_WINDOW_UPDATE:
        h2_note(h, H2_UPDATES);
        break;
    case NGHTTP2_PRIORITY:
        /* RFC 9113 6.3. The library ignores all of them, since we use no priorities. */
        if (hd->stream_id == 0)
            h->fault = "PRIORITY on stream 0";
        h2_note(h, H2_CONTROLS);
        break;
    default:
        h2_note(h, H2_CONTROLS);
        break;
    }
    return 0;
}

static int h2_on_invalid_frame(
    nghttp2_session *library, const nghttp2_frame *f, int error, void *user)
{
    struct h2 *h = user;

    if (f->hd.type == NGHTTP2_HEADERS)
        h->block_open = false;
    h2_note_glitch(h, f->hd.stream_id > 0 ? h2_find(h, f->hd.stream_id) : NULL);
    return 0;
}

static int h2_on_data(
    nghttp2_session *library, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *user)
{
    struct h2_stream *s = h2_find(user, id);

    struct h2 *h = user;
    bool dropped = !s || s->error || s->given_in == H2_IN_FAILED;

    /* What is kept opens the connection's window when its owner has it, if that bounds more than
     * the stream's own does. */
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

static int h2_before_frame(nghttp2_session *library, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = f->hd.type == NGHTTP2_HEADERS ? h2_find(h, f->hd.stream_id) : NULL;

    if (s && s->begins_at == H2_NOT_SENT)
        s->begins_at = h->written;
    if (f->hd.type == NGHTTP2_RST_STREAM && f->rst_stream.error_code != NGHTTP2_NO_ERROR &&
        f->rst_stream.error_code != NGHTTP2_CANCEL &&
        f->rst_stream.error_code != NGHTTP2_INTERNAL_ERROR)
        h2_note_glitch(h, h2_find(h, f->hd.stream_id));
    /* The library's own, when the peer breaks the protocol. */
    if (f->hd.type == NGHTTP2_GOAWAY && f->goaway.error_code != NGHTTP2_NO_ERROR)
        h->broken = true;
    return 0;
}

static int h2_on_frame_sent(nghttp2_session *library, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s;

    if (f->hd.type == NGHTTP2_DATA && h->role->on_wrote)
        h->role->on_wrote(h, f->hd.length);
    if ((f->hd.type != NGHTTP2_DATA && f->hd.type != NGHTTP2_HEADERS) ||
        !(f->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    s = h2_find(h, f->hd.stream_id);
    if (!s)
        return 0;
    s->end_sent = true;
    if (h->role->on_answered_early && !s->owned && !s->in_ended)
        h->role->on_answered_early(s);
    return 0;
}

static int h2_on_frame_not_sent(
    nghttp2_session *library, const nghttp2_frame *f, int error, void *user)
{
    struct h2_stream *s = f->hd.type == NGHTTP2_HEADERS ? h2_find(user, f->hd.stream_id) : NULL;

    /* After GOAWAY no stream may begin; anything else is a head that cannot be framed. */
    if (s)
        h2_stream_set_error(
            s, error == NGHTTP2_ERR_START_STREAM_NOT_ALLOWED || error == NGHTTP2_ERR_SESSION_CLOSING
                   ? STREAM_E_REFUSED
                   : STREAM_E_PROTOCOL);
    return 0;
}

/* Never fails: some versions of the library leak then (CVE-2023-35945). */
static int h2_on_stream_close(nghttp2_session *library, int32_t id, uint32_t code, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2_find(h, id);

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

static void *h2_on_malloc(size_t n, void *data)
{
    return reserve_realloc(NULL, n > 0 ? n : 1);
}

static void h2_on_free(void *p, void *data)
{
    free(p);
}

static void *h2_on_calloc(size_t n, size_t size, void *data)
{
    void *p = size > 0 && n > SIZE_MAX / size ? NULL : h2_on_malloc(n * size, data);

    return p ? memset(p, 0, n * size) : NULL;
}

static void *h2_on_realloc(void *p, size_t n, void *data)
{
    return reserve_realloc(p, n);
}

nghttp2_mem *h2_memory(void)
{
    static nghttp2_mem memory = {
        .malloc = h2_on_malloc, .free = h2_on_free, .calloc = h2_on_calloc, .realloc = h2_on_realloc
    };

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
    nghttp2_session_callbacks_set_on_begin_headers_callback(*cbs, h2_on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(*cbs, h2_on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(*cbs, h2_on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(*cbs, h2_on_frame);
    nghttp2_session_callbacks_set_on_begin_frame_callback(*cbs, h2_on_begin_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(*cbs, h2_on_data);
    nghttp2_session_callbacks_set_before_frame_send_callback(*cbs, h2_before_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(*cbs, h2_on_invalid_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(*cbs, h2_on_frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(*cbs, h2_on_frame_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(*cbs, h2_on_stream_close);
    nghttp2_option_set_no_auto_window_update(*options, 1);
    nghttp2_option_set_no_closed_streams(*options, 1);
    nghttp2_option_set_max_send_header_block_length(*options, HEAD_SENT_MAX);
    return 0;
}

/* The drive */

/* The library got no memory, not even from the reserve. It may have kept a pointer to what it has
 * freed (1.52 does, where a frame cannot be queued): what it holds is lost rather than freed twice.
 */
static void h2_run_dry(struct h2 *h)
{
    h->library = NULL;
    h2_die(h, STREAM_E_MEMORY, "out of memory", false);
}

/* Frames go to the connection as long as it takes them; CONN_DRAINED comes back here. 0, or -1:
 * dead. */
static int h2_flush(struct h2 *h)
{
    const uint8_t *p;
    ssize_t n;

    while (conn_has_room(h->conn)) {
        BUG_IF(h->inside);
        h->inside = true;
        n = nghttp2_session_mem_send(h->library, &p);
        h->inside = false;
        if (n == 0)
            return 0;
        if (n < 0) {
            h2_run_dry(h);
            return -1;
        }
        if (conn_write(h->conn, p, (size_t)n) == CONN_E_MEMORY) {
            h2_die(h, STREAM_E_MEMORY, "out of memory", false);
            return -1;
        }
        h->written += (uint64_t)n;
        /* Who has more to send has it chosen from for the next frame: else what is urgent would
         * wait for a turn behind what is not. */
        h2_deliver(h);
        if (h->dead)
            return -1;
    }
    return 0;
}

/* A session that has failed for good is never fed again. */
static void h2_give_up(struct h2 *h, int error)
{
    uint32_t code = NGHTTP2_INTERNAL_ERROR;

    switch (error) {
    case NGHTTP2_ERR_NOMEM:
        h2_run_dry(h);
        return;
    case NGHTTP2_ERR_FLOODED:
    case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
        code = NGHTTP2_ENHANCE_YOUR_CALM;
        break;
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
        code = NGHTTP2_PROTOCOL_ERROR;
        break;
    default:
        break;
    }
    h->broken = code != NGHTTP2_INTERNAL_ERROR;
    h2_refuse(h, code, nghttp2_strerror(error));
}

/* Whether the peer makes us answer faster than it reads the answers: it is not read then. */
static bool h2_stop_reading(struct h2 *h)
{
    size_t max = h->limits->queue_max;

    if (max == 0 || nghttp2_session_get_outbound_queue_size(h->library) <= max)
        return false;
    if (h2_flush(h) < 0)
        return true;
    if (nghttp2_session_get_outbound_queue_size(h->library) > QUEUE_TOP * max) {
        h->peer_stalled = true;
        h2_refuse(h, NGHTTP2_ENHANCE_YOUR_CALM, "too many frames wait for a peer that reads none");
        return true;
    }
    if (nghttp2_session_get_outbound_queue_size(h->library) <= max)
        return false;
    h->read_paused = true;
    h->read_paused_ms = loop_now_ms();
    conn_pause(h->conn, true);
    return true;
}

void h2_receive(struct h2 *h)
{
    while (!h->dead && !h->read_paused) {
        struct str in = conn_input(h->conn);
        size_t most = in.n < READ_AT_ONCE ? in.n : READ_AT_ONCE;
        ssize_t n;

        if (in.n == 0)
            break;
        h->heard_ms = loop_now_ms();
        BUG_IF(h->inside);
        h->inside = true;
        n = nghttp2_session_mem_recv(h->library, (const uint8_t *)in.p, most);
        h->inside = false;
        if (n < 0) {
            h2_give_up(h, (int)n);
            return;
        }
        conn_consume(h->conn, most);
        if (h->fault) {
            h2_refuse(h, NGHTTP2_PROTOCOL_ERROR, h->fault);
            return;
        }
        if (h->abuse) {
            h2_refuse(h, NGHTTP2_ENHANCE_YOUR_CALM, h->abuse);
            return;
        }
        if (h2_stop_reading(h))
            break;
    }
    if (h->dead)
        return;
    h2_wake(h);
    h2_deliver(h);
}

static void h2_ask(struct h2 *h)
{
    h->asked = true;
    h->asked_ms = loop_now_ms();
    h->asked_out = conn_bytes_out(h->conn);
    nghttp2_submit_ping(h->library, NGHTTP2_FLAG_NONE, NULL);
    deadline_set(&h->probe, h->limits->ping_timeout_ms);
    h2_wake(h);
}

/* Nobody is asked while nobody waits. A connection that has been silent for long is asked as soon
 * as it is used again: it may have been dead for as long. */
static void h2_update_probe(struct h2 *h)
{
    if (!h->settled)
        return;
    if (h->open == 0) {
        h->asked = false;
        deadline_clear(&h->probe);
    } else if (!deadline_is_set(&h->probe)) {
        if (loop_now_ms() - h->heard_ms >= h->limits->ping_interval_ms)
            h2_ask(h);
        else
            deadline_set(&h->probe, h->limits->ping_interval_ms);
    }
}

static void h2_on_probe(void *owner)
{
    struct h2 *h = owner;
    uint64_t silent = loop_now_ms() - h->heard_ms;

    if (!h->settled) {
        h2_die(h, STREAM_E_TERMINATED, "no SETTINGS from the peer", false);
        return;
    }
    /* A queue that moves is a sign of life too: the ping may lie behind a long upload. */
    if (h->asked && h->heard_ms < h->asked_ms &&
        (conn_queued(h->conn) == 0 || conn_bytes_out(h->conn) == h->asked_out)) {
        h2_die(h, STREAM_E_TERMINATED, "the peer does not answer pings", false);
        return;
    }
    h->asked = false;
    if (silent >= h->limits->ping_interval_ms)
        h2_ask(h);
    else
        deadline_set(&h->probe, h->limits->ping_interval_ms - silent);
}

static void h2_on_turn(void *owner)
{
    struct h2 *h = owner;

    h2_deliver(h);
    if (h->dead || h2_flush(h) < 0)
        return;
    h2_deliver(h);
    if (h->dead)
        return;
    if (h->abuse) {
        h2_refuse(h, NGHTTP2_ENHANCE_YOUR_CALM, h->abuse);
        return;
    }
    if (h->read_paused && nghttp2_session_get_outbound_queue_size(h->library) <= h->limits->queue_max) {
        h->read_paused = false;
        conn_pause(h->conn, false);
        h2_receive(h);
        if (h->dead)
            return;
    }
    h->role->on_turn(h);
    if (h->dead)
        return;
    if (!nghttp2_session_want_read(h->library) && !nghttp2_session_want_write(h->library)) {
        /* The library has found the peer breaking the protocol, and says so in its GOAWAY; or a
         * client has said that it goes, and has all its responses. */
        conn_finish(h->conn, FINISH_MS);
        h->conn = NULL;
        h2_die(h, STREAM_E_PROTOCOL,
            h->broken || !h->role->server ? "the peer broke the protocol" : "the peer has gone",
            false);
        return;
    }
    h2_update_probe(h);
}

static void h2_on_conn(void *owner, struct conn *c, enum conn_event ev)
{
    struct h2 *h = owner;
    enum stream_error error;

    switch (ev) {
    case CONN_CONNECTED:
        break;
    case CONN_DATA:
        h2_receive(h);
        break;
    case CONN_DRAINED:
        h2_wake(h);
        break;
    case CONN_EOF:
        /* Garbage is often followed by the end at once: what the library makes of it shows in what
         * it would send. */
        if (h2_flush(h) < 0)
            break;
        error = h->broken ? STREAM_E_PROTOCOL : STREAM_E_ENDED;
        if (h->role->server) { /* a client that is done with sending reads its GOAWAY */
            conn_finish(h->conn, FINISH_MS);
            h->conn = NULL;
        }
        h2_die(h, error, "closed by the peer", false);
        break;
    case CONN_FAILED:
        h2_die(h, STREAM_E_TERMINATED, conn_strerror(c), false);
        break;
    }
}

void h2_init(struct h2 *h, struct conn *conn, nghttp2_session *library, const struct h2_role *role,
    const struct stream_ops *ops, const struct h2_limits *limits, void (*free_role)(void *what))
{
    h->conn = conn;
    h->library = library;
    h->role = role;
    h->ops = ops;
    h->limits = limits;
    h->free_role = free_role;
    h->peer = *conn_peer(conn);
    h->heard_ms = loop_now_ms();
    list_init(&h->quiet);
    list_init(&h->ready);
    deadline_init(&h->probe, h2_on_probe, h);
    deadline_set(&h->probe, limits->ping_timeout_ms);
    conn_set_owner(conn, h2_on_conn, h);
}

int h2_greet(struct h2 *h, const nghttp2_settings_entry *own, size_t n)
{
    nghttp2_settings_entry settings[8] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h->limits->stream_window },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
            h->limits->head_max > UINT32_MAX ? UINT32_MAX : (uint32_t)h->limits->head_max },
        { NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
    };

    for (size_t i = 0; i < n; i++)
        settings[4 + i] = own[i];
    if (nghttp2_submit_settings(h->library, NGHTTP2_FLAG_NONE, settings, 4 + n) != 0 ||
        nghttp2_session_set_local_window_size(
            h->library, NGHTTP2_FLAG_NONE, 0, (int32_t)h->limits->connection_window) != 0)
        return -1;
    h2_wake(h);
    return 0;
}

void h2_die(struct h2 *h, enum stream_error error, const char *why, bool quietly)
{
    uint64_t sent;

    if (h->dead)
        return;
    BUG_IF(h->inside);
    sent = h->conn ? conn_bytes_out(h->conn) : h->written;
    snprintf(h->why, sizeof(h->why), "%s", why);
    h->dead = true;
    deadline_close(&h->probe);
    while (list_first(&h->quiet))
        list_push(&h->ready, list_first(&h->quiet));
    LIST_EACH(n, &h->ready) {
        struct h2_stream *s = LIST_OWNER(n, struct h2_stream, node);

        if (h2_stream_may_fail(s))
            s->error = (signed char)h->role->end_error(s, sent, error);
    }
    conn_close(h->conn);
    nghttp2_session_del(h->library);
    h->library = NULL;
    loop_undefer(&h->turn);
    h2_deliver(h);
    if (!quietly)
        h->role->on_dead(h);
    h2_free_if_over(h);
}

void h2_forget_stream(struct h2 *h)
{
    if (h->dead)
        h2_free_if_over(h);
    else
        h2_wake(h);
}

void h2_finish(struct h2 *h)
{
    if (h->dead)
        return;
    nghttp2_session_terminate_session(h->library, NGHTTP2_NO_ERROR);
    if (h2_flush(h) < 0)
        return;
    conn_finish(h->conn, FINISH_MS);
    h->conn = NULL;
    h2_die(h, STREAM_E_ENDED, "no longer used", false);
}

void h2_refuse(struct h2 *h, uint32_t code, const char *why)
{
    unsigned char goaway[17] = { 0, 0, 8, NGHTTP2_GOAWAY };
    uint32_t last;

    if (h->dead)
        return;
    BUG_IF(h->inside);
    /* What the connection holds is whole frames: the library gives no others. */
    last = (uint32_t)nghttp2_session_get_last_proc_stream_id(h->library);
    for (unsigned i = 0; i < 4; i++) {
        goaway[9 + i] = (unsigned char)(last >> (24 - 8 * i));
        goaway[13 + i] = (unsigned char)(code >> (24 - 8 * i));
    }
    h->sent_calm = code == NGHTTP2_ENHANCE_YOUR_CALM;
    if (h->peer_stalled) {
        conn_reset(h->conn);
    } else {
        conn_write(h->conn, goaway, sizeof(goaway));
        conn_finish(h->conn, h->sent_calm ? CALM_MS : FINISH_MS);
    }
    h->conn = NULL;
    h2_die(h, STREAM_E_PROTOCOL, why, false);
}
