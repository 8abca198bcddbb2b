/* The client side of HTTP/1.1: what was sent of the request (enum h1client_out), what came of the
 * response (enum h1client_in). */
#include "http/h1client.h"

#include <stdlib.h>

#include "base/num.h"
#include "http/h1write.h"
#include "http/h1body.h"
#include "http/websocket.h"
#include "net/loop.h"

enum h1client_in { IN_IDLE, IN_HEAD, IN_BODY, IN_TUNNEL, IN_DONE, IN_FAILED };
enum h1client_out { OUT_NOTHING, OUT_BODY, OUT_CHUNKED, OUT_TUNNEL, OUT_DONE };

struct h1_client {
    struct conn *conn;
    struct stream stream;
    const struct h1_limits *limits;
    h1_client_event_fn *on_event;
    void *owner;
    struct deferred work;
    struct deferred_free deferred_free;
    struct h1_scan scan;
    struct h1_body body;
    char method[16];
    char accept[WEBSOCKET_ACCEPT_LEN +
                1]; /* what agrees to our WebSocket; empty: none was asked for */
    unsigned served;
    unsigned char in;  /* enum h1client_in */
    unsigned char out; /* enum h1client_out */
    unsigned interim;
    bool owned;     /* a stream is with an owner, or is abandoned */
    bool abandoned; /* by its owner, while the peer works on it */
    bool keep_alive;
    uint64_t kept_ms; /* that the peer keeps it while it is idle; UINT64_MAX: it did not say */
    bool any_byte;    /* h1client_of the response */
    bool unheard;     /* a kept connection ended before any */
    bool paused;
    bool tunnel; /* it has become one */
    bool closed;
};

static struct h1_client *h1client_of(struct stream *s)
{
    return LIST_OWNER(s, struct h1_client, stream);
}

static void h1client_free_client(void *what)
{
    free(what);
}

static void h1client_end(struct h1_client *h)
{
    if (h->closed)
        return;
    h->closed = true;
    loop_undefer(&h->work);
    conn_close(h->conn);
    loop_free_later(&h->deferred_free, h, h1client_free_client);
}

static void h1client_emit(struct h1_client *h, struct message m)
{
    if (h->owned)
        stream_emit(&h->stream, m);
}

static void h1client_let_go(struct h1_client *h);

static void h1client_fail(struct h1_client *h, enum stream_error error)
{
    if (h->in == IN_FAILED)
        return;
    h->in = IN_FAILED;
    h->keep_alive = false;
    h->unheard = h->stream.reused && (error == STREAM_E_TERMINATED || error == STREAM_E_ENDED);
    h1client_emit(h, (struct message){ .kind = MESSAGE_FAILED, .cause = error });
    if (h->abandoned)
        h1client_let_go(h);
}

/* The connection ended before the response was complete: the error that says as much as is known.
 */
static enum stream_error h1client_ended_early(const struct h1_client *h)
{
    if (conn_error(h->conn) == CONN_E_REFUSED && !h->any_byte)
        return STREAM_E_ALERT;
    if (h->any_byte)
        return STREAM_E_INCOMPLETE;
    if (h->stream.reused && !conn_may_have_arrived(h->conn))
        return STREAM_E_STALE;
    return conn_error(h->conn) ? STREAM_E_TERMINATED : STREAM_E_ENDED;
}

/* Tells the holder from the loop, never from within stream_close(), whether the connection can be
 * used again. */
static void h1client_on_settle(void *owner)
{
    struct h1_client *h = owner;
    h1_client_event_fn *fn = h->on_event;
    void *holder = h->owner;

    if (h->closed)
        return;
    if (h->in == IN_IDLE && !conn_eof(h->conn) && !conn_error(h->conn) &&
        conn_input(h->conn).n == 0) {
        fn(holder, h, H1_CLIENT_IDLE);
    } else {
        h1client_end(h);
        fn(holder, h, H1_CLIENT_CLOSED);
    }
}

