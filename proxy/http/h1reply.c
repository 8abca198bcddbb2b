/* Heads, bodies by length, in chunks or until the end, and tunnels. */
#include "http/h1reply.h"

#include <stdio.h>

#include "base/num.h"
#include "http/date.h"
#include "http/h1served.h"
#include "http/h1write.h"

/* After each write of a response: the client has its time to take it. */
static int h1reply_sent(struct h1_server *h, int rc)
{
    if (!deadline_is_set(&h->deadline)) {
        struct pace_limits limits = acceptor_send_pace(h->acceptor);

        pace_begin(&h->pace, loop_now_ms(), 0);
        deadline_set(&h->deadline, pace_next_ms(&h->pace, &limits, loop_now_ms()));
        h->pace_sends = false; /* what was taken is asked for at the first look only */
    }
    if (rc == CONN_E_MEMORY)
        return STREAM_E_MEMORY;
    return rc == CONN_E_FULL ? STREAM_FULL : 0;
}

static bool h1reply_is_framing_field(struct str name)
{
    return str_eq_nocase(name, STR("connection")) || str_eq_nocase(name, STR("keep-alive")) ||
           str_eq_nocase(name, STR("transfer-encoding")) ||
           str_eq_nocase(name, STR("content-length")) || str_eq_nocase(name, STR("upgrade"));
}

/* The fields of `from` that are not the stream's to set. 0, or -1 if they do not fit. */
static int h1reply_copy_fields(const struct head *from, struct head *out)
{
    int rc = 0;

    for (size_t i = 0; i < from->nfields; i++)
        if (!h1reply_is_framing_field(from->fields[i].name))
            rc |= head_append(out, from->fields[i].name, from->fields[i].value);
    return rc;
}

/* Decides how the response's end is told (RFC 9112 6.3) and adds the field that tells it. */
static int h1reply_add_framing(
    struct h1_server *h, const struct head *from, struct head *out, bool last)
{
    struct str length = head_value(from, STR("content-length"));
    bool bodiless = h->head_method || from->status == 204 || from->status == 304;
    uint64_t n;
    int rc = 0;

    if (length.p && num_parse_u64(length, &n) && from->status != 204) {
        rc = head_append(out, STR("Content-Length"), length);
        h->out = OUT_LENGTH;
        h->out_left = n;
    } else if (last && !bodiless) {
        rc = head_append(out, STR("Content-Length"), STR("0"));
        h->out = OUT_LENGTH;
        h->out_left = 0;
    } else if (h->minor >= 1 && !bodiless) {
        rc = head_append(out, STR("Transfer-Encoding"), STR("chunked"));
        h->out = OUT_CHUNKED;
    } else if (!bodiless) {
        h->out = OUT_UNTIL_CLOSE;
        h->keep_alive = false;
    }
    if (bodiless)
        h->out = OUT_NO_BODY;
    return rc;
}

/* Whether the connection goes on after this response, and the field that says so. */
static int h1reply_add_connection(struct h1_server *h, const struct head *from, struct head *out)
{
    /* A client that was sure of its WebSocket may have sent what is no request. */
    if (h->acceptor->draining || h->in == IN_BODY || h->in == IN_FAILED || h->websocket ||
        (h->acceptor->requests_max > 0 && h->served >= h->acceptor->requests_max) ||
        head_has_token(from, STR("connection"), STR("close")))
        h->keep_alive = false;
    if (!h->keep_alive)
        return head_append(out, STR("Connection"), STR("close"));
    return h->minor == 0 ? head_append(out, STR("Connection"), STR("keep-alive")) : 0;
}

