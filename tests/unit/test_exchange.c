/* Exchanges: the real front, pool and origins between a client that is a fake stream, a worker and
 * an upstream that the test plays. First every way in which something can end an exchange, in every
 * place where it can be; then what happens on the road. */
#include "exchange/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "conffile.h"
#include "fakestream.h"
#include "frontend/front.h"
#include "http/websocket.h"
#include "observe/access.h"
#include "unit.h"
#include "world.h"

static struct front front;
static struct conf *conf; /* NULL: no front is open */
static bool closed;       /* the front, by a shutdown */
static struct fake_stream client, other;
static struct peer worker, held, upstream;
static int workers, upstreams; /* listening */
static unsigned upstream_port;
static struct exchange *ex; /* of `client`; not to be looked into when it is done */

static void open_front(const char *pool_options, const char *upstream_options)
{
    struct arena a = { 0 };
    struct log_target target = { LOG_TO_FILE, str_of(conffile_path("access")) };
    struct log_target log = { LOG_TO_FILE, str_of(conffile_path("log")) };
    char why[256] = "";

    conf = conffile_must_load(arena_printf(&a,
        "temp_dir = \"%s\" body_max = 2000\n"
        "listen \"unix:%s\" { }\n"
        "workers \"app\" { server \"unix:%s\" { slots = 1 }\n%s }\n"
        "upstream \"ai\" { origin = \"http://127.0.0.1:%u\" retries = 0 retry_unstarted_within = "
        "\"0ms\"\n%s }\n"
        "route \"/\" { workers = \"app\" }\n"
        "route \"/ws\" { workers = \"app\" websocket = true }\n"
        "route \"/inside/\" { workers = \"app\" internal = true }\n"
        "route \"/gate/\" { upstream = \"ai\" }\n",
        conffile_path("."), conffile_path("front"), conffile_path("worker"), pool_options,
        upstream_port, upstream_options)
                                  .p);
    arena_release(&a);
    ck_assert_int_eq(log_open(LEVEL_DEBUG, &log), 0);
    ck_assert_int_eq(access_open(&target, ACCESS_LOGFMT), 0);
    ck_assert_msg(front_open(&front, conf, NULL, false, why, sizeof(why)) == 0, "%s", why);
}

static void set_up(void)
{
    world_open();
    workers = peer_listen_unix("worker", 8);
    upstreams = peer_listen_tcp(&upstream_port);
    worker.fd = held.fd = upstream.fd = -1;
    fake_stream_init(&client);
    fake_stream_init(&other);
    conf = NULL;
    closed = false;
    ex = NULL;
}

/* Ends all that is still in flight. */
static void close_front(void)
{
    if (!conf)
        return;
    if (!closed)
        front_close(&front);
    conf_unref(conf);
    conf = NULL;
    world_settle();
    access_close();
    log_close();
}

static void tear_down(void)
{
    close_front();
    ck_assert(client.closed || client.stream.owner == NULL);
    peer_close(&worker);
    peer_close(&held);
    peer_close(&upstream);
    close(workers);
    close(upstreams);
    fake_stream_release(&client);
    fake_stream_release(&other);
    world_close();
}

/* EX_DONE if it is on no list any more. */
static enum ex_state state(void)
{
    for (int s = 0; s < EX_DONE; s++)
        LIST_EACH(n, &front.exchanges.by_state[s]) {
            if (LIST_OWNER(n, struct exchange, node) == ex)
                return (enum ex_state)s;
        }
    return EX_DONE;
}

static bool in_file(const char *name, const char *text)
{
    char all[65536];
    FILE *f = fopen(conffile_path(name), "r");
    size_t n = f ? fread(all, 1, sizeof(all) - 1, f) : 0;

    all[n] = '\0';
    if (f)
        fclose(f);
    return strstr(all, text) != NULL;
}

/* The client */

/* "Name=value|…"; `length` of a body that follows: -1 none. */
static void ask_with(
    struct fake_stream *f, const char *method, const char *target, const char *fields, int length)
{
    struct field list[20];
    struct head h = { .method = str_of(method),
        .target = str_of(target),
        .authority = STR("site.example"),
        .minor = 1,
        .websocket = strcmp(target, "/ws") == 0,
        .fields = list };
    struct stream_request r = { .head = &h, .body = length > 0, .length_known = true };
    struct str rest = str_of(fields), one;
    char number[20];

    snprintf(number, sizeof(number), "%d", length);
    if (length >= 0) {
        list[h.nfields++] = (struct field){ STR("Content-Length"), str_of(number) };
        r.length = (uint64_t)length;
    }
    while (rest.n > 0) {
        str_cut(rest, '|', &one, &rest);
        str_cut(one, '=', &list[h.nfields].name, &list[h.nfields].value);
        h.nfields++;
    }
    front.acceptor.on_request(&front, &f->stream, &r);
    if (f == &client)
        ex = client.closed ? NULL : client.stream.owner;
}

static void ask(const char *target)
{
    ask_with(&client, "GET", target, "", -1);
}

static void client_fails(enum stream_error error, int detail)
{
    fake_stream_emit(
        &client, (struct message){ .kind = MESSAGE_FAILED, .cause = error, .detail = detail });
}

/* The worker */

static void worker_takes_as(struct peer *p, const char *text)
{
    peer_close(p);
    WORLD_UNTIL(peer_accept(p, workers));
    WORLD_UNTIL(peer_has(p, "\r\n\r\n"));
    WORLD_UNTIL(peer_has(p, text));
}

static void worker_takes(const char *text)
{
    worker_takes_as(&worker, text);
}

static void worker_answers(const char *fields, const char *body)
{
    struct arena a = { 0 };

    peer_send(&worker, arena_printf(&a,
                           "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: "
                           "close\r\n%s\r\n%s",
                           strlen(body), fields, body)
                           .p);
    arena_release(&a);
}

#define TYPE "Content-Type: application/http; msgtype=request\r\n"
#define CALL "POST tarry://ai/v1 HTTP/1.1\r\nContent-Length: 2\r\nTarry-Call-Id: id\r\n\r\nhi"

static void worker_hands_off(const char *fields, const char *calls)
{
    struct arena a = { 0 };

    worker_answers(arena_printf(&a, TYPE "%s", fields).p, calls);
    arena_release(&a);
}

/* The upstream */

static void upstream_takes(void)
{
    peer_close(&upstream);
    WORLD_UNTIL(peer_accept(&upstream, upstreams));
    WORLD_UNTIL(peer_has(&upstream, "\r\n\r\n"));
}

static void upstream_answers(const char *body)
{
    struct arena a = { 0 };

    peer_send(&upstream, arena_printf(&a,
                             "HTTP/1.1 200 OK\r\nConnection: close\r\nX-Up: 1\r\nContent-Length: "
                             "%zu\r\n\r\n%s",
                             strlen(body), body)
                             .p);
    arena_release(&a);
}

static void takes_the_slot(void)
{
    ask_with(&other, "GET", "/other", "", -1);
    worker_takes_as(&held, "/other");
}

/* Places */

enum place {
    READING,
    QUEUED,
    VISITING,
    COLLECTING, /* a handoff's head has come */
    PARKED,     /* by resume; the upstream has the request */
    PARKED_RELAY,
    PARKED_NOTIFY, /* by a relay with notify */
    PARKED_GATEWAY,
    ANSWERING,        /* from a worker that streams */
    ANSWERING_LENGTH, /* from one that has said how long it is */
    ANSWERING_RELAY,
    ANSWERING_NOTIFY,
    ANSWERING_GATEWAY,
    KEPT_ALIVE, /* parked by resume, and the head is out */
    KEPT_ALIVE_RELAY,
    QUEUED_RESUME,
    WAITING_RESUME, /* no worker can be reached */
    VISITING_RESUME,
    NOTIFYING,
    NOTIFY_PAUSE, /* the worker did not want it */
    TUNNELLING,
};

/* Parks `ex` with these fields of a handoff. */
static void park(const char *fields)
{
    ask("/a");
    worker_takes("Tarry-Kind: request\r\n");
    worker_hands_off(fields, CALL);
    upstream_takes();
    ck_assert_int_eq(state(), EX_PARKED);
}