static void h1client_settle(struct h1_client *h)
{
    loop_defer(&h->work, h1client_on_settle, h);
}

/* The worker changes to WebSocket (RFC 6455 4.1), or to something that nobody asked for. 0, or -1:
 * failed. */
static int h1client_take_agreement(struct h1_client *h, const struct head *head)
{
    struct h1_message m;

    if (h1_check_response(head, str_of(h->method), &m) < 0 ||
        !websocket_is_agreed(head, &m, str_of(h->accept))) {
        h1client_fail(h, STREAM_E_PROTOCOL);
        return -1;
    }
    h->keep_alive = false;
    h->in = IN_TUNNEL;
    h->out = OUT_TUNNEL;
    h->tunnel = true;
    h1client_emit(h, (struct message){ .kind = MESSAGE_HEAD, .head = head });
    return 0;
}

/* "timeout=5, max=100": seconds, and how many further requests. */
static void h1client_heed_keep_alive(struct h1_client *h, const struct head *head)
{
    struct str list = head_value(head, STR("keep-alive")), one, name, value;
    uint64_t n;

    while (str_next_element(&list, &one)) {
        str_cut(one, '=', &name, &value);
        if (!num_parse_u64(str_trim(value), &n))
            continue;
        if (str_eq_nocase(str_trim(name), STR("timeout")) && n <= UINT32_MAX)
            h->kept_ms = n * 1000 - (n > 1 ? 1000 : n * 500);
        if (n == 0 && (str_eq_nocase(str_trim(name), STR("timeout")) ||
                          str_eq_nocase(str_trim(name), STR("max"))))
            h->keep_alive = false;
    }
}

/* Bytes used by one head; 0 for more; -1: failed. */
static ssize_t h1client_take_head(struct h1_client *h)
{
    struct field fields[H1_FIELDS_MAX];
    struct head head = { .fields = fields };
    struct h1_message m;
    ssize_t n = h1_parse_head(&h->scan, H1_RESPONSE, h->limits, conn_input(h->conn), &head);

    if (n == 0)
        return 0;
    if (n < 0) {
        h1client_fail(h, n == H1_E_HEAD_TOO_LARGE ? STREAM_E_HEAD_TOO_LARGE : STREAM_E_PROTOCOL);
        return -1;
    }
    if (head.status == 101 && h->accept[0])
        return h1client_take_agreement(h, &head) < 0 ? -1 : n;
    if (head.status < 200) {
        /* 101 answers an Upgrade, which was not asked for. */
        if (head.status == 101 || ++h->interim > h->limits->interim_max) {
            h1client_fail(h, STREAM_E_PROTOCOL);
            return -1;
        }
        h->scan = (struct h1_scan){ 0 };
        return n;
    }
    if (h1_check_response(&head, str_of(h->method), &m) < 0) {
        h1client_fail(h, STREAM_E_PROTOCOL);
        return -1;
    }
    h1_body_begin(&h->body, &m, h->limits);
    h->keep_alive = m.keep_alive;
    h1client_heed_keep_alive(h, &head);
    h->in = IN_BODY;
    h1client_emit(h, (struct message){ .kind = MESSAGE_HEAD, .head = &head });
    return n;
}

static void h1client_complete(struct h1_client *h)
{
    h->in = IN_DONE;
    /* A response that came before the request was all sent, or with bytes behind it, ends the
     * connection (RFC 9112 9.3). */
    if (h->out != OUT_DONE || conn_input(h->conn).n > 0)
        h->keep_alive = false;
    h1client_emit(h, (struct message){ .kind = MESSAGE_END });
    if (h->abandoned)
        h1client_let_go(h);
}