/* The connection is the worker's and the client's now (RFC 9110 7.8). */
static int h1reply_begin_tunnel(struct h1_server *h, struct head *out)
{
    if (head_append(out, STR("Upgrade"), STR("websocket")) < 0 ||
        head_append(out, STR("Connection"), STR("Upgrade")) < 0)
        return STREAM_E_HEAD_TOO_LARGE;
    if (h1_write_head(conn_output(h->conn), H1_RESPONSE, out) < 0)
        return STREAM_E_MEMORY;
    h->keep_alive = false;
    h->out = OUT_TUNNEL;
    h->in = IN_TUNNEL;
    deadline_clear(&h->deadline);
    return h1reply_sent(h, conn_written(h->conn));
}

int h1_reply_head(struct stream *s, const struct head *head, bool last)
{
    struct h1_server *h = h1_server_of(s);
    struct field fields[H1_WRITE_FIELDS_MAX];
    struct head out = *head;
    int rc;

    if (h->closed || h->out != OUT_NOTHING)
        return 0;
    out.fields = fields;
    out.nfields = 0;
    out.room = H1_WRITE_FIELDS_MAX;
    out.minor = 1;
    if (h1reply_copy_fields(head, &out) < 0)
        return STREAM_E_HEAD_TOO_LARGE;
    if (head->status == 101)
        return h1reply_begin_tunnel(h, &out);
    /* RFC 9110 6.6.1: whoever forwards a response without a Date adds one. */
    if (!head_find(&out, STR("date")) &&
        head_append(&out, STR("Date"), date_cached(&h->acceptor->date, loop_wall_ms())) < 0)
        return STREAM_E_HEAD_TOO_LARGE;
    if (h1reply_add_framing(h, head, &out, last) < 0 || h1reply_add_connection(h, head, &out) < 0) {
        h->out = OUT_NOTHING;
        return STREAM_E_HEAD_TOO_LARGE;
    }
    if (h1_write_head(conn_output(h->conn), H1_RESPONSE, &out) < 0) {
        h->out = OUT_NOTHING;
        return STREAM_E_MEMORY;
    }
    rc = h1reply_sent(h, conn_written(h->conn));
    if (last)
        h1_reply_end(s);
    return rc;
}

int h1_reply_data(struct stream *s, const void *p, size_t n)
{
    struct h1_server *h = h1_server_of(s);
    struct buf *out = conn_output(h->conn);

    if (h->closed || n == 0)
        return 0;
    switch ((enum h1served_out)h->out) {
    case OUT_LENGTH:
        if (n > h->out_left)
            n = (size_t)
                    h->out_left; /* never more than was announced: it would be the next response */
        h->out_left -= n;
        break;
    case OUT_CHUNKED: {
        char line[24];
        int k = snprintf(line, sizeof(line), "%zx\r\n", n);

        if (!buf_reserve(out, n + (size_t)k + 2, NULL))
            return STREAM_E_MEMORY;
        buf_append(out, line, (size_t)k);
        buf_append(out, p, n);
        buf_append(out, "\r\n", 2);
        return h1reply_sent(h, conn_written(h->conn));
    }
    case OUT_UNTIL_CLOSE:
    case OUT_TUNNEL:
        break;
    case OUT_NOTHING:
    case OUT_NO_BODY:
    case OUT_DONE:
        return 0;
    }
    return h1reply_sent(h, conn_write(h->conn, p, n));
}

int h1_reply_end(struct stream *s)
{
    struct h1_server *h = h1_server_of(s);
    int rc = 0;

    if (h->closed || h->out == OUT_NOTHING || h->out == OUT_DONE)
        return 0;
    if (h->out == OUT_LENGTH && h->out_left > 0)
        return 0; /* stream_close() will cut it: a short body must not look whole */
    if (h->out == OUT_CHUNKED)
        rc = h1reply_sent(h, conn_write(h->conn, "0\r\n\r\n", 5));
    h->out = OUT_DONE;
    return rc;
}

void h1_reply_continue(struct stream *s)
{
    struct h1_server *h = h1_server_of(s);

    if (h->closed || !h->expects_continue || h->in != IN_BODY || h->out != OUT_NOTHING)
        return;
    h->expects_continue = false;
    conn_write(h->conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}
