/* What clients send over HTTP/2, and what its owner does meanwhile. A request that is surfaced is
 * one that an HTTP/1.1 server could be sent; its stream hears of the body in order and of one end
 * at most; nothing is left behind. */
#include "h2frames.h"
#include "http/acceptor.h"
#include "http/arrival.h"
#include "http/fields.h"
#include "laws.h"
#include "net/loop.h"
#include "observe/log.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { REQUESTS = 64, INPUT_MAX = 4096, TARGET_MAX = 300 };

struct request {
    struct stream *s; /* NULL: closed */
    bool over, paused, head_sent;
    bool length_known;
    bool full;              /* STREAM_FULL was told */
    bool websocket, tunnel; /* it asks for one; it stands: nothing is told of it before */
    uint64_t left;
};

static struct acceptor acceptor;
static struct request requests[REQUESTS];
static size_t nrequests;

static void end_request(struct request *r)
{
    struct stream *s = r->s;

    r->s = NULL;
    stream_close(s);
}

static void answer(struct request *r, unsigned status, bool end)
{
    static struct field fields[] = { { STR_INIT("content-type"), STR_INIT("text/plain") } };
    struct head head = { .status = status, .minor = 1, .fields = fields, .nfields = 1 };

    if (r->head_sent)
        return;
    r->head_sent = true;
    if (status == 101) {
        r->tunnel = true;
        r->paused = false;
        r->left = UINT64_MAX;
    }
    stream_send_head(r->s, &head, end);
}

static void on_stream(void *owner, struct stream *s, const struct message *m)
{
    struct request *r = owner;

    HOLDS(r->s == s && !r->over);
    switch (m->kind) {
    case MESSAGE_HEAD:
        HOLDS(!"not for a server");
        break;
    case MESSAGE_DATA:
        HOLDS(!r->paused && m->data.n > 0 && m->data.n <= r->left);
        r->left -= m->data.n;
        break;
    case MESSAGE_END:
        HOLDS(!r->websocket || r->tunnel);
        HOLDS(!r->length_known || r->left == 0);
        r->left = 0;
        break;
    case MESSAGE_FAILED:
        HOLDS(m->cause < STREAM_FULL);
        r->over = true;
        end_request(r);
        break;
    }
}

static void on_drained(void *owner, struct stream *s)
{
    struct request *r = owner;

    r->full = false;
}

static void on_half_closed(void *owner, struct stream *s)
{
    HOLDS(!s->http2);
}

static const struct stream_handler handler = {
    .on_message = on_stream, .on_drained = on_drained, .on_half_closed = on_half_closed
};

/* RFC 9112 and what routes rely on: it can be written as an HTTP/1.1 request and read as the same.
 */
static void check_head(const struct head *h)
{
    HOLDS(field_is_method(h->method) && h->target.n > 0 && h->target.n <= TARGET_MAX);
    HOLDS(h->target.p[0] == '/' || str_eq(h->target, STR("*")));
    HOLDS(str_find_char(h->target, '#') < 0 && str_find_char(h->target, ' ') < 0);
    HOLDS(str_find_char(h->authority, '@') < 0 && str_find_char(h->authority, ',') < 0);
    HOLDS(head_count(h, STR("host")) <= 1 && head_count(h, STR("content-length")) <= 1);
    HOLDS(!head_find(h, STR("transfer-encoding")) && !head_find(h, STR("http2-settings")));
    for (size_t i = 0; i < h->nfields; i++)
        HOLDS(field_is_token(h->fields[i].name) && field_is_value(h->fields[i].value));
}

static void on_request(void *owner, struct stream *s, const struct stream_request *q)
{
    struct request *r = &requests[nrequests];

    if (q->error_status) {
        HOLDS(q->error_status >= 400 && q->error_status <= 599 && q->error);
    } else {
        HOLDS(q->head && q->websocket_only == (s->http2 && q->head->websocket));
        HOLDS(!q->websocket_only || (str_eq(q->head->method, STR("GET")) && !q->body));
        check_head(q->head);
    }
    if (nrequests == REQUESTS) {
        stream_close(s);
        return;
    }
    nrequests++;
    *r = (struct request){ .s = s,
        .websocket = !q->error_status && q->head->websocket,
        .length_known = q->body && q->length_known,
        .left = !q->body          ? 0
                : q->length_known ? q->length
                                  : UINT64_MAX };
    stream_set_owner(s, &handler, r);
    if (q->error_status) {
        answer(r, q->error_status, true);
        end_request(r);
    }
}