static void h1client_take_body(struct h1_client *h)
{
    char scratch[H1_BODY_GATHER];

    while (!h->closed && h->in == IN_BODY && !h->paused) {
        struct str data = { 0 };
        ssize_t n = h->body.complete ? 0
                                     : h1_body_gather(&h->body, conn_input(h->conn), scratch,
                                           sizeof(scratch), &data);

        if (n < 0) {
            h1client_fail(h, STREAM_E_PROTOCOL);
            return;
        }
        if (n == 0 && !h->body.complete)
            return;
        if (data.n > 0)
            h1client_emit(h, (struct message){ .kind = MESSAGE_DATA, .data = data });
        if (h->closed)
            return;
        conn_consume(h->conn, (size_t)n);
        if (h->body.complete && h->in == IN_BODY)
            h1client_complete(h);
    }
}

/* Hands over the tunnel's bytes as they are, and then its end. */
static void h1client_take_tunnel(struct h1_client *h)
{
    while (!h->closed && h->in == IN_TUNNEL && !h->paused) {
        struct str data = conn_input(h->conn);

        if (data.n > 0) {
            h1client_emit(h, (struct message){ .kind = MESSAGE_DATA, .data = data });
            if (!h->closed)
                conn_consume(h->conn, data.n);
            continue;
        }
        if (!conn_eof(h->conn))
            return;
        h->in = IN_DONE;
        h1client_emit(h, (struct message){ .kind = MESSAGE_END });
    }
}

static void h1client_go_on(struct h1_client *h)
{
    if (conn_input(h->conn).n > 0)
        h->any_byte = true;
    while (!h->closed && h->in == IN_HEAD && conn_input(h->conn).n > 0) {
        ssize_t n = h1client_take_head(h);

        if (n <= 0)
            break;
        if (!h->closed)
            conn_consume(h->conn, (size_t)n);
    }
    if (!h->closed && h->in == IN_BODY)
        h1client_take_body(h);
    if (!h->closed && h->in == IN_TUNNEL)
        h1client_take_tunnel(h);
    if (h->closed || !conn_eof(h->conn))
        return;
    if (h->in == IN_HEAD) {
        h1client_fail(h, h1client_ended_early(h));
    } else if (h->in == IN_BODY && !h->paused) {
        if (h1_body_end(&h->body) < 0) {
            h1client_fail(h, STREAM_E_INCOMPLETE);
        } else {
            h->keep_alive = false;
            h1client_complete(h);
        }
    }
}

/* A response that may have no end, or that costs more to read than a connection is worth: fifty
 * megabytes for nobody would keep the worker and us busy. */
static bool h1client_goes_on_for_long(const struct h1_client *h)
{
    return h->in == IN_BODY && (h->body.framing != H1_LENGTH || h->body.left > CONN_READ_MAX);
}

static void h1client_process(struct h1_client *h)
{
    bool for_nobody = h->abandoned;

    h1client_go_on(h);
    if (for_nobody && h->abandoned && (h1client_goes_on_for_long(h) || h->in == IN_TUNNEL))
        h1client_let_go(h);
}

static void h1client_on_work(void *owner)
{
    struct h1_client *h = owner;

    if (!h->closed && h->owned)
        h1client_process(h);
    else if (!h->closed)
        h1client_on_settle(h);
}

static void h1client_on_conn(void *owner, struct conn *c, enum conn_event ev)
{
    struct h1_client *h = owner;

    switch (ev) {
    case CONN_CONNECTED:
        break;
    case CONN_DATA:
    case CONN_EOF:
        /* Bytes or the end while nothing was asked: never used, the connection goes. */
        if (h->owned)
            h1client_process(h);
        else
            h1client_settle(h);
        break;
    case CONN_DRAINED:
        if (h->out == OUT_BODY || h->out == OUT_CHUNKED || h->out == OUT_TUNNEL)
            stream_emit_drained(&h->stream);
        break;
    case CONN_FAILED:
        if (!h->owned)
            h1client_settle(h);
        else if (h->in == IN_HEAD)
            h1client_fail(h, h1client_ended_early(h));
        else if (h->in == IN_BODY || h->in == IN_TUNNEL)
            h1client_fail(h, STREAM_E_INCOMPLETE);
        else
            h->keep_alive = false;
        break;
    }
}

