/* The server side of HTTP/1.1: requests, deadlines, and the end. The connection serves the next
 * request when request and response are done and the owner has let go. */
#include "http/h1server.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "http/fields.h"
#include "http/h1reply.h"
#include "http/h1served.h"
#include "http/h1body.h"
#include "http/websocket.h"
#include "net/deadline.h"
#include "net/loop.h"
#include "observe/counter.h"

static const struct stream_ops ops;
static void h1server_process(struct h1_server *h);

static void h1server_free_server(void *what)
{
    free(what);
}

enum how { FINISH, CUT, RESET };

static void h1server_end(struct h1_server *h, enum how how)
{
    if (h->closed)
        return;
    h->closed = true;
    deadline_close(&h->deadline);
    loop_undefer(&h->work);
    list_remove(&h->accepted.node);
    switch (how) {
    case FINISH:
        conn_finish(h->conn, h->acceptor->send_timeout_ms);
        break;
    case CUT:
        conn_close(h->conn);
        break;
    case RESET:
        conn_reset(h->conn);
        break;
    }
    loop_free_later(&h->deferred_free, h, h1server_free_server);
}

static void h1server_emit(struct h1_server *h, struct message m)
{
    if (h->streaming)
        stream_emit(&h->stream, m);
}

static void h1server_set_deadline(struct h1_server *h)
{
    const struct acceptor *a = h->acceptor;

    if (!h->streaming && h->in == IN_HEAD)
        deadline_set(&h->deadline, list_on(&h->accepted.node) && h->accepted.node.on == &a->idle
                                       ? a->keep_alive_timeout_ms
                                       : a->header_timeout_ms);
    else if (h->in == IN_BODY && !h->paused)
        deadline_set(&h->deadline, a->body_timeout_ms);
    else
        deadline_clear(&h->deadline);
}

/* The body comes, or goes on: the client's time begins. */
static void h1server_await_body(struct h1_server *h)
{
    pace_begin(&h->pace, loop_now_ms(), conn_bytes_in(h->conn));
    h->pace_sends = false;
    h1server_set_deadline(h);
}

/* Between requests. */
static void h1server_rest(struct h1_server *h)
{
    h->in = IN_HEAD;
    h->out = OUT_NOTHING;
    h->scan = (struct h1_scan){ 0 };
    h->half_closed = HALF_CLOSED_NOT;
    h->paused = false;
    conn_pause(h->conn, false);
    list_push(&h->acceptor->idle, &h->accepted.node);
    h1server_set_deadline(h);
}

static void h1server_on_work(void *owner)
{
    h1server_process(owner);
}

/* Hands a request that cannot be served to the owner for its answer. */
static void h1server_refuse(
    struct h1_server *h, const struct head *head, unsigned status, const char *why)
{
    struct stream_request r = { .head = head, .error_status = status, .error = why };

    h->in = IN_FAILED;
    h->keep_alive = false;
    h->streaming = true;
    list_push(&h->acceptor->busy, &h->accepted.node);
    deadline_clear(&h->deadline);
    h->acceptor->on_request(h->acceptor->owner, &h->stream, &r);
}

static void h1server_begin_request(
    struct h1_server *h, const struct head *head, const struct h1_message *m)
{
    struct stream_request r = {
        .head = head,
        .body = m->framing == H1_CHUNKED || (m->framing == H1_LENGTH && m->length > 0),
        .length_known = m->framing != H1_CHUNKED,
        .length = m->framing == H1_LENGTH ? m->length : 0,
        .expects_continue = m->expects_continue,
    };

    h->served++;
    if (h->served == h->acceptor->requests_max)
        counter_add(COUNTER_CONNECTIONS_USED_UP, 1);
    addrlimit_settle(conn_address_slot(h->conn));
    h1_body_begin(&h->body, m, &h->acceptor->limits);
    h->in = r.body ? IN_BODY : IN_DONE;
    h->keep_alive = m->keep_alive;
    h->expects_continue = m->expects_continue;
    h->head_method = str_eq(head->method, STR("HEAD"));
    h->websocket = head->websocket;
    h->streaming = true;
    list_push(&h->acceptor->busy, &h->accepted.node);
    h1server_await_body(h);
    h->acceptor->on_request(h->acceptor->owner, &h->stream, &r);
}

