/* What drives a session: delivery, the turn, the probe, and the end. */
#include "http/h2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    READ_AT_ONCE = 8192, /* bytes given to the library between two looks at what it answers */
    QUEUE_TOP = 5,       /* times queue_max */
};

static void h2_deliver(struct h2 *h)
{
    struct list_node *first;

    BUG_IF(h->inside);
    while ((first = list_first(&h->ready))) {
        list_push(&h->quiet, first);
        h2_stream_deliver(LIST_OWNER(first, struct h2_stream, node));
    }
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
/* Something has come since the check began: the connection lives. */
static void h2_note_life(struct h2 *h)
{
    if (h->checking && h->heard_ms >= h->asked_ms)
        h->checking = false;
}

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
        h2_note_life(h);
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
    if (h->settings_due) {
        h->settings_due = false;
        deadline_clear(&h->probe); /* it ran for them */
    }
    if (h->checking)
        return; /* its time runs */
    if (h->asked && h->heard_ms >= h->asked_ms) {
        h->asked = false;
        deadline_clear(&h->probe); /* answered: the next question comes an interval later */
    }
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

void h2_check(struct h2 *h)
{
    if (h->checking || h->dead || h->draining || !h->settled || h->open > 0 ||
        loop_now_ms() - h->heard_ms < h->limits->check_after_ms)
        return;
    h->checking = true;
    h2_ask(h);
    deadline_set(&h->probe, h->limits->check_timeout_ms);
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
    if (h->read_paused &&
        nghttp2_session_get_outbound_queue_size(h->library) <= h->limits->queue_max) {
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
        conn_finish(h->conn, h->limits->finish_ms);
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
            conn_finish(h->conn, h->limits->finish_ms);
            h->conn = NULL;
        }
        h2_die(h, error, "closed by the peer", false);
        break;
    case CONN_FAILED:
        h2_die(h, conn_error(c) == CONN_E_REFUSED ? STREAM_E_ALERT : STREAM_E_TERMINATED,
            conn_strerror(c), false);
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
    h->on_turn = h2_on_turn;
    h->peer = *conn_peer(conn);
    h->heard_ms = loop_now_ms();
    list_init(&h->quiet);
    list_init(&h->ready);
    deadline_init(&h->probe, h2_on_probe, h);
    deadline_set(&h->probe, limits->ping_timeout_ms);
    h->settings_due = true;
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

        h2_stream_narrow(s);
        s->stream.broken = !h->goaway_heard;
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

void h2_finish(struct h2 *h)
{
    if (h->dead)
        return;
    nghttp2_session_terminate_session(h->library, NGHTTP2_NO_ERROR);
    if (h2_flush(h) < 0)
        return;
    conn_finish(h->conn, h->limits->finish_ms);
    h->conn = NULL;
    h2_die(h, STREAM_E_ENDED, "no longer used", false);
}

void h2_cut(struct h2 *h, enum stream_error error, const char *why)
{
    if (h->dead)
        return;
    if (!h->peer_stalled && !h->inside) {
        if (h2_flush(h) < 0)
            return;
        conn_finish(h->conn, h->limits->finish_ms);
        h->conn = NULL;
    }
    h2_die(h, error, why, false);
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
        conn_finish(h->conn, h->sent_calm ? h->limits->calm_ms : h->limits->finish_ms);
    }
    h->conn = NULL;
    h2_die(h, STREAM_E_PROTOCOL, why, false);
}