static int h1client_result(int rc)
{
    if (rc == CONN_E_MEMORY)
        return STREAM_E_MEMORY;
    return rc == CONN_E_FULL ? STREAM_FULL : 0;
}

/* The client's key goes along, where its version has one. */
static int h1client_ask_websocket(
    struct h1_client *h, struct head *out, char key[WEBSOCKET_KEY_LEN + 1])
{
    struct str given = head_value(out, STR("sec-websocket-key"));
    int rc = 0;

    rc |= head_append(out, STR("Connection"), STR("Upgrade"));
    rc |= head_append(out, STR("Upgrade"), STR("websocket"));
    if (!given.p) {
        websocket_make_key(key);
        given = str_of(key);
        rc |= head_append(out, STR("Sec-WebSocket-Key"), given);
    }
    websocket_accept(given, h->accept);
    return rc;
}

/* The head as it goes on the wire, in out->fields. 0, or -1 if it has too many fields. */
static int h1client_make_head(struct h1_client *h, const struct head *head, bool chunked,
    struct head *out, char key[WEBSOCKET_KEY_LEN + 1])
{
    int rc = head_append(out, STR("Host"), head->authority.p ? head->authority : STR(""));

    for (size_t i = 0; i < head->nfields; i++)
        rc |= head_append(out, head->fields[i].name, head->fields[i].value);
    h->accept[0] = '\0';
    if (head->websocket)
        rc |= h1client_ask_websocket(h, out, key);
    if (chunked)
        rc |= head_append(out, STR("Transfer-Encoding"), STR("chunked"));
    return rc;
}

static int h1client_op_send_head(struct stream *s, const struct head *head, bool last)
{
    struct h1_client *h = h1client_of(s);
    bool chunked = !last && !head_find(head, STR("content-length"));
    struct field fields[H1_WRITE_FIELDS_MAX];
    char key[WEBSOCKET_KEY_LEN + 1];
    struct head out = *head;

    if (h->closed || h->in == IN_FAILED)
        return 0;
    memset(h->method, 0, sizeof(h->method));
    memcpy(h->method, head->method.p,
        head->method.n < sizeof(h->method) ? head->method.n : sizeof(h->method) - 1);
    out.fields = fields;
    out.nfields = 0;
    out.room = H1_WRITE_FIELDS_MAX;
    out.minor = 1;
    if (h1client_make_head(h, head, chunked, &out, key) < 0)
        return STREAM_E_HEAD_TOO_LARGE;
    h->out = last ? OUT_DONE : chunked ? OUT_CHUNKED : OUT_BODY;
    if (h1_write_head(conn_output(h->conn), H1_REQUEST, &out) < 0)
        return STREAM_E_MEMORY;
    return h1client_result(conn_written(h->conn));
}

static int h1client_op_send_data(struct stream *s, const void *p, size_t n)
{
    struct h1_client *h = h1client_of(s);

    if (h->closed || n == 0 || h->out == OUT_NOTHING || h->out == OUT_DONE)
        return 0;
    if (h->out == OUT_CHUNKED) {
        struct buf *out = conn_output(h->conn);

        if (!buf_reserve(out, n + 24, NULL))
            return STREAM_E_MEMORY;
        buf_printf(out, "%zx\r\n", n);
        buf_append(out, p, n);
        buf_append(out, "\r\n", 2);
        return h1client_result(conn_written(h->conn));
    }
    return h1client_result(conn_write(h->conn, p, n));
}

static int h1client_op_send_end(struct stream *s)
{
    struct h1_client *h = h1client_of(s);
    int rc = 0;

    if (h->closed)
        return 0;
    if (h->out == OUT_CHUNKED)
        rc = h1client_result(conn_write(h->conn, "0\r\n\r\n", 5));
    else if (h->out == OUT_TUNNEL)
        conn_end_output(h->conn);
    h->out = OUT_DONE;
    return rc;
}

static void h1client_op_send_continue(struct stream *s)
{
}