/* Refuses a request whose head could not be read: its first line may still tell what it was. */
static void h1server_refuse_unread(struct h1_server *h, unsigned status, const char *why)
{
    struct head glance = { .minor = 1 };

    h1_glance(conn_input(h->conn), &glance);
    h->head_method = str_eq(glance.method, STR("HEAD"));
    h1server_refuse(h, &glance, status, why);
}

/* Bytes used, 0 for more, -1 if the request was refused. */
static ssize_t h1server_take_head(struct h1_server *h)
{
    struct field fields[H1_FIELDS_MAX];
    struct head head = { .fields = fields };
    struct h1_message m;
    struct str in = conn_input(h->conn);
    ssize_t n;
    int rc;

    if (h->accepted.node.on == &h->acceptor->idle) { /* its first byte: the head's time runs */
        list_push(&h->acceptor->busy, &h->accepted.node);
        h1server_set_deadline(h);
    }
    n = h1_parse_head(&h->scan, H1_REQUEST, &h->acceptor->limits, in, &head);
    if (n == 0)
        return 0;
    h->minor = 1;
    h->head_method = false;
    if (n < 0) {
        h1server_refuse_unread(h, h1_error_status((int)n), h1_strerror((int)n));
        return -1;
    }
    h->minor = (unsigned char)head.minor;
    rc = h1_check_request(&head, &m);
    if (rc < 0) {
        h->head_method = str_eq(head.method, STR("HEAD"));
        h1server_refuse(h, &head, h1_error_status(rc), h1_strerror(rc));
        return -1;
    }
    head.websocket = websocket_is_asked(&head, &m);
    h1server_begin_request(h, &head, &m);
    return n;
}

/* Hands over the part of the body that has come. */
static void h1server_take_body(struct h1_server *h)
{
    char scratch[H1_BODY_GATHER];

    while (!h->closed && h->in == IN_BODY && !h->paused) {
        struct str data;
        ssize_t n = h1_body_gather(&h->body, conn_input(h->conn), scratch, sizeof(scratch), &data);

        if (n < 0) {
            h->in = IN_FAILED;
            h->keep_alive = false;
            deadline_clear(&h->deadline);
            h1server_emit(
                h, (struct message){
                       .kind = MESSAGE_FAILED, .cause = STREAM_E_BAD_REQUEST, .detail = (int)n });
            return;
        }
        if (n == 0 && !h->body.complete)
            return;
        if (data.n > 0)
            h1server_emit(h, (struct message){ .kind = MESSAGE_DATA, .data = data });
        if (h->closed)
            return;
        conn_consume(h->conn, (size_t)n);
        if (h->body.complete && h->in == IN_BODY) {
            h->in = IN_DONE;
            h1server_set_deadline(h);
            h1server_emit(h, (struct message){ .kind = MESSAGE_END });
        }
    }
}

/* Hands over the tunnel's bytes as they are. */
static void h1server_take_tunnel(struct h1_server *h)
{
    while (!h->closed && h->in == IN_TUNNEL && !h->paused) {
        struct str data = conn_input(h->conn);

        if (data.n == 0)
            return;
        h1server_emit(h, (struct message){ .kind = MESSAGE_DATA, .data = data });
        if (!h->closed)
            conn_consume(h->conn, data.n);
    }
}

/* The client does not send its body, or does not take its response, as fast as it must. */
static void h1server_too_slow(struct h1_server *h)
{
    counter_add(COUNTER_CLIENTS_TOO_SLOW, 1);
    h->in = IN_FAILED;
    h->keep_alive = false;
    h1server_emit(h, (struct message){ .kind = MESSAGE_FAILED, .cause = STREAM_E_TIMEOUT });
}

static bool h1server_body_keeps_up(struct h1_server *h)
{
    struct pace_limits limits = acceptor_body_pace(h->acceptor);

    return pace_keeps_up(&h->pace, &limits, loop_now_ms(), conn_bytes_in(h->conn));
}

/* Output waits: whether the client takes it, however slowly, down to the least rate. Sets the
 * deadline for the next look. */
static bool h1server_response_keeps_up(struct h1_server *h)
{
    struct pace_limits limits = acceptor_send_pace(h->acceptor);
    uint64_t now = loop_now_ms(), taken = conn_bytes_taken(h->conn);

    /* It had caught up in between: its time begins anew. */
    if (!h->pace_sends || conn_behind_since_ms(h->conn) > h->pace.window_ms) {
        pace_begin(&h->pace, now, taken);
        h->pace_sends = true;
    }
    if (!pace_keeps_up(&h->pace, &limits, now, taken))
        return false;
    deadline_set(&h->deadline, pace_next_ms(&h->pace, &limits, now));
    return true;
}

