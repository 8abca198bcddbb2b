/* The common part of HTTP/2: library callbacks, delivery, the turn, the probe, the end, and the
 * operations of a stream. */
#include "http/h2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STREAM_WINDOW =
        1
        << 20, /* unread data of one stream that its peer may send: what is buffered while paused */
    CONNECTION_WINDOW = INT32_MAX, /* one paused stream must not hold up the others */
    HEAD_SENT_MAX =
        1 << 20,       /* header block of ours; its parts have been bounded where they came from */
    GOODBYE_MS = 5000, /* for the last bytes of a connection that is done */
};

static void on_turn(void *owner);

void h2_wake(struct h2 *h)
{
    loop_defer(&h->turn, on_turn, h);
}

/* The memory goes with the last stream: their owners may hold them for longer than the connection
 * stands. */
static void bury_if_over(struct h2 *h)
{
    if (!h->dead || h->buried || list_first(&h->quiet) || list_first(&h->ready))
        return;
    h->buried = true;
    loop_undefer(&h->turn);
    loop_bury(&h->grave, h, h->free_role);
}

static void deliver(struct h2 *h)
{
    struct list_node *first;

    BUG_IF(h->inside);
    while ((first = list_first(&h->ready))) {
        list_push(&h->quiet, first);
        h2_stream_deliver(LIST_OWNER(first, struct h2_stream, node));
    }
}

/* What the library tells: recorded. None of these may call an owner. */

static struct h2_stream *find(struct h2 *h, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h->library, id);
}

static int on_begin_headers(nghttp2_session *library, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;

    h->block = (struct h2_block){ 0 };
    h->block_stream = h->role->begin_head(h, f);
    return 0;
}

static int on_header(nghttp2_session *library, const nghttp2_frame *f, const uint8_t *name,
    size_t namelen, const uint8_t *value, size_t valuelen, uint8_t flags, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = find(h, f->hd.stream_id);
    enum stream_error error = h2_head_take(&h->block, h->limits->head_max, h->limits->fields_max,
        h->block_stream ? h->block_stream->inbox : NULL, str_make((const char *)name, namelen),
        str_make((const char *)value, valuelen));

    if (!error)
        return 0;
    if (s)
        h2_stream_set_error(s, error);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the library resets the stream */
}

