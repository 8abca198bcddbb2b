/* What an upstream sends over HTTP/2 while calls are open. Each call hears of its response in
 * order, and of exactly one end; nothing is left behind. */
#include "h2frames.h"
#include "http/h2client.h"
#include "laws.h"
#include "net/loop.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { CALLS = 6, INPUT_MAX = 4096 };

struct call {
    struct stream *s;
    bool head, over, paused;
};

struct peer {
    struct h2_client *client;
    bool closed;
    struct call calls[CALLS];
    size_t ncalls;
};

static const struct h2_limits limits = {
    .stream_window = 65535,
    .connection_window = 1 << 20,
    .out_max = 65536,
    .head_max = 1024,
    .fields_max = 20,
    .interim_max = 16,
    .ping_interval_ms = 60000,
    .ping_timeout_ms = 60000,
    .finish_ms = 5000,
    .calm_ms = 500,
};

static void on_client(void *owner, struct h2_client *c, enum h2_client_event ev)
{
    struct peer *p = owner;

    HOLDS(!p->closed);
    if (ev == H2_CLIENT_CLOSED)
        p->closed = true;
}

static void end_call(struct call *c)
{
    struct stream *s = c->s;

    c->s = NULL;
    stream_close(s);
}

static void on_stream(void *owner, struct stream *s, const struct message *m)
{
    struct call *c = owner;

    HOLDS(c->s == s && !c->over);
    switch (m->kind) {
    case MESSAGE_HEAD:
        HOLDS(!c->head && m->head->status >= 200 && m->head->status <= 599);
        c->head = true;
        break;
    case MESSAGE_DATA:
        HOLDS(c->head && !c->paused && m->data.n > 0);
        break;
    case MESSAGE_END:
        HOLDS(c->head);
        c->over = true;
        break;
    case MESSAGE_FAILED:
        HOLDS(m->cause < STREAM_FULL);
        c->over = true;
        break;
    }
    if (c->over)
        end_call(c);
}

static void on_half_closed(void *owner, struct stream *s)
{
    HOLDS(!"that is for servers");
}

static const struct stream_handler handler = { .on_message = on_stream,
    .on_half_closed = on_half_closed };

static void begin_call(struct peer *p, unsigned argument)
{
    struct field fields[2] = { { STR("x"), STR("y") }, { STR("content-length"), STR("3") } };
    struct head head = { .fields = fields,
        .nfields = 1,
        .minor = 1,
        .method = argument & 1   ? STR("POST")
                  : argument & 2 ? STR("HEAD")
                                 : STR("GET"),
        .target = STR("/"),
        .authority = STR("a") };
    struct call *c = &p->calls[p->ncalls];

    if (p->closed || p->ncalls == CALLS || h2_client_draining(p->client) ||
        h2_client_room(p->client) == 0)
        return;
    c->s = h2_client_begin(p->client);
    if (!c->s)
        return;
    p->ncalls++;
    stream_set_owner(c->s, &handler, c);
    if (argument & 4)
        head.nfields = 2;
    stream_send_head(c->s, &head, !(argument & 1));
}

static void on_action(void *owner, unsigned what, unsigned argument)
{
    static const char bytes[70000];
    struct peer *p = owner;
    struct call *c = p->ncalls ? &p->calls[argument % p->ncalls] : NULL;

    if (what < 4) {
        begin_call(p, argument);
        return;
    }
    if (!c || !c->s)
        return;
    switch (what) {
    case 4:
        stream_send_data(c->s, bytes, argument & 64 ? sizeof(bytes) : 3);
        break;
    case 5:
        stream_send_end(c->s);
        break;
    case 6:
    case 7:
        c->paused = what == 6;
        stream_pause(c->s, c->paused);
        break;
    case 8:
        stream_reset(c->s, STREAM_CANCEL);
        end_call(c);
        break;
    case 9:
        end_call(c);
        break;
    case 10:
        h2_client_drain(p->client);
        break;
    default:
        break;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    HOLDS(loop_init() == 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char settings[9] = { 0, 0, 0, 4, 0, 0, 0, 0, 0 };
    struct peer p = { 0 };
    bool silent = n > 0 && data[0] == 0xff; /* no SETTINGS first */
    int fd;

    if (n > INPUT_MAX)
        return 0;
    p.client = h2_client_open(h2frames_connect(&fd), &limits, on_client, &p);
    HOLDS(p.client);
    begin_call(&p, 0);
    h2frames_play(fd, settings, silent ? 0 : sizeof(settings), data, n, on_action, &p);
    if (!p.closed)
        h2_client_close(p.client);
    for (size_t i = 0; i < p.ncalls; i++)
        if (p.calls[i].s)
            end_call(&p.calls[i]);
    ev_run(loop_ev(), EVRUN_NOWAIT);
    HOLDS(conn_count_accepted() == 0);
    return 0;
}
