/* The client's part of HTTP/2: requests, responses, and how many at a time. */
#include "http/h2client.h"

#include <stdlib.h>

#include "base/num.h"
#include "http/h2callbacks.h"

enum {
    STREAMS_MAX = 1000, /* on one connection, however many the peer allows */
    STREAM_IDS_END =
        INT32_MAX - 2 * STREAMS_MAX, /* a connection that has used up its ids is retired in time */
};

struct h2_client {
    struct h2 h2;
    h2_client_event_fn *on_event;
    void *owner;
    size_t reserved; /* streams given out that have sent no head yet */
    size_t lost;     /* see h2_client_lost() */
    size_t told_room;
    bool told_draining, begun;
};

static struct h2_client *h2client_client_of(struct h2 *h)
{
    return LIST_OWNER(h, struct h2_client, h2);
}

static void h2client_free_client(void *what)
{
    free(h2client_client_of(what));
}

/* Called by the library: these only record */

static struct h2_stream *h2client_begin_head(struct h2 *h, const nghttp2_frame *f)
{
    struct h2_stream *s = nghttp2_session_get_stream_user_data(h->library, f->hd.stream_id);

    if (!s || s->head_complete || s->error)
        return NULL;
    if (!s->inbox)
        s->inbox = h2_inbox_new();
    if (!s->inbox) {
        h2_stream_set_error(s, STREAM_E_MEMORY);
        return NULL;
    }
    return s;
}

static enum stream_error h2client_take_head(struct h2_stream *s, bool last)
{
    struct head *head = &s->inbox->head;
    struct str length;

    if (head->status < 200) {
        h2_inbox_free(s->inbox);
        s->inbox = NULL;
        return last || ++s->interim > s->session->limits->interim_max ? STREAM_E_PROTOCOL : 0;
    }
    length = head_value(head, STR("content-length"));
    if (length.p && !num_parse_u64(length, &s->in_left))
        return STREAM_E_PROTOCOL;
    s->head_complete = true;
    return 0;
}

static enum stream_error h2client_close_error(
    const struct h2_stream *s, uint32_t code, bool by_peer)
{
    if (s->head_complete)
        return by_peer || !s->in_too_long ? STREAM_E_INCOMPLETE : STREAM_E_PROTOCOL;
    if (code == NGHTTP2_REFUSED_STREAM) /* a GOAWAY that leaves the stream out is turned into this
                                           by the library */
        return STREAM_E_REFUSED;
    return by_peer ? STREAM_E_TERMINATED : STREAM_E_PROTOCOL;
}

static void h2client_on_turn(struct h2 *h)
{
    struct h2_client *c = h2client_client_of(h);
    size_t room;

    if (nghttp2_session_get_next_stream_id(h->library) >= (uint32_t)STREAM_IDS_END)
        h->draining = true;
    if (h->draining && h->open == 0) {
        h2_finish(h);
        return;
    }
    room = h2_client_room(c);
    if (room == c->told_room && h->draining == c->told_draining)
        return;
    c->told_room = room;
    c->told_draining = h->draining;
    c->on_event(c->owner, c, H2_CLIENT_CHANGED);
}

static void h2client_on_dead(struct h2 *h)
{
    struct h2_client *c = h2client_client_of(h);

    c->on_event(c->owner, c, H2_CLIENT_CLOSED);
}

/* The error of one stream when the connection ends. */
static enum stream_error h2client_end_error(
    const struct h2_stream *s, uint64_t sent, enum stream_error error)
{
    /* Provably not on its way: our own queue still had all of it. */
    if (s->begins_at == H2_NOT_SENT || s->begins_at >= sent)
        return STREAM_E_STALE;
    h2client_client_of(s->session)->lost++;
    if (s->head_complete && (error == STREAM_E_TERMINATED || error == STREAM_E_ENDED))
        return STREAM_E_INCOMPLETE;
    return error;
}

static const struct h2_role role = {
    .begin_head = h2client_begin_head,
    .take_head = h2client_take_head,
    .close_error = h2client_close_error,
    .end_error = h2client_end_error,
    .on_turn = h2client_on_turn,
    .on_dead = h2client_on_dead,
};

/* A stream's operations that are the client's own */

static int h2client_op_send_head(struct stream *stream, const struct head *head, bool end)
{
    struct h2_stream *s = h2_stream_of(stream);
    struct h2 *h = s->session;
    const nghttp2_data_provider body = { .read_callback = h2_stream_read };
    nghttp2_nv *nv;
    size_t n;

    if (s->closed || s->given_out != H2_OUT_NOTHING || s->error || h->dead)
        return 0;
    nv = h->draining ? NULL : h2_head_request(head, stream->secure, &n);
    if (nv)
        s->id = nghttp2_submit_request(h->library, NULL, nv, n, end ? NULL : &body, s);
    free(nv);
    if (!nv || s->id <= 0) {
        enum stream_error error = h->draining || nv ? STREAM_E_REFUSED : STREAM_E_MEMORY;

        h2_stream_set_error(s, error);
        return error;
    }
    h2client_client_of(h)->reserved--;
    s->given_out = end ? H2_OUT_DONE : H2_OUT_BODY;
    h->open++;
    h2_wake(h);
    return 0;
}