static void upstream_begins(void)
{
    peer_send(&upstream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbegin");
    WORLD_UNTIL(fake_stream_body_has(&client, "begin"));
    ck_assert_int_eq(state(), EX_ANSWERING);
}

static void tunnel(void)
{
    char accept[WEBSOCKET_ACCEPT_LEN + 1];
    struct arena a = { 0 };
    const char *key;

    ask("/ws");
    worker_takes("Upgrade: websocket\r\n");
    key = strstr(peer_take(&worker), "Sec-WebSocket-Key: ");
    ck_assert_ptr_nonnull(key);
    websocket_accept(str_make(key + 19, WEBSOCKET_KEY_LEN), accept);
    peer_send(&worker, arena_printf(&a,
                           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
                           "Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\nraw",
                           accept)
                           .p);
    arena_release(&a);
    WORLD_UNTIL(fake_stream_body_has(&client, "raw"));
    ck_assert_uint_eq(client.status, 101);
    ck_assert_int_eq(state(), EX_TUNNELLING);
}

/* `fields` are added to a handoff. */
static void reach(enum place place, const char *fields)
{
    struct arena a = { 0 };
    const char *resume = arena_printf(&a, "Tarry-Then: resume /r\r\n%s", fields).p;
    const char *relay = arena_printf(&a, "Tarry-Then: relay\r\n%s", fields).p;
    const char *notify = arena_printf(&a, "%sTarry-Notify: /n\r\n", relay).p;

    switch (place) {
    case READING:
        ask_with(&client, "POST", "/a", "", 9);
        fake_stream_data(&client, "abc");
        break;
    case QUEUED:
        takes_the_slot();
        ask("/a");
        world_settle();
        break;
    case VISITING:
        ask("/a");
        worker_takes("Tarry-Kind: request\r\n");
        break;
    case COLLECTING:
        ask("/a");
        worker_takes("Tarry-Kind: request\r\n");
        peer_send(&worker, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n" TYPE);
        peer_send(&worker, resume);
        peer_send(&worker, "\r\nPOST ");
        world_settle();
        ck_assert_int_ne(ex->phase, 0); /* a handoff is read */
        break;
    case PARKED:
        park(resume);
        break;
    case PARKED_RELAY:
        park(relay);
        break;
    case PARKED_NOTIFY:
        park(notify);
        break;
    case PARKED_GATEWAY:
        ask("/gate/x");
        upstream_takes();
        break;
    case ANSWERING:
    case ANSWERING_LENGTH:
        ask("/a");
        worker_takes("Tarry-Kind: request\r\n");
        peer_send(&worker, place == ANSWERING
                               ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
                               : "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        WORLD_UNTIL(fake_stream_body_has(&client, "abc"));
        break;
    case ANSWERING_RELAY:
        park(relay);
        upstream_begins();
        break;
    case ANSWERING_NOTIFY:
        park(notify);
        upstream_begins();
        break;
    case ANSWERING_GATEWAY:
        ask("/gate/x");
        upstream_takes();
        upstream_begins();
        break;
    case KEPT_ALIVE:
        park(arena_printf(&a, "%sTarry-Keep-Alive: space\r\n", resume).p);
        WORLD_UNTIL(buf_len(&client.body) > 0);
        break;
    case KEPT_ALIVE_RELAY:
        park(arena_printf(&a, "%sTarry-Keep-Alive: sse\r\n", relay).p);
        WORLD_UNTIL(buf_len(&client.body) > 0);
        break;
    case QUEUED_RESUME:
        park(resume);
        WORLD_UNTIL(pool_counts(ex->pool).busy == 0);
        takes_the_slot();
        upstream_answers("ok");
        WORLD_UNTIL(state() == EX_QUEUED);
        world_settle();
        break;
    case WAITING_RESUME:
        park(resume);
        close(workers);
        unlink(conffile_path("worker"));
        upstream_answers("ok");
        WORLD_UNTIL(state() == EX_QUEUED && !ex->hop.visit);
        break;
    case VISITING_RESUME:
        park(resume);
        upstream_answers("ok");
        worker_takes("Tarry-Kind: resume\r\n");
        WORLD_UNTIL(peer_has(&worker, "\r\n\r\nok"));
        break;
    case NOTIFYING:
    case NOTIFY_PAUSE:
        park(notify);
        upstream_answers("ok");
        worker_takes("Tarry-Kind: notify\r\n");
        WORLD_UNTIL(peer_has(&worker, "\r\n\r\nok"));
        if (place == NOTIFY_PAUSE) {
            peer_send(&worker, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
            WORLD_UNTIL(!ex->hop.visit);
        }
        break;
    case TUNNELLING:
        tunnel();
        break;
    }
    arena_release(&a);
}

/* What happens there */

enum happening {
    GONE,        /* the client */
    FIN,         /* from the client */
    SLOW,        /* the client, within its body */
    GARBLED,     /* the client's body */
    SHUTDOWN,    /* of Tarry */
    WORKER_ENDS, /* closes its connection */
    WORKER_GARBLES,
    UPSTREAM_ENDS,
    UPSTREAM_RESETS,
    UPSTREAM_GARBLES,
    UPSTREAM_BREAKS_OFF, /* behind its head */
    NOTHING,             /* until a deadline passes */
};

static void happen(enum happening what)
{
    switch (what) {
    case GONE:
        client_fails(STREAM_E_GONE, 0);
        break;
    case FIN:
        fake_stream_half_close(&client);
        break;
    case SLOW:
        client_fails(STREAM_E_TIMEOUT, 0);
        break;
    case GARBLED:
        client_fails(STREAM_E_BAD_REQUEST, H1_E_CHUNK);
        break;
    case SHUTDOWN:
        ck_assert_uint_gt(front_close(&front), 0);
        closed = true;
        break;
    case WORKER_ENDS:
        peer_close(&worker);
        break;
    case WORKER_GARBLES:
        peer_send(&worker, "\r\n\r\ngarbage\r\n\r\n");
        break;
    case UPSTREAM_ENDS:
        peer_close(&upstream);
        break;
    case UPSTREAM_RESETS:
        peer_reset(&upstream);
        break;
    case UPSTREAM_GARBLES:
        peer_send(&upstream, "\r\n\r\ngarbage\r\n\r\n");
        break;
    case UPSTREAM_BREAKS_OFF:
        peer_send(&upstream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        world_settle();
        peer_close(&upstream);
        break;
    case NOTHING:
        break;
    }
}

/* What the client sees of it. */
enum sees {
    SILENCE, /* it is not told anything (now) */
    CUT,     /* what it has is not whole */
    LATE,    /* the problem in the place of the body that keep-alive bytes began */
    /* or a status, whole */
};

#define CANCEL "Tarry-On-Disconnect: cancel\r\n"
#define FINISH "Tarry-On-Disconnect: finish\r\n"
#define LONG "keep_alive_interval = \"1ms\" "

static const struct row {
    enum place place;
    const char *fields, *pool, *upstream;
    enum happening what;
    enum ex_state then; /* EX_DONE, or where it goes on */
    const char *end;    /* the access log's word, if it is done */
    unsigned sees;
} rows[] = {
    { READING, "", "", "", GONE, EX_DONE, "client_gone", SILENCE },
    { READING, "", "", "", SLOW, EX_DONE, "http_request_error", 408 },
    { READING, "", "", "", GARBLED, EX_DONE, "http_request_error", 400 },
    { READING, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },

    { QUEUED, "", "", "", GONE, EX_DONE, "client_gone", SILENCE },
    { QUEUED, "", "", "", FIN, EX_DONE, "client_gone", SILENCE },
    { QUEUED, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },
    { QUEUED, "", "queue_timeout = \"200ms\"", "", NOTHING, EX_DONE, "connection_limit_reached",
        503 },

    { VISITING, "", "", "", GONE, EX_VISITING, NULL, SILENCE },
    { VISITING, "", "", "", FIN, EX_VISITING, NULL, SILENCE },
    { VISITING, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },
    { VISITING, "", "", "", WORKER_ENDS, EX_DONE, "http_response_incomplete", 502 },
    { VISITING, "", "", "", WORKER_GARBLES, EX_DONE, "http_protocol_error", 502 },
    { VISITING, "", "response_timeout = \"200ms\"", "", NOTHING, EX_DONE, "http_response_timeout",
        504 },

    { COLLECTING, "", "", "", GONE, EX_VISITING, NULL, SILENCE },
    { COLLECTING, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },
    { COLLECTING, "", "", "", WORKER_ENDS, EX_DONE, "http_response_incomplete", 502 },
    { COLLECTING, "", "response_timeout = \"200ms\"", "", NOTHING, EX_DONE, "http_response_timeout",
        504 },

    { PARKED, "", "", "", GONE, EX_PARKED, NULL, SILENCE },
    { PARKED, "", "", "", FIN, EX_PARKED, NULL, SILENCE },
    { PARKED, FINISH, "", "", GONE, EX_PARKED, NULL, SILENCE },
    { PARKED, CANCEL, "", "", GONE, EX_DONE, "client_gone", SILENCE },
    { PARKED, CANCEL, "", "", FIN, EX_DONE, "client_gone", CUT },
    { PARKED, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },
    { PARKED, "", "", "", UPSTREAM_ENDS, EX_VISITING, NULL, SILENCE },
    { PARKED, "", "", "", UPSTREAM_RESETS, EX_VISITING, NULL, SILENCE },
    { PARKED, "", "", "", UPSTREAM_GARBLES, EX_VISITING, NULL, SILENCE },
    { PARKED, "", "", "first_byte_timeout = \"200ms\"", NOTHING, EX_VISITING, NULL, SILENCE },
    { PARKED, "", "", "total_timeout = \"200ms\"", NOTHING, EX_VISITING, NULL, SILENCE },

    { KEPT_ALIVE, "", LONG, "", GONE, EX_PARKED, NULL, SILENCE },
    { KEPT_ALIVE, CANCEL, LONG, "", GONE, EX_DONE, "client_gone", SILENCE },
    { KEPT_ALIVE, "", LONG, "", SHUTDOWN, EX_DONE, "shutdown", CUT },
    { KEPT_ALIVE, "", LONG, "", UPSTREAM_ENDS, EX_VISITING, NULL, SILENCE },

    { PARKED_RELAY, "", "", "", GONE, EX_DONE, "client_gone", SILENCE },
    { PARKED_RELAY, "", "", "", FIN, EX_DONE, "client_gone", CUT },
    { PARKED_RELAY, FINISH, "", "", GONE, EX_PARKED, NULL, SILENCE },
    { PARKED_RELAY, FINISH, "", "", FIN, EX_PARKED, NULL, SILENCE },
    { PARKED_RELAY, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },
    { PARKED_RELAY, "", "", "", UPSTREAM_ENDS, EX_DONE, "http_response_incomplete", 502 },
    { PARKED_RELAY, "", "", "", UPSTREAM_RESETS, EX_DONE, "connection_terminated", 502 },
    { PARKED_RELAY, "", "", "", UPSTREAM_GARBLES, EX_DONE, "http_protocol_error", 502 },
    { PARKED_RELAY, "", "", "first_byte_timeout = \"200ms\"", NOTHING, EX_DONE,
        "http_response_timeout", 504 },
    { PARKED_RELAY, "", "", "total_timeout = \"200ms\"", NOTHING, EX_DONE, "http_response_timeout",
        504 },
    { PARKED_RELAY, "Tarry-On-Error: /e\r\n", "", "", UPSTREAM_ENDS, EX_VISITING, NULL, SILENCE },
    { KEPT_ALIVE_RELAY, "Tarry-On-Error: /e\r\n", LONG, "", UPSTREAM_BREAKS_OFF, EX_VISITING, NULL,
        SILENCE }, /* no byte of a real response has gone out */
    { KEPT_ALIVE_RELAY, "Tarry-On-Error: /e\r\n", LONG, "", UPSTREAM_ENDS, EX_VISITING, NULL,
        SILENCE },
    { PARKED_RELAY, "Tarry-Keep-Alive: space\r\n", LONG, "", UPSTREAM_ENDS, EX_DONE,
        "http_response_incomplete", LATE },
    { PARKED_RELAY, "Tarry-Keep-Alive: sse\r\n", LONG, "", UPSTREAM_ENDS, EX_DONE,
        "http_response_incomplete", LATE },

    { PARKED_NOTIFY, "", "", "", GONE, EX_PARKED, NULL, SILENCE },
    { PARKED_NOTIFY, CANCEL, "", "", GONE, EX_NOTIFYING, NULL, SILENCE },
    { PARKED_NOTIFY, CANCEL, "", "", FIN, EX_NOTIFYING, NULL, CUT },
    { PARKED_NOTIFY, "", "", "", UPSTREAM_ENDS, EX_NOTIFYING, NULL, 502 },
    { PARKED_NOTIFY, "", "", "first_byte_timeout = \"200ms\"", NOTHING, EX_NOTIFYING, NULL, 504 },
    { PARKED_NOTIFY, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },

    { PARKED_GATEWAY, "", "", "", GONE, EX_DONE, "client_gone", SILENCE },
    { PARKED_GATEWAY, "", "", "", FIN, EX_DONE, "client_gone", CUT },
    { PARKED_GATEWAY, "", "", "", UPSTREAM_RESETS, EX_DONE, "connection_terminated", 502 },
    { PARKED_GATEWAY, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },

    { ANSWERING, "", "", "", GONE, EX_DONE, "client_gone", SILENCE },
    { ANSWERING, "", "", "", FIN, EX_ANSWERING, NULL, SILENCE },
    { ANSWERING, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },
    { ANSWERING, "", "", "", WORKER_ENDS, EX_DONE, "http_response_incomplete", CUT },
    { ANSWERING, "", "", "", WORKER_GARBLES, EX_DONE, "http_protocol_error", CUT },
    { ANSWERING, "", "response_timeout = \"300ms\"", "", NOTHING, EX_DONE, "http_response_timeout",
        CUT },
    { ANSWERING_LENGTH, "", "", "", GONE, EX_ANSWERING, NULL, SILENCE },
    { ANSWERING_LENGTH, "", "", "", WORKER_ENDS, EX_DONE, "http_response_incomplete", CUT },
    { ANSWERING_LENGTH, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },

    { ANSWERING_RELAY, "", "", "", GONE, EX_DONE, "client_gone", SILENCE },
    { ANSWERING_RELAY, FINISH, "", "", GONE, EX_ANSWERING, NULL, SILENCE },
    { ANSWERING_RELAY, "", "", "", FIN, EX_DONE, "client_gone", CUT },
    { ANSWERING_RELAY, FINISH, "", "", FIN, EX_ANSWERING, NULL, SILENCE },
    { ANSWERING_RELAY, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },
    { ANSWERING_RELAY, "", "", "", UPSTREAM_RESETS, EX_DONE, "http_response_incomplete", CUT },
    { ANSWERING_RELAY, "", "", "idle_timeout = \"300ms\"", NOTHING, EX_DONE,
        "http_response_timeout", CUT },
    { ANSWERING_RELAY, "", "", "total_timeout = \"200ms\"", NOTHING, EX_DONE,
        "http_response_timeout", CUT },
    { ANSWERING_RELAY, "Tarry-On-Error: /e\r\n", "", "", UPSTREAM_RESETS, EX_DONE,
        "http_response_incomplete", CUT },

    { ANSWERING_NOTIFY, "", "", "", GONE, EX_ANSWERING, NULL, SILENCE },
    { ANSWERING_NOTIFY, CANCEL, "", "", GONE, EX_NOTIFYING, NULL, SILENCE },
    { ANSWERING_NOTIFY, "", "", "", UPSTREAM_RESETS, EX_NOTIFYING, NULL, CUT },
    { ANSWERING_NOTIFY, "", "", "", UPSTREAM_ENDS, EX_NOTIFYING, NULL, 200 },
    { ANSWERING_NOTIFY, "", "", "idle_timeout = \"300ms\"", NOTHING, EX_NOTIFYING, NULL, CUT },
    { ANSWERING_NOTIFY, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },

    { ANSWERING_GATEWAY, "", "", "", GONE, EX_DONE, "client_gone", SILENCE },
    { ANSWERING_GATEWAY, "", "", "", UPSTREAM_RESETS, EX_DONE, "http_response_incomplete", CUT },
    { ANSWERING_GATEWAY, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },

    { QUEUED_RESUME, "", "", "", GONE, EX_QUEUED, NULL, SILENCE },
    { QUEUED_RESUME, "", "", "", FIN, EX_QUEUED, NULL, SILENCE },
    { QUEUED_RESUME, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },
    { QUEUED_RESUME, "", "queue_timeout = \"200ms\" resume_wait = \"400ms\"", "", NOTHING, EX_DONE,
        "connection_limit_reached", 503 },

    { WAITING_RESUME, "", "", "", GONE, EX_QUEUED, NULL, SILENCE },
    { WAITING_RESUME, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },
    { WAITING_RESUME, "", "resume_wait = \"300ms\"", "", NOTHING, EX_DONE, "connection_refused",
        502 },

    { VISITING_RESUME, "", "", "", GONE, EX_VISITING, NULL, SILENCE },
    { VISITING_RESUME, "", "", "", WORKER_ENDS, EX_VISITING, NULL, SILENCE }, /* the next one */
    { VISITING_RESUME, "", "resume_attempts = 1", "", WORKER_ENDS, EX_DONE,
        "http_response_incomplete", 502 },
    { VISITING_RESUME, "", "", "", WORKER_GARBLES, EX_DONE, "http_protocol_error", 502 },
    { VISITING_RESUME, "", "response_timeout = \"300ms\"", "", NOTHING, EX_DONE,
        "http_response_timeout", 504 },
    { VISITING_RESUME, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },

    { NOTIFYING, "", "", "", WORKER_ENDS, EX_NOTIFYING, NULL, 200 },
    { NOTIFYING, "", "notify_attempts = 1", "", WORKER_ENDS, EX_DONE, "complete", 200 },
    { NOTIFYING, "", "notify_attempts = 1", "", WORKER_GARBLES, EX_DONE, "complete", 200 },
    { NOTIFYING, "", "notify_attempts = 1 response_timeout = \"300ms\"", "", NOTHING, EX_DONE,
        "complete", 200 },
    { NOTIFYING, "", "", "", SHUTDOWN, EX_DONE, "complete", 200 },
    { NOTIFY_PAUSE, "", "notify_first_pause = \"200ms\"", "", NOTHING, EX_NOTIFYING, NULL, 200 },
    { NOTIFY_PAUSE, "", "", "", SHUTDOWN, EX_DONE, "complete", 200 },

    { TUNNELLING, "", "", "", GONE, EX_DONE, "client_gone", SILENCE },
    { TUNNELLING, "", "", "", FIN, EX_TUNNELLING, NULL, SILENCE },
    { TUNNELLING, "", "", "", SLOW, EX_DONE, "client_gone", SILENCE },
    { TUNNELLING, "", "", "", SHUTDOWN, EX_DONE, "shutdown", CUT },
    { TUNNELLING, "", "", "", WORKER_ENDS, EX_DONE, "complete", 101 },
    { TUNNELLING, "", "", "", WORKER_GARBLES, EX_TUNNELLING, NULL, SILENCE },
    { TUNNELLING, "", "tunnel_idle_timeout = \"300ms\"", "", NOTHING, EX_DONE, "idle_timeout",
        CUT },
};

START_TEST(ends_well_wherever_it_is)
{
    const struct row *r = &rows[_i];
    char text[64];

    open_front(r->pool, r->upstream);
    reach(r->place, r->fields);
    if (r->sees == LATE)
        WORLD_UNTIL(client.status == 200);
    happen(r->what);
    WORLD_UNTIL(state() == r->then);
    world_settle();
    ck_assert_msg(state() == r->then, "row %d: %s instead of %s", _i, ex_state_name(state()),
        ex_state_name(r->then));
    switch (r->sees) {
    case SILENCE:
        ck_assert(!client.ended);
        break;
    case CUT:
        ck_assert(client.closed && client.reset);
        break;
    case LATE:
        ck_assert(client.ended && client.closed && client.status == 200);
        ck_assert(fake_stream_body_has(&client, "{\"title\":"));
        ck_assert_int_eq(fake_stream_body_has(&client, "event: error\ndata: {"),
            strstr(r->fields, "sse") != NULL);
        break;
    default:
        ck_assert(client.ended && client.closed);
        ck_assert_uint_eq(client.status, r->sees);
        if (r->sees >= 300) {
            snprintf(text, sizeof(text), "Proxy-Status: tarry; error=%s\r\n", r->end ? r->end : "");
            ck_assert(!r->end || fake_stream_head_has(&client, text));
            ck_assert(fake_stream_body_has(&client, "{\"title\":"));
        }
        break;
    }
    close_front();
    if (r->end) {
        snprintf(text, sizeof(text), " end=%s", r->end);
        ck_assert_msg(in_file("access", text), "row %d: the access log does not say %s", _i, text);
    }
}
END_TEST

/* The road */

START_TEST(tunnels_both_ways_and_holds_back_who_is_too_fast)
{
    static char block[300000];
    size_t got = 0;

    open_front("", "");
    memset(block, 'x', sizeof(block) - 1);
    reach(TUNNELLING, "");
    fake_stream_data(&client, "up");
    WORLD_UNTIL(peer_has(&worker, "up"));
    peer_take(&worker);
    fake_stream_data(&client, block);
    ck_assert(client.paused);
    WORLD_UNTIL((got += peer_skip(&worker, 16384), got == sizeof(block) - 1));
    ck_assert(!client.paused);
    client.room = buf_len(&client.body) + 1;
    peer_send(&worker, "1");
    WORLD_UNTIL(fake_stream_body_has(&client, "raw1"));
    peer_send(&worker, "2");
    world_settle();
    ck_assert(!fake_stream_body_has(&client, "raw12"));
    fake_stream_drain(&client, SIZE_MAX);
    WORLD_UNTIL(fake_stream_body_has(&client, "raw12"));
    fake_stream_emit(&client, (struct message){ .kind = MESSAGE_END });
    WORLD_UNTIL(peer_ended(&worker));
    peer_send(&worker, "3");
    WORLD_UNTIL(fake_stream_body_has(&client, "raw123"));
    ck_assert(!client.ended);
    peer_close(&worker);
    WORLD_UNTIL(client.ended && client.closed);
}
END_TEST

START_TEST(passes_a_plain_response_on)
{
    open_front("", "");
    ask_with(&client, "POST", "/a?b", "Cookie=c=d|Tarry-Kind=resume|X-Forwarded-For=1.2.3.4", 6);
    fake_stream_data(&client, "abc");
    fake_stream_data(&client, "def");
    world_settle();
    ck_assert_int_eq(state(), EX_READING);
    ck_assert(!peer_accept(&worker, workers)); /* no worker before the body is whole */
    fake_stream_emit(&client, (struct message){ .kind = MESSAGE_END });
    worker_takes("\r\n\r\nabcdef");
    ck_assert(peer_has(&worker, "POST /a?b HTTP/1.1\r\n"));
    ck_assert(peer_has(&worker, "Content-Length: 6\r\n"));
    ck_assert(peer_has(&worker, "Cookie: c=d\r\n"));
    ck_assert(peer_has(&worker, "X-Forwarded-For: 127.0.0.1\r\n"));
    ck_assert(peer_has(&worker, "Tarry-Hop: 0\r\n"));
    ck_assert(!peer_has(&worker, "resume\r\n"));
    worker_answers("Set-Cookie: e=f\r\nTarry-State: s\r\n", "yes");
    WORLD_UNTIL(client.closed);
    ck_assert(client.ended);
    ck_assert_span_eq(buf_str(&client.body), "yes");
    ck_assert(fake_stream_head_has(&client, "Set-Cookie: e=f\r\n"));
    ck_assert(!fake_stream_head_has(&client, "Tarry-"));
    ck_assert_int_eq(state(), EX_DONE);
}
END_TEST

START_TEST(lets_the_client_send_when_it_waits)
{
    open_front("", "");
    {
        struct head h = {
            .method = STR("POST"), .target = STR("/a"), .authority = STR("h"), .minor = 1
        };
        struct stream_request r = { .head = &h, .body = true, .expects_continue = true };

        front.acceptor.on_request(&front, &client.stream, &r);
        ex = client.stream.owner;
    }
    ck_assert(client.continued);
}
END_TEST

/* Refused by admission */
static const struct {
    const char *method, *target;
    int length, data;
    unsigned status;
} inadmissible[] = {
    { "GET", "/inside/x", -1, 0, 404 },
    { "GET", "/x/../inside/", -1, 0, 404 },
    { "GET", "/%69nside/", -1, 0, 404 },
    { "GET", "/../x", -1, 0, 400 },
    { "GET", "/a%00b", -1, 0, 400 },
    { "POST", "/a", 2001, 0, 413 },
    { "POST", "/a", 2000, 2001, 413 },
    { "HEAD", "/inside/x", -1, 0, 404 },
};

START_TEST(refuses_before_an_exchange_begins)
{
    static char data[3000];

    open_front("", "");
    ask_with(
        &client, inadmissible[_i].method, inadmissible[_i].target, "", inadmissible[_i].length);
    memset(data, 'x', (size_t)inadmissible[_i].data);
    if (inadmissible[_i].data)
        fake_stream_data(&client, data);
    ck_assert_uint_eq(client.status, inadmissible[_i].status);
    ck_assert(client.ended && client.closed);
    ck_assert_int_eq(
        buf_len(&client.body) == 0, str_eq(str_of(inadmissible[_i].method), STR("HEAD")));
    memset(data, 0, sizeof(data));
}
END_TEST

START_TEST(relays)
{
    open_front("", "relay_headers = { \"x-up\" }");
    park("Tarry-Then: relay\r\nSet-Cookie: s=1\r\nX-Frame: deny\r\n");
    ck_assert(peer_has(&upstream, "POST /v1 HTTP/1.1\r\nHost: 127.0.0.1:"));
    ck_assert(!peer_has(&upstream, "Tarry-"));
    upstream_begins();
    ck_assert(!client.ended);
    peer_send(&upstream, ", end");
    peer_close(&upstream);
    WORLD_UNTIL(client.closed);
    ck_assert(client.ended && !client.reset);
    ck_assert_span_eq(buf_str(&client.body), "begin, end");
    ck_assert(fake_stream_head_has(&client, "Set-Cookie: s=1\r\n"));
    ck_assert(fake_stream_head_has(&client, "X-Frame: deny\r\n"));
    ck_assert(!fake_stream_head_has(&client, "Tarry-"));
    ck_assert_int_eq(state(), EX_DONE);
}
END_TEST

/* A client that asked with GET gets a whole response, if an empty one. */
START_TEST(relays_the_answer_to_head)
{
    open_front("", "");
    ask("/a");
    worker_takes("request\r\n");
    worker_hands_off("Tarry-Then: relay\r\n", "HEAD tarry://ai/ HTTP/1.1\r\n\r\n");
    upstream_takes();
    peer_send(&upstream, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nContent-Type: a/b\r\n\r\n");
    WORLD_UNTIL(client.closed);
    ck_assert(client.ended && !client.reset);
    ck_assert(fake_stream_head_has(&client, "Content-Type: a/b\r\n"));
    ck_assert(!fake_stream_head_has(&client, "Content-Length"));
}
END_TEST

START_TEST(holds_the_upstream_back_for_a_slow_client)
{
    static const char block[20000] = { 'x' };
    size_t sent = 0, before;

    open_front("", "");
    park("Tarry-Then: relay\r\n");
    upstream_begins();
    client.room = 100;
    for (int i = 0; i < 300; i++) {
        sent += peer_send_some(&upstream, block, sizeof(block));
        world_settle();
    }
    before = buf_len(&client.body);
    ck_assert_uint_lt(before, sent); /* the rest waits at the upstream */
    sent += peer_send_some(&upstream, block, sizeof(block));
    world_settle();
    ck_assert_uint_eq(buf_len(&client.body), before);
    fake_stream_drain(&client, SIZE_MAX);
    WORLD_UNTIL(buf_len(&client.body) == sent + 5);
    peer_close(&upstream);
    WORLD_UNTIL(client.ended);
}
END_TEST

/* A worker is drained as fast as it writes, however slow the client is: its slot is free. */
START_TEST(keeps_a_response_for_a_slow_client)
{
    static char block[300001];

    memset(block, 'y', sizeof(block) - 1);
    open_front("", "");
    conf->body_memory_max = 4096;
    client.room = 1;
    ask("/a");
    worker_takes("request\r\n");
    worker_answers("", block);
    WORLD_UNTIL(peer_ended(&worker));
    WORLD_UNTIL(pool_counts(ex->pool).busy == 0);
    ck_assert_int_eq(state(), EX_ANSWERING);
    ck_assert_uint_lt(buf_len(&client.body), 100000);
    for (int i = 0; !client.closed && (_i == 0 || i < 2); i++) {
        fake_stream_drain(&client, buf_len(&client.body) + 50000);
        world_settle();
    }
    if (_i == 0) {
        ck_assert(client.ended);
        ck_assert_span_eq(buf_str(&client.body), block);
    } else {
        client_fails(STREAM_E_TIMEOUT, 0);
        ck_assert_int_eq(state(), EX_DONE);
    }
}
END_TEST

START_TEST(stops_the_worker_when_too_much_is_kept)
{
    static const char block[20000] = { 'x' };
    size_t sent = 0;

    open_front("spool_max = \"64K\"", "");
    client.room = 1;
    ask("/a");
    worker_takes("request\r\n");
    peer_send(&worker, "HTTP/1.1 200 OK\r\n\r\n");
    for (int i = 0; i < 200; i++) {
        sent += peer_send_some(&worker, block, sizeof(block));
        world_settle();
    }
    ck_assert_uint_lt(sent, 600000);
    peer_finish(&worker);
    for (int i = 0; i < 1000 && !client.closed; i++) {
        fake_stream_drain(&client, buf_len(&client.body) + 30000);
        world_settle();
    }
    ck_assert(client.ended);
    ck_assert_uint_eq(buf_len(&client.body), sent);
}
END_TEST

/* The last piece of the response may be the one that crosses spool_max: then there is no worker
 * left to go on with when the client has drained it. */
START_TEST(drains_a_response_whose_last_piece_crossed_spool_max)
{
    static char block[200001];
    size_t n = (16 << 10) * (size_t)(_i + 1);

    memset(block, 'z', sizeof(block) - 1);
    block[n] = '\0';
    open_front("spool_max = \"64K\"", "");
    client.room = 1;
    ask("/a");
    worker_takes("request\r\n");
    worker_answers("", block);
    block[n] = 'z';
    world_settle();
    for (int i = 0; i < 100 && !client.closed; i++) {
        fake_stream_drain(&client, buf_len(&client.body) + 30000);
        world_settle();
    }
    ck_assert(client.ended);
    ck_assert_uint_eq(buf_len(&client.body), n);
}
END_TEST

START_TEST(resumes_with_the_answers_in_the_order_of_the_calls)
{
    struct peer first;

    open_front("", "");
    ask_with(&client, "POST", "/a",
        "Content-Type=text/x|Cookie=c=d|If-Match=e|Accept=z|Range=bytes=1-2", 2);
    fake_stream_data(&client, "xy");
    fake_stream_emit(&client, (struct message){ .kind = MESSAGE_END });
    worker_takes("\r\n\r\nxy");
    worker_hands_off("Tarry-Then: resume /r?q\r\nTarry-State: s\r\nSet-Cookie: k=1\r\n",
        "GET tarry://ai/1 HTTP/1.1\r\nTarry-Call-Id: one\r\n\r\n"
        "GET tarry://ai/2 HTTP/1.1\r\nTarry-Call-Id: two\r\n\r\n");
    upstream_takes();
    first = upstream;
    upstream.fd = -1;
    upstream.in = (struct buf){ 0 };
    upstream_takes();
    if (peer_has(&first, "GET /2 ")) { /* whichever came first */
        struct peer t = first;

        first = upstream;
        upstream = t;
    }
    upstream_answers("second"); /* completes first */
    world_settle();
    ck_assert_int_eq(state(), EX_PARKED);
    peer_send(&first,
        "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nTarry-Call-Id: forged\r\nX-Up: "
        "1\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    worker_takes("second");
    ck_assert(peer_has(&worker, "POST /r?q HTTP/1.1\r\n"));
    ck_assert(peer_has(&worker, "Tarry-Kind: resume\r\n"));
    ck_assert(peer_has(&worker, "Tarry-Hop: 1\r\n"));
    ck_assert(peer_has(&worker, "Tarry-State: s\r\n"));
    ck_assert(peer_has(&worker, "Cookie: c=d\r\n"));
    ck_assert(peer_has(&worker, "Accept: z\r\n"));
    ck_assert(!peer_has(&worker, "If-Match"));
    ck_assert(!peer_has(&worker, "Range"));
    ck_assert(!peer_has(&worker, "text/x"));
    ck_assert(peer_has(&worker, "Content-Type: application/http; msgtype=response\r\n"));
    ck_assert(peer_has(&worker,
        "\r\n\r\nHTTP/1.1 404 Not Found\r\nX-Up: 1\r\nContent-Length: 3\r\nTarry-Call-Id: "
        "one\r\nTarry-Attempts: 1\r\n"));
    ck_assert(peer_has(&worker, "\r\n\r\nabcHTTP/1.1 200 OK\r\n"));
    ck_assert(peer_has(&worker, "Tarry-Call-Id: two\r\n"));
    ck_assert(!peer_has(&worker, "forged"));
    worker_answers("Set-Cookie: l=2\r\n", "done");
    WORLD_UNTIL(client.closed);
    ck_assert(client.ended);
    ck_assert(fake_stream_head_has(&client, "Set-Cookie: k=1\r\n"));
    ck_assert(fake_stream_head_has(&client, "Set-Cookie: l=2\r\n"));
    peer_close(&first);
}
END_TEST

START_TEST(encloses_a_problem_for_a_call_without_a_response)
{
    open_front("", "response_max = \"1K\"");
    reach(PARKED, "");
    if (_i == 0) {
        peer_reset(&upstream);
    } else {
        static char large[2000];

        memset(large, 'x', sizeof(large) - 1);
        upstream_answers(large);
    }
    worker_takes("\"status\":502");
    ck_assert(peer_has(&worker, "HTTP/1.1 502 Bad Gateway\r\n"));
    ck_assert(peer_has(
        &worker, _i == 0 ? "Proxy-Status: tarry; error=connection_terminated\r\n"
                         : "Proxy-Status: tarry; error=http_response_body_size_exceeded\r\n"));
    ck_assert(peer_has(&worker, "Tarry-Call-Id: id\r\n"));
    ck_assert(!peer_has(&worker, "xxxxxxxx"));
}
END_TEST

START_TEST(replays_with_all_answers_of_all_hops)
{
    open_front("", "");
    ask_with(&client, "PUT", "/a?b", "Content-Type=text/x", 4);
    fake_stream_data(&client, "body");
    fake_stream_emit(&client, (struct message){ .kind = MESSAGE_END });
    worker_takes("\r\n\r\nbody");
    worker_hands_off("Tarry-Then: replay\r\n", CALL);
    upstream_takes();
    upstream_answers("first");
    worker_takes("first");
    ck_assert(peer_has(&worker, "PUT /a?b HTTP/1.1\r\n"));
    ck_assert(peer_has(&worker, "Tarry-Kind: replay\r\n"));
    ck_assert(peer_has(&worker, "Tarry-Body-Length: 4\r\n"));
    ck_assert(peer_has(&worker, "Content-Type: text/x\r\n"));
    ck_assert(peer_has(&worker, "\r\n\r\nbodyHTTP/1.1 200 OK\r\n"));
    ck_assert(!peer_has(&worker, "Tarry-State"));
    worker_hands_off("Tarry-Then: replay\r\nTarry-State: t\r\n", CALL);
    upstream_takes();
    upstream_answers("second");
    worker_takes("second");
    ck_assert(peer_has(&worker, "Tarry-Hop: 2\r\n"));
    ck_assert(peer_has(&worker, "Tarry-State: t\r\n"));
    ck_assert(peer_has(&worker, "\r\n\r\nfirstHTTP/1.1 200 OK\r\n"));
    worker_answers("", "done");
    WORLD_UNTIL(client.ended);
}
END_TEST

/* A replay needs the client's body; one that was too large to keep is gone after the first handoff
 * already. */
START_TEST(refuses_a_replay_of_a_large_body)
{
    static char large[1501];

    memset(large, 'x', sizeof(large) - 1);
    open_front("replay_body_max = \"1K\"", "");
    ask_with(&client, "POST", "/a", "", 1500);
    fake_stream_data(&client, large);
    fake_stream_emit(&client, (struct message){ .kind = MESSAGE_END });
    worker_takes("xxxxxxxx");
    if (_i == 1) {
        worker_hands_off("Tarry-Then: resume /r\r\n", CALL);
        upstream_takes();
        upstream_answers("ok");
        worker_takes("Tarry-Kind: resume\r\n");
    }
    worker_hands_off("Tarry-Then: replay\r\n", CALL);
    WORLD_UNTIL(client.closed);
    ck_assert_uint_eq(client.status, 413);
    ck_assert(client.ended);
    world_settle();
    peer_close(&upstream);
    ck_assert(!peer_accept(&upstream, upstreams)); /* the call was not made */
}
END_TEST

static const struct {
    const char *fields, *calls;
    unsigned status;
    const char *error;
} refusals[] = {
    { "Tarry-Then: nonsense\r\n", CALL, 502, "handoff_malformed" },
    { "Tarry-Then: relay\r\n", CALL CALL, 502, "handoff_malformed" },
    { "Tarry-Then: relay\r\n", "GET https://evil.example/ HTTP/1.1\r\n\r\n", 502,
        "handoff_forbidden" },
    { "Tarry-Then: resume /r\r\n", CALL CALL CALL, 502, "handoff_limit" },
};

START_TEST(makes_no_call_of_a_refused_handoff)
{
    open_front("max_calls = 2", "");
    ask("/a");
    worker_takes("request\r\n");
    worker_hands_off(refusals[_i].fields, refusals[_i].calls);
    WORLD_UNTIL(client.closed);
    ck_assert_uint_eq(client.status, refusals[_i].status);
    ck_assert(fake_stream_head_has(&client, refusals[_i].error));
    world_settle();
    ck_assert(!peer_accept(&upstream, upstreams));
}
END_TEST

START_TEST(bounds_the_size_of_a_handoff)
{
    static char large[5001];

    memset(large, 'x', sizeof(large) - 1);
    open_front("handoff_max = \"4K\"", "");
    ask("/a");
    worker_takes("request\r\n");
    worker_hands_off("Tarry-Then: resume /r\r\n", large);
    WORLD_UNTIL(client.closed);
    ck_assert(fake_stream_head_has(&client, "handoff_limit"));
}
END_TEST

START_TEST(bounds_the_hops)
{
    open_front("max_hops = 2", "");
    ask("/a");
    worker_takes("request\r\n");
    for (int hop = 0; hop < 1; hop++) {
        worker_hands_off("Tarry-Then: resume /r\r\n", CALL);
        upstream_takes();
        upstream_answers("ok");
        worker_takes("Tarry-Hop: 1\r\n");
    }
    worker_hands_off("Tarry-Then: resume /r\r\n", CALL);
    WORLD_UNTIL(client.closed);
    ck_assert_uint_eq(client.status, 508);
}
END_TEST

START_TEST(takes_no_answer_to_head_for_a_handoff)
{
    open_front("", "");
    ask_with(&client, "HEAD", "/a", "", -1);
    worker_takes("HEAD /a HTTP/1.1\r\n");
    peer_send(
        &worker, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTarry-Then: relay\r\n" TYPE "\r\n");
    WORLD_UNTIL(client.closed);
    ck_assert(client.ended);
    ck_assert(fake_stream_head_has(&client, "Content-Length: 99\r\n"));
}
END_TEST

START_TEST(keeps_the_client_awake)
{
    bool sse = _i == 1;
    struct arena a = { 0 };

    open_front(LONG, "");
    park(arena_printf(
        &a, "Tarry-Then: resume /r\r\nX-Own: 1\r\nTarry-Keep-Alive: %s\r\n", sse ? "sse" : "space")
             .p);
    arena_release(&a);
    WORLD_UNTIL(fake_stream_body_has(&client, sse ? ": keep-alive\n\n: keep-alive\n\n" : "  "));
    ck_assert_uint_eq(client.status, 200);
    ck_assert(fake_stream_head_has(&client,
        sse ? "Content-Type: text/event-stream\r\n" : "Content-Type: application/json\r\n"));
    ck_assert(fake_stream_head_has(&client, "X-Own: 1\r\n"));
    upstream_answers("ok");
    worker_takes("Tarry-Kind: resume\r\n");
    peer_send(&worker, "HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\n{final");
    WORLD_UNTIL(client.closed);
    ck_assert(client.ended);
    ck_assert_uint_eq(client.status, 200);
    ck_assert(fake_stream_body_has(&client, "{final"));
}
END_TEST

/* Deliveries */

START_TEST(delivers_a_resume_again)
{
    open_front("", "");
    reach(VISITING_RESUME, "Tarry-State: s\r\n");
    ck_assert(!peer_has(&worker, "Tarry-Attempt:"));
    peer_close(&worker);
    worker_takes("Tarry-Attempt: 2\r\n");
    WORLD_UNTIL(peer_has(&worker, "\r\n\r\nok"));
    ck_assert(peer_has(&worker, "Tarry-Hop: 1\r\n"));
    ck_assert(peer_has(&worker, "Tarry-State: s\r\n"));
    peer_close(&worker);
    worker_takes("Tarry-Attempt: 3\r\n");
    WORLD_UNTIL(peer_has(&worker, "\r\n\r\nok"));
    worker_answers("", "done");
    WORLD_UNTIL(client.ended);
    ck_assert_uint_eq(client.status, 200);
}
END_TEST

/* Whatever has come of the response: as long as nothing of it has gone to the client, what is paid
 * for is delivered again. */
static const char *const broken_off[] = {
    "H",
    "HTTP/1.1 2",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200 OK\r\nContent-Le",
    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5",
    "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n" TYPE "Tarry-Then: replay\r\n\r\nPOST ",
};

START_TEST(delivers_a_resume_again_wherever_its_worker_died)
{
    open_front("resume_attempts = 2", "");
    reach(VISITING_RESUME, "Tarry-State: s\r\n");
    peer_send(&worker, broken_off[_i]);
    world_settle();
    peer_close(&worker);
    worker_takes("Tarry-Attempt: 2\r\n");
    ck_assert(peer_has(&worker, "Tarry-State: s\r\n"));
    WORLD_UNTIL(peer_has(&worker, "\r\n\r\nok"));
    worker_answers("", "done");
    WORLD_UNTIL(client.ended);
    ck_assert_uint_eq(client.status, 200);
    ck_assert_span_eq(buf_str(&client.body), "done");
}
END_TEST

START_TEST(gives_up_after_the_last_attempt)
{
    open_front("resume_attempts = 2", "");
    reach(VISITING_RESUME, "");
    peer_close(&worker);
    worker_takes("Tarry-Attempt: 2\r\n");
    peer_close(&worker);
    WORLD_UNTIL(client.closed);
    ck_assert_uint_eq(client.status, 502);
    world_settle();
    ck_assert(!peer_accept(&worker, workers));
}
END_TEST

START_TEST(waits_for_a_worker_with_what_is_paid_for)
{
    open_front("resume_attempts = 1", "");
    reach(WAITING_RESUME, "");
    world_settle();
    workers = peer_listen_unix("worker", 8);
    worker_takes("Tarry-Kind: resume\r\n");
    ck_assert(!peer_has(&worker, "Tarry-Attempt:")); /* waiting uses up none */
    worker_answers("", "done");
    WORLD_UNTIL(client.ended);
    ck_assert_uint_eq(client.status, 200);
}
END_TEST

START_TEST(never_sends_hop_0_twice)
{
    open_front("", "");
    ask_with(&client, _i == 0 ? "GET" : "POST", "/a", "", -1);
    worker_takes("request\r\n");
    peer_close(&worker);
    WORLD_UNTIL(client.closed);
    ck_assert_uint_eq(client.status, 502);
    world_settle();
    ck_assert(!peer_accept(&worker, workers));
}
END_TEST

START_TEST(sends_an_idempotent_hop_0_again_where_it_may)
{
    open_front("retry_idempotent = true", "");
    ask_with(&client, _i == 0 ? "GET" : "POST", "/a", "", -1);
    worker_takes("request\r\n");
    peer_close(&worker);
    if (_i == 0) {
        worker_takes("request\r\n");
        peer_close(&worker); /* once */
    }
    WORLD_UNTIL(client.closed);
    ck_assert_uint_eq(client.status, 502);
    world_settle();
    ck_assert(!peer_accept(&worker, workers));
}
END_TEST

/* A kept connection that the worker closes under a request it has not read: nobody notices. */
START_TEST(asks_again_over_a_fresh_connection)
{
    open_front("", "");
    ask_with(&other, "GET", "/other", "", -1);
    worker_takes_as(&held, "/other");
    peer_take(&held);
    peer_send(&held, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    WORLD_UNTIL(other.closed);
    world_settle();
    ask("/a");
    WORLD_UNTIL(state() == EX_VISITING);
    peer_close(&held); /* with the request unread */
    worker_takes("request\r\n");
    worker_answers("", "yes");
    WORLD_UNTIL(client.ended);
    ck_assert_uint_eq(client.status, 200);
}
END_TEST

/* A resume goes ahead of requests that came before it. */
START_TEST(finishes_before_it_starts)
{
    struct fake_stream third;

    open_front("", "");
    reach(PARKED, "");
    WORLD_UNTIL(pool_counts(ex->pool).busy == 0);
    takes_the_slot();
    fake_stream_init(&third);
    ask_with(&third, "GET", "/third", "", -1);
    world_settle();
    upstream_answers("ok");
    WORLD_UNTIL(state() == EX_QUEUED);
    world_settle();
    peer_send(&held, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    worker_takes("Tarry-Kind: resume\r\n");
    worker_answers("", "");
    worker_takes("/third");
    close_front();
    fake_stream_release(&third);
}
END_TEST

START_TEST(is_full_at_queue_max)
{
    struct fake_stream third;

    open_front("queue_max = 1", "");
    takes_the_slot();
    ask("/a");
    world_settle();
    fake_stream_init(&third);
    ask_with(&third, "GET", "/third", "", -1);
    WORLD_UNTIL(third.closed);
    ck_assert_uint_eq(third.status, 503);
    ck_assert(fake_stream_head_has(&third, "Retry-After: "));
    ck_assert_int_eq(state(), EX_QUEUED);
    fake_stream_release(&third);
}
END_TEST

/* Notifies: what is told, in whatever way the upstream's response ended, whether or not the client
 * was there. */
static const struct {
    const char *fields;
    bool begins; /* the response, before what happens */
    enum happening what;
    bool leaves; /* the client, before what happens */
    const char *outcome, *enclosed;
} told[] = {
    { "", true, UPSTREAM_ENDS, false, "complete", "\r\n\r\nbegin" },
    { "", true, UPSTREAM_ENDS, true, "complete", "\r\n\r\nbegin" },
    { "", true, UPSTREAM_RESETS, false, "truncated", "\r\n\r\nbegin" },
    { "", true, UPSTREAM_RESETS, true, "truncated", "\r\n\r\nbegin" },
    { "", false, UPSTREAM_ENDS, false, "failed", "HTTP/1.1 502 Bad Gateway\r\n" },
    { "", false, UPSTREAM_ENDS, true, "failed", "HTTP/1.1 502 Bad Gateway\r\n" },
    { "Tarry-Keep-Alive: sse\r\n", false, UPSTREAM_RESETS, false, "failed",
        "HTTP/1.1 502 Bad Gateway\r\n" },
    { "Tarry-Keep-Alive: sse\r\n", false, UPSTREAM_RESETS, true, "failed",
        "HTTP/1.1 502 Bad Gateway\r\n" },
    { CANCEL, true, GONE, false, "cancelled", "\r\n\r\nbegin" },
    { CANCEL, false, GONE, false, "cancelled", "HTTP/1.1 502 Bad Gateway\r\n" },
};

START_TEST(notifies_however_it_ended)
{
    struct arena a = { 0 };

    open_front(LONG, "");
    park(arena_printf(
        &a, "Tarry-Then: relay\r\nTarry-Notify: /n\r\nTarry-State: s\r\n%s", told[_i].fields)
             .p);
    if (told[_i].begins)
        upstream_begins();
    if (told[_i].leaves)
        client_fails(STREAM_E_GONE, 0);
    happen(told[_i].what);
    worker_takes("Tarry-Kind: notify\r\n");
    WORLD_UNTIL(peer_has(&worker, told[_i].enclosed));
    ck_assert(peer_has(&worker, arena_printf(&a, "Tarry-Outcome: %s\r\n", told[_i].outcome).p));
    ck_assert(peer_has(&worker, "POST /n HTTP/1.1\r\n"));
    ck_assert(peer_has(&worker, "Tarry-Hop: 1\r\n"));
    ck_assert(peer_has(&worker, "Tarry-State: s\r\n"));
    worker_answers("Tarry-Then: relay\r\n", "dropped");
    WORLD_UNTIL(state() == EX_DONE);
    ck_assert(!fake_stream_body_has(&client, "dropped"));
    arena_release(&a);
}
END_TEST

START_TEST(notifies_again_with_pauses_and_gives_up_loudly)
{
    open_front("notify_attempts = 3 notify_first_pause = \"2ms\"", "");
    reach(NOTIFYING, "");
    peer_send(&worker, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    worker_takes("Tarry-Attempt: 2\r\n");
    peer_close(&worker);
    worker_takes("Tarry-Attempt: 3\r\n");
    WORLD_UNTIL(peer_has(&worker, "\r\n\r\nok"));
    peer_send(&worker, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n");
    WORLD_UNTIL(state() == EX_DONE);
    ck_assert(in_file("log", "error: the notify to /n is lost"));
}
END_TEST

START_TEST(tells_of_notifies_that_a_shutdown_loses)
{
    static const enum place places[] = { PARKED_NOTIFY, ANSWERING_NOTIFY, NOTIFYING, NOTIFY_PAUSE,
        PARKED_RELAY };

    open_front("", "");
    reach(places[_i], "");
    happen(SHUTDOWN);
    ck_assert_int_eq(
        in_file("log", "error: the notify to /n is lost: "), places[_i] != PARKED_RELAY);
}
END_TEST

/* The client's response is not cut, but a record that is must not look whole. */
START_TEST(tells_a_notify_that_its_record_was_cut)
{
    static char large[3001];

    memset(large, 'x', sizeof(large) - 1);
    open_front("", _i == 0 ? "response_max = \"1K\"" : "");
    if (_i == 1) { /* no disk */
        conf->body_memory_max = 1024;
        conf->temp_dir = STR("/nonexistent");
    }
    reach(PARKED_NOTIFY, "");
    upstream_answers(large);
    WORLD_UNTIL(client.closed);
    ck_assert(client.ended);
    ck_assert_uint_eq(buf_len(&client.body), 3000);
    worker_takes("Tarry-Outcome: truncated\r\n");
    ck_assert(
        peer_has(&worker, _i == 0 ? "Tarry-Truncated: limit\r\n" : "Tarry-Truncated: storage\r\n"));
    if (_i == 0) {
        WORLD_UNTIL(peer_has(&worker, "xxxxxxxx"));
        ck_assert(peer_has(&worker, "Content-Length: 1024\r\n"));
    }
    ck_assert(in_file("log", "error: the record for the notify to /n is cut"));
}
END_TEST

/* A response that cannot be kept is not the upstream's fault. */
START_TEST(tells_a_full_disk_from_a_large_response)
{
    static char large[3001];

    memset(large, 'x', sizeof(large) - 1);
    open_front("", "");
    conf->body_memory_max = 1024;
    conf->temp_dir = STR("/nonexistent");
    reach(PARKED, "");
    upstream_answers(large);
    worker_takes("Proxy-Status: tarry; error=proxy_internal_error\r\n");
    ck_assert(peer_has(&worker, "HTTP/1.1 503 "));
    ck_assert(!in_file("log", "larger than response_max"));
}
END_TEST

/* Tarry-On-Error */

START_TEST(lets_a_worker_answer_for_the_upstream)
{
    open_front("", "");
    park("Tarry-Then: relay\r\nTarry-On-Error: /e\r\nTarry-Notify: /n\r\nTarry-State: s\r\n");
    if (_i == 0)
        peer_send(&upstream, "HTTP/1.1 429 Slow\r\nContent-Length: 4\r\nX-Up: 1\r\n\r\nslow");
    else
        peer_reset(&upstream);
    worker_takes("Tarry-Kind: resume\r\n");
    ck_assert(peer_has(&worker, "POST /e HTTP/1.1\r\n"));
    ck_assert(peer_has(&worker, "Tarry-State: s\r\n"));
    WORLD_UNTIL(peer_has(&worker, _i == 0 ? "\r\n\r\nslow" : "\"status\":502"));
    ck_assert(peer_has(&worker, _i == 0 ? "HTTP/1.1 429 " : "HTTP/1.1 502 "));
    worker_answers("", "sorry");
    WORLD_UNTIL(client.ended);
    ck_assert(fake_stream_body_has(&client, "sorry"));
    world_settle();
    ck_assert_int_eq(state(), EX_DONE); /* and no notify */
    ck_assert(!peer_accept(&held, workers));
}
END_TEST

START_TEST(relays_a_2xx_though_errors_would_be_handled)
{
    open_front("", "");
    park("Tarry-Then: relay\r\nTarry-On-Error: /e\r\n");
    upstream_answers("fine");
    WORLD_UNTIL(client.ended);
    ck_assert_span_eq(buf_str(&client.body), "fine");
}
END_TEST

/* Reload */

START_TEST(finishes_under_the_snapshot_it_began_with)
{
    struct conf *next;
    char why[256];
    struct arena a = { 0 };

    open_front("", "");
    reach(PARKED, "");
    next = conffile_must_load(arena_printf(&a,
        "listen \"unix:%s\" { }\nworkers \"new\" { server \"unix:%s\" { } }\n"
        "route \"/\" { workers = \"new\" }\n",
        conffile_path("front"), conffile_path("worker"))
                                  .p);
    arena_release(&a);
    ck_assert_int_eq(front_reload(&front, next, why, sizeof(why)), 0);
    conf_unref(next);
    upstream_answers("ok");
    worker_takes("Tarry-Kind: resume\r\n"); /* its pool and its call are served out */
    worker_answers("", "done");
    WORLD_UNTIL(client.ended);
    ck_assert_span_eq(buf_str(&client.body), "done");
}
END_TEST

/* What a panic says of the exchange in hand. */
static const struct {
    enum place place;
    const char *says;
} described[] = {
    { READING,
        ": reading, step read (0), hop 0 attempt 1, 0 calls left; reply none, client there" },
    { VISITING, ": visiting, step visit (0), hop 0 attempt 1, 0 calls left; reply none" },
    { PARKED, ": parked, step calls (0), hop 0 attempt 1, 1 calls left; reply none" },
    { KEPT_ALIVE, "head fixed by keep-alive; no visit; call 0 to \"ai\"" },
    { ANSWERING, ": answering, step visit" },
    { ANSWERING_RELAY,
        ": answering, step relay (1), hop 0 attempt 1, 1 calls left; reply streaming" },
    { NOTIFYING, ": notifying, step notify (0), hop 1 attempt 1" },
    { TUNNELLING, "visit tunnelling; no call" },
};

START_TEST(describes_itself)
{
    char text[600];

    open_front(LONG, "");
    reach(described[_i].place, "");
    exchange_describe(ex, text, sizeof(text));
    ck_assert_ptr_nonnull(strstr(text, ex->id));
    ck_assert_msg(strstr(text, described[_i].says) != NULL, "%s", text);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("exchange");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, ends_well_wherever_it_is, 0, COUNT_OF(rows));
    tcase_add_test(t, tunnels_both_ways_and_holds_back_who_is_too_fast);
    tcase_add_test(t, passes_a_plain_response_on);
    tcase_add_test(t, lets_the_client_send_when_it_waits);
    tcase_add_loop_test(t, refuses_before_an_exchange_begins, 0, COUNT_OF(inadmissible));
    tcase_add_test(t, relays);
    tcase_add_test(t, relays_the_answer_to_head);
    tcase_add_test(t, holds_the_upstream_back_for_a_slow_client);
    tcase_add_loop_test(t, keeps_a_response_for_a_slow_client, 0, 2);
    tcase_add_test(t, stops_the_worker_when_too_much_is_kept);
    tcase_add_loop_test(t, drains_a_response_whose_last_piece_crossed_spool_max, 0, 12);
    tcase_add_test(t, resumes_with_the_answers_in_the_order_of_the_calls);
    tcase_add_loop_test(t, encloses_a_problem_for_a_call_without_a_response, 0, 2);
    tcase_add_test(t, replays_with_all_answers_of_all_hops);
    tcase_add_loop_test(t, refuses_a_replay_of_a_large_body, 0, 2);
    tcase_add_loop_test(t, makes_no_call_of_a_refused_handoff, 0, COUNT_OF(refusals));
    tcase_add_test(t, bounds_the_size_of_a_handoff);
    tcase_add_test(t, bounds_the_hops);
    tcase_add_test(t, takes_no_answer_to_head_for_a_handoff);
    tcase_add_loop_test(t, keeps_the_client_awake, 0, 2);
    tcase_add_test(t, delivers_a_resume_again);
    tcase_add_loop_test(
        t, delivers_a_resume_again_wherever_its_worker_died, 0, COUNT_OF(broken_off));
    tcase_add_test(t, gives_up_after_the_last_attempt);
    tcase_add_test(t, waits_for_a_worker_with_what_is_paid_for);
    tcase_add_loop_test(t, never_sends_hop_0_twice, 0, 2);
    tcase_add_loop_test(t, sends_an_idempotent_hop_0_again_where_it_may, 0, 2);
    tcase_add_test(t, asks_again_over_a_fresh_connection);
    tcase_add_test(t, finishes_before_it_starts);
    tcase_add_test(t, is_full_at_queue_max);
    tcase_add_loop_test(t, notifies_however_it_ended, 0, COUNT_OF(told));
    tcase_add_test(t, notifies_again_with_pauses_and_gives_up_loudly);
    tcase_add_loop_test(t, tells_of_notifies_that_a_shutdown_loses, 0, 5);
    tcase_add_loop_test(t, tells_a_notify_that_its_record_was_cut, 0, 2);
    tcase_add_test(t, tells_a_full_disk_from_a_large_response);
    tcase_add_loop_test(t, lets_a_worker_answer_for_the_upstream, 0, 2);
    tcase_add_test(t, relays_a_2xx_though_errors_would_be_handled);
    tcase_add_loop_test(t, describes_itself, 0, COUNT_OF(described));
    tcase_add_test(t, finishes_under_the_snapshot_it_began_with);
    return t;
}

UNIT_MAIN("exchange")