/* The client will send no more. */
static void h1server_client_closed(struct h1_server *h)
{
    if (h->in == IN_BODY && !h->paused) {
        h->in = IN_FAILED;
        h->keep_alive = false;
        h1server_emit(h, (struct message){ .kind = MESSAGE_FAILED, .cause = STREAM_E_GONE });
        return;
    }
    if (h->in == IN_TUNNEL && !h->paused) {
        h->in = IN_DONE;
        h->half_closed = HALF_CLOSED_TOLD;
        h1server_emit(h, (struct message){ .kind = MESSAGE_END });
        return;
    }
    /* While another pipelined request waits, the client is only done with sending. */
    if (h->in != IN_DONE || !h->streaming || conn_input(h->conn).n > 0)
        return;
    h->keep_alive = false;
    if (h->half_closed == HALF_CLOSED_NOT) {
        /* Told a round later: a request that came together with the end gets its chance of a free
         * worker first. */
        h->half_closed = HALF_CLOSED_SEEN;
        loop_defer(&h->work, h1server_on_work, h);
    } else if (h->half_closed == HALF_CLOSED_SEEN) {
        h->half_closed = HALF_CLOSED_TOLD;
        stream_emit_half_closed(&h->stream);
    }
}

/* Goes on with the input. */
static void h1server_process(struct h1_server *h)
{
    if (h->closed)
        return;
    if (h->in == IN_HEAD && !h->streaming) {
        ssize_t n;

        if (conn_input(h->conn).n == 0) {
            if (conn_eof(h->conn))
                h1server_end(h, FINISH); /* the last response may still be on its way */
            return;
        }
        n = h1server_take_head(h);
        if (h->closed || n < 0)
            return;
        if (n == 0) {
            if (conn_eof(h->conn))
                h1server_end(h, FINISH); /* half a request and the end: nobody to answer it */
            return;
        }
        conn_consume(h->conn, (size_t)n);
    }
    if (h->streaming && h->in == IN_BODY) {
        h1server_set_deadline(h);
        h1server_take_body(h);
        if (!h->closed && h->in == IN_BODY && !h->paused && !h1server_body_keeps_up(h))
            h1server_too_slow(h);
        if (h->closed)
            return;
    }
    if (h->streaming && h->in == IN_TUNNEL) {
        h1server_take_tunnel(h);
        if (h->closed)
            return;
    }
    if (conn_eof(h->conn))
        h1server_client_closed(h);
}

static void h1server_on_conn(void *owner, struct conn *c, enum conn_event ev)
{
    struct h1_server *h = owner;

    switch (ev) {
    case CONN_CONNECTED:
        h1server_set_deadline(h);
        break;
    case CONN_DATA:
    case CONN_EOF:
        h1server_process(h);
        break;
    case CONN_DRAINED:
        if (h->out != OUT_DONE)
            stream_emit_drained(&h->stream);
        break;
    case CONN_FAILED:
        if (h->streaming && h->out != OUT_DONE) {
            h->in = IN_FAILED;
            h->keep_alive = false;
            h1server_emit(h, (struct message){ .kind = MESSAGE_FAILED, .cause = STREAM_E_GONE });
        } else if (!h->streaming) {
            h1server_end(h, CUT);
        } else {
            h->keep_alive = false;
        }
        break;
    }
}

static void h1server_on_deadline(void *owner)
{
    struct h1_server *h = owner;

    if (h->in != IN_BODY && conn_queued(h->conn) > 0 && h1server_response_keeps_up(h))
        return;
    if (h->streaming) {
        if (conn_queued(h->conn) > 0 || h->in == IN_BODY)
            h1server_too_slow(h);
    } else if (h->accepted.node.on == &h->acceptor->idle) {
        h1server_end(h, CUT);
    } else if (conn_input(h->conn).n == 0) { /* it never said anything */
        counter_add(COUNTER_CLIENTS_TOO_SLOW, 1);
        h1server_end(h, CUT);
    } else {
        counter_add(COUNTER_CLIENTS_TOO_SLOW, 1);
        h1server_refuse_unread(h, 408, "the request's head did not come in time");
    }
}