static void h2client_op_send_continue(struct stream *stream)
{
}

static void h2client_op_reset(struct stream *stream, enum stream_reset why)
{
    h2_stream_reset(stream, why);
}

static void h2client_op_close(struct stream *stream)
{
    struct h2_stream *s = h2_stream_of(stream);

    if (!s->closed && s->given_out == H2_OUT_NOTHING)
        h2client_client_of(s->session)->reserved--;
    h2_stream_close(stream);
}

static const struct stream_ops ops = {
    .send_head = h2client_op_send_head,
    .send_data = h2_stream_send_data,
    .send_end = h2_stream_send_end,
    .send_continue = h2client_op_send_continue,
    .pause = h2_stream_pause,
    .reset = h2client_op_reset,
    .close = h2client_op_close,
};

static nghttp2_session *h2client_make_library(struct h2 *h)
{
    nghttp2_session_callbacks *cbs;
    nghttp2_option *options;
    nghttp2_session *library = NULL;

    if (h2_library_setup(&cbs, &options) < 0)
        return NULL;
    if (nghttp2_session_client_new3(&library, cbs, h, options, h2_memory()) != 0)
        library = NULL;
    nghttp2_session_callbacks_del(cbs);
    nghttp2_option_del(options);
    return library;
}

struct h2_client *h2_client_open(
    struct conn *conn, const struct h2_limits *limits, h2_client_event_fn *on_event, void *owner)
{
    struct h2_client *c = calloc(1, sizeof(*c));
    nghttp2_session *library = c ? h2client_make_library(&c->h2) : NULL;

    if (!library) {
        conn_close(conn);
        free(c);
        return NULL;
    }
    c->on_event = on_event;
    c->owner = owner;
    h2_init(&c->h2, conn, library, &role, &ops, limits, h2client_free_client);
    if (h2_greet(&c->h2, NULL, 0) < 0) {
        h2_die(&c->h2, STREAM_E_MEMORY, "out of memory", true);
        return NULL;
    }
    c->told_room = h2_client_room(c);
    return c;
}

size_t h2_client_limit(const struct h2_client *c)
{
    uint32_t most;

    if (!c->h2.settled || c->h2.dead)
        return 0;
    most =
        nghttp2_session_get_remote_settings(c->h2.library, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    return most < STREAMS_MAX ? most : STREAMS_MAX;
}

bool h2_client_settled(const struct h2_client *c)
{
    return c->h2.settled;
}

size_t h2_client_room(const struct h2_client *c)
{
    size_t limit = c->h2.settled ? h2_client_limit(c) : 1, used = h2_client_streams(c);

    return c->h2.dead || c->h2.draining || c->h2.checking || used >= limit ? 0 : limit - used;
}

bool h2_client_must_answer(struct h2_client *c)
{
    if (h2_client_streams(c) == 0)
        h2_check(&c->h2);
    if (c->h2.checking)
        c->told_room = 0;
    return c->h2.checking;
}

size_t h2_client_streams(const struct h2_client *c)
{
    return c->h2.open + c->reserved;
}

bool h2_client_draining(const struct h2_client *c)
{
    return c->h2.draining || c->h2.dead;
}

size_t h2_client_lost(const struct h2_client *c)
{
    return c->lost;
}

size_t h2_client_taken(const struct h2_client *c)
{
    if (!c->h2.goaway_heard || c->h2.goaway_code != NGHTTP2_NO_ERROR)
        return SIZE_MAX;
    return ((size_t)c->h2.goaway_last + 1) / 2; /* a client's streams have odd numbers */
}

void h2_client_drain(struct h2_client *c)
{
    if (c->h2.dead || c->h2.draining)
        return;
    c->h2.draining = true;
    h2_wake(&c->h2);
}

struct stream *h2_client_begin(struct h2_client *c)
{
    struct h2_stream *s = h2_client_room(c) > 0 ? h2_stream_new(&c->h2) : NULL;

    if (!s)
        return NULL;
    s->owned = true;
    s->stream.reused = c->begun;
    c->begun = true;
    c->reserved++;
    return &s->stream;
}

void h2_client_close(struct h2_client *c)
{
    h2_die(&c->h2, STREAM_E_TERMINATED, "closed", true);
}

const char *h2_client_describe_error(const struct h2_client *c)
{
    return c->h2.why;
}