static int on_invalid_header(nghttp2_session *library, const nghttp2_frame *f, const uint8_t *name,
    size_t namelen, const uint8_t *value, size_t valuelen, uint8_t flags, void *user)
{
    struct h2_stream *s = find(user, f->hd.stream_id);

    if (s)
        h2_stream_set_error(s, STREAM_E_PROTOCOL);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void take_end(struct h2_stream *s)
{
    if (s->error)
        return;
    s->in_ended = true;
    h2_stream_ready(s);
}

static void on_headers_complete(struct h2 *h, const nghttp2_frame *f)
{
    struct h2_stream *s = h->block_stream;
    bool last = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    enum stream_error error;

    h->block_stream = NULL;
    if (s && !s->error) {
        error = h->role->take_head(s, last);
        if (error) {
            h2_stream_set_error(s, error);
            nghttp2_submit_rst_stream(
                h->library, NGHTTP2_FLAG_NONE, f->hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
            return;
        }
        h2_stream_ready(s);
    }
    s = find(h, f->hd.stream_id);
    if (last && s)
        take_end(s);
}

static int on_frame(nghttp2_session *library, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s;

    switch (f->hd.type) {
    case NGHTTP2_HEADERS:
        on_headers_complete(h, f);
        break;
    case NGHTTP2_DATA:
        s = f->hd.flags & NGHTTP2_FLAG_END_STREAM ? find(h, f->hd.stream_id) : NULL;
        if (s)
            take_end(s);
        break;
    case NGHTTP2_RST_STREAM:
        s = find(h, f->hd.stream_id);
        if (s)
            h2_stream_set_error(s, h->role->close_error(s, f->rst_stream.error_code, true));
        break;
    case NGHTTP2_SETTINGS:
        if (!(f->hd.flags & NGHTTP2_FLAG_ACK))
            h->settled = true;
        break;
    case NGHTTP2_GOAWAY:
        h->going = true;
        h->goaway_code = f->goaway.error_code;
        break;
    default:
        break;
    }
    return 0;
}

static int on_begin_frame(nghttp2_session *library, const nghttp2_frame_hd *hd, void *user)
{
    struct h2_stream *s = hd->type == NGHTTP2_DATA ? find(user, hd->stream_id) : NULL;

    if (s && hd->length > s->in_left)
        s->in_too_long = true;
    return 0;
}

static int on_data(
    nghttp2_session *library, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *user)
{
    struct h2_stream *s = find(user, id);

    /* The connection's window opens at once: what a stream may hold is bounded by its own. */
    nghttp2_session_consume_connection(library, n);
    if (!s || s->error || s->given_in == H2_IN_FAILED)
        return 0;
    if (buf_append(&s->in, data, n) < 0) {
        h2_stream_set_error(s, STREAM_E_MEMORY);
        return nghttp2_submit_rst_stream(library, NGHTTP2_FLAG_NONE, id, NGHTTP2_INTERNAL_ERROR);
    }
    if (s->in_left != UINT64_MAX)
        s->in_left -= n;
    h2_stream_ready(s);
    return 0;
}

static int before_frame(nghttp2_session *library, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = f->hd.type == NGHTTP2_HEADERS ? find(h, f->hd.stream_id) : NULL;

    if (s && s->begins_at == H2_NOT_SENT)
        s->begins_at = h->written;
    /* The library's own, when the peer breaks the protocol. */
    if (f->hd.type == NGHTTP2_GOAWAY && f->goaway.error_code != NGHTTP2_NO_ERROR)
        h->broken = true;
    return 0;
}

static int on_frame_not_sent(
    nghttp2_session *library, const nghttp2_frame *f, int error, void *user)
{
    struct h2_stream *s = f->hd.type == NGHTTP2_HEADERS ? find(user, f->hd.stream_id) : NULL;

    /* After GOAWAY no stream may begin; anything else is a head that cannot be framed. */
    if (s)
        h2_stream_set_error(
            s, error == NGHTTP2_ERR_START_STREAM_NOT_ALLOWED || error == NGHTTP2_ERR_SESSION_CLOSING
                   ? STREAM_E_REFUSED
                   : STREAM_E_PROTOCOL);
    return 0;
}

/* Never fails: some versions of the library leak then (CVE-2023-35945). */
static int on_stream_close(nghttp2_session *library, int32_t id, uint32_t code, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = find(h, id);

    BUG_IF(h->open == 0);
    h->open--;
    h2_wake(h);
    if (!s)
        return 0;
    if (h->block_stream == s)
        h->block_stream = NULL;
    h2_stream_cut(s);
    if (!s->in_ended)
        h2_stream_set_error(s, h->role->close_error(s, code, false));
    h2_stream_ready(s);
    return 0;
}

int h2_library_setup(nghttp2_session_callbacks **cbs, nghttp2_option **options)
{
    if (nghttp2_session_callbacks_new(cbs) != 0)
        return -1;
    if (nghttp2_option_new(options) != 0) {
        nghttp2_session_callbacks_del(*cbs);
        return -1;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(*cbs, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(*cbs, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(*cbs, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(*cbs, on_frame);
    nghttp2_session_callbacks_set_on_begin_frame_callback(*cbs, on_begin_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(*cbs, on_data);
    nghttp2_session_callbacks_set_before_frame_send_callback(*cbs, before_frame);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(*cbs, on_frame_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(*cbs, on_stream_close);
    nghttp2_option_set_no_auto_window_update(*options, 1);
    nghttp2_option_set_no_closed_streams(*options, 1);
    nghttp2_option_set_max_send_header_block_length(*options, HEAD_SENT_MAX);
    return 0;
}

/* The drive */

static void receive(struct h2 *h)
{
    struct str in = conn_input(h->conn);
    ssize_t n;

    if (in.n == 0)
        return;
    h->heard_ms = loop_now_ms();
    BUG_IF(h->inside);
    h->inside = true;
    n = nghttp2_session_mem_recv(h->library, (const uint8_t *)in.p, in.n);
    h->inside = false;
    if (n < 0) {
        h2_die(h, STREAM_E_PROTOCOL, nghttp2_strerror((int)n), false);
        return;
    }
    conn_consume(h->conn, in.n);
    h2_wake(h);
    deliver(h);
}

/* Frames go to the connection as long as it takes them; CONN_DRAINED comes back here. 0, or -1:
 * dead. */
static int flush(struct h2 *h)
{
    const uint8_t *p;
    ssize_t n;

    while (conn_queued(h->conn) <= CONN_OUTPUT_HIGH) {
        BUG_IF(h->inside);
        h->inside = true;
        n = nghttp2_session_mem_send(h->library, &p);
        h->inside = false;
        if (n == 0)
            return 0;
        if (n < 0 || conn_write(h->conn, p, (size_t)n) == CONN_E_MEMORY) {
            h2_die(h, STREAM_E_MEMORY, "out of memory", false);
            return -1;
        }
        h->written += (uint64_t)n;
    }
    return 0;
}

static void ask(struct h2 *h)
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
static void update_probe(struct h2 *h)
{
    if (!h->settled)
        return;
    if (h->open == 0) {
        h->asked = false;
        deadline_clear(&h->probe);
    } else if (!deadline_is_set(&h->probe)) {
        if (loop_now_ms() - h->heard_ms >= h->limits->ping_interval_ms)
            ask(h);
        else
            deadline_set(&h->probe, h->limits->ping_interval_ms);
    }
}

static void on_probe(void *owner)
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
        ask(h);
    else
        deadline_set(&h->probe, h->limits->ping_interval_ms - silent);
}

static void on_turn(void *owner)
{
    struct h2 *h = owner;

    deliver(h);
    if (h->dead || flush(h) < 0)
        return;
    deliver(h);
    if (h->dead)
        return;
    h->role->on_turn(h);
    if (h->dead)
        return;
    if (!nghttp2_session_want_read(h->library) && !nghttp2_session_want_write(h->library)) {
        /* The library has found the peer breaking the protocol, and says so in its GOAWAY. */
        conn_finish(h->conn, GOODBYE_MS);
        h->conn = NULL;
        h2_die(h, STREAM_E_PROTOCOL, "the peer broke the protocol", false);
        return;
    }
    update_probe(h);
}

static void on_conn(void *owner, struct conn *c, enum conn_event ev)
{
    struct h2 *h = owner;

    switch (ev) {
    case CONN_CONNECTED:
        break;
    case CONN_DATA:
        receive(h);
        break;
    case CONN_DRAINED:
        h2_wake(h);
        break;
    case CONN_EOF:
        /* Garbage is often followed by the end at once: what the library makes of it shows in what
         * it would send. */
        if (flush(h) == 0)
            h2_die(h, h->broken ? STREAM_E_PROTOCOL : STREAM_E_ENDED, "closed by the peer", false);
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
    deadline_init(&h->probe, on_probe, h);
    deadline_set(&h->probe, limits->ping_timeout_ms);
    conn_set_owner(conn, on_conn, h);
}

int h2_greet(struct h2 *h)
{
    const nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
            h->limits->head_max > UINT32_MAX ? UINT32_MAX : (uint32_t)h->limits->head_max },
        { NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
    };

    if (nghttp2_submit_settings(
            h->library, NGHTTP2_FLAG_NONE, settings, sizeof(settings) / sizeof(*settings)) != 0 ||
        nghttp2_session_set_local_window_size(
            h->library, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) != 0)
        return -1;
    h2_wake(h);
    return 0;
}

/* What the connection's end means for one stream. */
static enum stream_error end_of(const struct h2_stream *s, uint64_t sent, enum stream_error error)
{
    /* Provably not on its way: our own queue still had all of it. */
    if (s->begins_at == H2_NOT_SENT || s->begins_at >= sent)
        return STREAM_E_STALE;
    if (s->head_complete && (error == STREAM_E_TERMINATED || error == STREAM_E_ENDED))
        return STREAM_E_INCOMPLETE;
    return error;
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
    LIST_EACH(n, &h->quiet)
    {
        struct h2_stream *s = LIST_OWNER(n, struct h2_stream, node);

        h2_stream_set_error(s, end_of(s, sent, error));
    }
    LIST_EACH(n, &h->ready)
    {
        struct h2_stream *s = LIST_OWNER(n, struct h2_stream, node);

        if (!s->in_ended && !s->error)
            s->error = (signed char)end_of(s, sent, error);
    }
    conn_close(h->conn);
    nghttp2_session_del(h->library);
    h->library = NULL;
    loop_undefer(&h->turn);
    deliver(h);
    if (!quietly)
        h->role->on_dead(h);
    bury_if_over(h);
}

void h2_forget_stream(struct h2 *h)
{
    if (h->dead)
        bury_if_over(h);
    else
        h2_wake(h);
}

void h2_say_goodbye(struct h2 *h)
{
    if (h->dead)
        return;
    nghttp2_session_terminate_session(h->library, NGHTTP2_NO_ERROR);
    if (flush(h) < 0)
        return;
    conn_finish(h->conn, GOODBYE_MS);
    h->conn = NULL;
    h2_die(h, STREAM_E_ENDED, "no longer used", false);
}