static void h1client_op_pause(struct stream *s, bool paused)
{
    struct h1_client *h = h1client_of(s);

    if (h->closed || h->paused == paused)
        return;
    h->paused = paused;
    conn_pause(h->conn, paused);
    if (!paused)
        loop_defer(&h->work, h1client_on_work, h);
}

static void h1client_let_go(struct h1_client *h)
{
    bool again = h->in == IN_DONE && h->out == OUT_DONE && h->keep_alive && !h->closed;
    bool tunnel = h->tunnel && h->in != IN_FAILED && conn_queued(h->conn) > 0;

    h->owned = false;
    h->abandoned = false;
    h->stream.handler = NULL;
    h->stream.owner = NULL;
    if (h->closed)
        return;
    loop_undefer(&h->work);
    if (again) {
        h->in = IN_IDLE;
        h->served++;
        if (h->paused)
            conn_pause(h->conn, false);
        h->paused = false;
    } else {
        /* The bytes stop at once; that the connection is gone is told from the loop. */
        h->in = IN_FAILED;
        if (tunnel)
            conn_finish(h->conn, h->limits->finish_ms); /* a Close frame may be among what waits */
        else
            conn_close(h->conn);
    }
    h1client_settle(h);
}

static void h1client_op_reset(struct stream *s, enum stream_reset why)
{
    h1client_let_go(h1client_of(s));
}

static void h1client_op_close(struct stream *s)
{
    h1client_let_go(h1client_of(s));
}

static const struct stream_ops ops = {
    .send_head = h1client_op_send_head,
    .send_data = h1client_op_send_data,
    .send_end = h1client_op_send_end,
    .send_continue = h1client_op_send_continue,
    .pause = h1client_op_pause,
    .reset = h1client_op_reset,
    .close = h1client_op_close,
};

struct h1_client *h1_client_open(
    struct conn *conn, const struct h1_limits *limits, h1_client_event_fn *on_event, void *owner)
{
    struct h1_client *h = calloc(1, sizeof(*h));

    if (!h) {
        conn_close(conn);
        return NULL;
    }
    h->conn = conn;
    h->limits = limits;
    h->on_event = on_event;
    h->owner = owner;
    h->in = IN_IDLE;
    h->kept_ms = UINT64_MAX;
    h->stream.ops = &ops;
    h->stream.peer = conn_peer(conn);
    h->stream.secure = conn_has_tls(conn);
    conn_set_owner(conn, h1client_on_conn, h);
    return h;
}

bool h1_client_usable(struct h1_client *h)
{
    return !h->closed && !h->owned && h->in == IN_IDLE && !list_on(&h->work.node) &&
           conn_is_quiet(h->conn);
}

uint64_t h1_client_kept_ms(const struct h1_client *h)
{
    return h->kept_ms;
}

bool h1_client_went_unheard(const struct h1_client *h)
{
    return h->unheard;
}

struct stream *h1_client_begin(struct h1_client *h)
{
    h->in = IN_HEAD;
    h->out = OUT_NOTHING;
    h->scan = (struct h1_scan){ 0 };
    h->interim = 0;
    h->any_byte = false;
    h->owned = true;
    h->stream.reused = h->served > 0;
    conn_mark(h->conn);
    return &h->stream;
}

bool h1_client_abandon(struct h1_client *h)
{
    if (h->closed || !h->owned || (h->in != IN_HEAD && h->in != IN_BODY) || h->out == OUT_NOTHING)
        return false;
    h->abandoned = true;
    h->stream.handler = NULL;
    h->stream.owner = NULL;
    if (h->out != OUT_DONE)
        conn_end_output(h->conn);
    h1client_op_pause(&h->stream, false);
    return true;
}

void h1_client_close(struct h1_client *h)
{
    if (h->closed)
        return;
    h->on_event = NULL;
    if (h->owned && h->in != IN_DONE)
        h1client_fail(h, h1client_ended_early(h));
    h->owned = false;
    h1client_end(h);
}