static void on_action(void *owner, unsigned what, unsigned argument)
{
    static const char bytes[70000];
    struct request *r = nrequests ? &requests[argument % nrequests] : NULL;

    if (what == 10)
        acceptor_drain(&acceptor);
    if (what == 11)
        acceptor_make_room(&acceptor, 1);
    if (!r || !r->s)
        return;
    switch (what) {
    case 0:
        answer(r, 200, false);
        break;
    case 1:
        answer(r, 204, true);
        break;
    case 2:
        answer(r, 304, false);
        break;
    case 3:
        stream_send_continue(r->s);
        break;
    case 4:
        if (r->head_sent && !r->full)
            r->full =
                stream_send_data(r->s, bytes, argument & 64 ? sizeof(bytes) : 3) == STREAM_FULL;
        break;
    case 5:
        if (r->head_sent)
            stream_send_end(r->s);
        break;
    case 6:
    case 7:
        r->paused = what == 6;
        stream_pause(r->s, r->paused);
        break;
    case 8:
        stream_reset(r->s, argument & 64 ? STREAM_ABORT : STREAM_CANCEL);
        end_request(r);
        break;
    case 9:
        end_request(r);
        break;
    case 12:
        if (r->websocket)
            answer(r, 101, false);
        break;
    default:
        break;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const struct log_target nowhere = { .kind = LOG_TO_NOWHERE };

    HOLDS(loop_init() == 0);
    HOLDS(log_open(LEVEL_ERROR, &nowhere) == 0);
    return 0;
}

static void open_acceptor(void)
{
    acceptor_init(&acceptor);
    acceptor.limits = (struct h1_limits){ .head_max = 1500,
        .fields_max = 40,
        .target_max = TARGET_MAX,
        .chunk_line_max = 100,
        .chunk_overhead_max = 1000 };
    acceptor.header_timeout_ms = acceptor.body_timeout_ms = acceptor.send_timeout_ms = 60000;
    acceptor.keep_alive_timeout_ms = 60000;
    acceptor.on_request = on_request;
    acceptor.draining = false;
    acceptor.websockets = true;
    acceptor.http2 = (struct h2_server_limits){
        .common = { .stream_window = 65535,
            .connection_window = 1 << 20,
            .out_max = 65536,
            .queue_max = 100,
            .head_max = 1500,
            .fields_max = 40,
            .ping_interval_ms = 60000,
            .ping_timeout_ms = 60000,
            .finish_ms = 5000,
            .calm_ms = 500,
            .interim_max = 16 },
        .streams_max = 10,
        .goaway_wait_ms = 1000,
        .unread_timeout_ms = 4000,
        .head_excess = 64,
        .abuse = { .window_ms = 30000, .tiny_write = 256 },
    };
    for (size_t i = 0; i < H2_NABUSES; i++)
        acceptor.http2.abuse.max[i] = 20;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    bool bare = n > 0 && data[0] == 0xff; /* the input begins the connection itself */
    int fd;

    if (n > INPUT_MAX)
        return 0;
    nrequests = 0;
    open_acceptor();
    HOLDS(arrival_take(&acceptor, h2frames_connect(&fd), true) == 0);
    h2frames_play(fd, preface, bare ? 0 : sizeof(preface) - 1, data, n, on_action, NULL);
    acceptor_close(&acceptor);
    for (size_t i = 0; i < nrequests; i++)
        if (requests[i].s)
            end_request(&requests[i]);
    conn_close_finishing();
    ev_run(loop_ev(), EVRUN_NOWAIT);
    HOLDS(acceptor_count(&acceptor) == 0 && conn_count_accepted() == 0);
    return 0;
}
