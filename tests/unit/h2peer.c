/* An nghttp2 server that does as the test says. */
#include "h2peer.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/loop.h"

struct body {
    size_t left;
    bool hold;
};

static int on_begin(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
    struct h2peer *p = user;

    if (f->hd.type != NGHTTP2_HEADERS || f->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    p->fields[0] = 0;
    p->last_id = f->hd.stream_id;
    if (++p->open > p->peak)
        p->peak = p->open;
    return 0;
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t nn,
    const uint8_t *value, size_t vn, uint8_t flags, void *user)
{
    struct h2peer *p = user;
    size_t at = strlen(p->fields);

    snprintf(p->fields + at, sizeof(p->fields) - at, "%.*s: %.*s\n", (int)nn, (const char *)name,
        (int)vn, (const char *)value);
    return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
    struct h2peer *p = user;

    if (f->hd.type == NGHTTP2_RST_STREAM) {
        p->resets++;
        p->reset_code = f->rst_stream.error_code;
    }
    if ((f->hd.type == NGHTTP2_HEADERS || f->hd.type == NGHTTP2_DATA) &&
        f->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        p->requests++;
        p->complete[p->ncomplete++] = f->hd.stream_id;
    }
    return 0;
}

static int on_data(
    nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *user)
{
    ((struct h2peer *)user)->body_bytes += n;
    return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t code, void *user)
{
    struct h2peer *p = user;

    p->open--;
    free(nghttp2_session_get_stream_user_data(s, id));
    return 0;
}

static void on_conn(void *owner, struct conn *c, enum conn_event ev)
{
    struct h2peer *p = owner;
    struct str in = conn_input(c);

    if (ev == CONN_FAILED || ev == CONN_EOF) {
        p->ended = true;
        conn_close(c);
        return;
    }
    if (ev == CONN_CONNECTED)
        h2peer_flush(p);
    if (ev == CONN_DATA && p->mute) {
        conn_consume(c, in.n);
    } else if (ev == CONN_DATA) {
        ssize_t rc = nghttp2_session_mem_recv(p->library, (const uint8_t *)in.p, in.n);

        ck_assert_msg(rc >= 0, "what the client sent: %s", nghttp2_strerror((int)rc));
        conn_consume(c, in.n);
        for (size_t i = 0; i < p->ncomplete && !p->ended; i++) {
            if (p->on_request)
                p->on_request(p, p->complete[i]);
        }
        p->ncomplete = 0;
    }
    if (!p->ended)
        h2peer_flush(p);
}

struct h2peer *h2peer_open(struct conn *conn, const struct h2peer_options *o)
{
    struct h2peer *p = calloc(1, sizeof(*p));
    nghttp2_session_callbacks *cbs;
    nghttp2_option *options;
    nghttp2_settings_entry settings[2];
    size_t n = 0;

    p->conn = conn;
    nghttp2_session_callbacks_new(&cbs);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cbs, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(cbs, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cbs, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cbs, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cbs, on_close);
    nghttp2_option_new(&options);
    nghttp2_option_set_no_http_messaging(options, o->lax);
    nghttp2_session_server_new2(&p->library, cbs, p, options);
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(cbs);
    if (o->max_streams)
        settings[n++] =
            (nghttp2_settings_entry){ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, o->max_streams };
    if (o->window)
        settings[n++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, o->window };
    nghttp2_submit_settings(p->library, 0, settings, n);
    conn_set_owner(conn, on_conn, p);
    return p;
}

void h2peer_flush(struct h2peer *p)
{
    const uint8_t *out;
    ssize_t n;

    while (!p->mute && !p->ended && (n = nghttp2_session_mem_send(p->library, &out)) > 0) {
        if (conn_write(p->conn, out, (size_t)n) == CONN_E_FULL)
            return; /* CONN_DRAINED comes back */
    }
}

void h2peer_end(struct h2peer *p, bool reset)
{
    if (p->ended)
        return;
    p->ended = true;
    if (reset)
        conn_reset(p->conn);
    else
        conn_finish(p->conn, 1000);
}

void h2peer_close(struct h2peer *p)
{
    if (!p->ended)
        conn_close(p->conn);
    /* The library does not tell of the streams that are left. */
    for (int32_t id = 1; id <= p->last_id; id += 2)
        free(nghttp2_session_get_stream_user_data(p->library, id));
    nghttp2_session_del(p->library);
    free(p);
}

static ssize_t read_body(nghttp2_session *s, int32_t id, uint8_t *to, size_t n, uint32_t *flags,
    nghttp2_data_source *source, void *user)
{
    struct body *b = nghttp2_session_get_stream_user_data(s, id);

    if (n > b->left)
        n = b->left;
    if (n == 0 && b->hold)
        return NGHTTP2_ERR_DEFERRED;
    memset(to, 'x', n);
    b->left -= n;
    if (b->left == 0 && !b->hold)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

void h2peer_respond(struct h2peer *p, int32_t id, const char *status, const nghttp2_nv *fields,
    size_t nfields, size_t n, bool hold)
{
    nghttp2_nv nv[128] = { H2PEER_NV(":status", "200") };
    nghttp2_data_provider provider = { .read_callback = read_body };
    struct body *b = calloc(1, sizeof(*b));

    nv[0].value = (uint8_t *)status;
    for (size_t i = 0; i < nfields; i++)
        nv[i + 1] = fields[i];
    b->left = n;
    b->hold = hold;
    nghttp2_session_set_stream_user_data(p->library, id, b);
    ck_assert_int_eq(
        nghttp2_submit_response(p->library, id, nv, nfields + 1, n > 0 || hold ? &provider : NULL),
        0);
    h2peer_flush(p);
}