static int h1server_op_send_head(struct stream *s, const struct head *head, bool last)
{
    struct h1_server *h = h1_server_of(s);
    int rc = h1_reply_head(s, head, last);

    /* What the client has sent already, or its end. */
    if (!h->closed && h->in == IN_TUNNEL && head->status == 101)
        loop_defer(&h->work, h1server_on_work, h);
    return rc;
}

static void h1server_op_pause(struct stream *s, bool paused)
{
    struct h1_server *h = h1_server_of(s);

    if (h->closed || h->paused == paused)
        return;
    h->paused = paused;
    conn_pause(h->conn, paused);
    if (h->in == IN_BODY) /* a client that is held back is not slow */
        h1server_await_body(h);
    if (!paused)
        loop_defer(&h->work, h1server_on_work, h);
}

static void h1server_op_reset(struct stream *s, enum stream_reset why)
{
    struct h1_server *h = h1_server_of(s);

    if (h->closed)
        return;
    h->streaming = false;
    /* The end of the connection is the end of such a body: only a reset shows that it is not whole.
     */
    if (h->out == OUT_UNTIL_CLOSE)
        h1server_end(h, RESET);
    else
        h1server_end(h, FINISH); /* what was sent arrives, and then the missing end shows */
}

static void h1server_op_close(struct stream *s)
{
    struct h1_server *h = h1_server_of(s);

    if (h->closed)
        return;
    h->stream.handler = NULL;
    h->stream.owner = NULL;
    if (h->out != OUT_DONE) {
        h1server_op_reset(s, STREAM_ABORT);
        return;
    }
    h->streaming = false;
    if (conn_error(h->conn)) {
        h1server_end(h, CUT);
    } else if (h->in != IN_DONE || !h->keep_alive || h->acceptor->draining) {
        h1server_end(h, FINISH);
    } else {
        deadline_clear(&h->deadline);
        h1server_rest(h);
        if (conn_input(h->conn).n > 0 || conn_eof(h->conn))
            loop_defer(&h->work, h1server_on_work, h);
    }
}

static const struct ssl_st *h1server_op_tls(struct stream *s)
{
    return conn_ssl(h1_server_of(s)->conn);
}

static const struct stream_ops ops = {
    .send_head = h1server_op_send_head,
    .send_data = h1_reply_data,
    .send_end = h1_reply_end,
    .send_continue = h1_reply_continue,
    .pause = h1server_op_pause,
    .reset = h1server_op_reset,
    .close = h1server_op_close,
    .tls = h1server_op_tls,
};

static struct h1_server *h1server_of_accepted(struct accepted *a)
{
    return LIST_OWNER(a, struct h1_server, accepted);
}

/* Busy ones see it when their response ends. */
static void h1server_drain(struct accepted *a)
{
    struct h1_server *h = h1server_of_accepted(a);

    if (a->node.on == &h->acceptor->idle && conn_input(h->conn).n == 0)
        h1server_end(h, conn_queued(h->conn) > 0 ? FINISH : CUT);
}

static void h1server_cut(struct accepted *a)
{
    struct h1_server *h = h1server_of_accepted(a);

    h1server_emit(h, (struct message){ .kind = MESSAGE_FAILED, .cause = STREAM_E_GONE });
    h1server_end(h, h->out == OUT_UNTIL_CLOSE ? RESET : CUT);
}

static bool h1server_retire(struct accepted *a)
{
    struct h1_server *h = h1server_of_accepted(a);

    if (conn_input(h->conn).n > 0 || conn_queued(h->conn) > 0)
        return false;
    h1server_end(h, CUT);
    return true;
}

static const struct accepted_ops accepted_ops = {
    .drain = h1server_drain, .cut = h1server_cut, .retire = h1server_retire
};

int h1_server_open(struct conn *conn, struct acceptor *a)
{
    struct h1_server *h = calloc(1, sizeof(*h));

    if (!h) {
        conn_close(conn);
        return -1;
    }
    h->conn = conn;
    h->acceptor = a;
    h->accepted.ops = &accepted_ops;
    h->stream.ops = &ops;
    h->stream.peer = conn_peer(conn);
    h->stream.secure = conn_has_tls(conn);
    deadline_init(&h->deadline, h1server_on_deadline, h);
    conn_set_owner(conn, h1server_on_conn, h);
    /* A new connection owes its first head now: it is not idle. */
    list_push(&a->busy, &h->accepted.node);
    h1server_set_deadline(h);
    if (conn_input(conn).n > 0)
        loop_defer(&h->work, h1server_on_work, h);
    return 0;
}
