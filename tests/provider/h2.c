/* HTTP/2 on one connection. */
#include "h2.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "job.h"
#include "provider.h"

#define CONNECTION_WINDOW 0x7fffffff

struct h2 {
    struct peer *peer;
    nghttp2_session *session;
    struct list jobs;
    int32_t last_seen; /* what GOAWAY may say at most: it never rises */
    bool stopped;      /* nothing more is sent */
};

static const struct job_wire wire;

static struct job *job_of(nghttp2_session *session, int32_t stream)
{
    return nghttp2_session_get_stream_user_data(session, stream);
}

/* nghttp2's callbacks only take note and submit: what may close the connection comes from a job's
 * timer. */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h2 = user;
    struct peer *peer = h2->peer;
    struct job *job;

    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    job = job_new(
        peer->provider, &wire, h2, "HTTP/2", peer->number, frame->hd.stream_id, peer->ssl != NULL);
    list_add(&h2->jobs, &job->link);
    peer->provider->tally.h2_streams++;
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, job);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
    size_t name_n, const uint8_t *value, size_t n, uint8_t flags, void *user)
{
    struct job *job = job_of(session, frame->hd.stream_id);
    char **pseudo = NULL;

    if (!job || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0; /* trailers */
    if (name_n == 7 && memcmp(name, ":method", 7) == 0)
        pseudo = &job->ask->method;
    else if (name_n == 5 && memcmp(name, ":path", 5) == 0)
        pseudo = &job->ask->target;
    else if (name_n == 10 && memcmp(name, ":authority", 10) == 0)
        pseudo = &job->ask->authority;
    if (pseudo && !*pseudo)
        *pseudo = text_copy((const char *)value, n);
    else if (name[0] != ':')
        ask_add_field(job->ask, name, name_n, value, n);
    return 0;
}

/* RFC 9110 10.1.1, for who sends it on HTTP/2 too. */
static void answer_expectation(struct job *job)
{
    const char *expect = ask_field(job->ask, "expect");
    struct head go_on = { .status = 100 };

    if (expect && strcasecmp(expect, "100-continue") == 0)
        wire.interim(job, &go_on);
}

static void on_request_head(struct job *job, bool more)
{
    struct ask *ask = job->ask;

    if (!ask->target) /* CONNECT */
        ask->target = text_copy("", 0);
    if (!ask->method)
        ask->method = text_copy("", 0);
    job_asked(job);
    if (more)
        answer_expectation(job);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct job *job = job_of(session, frame->hd.stream_id);

    if (!job)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        on_request_head(job, !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM));
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && job->state == JOB_READING)
        job_asked_all(job);
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, NULL);
        job_close(job, "reset-by-peer", nghttp2_http2_strerror(frame->rst_stream.error_code));
    }
    return 0;
}

static int on_chunk(
    nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *p, size_t n, void *user)
{
    struct job *job = job_of(session, stream);

    if (job && job->state == JOB_READING)
        ask_add_body(job->ask, p, n);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t code, void *user)
{
    struct job *job = job_of(session, stream);

    if (!job)
        return 0;
    nghttp2_session_set_stream_user_data(session, stream, NULL);
    job_close(job, "bad-request",
        nghttp2_http2_strerror(code)); /* if it is not over: nghttp2 refused it */
    return 0;
}

static nghttp2_nv field(const char *name, const char *value)
{
    return (nghttp2_nv){ (uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
        strlen(value), NGHTTP2_NV_FLAG_NONE };
}

/* The head as nghttp2 wants it. free() ends it; its strings are those of `h` and `numbers`. */
static nghttp2_nv *fields_of(const struct head *h, char numbers[2][24], size_t *n)
{
    const char *name, *value;
    nghttp2_nv *nv;
    size_t count = 2;

    for (size_t at = 0; head_next(&h->fields, &at, &name, &value);)
        count++;
    nv = text_alloc(count * sizeof *nv);
    snprintf(numbers[0], sizeof numbers[0], "%d", h->status);
    nv[0] = field(":status", numbers[0]);
    *n = 1;
    for (size_t at = 0; head_next(&h->fields, &at, &name, &value);)
        nv[(*n)++] = field(name, value);
    if (h->length >= 0 && h->status >= 200 && h->status != 204) {
        snprintf(numbers[1], sizeof numbers[1], "%lld", (long long)h->length);
        nv[(*n)++] = field("content-length", numbers[1]);
    }
    return nv;
}

static void wire_interim(struct job *job, const struct head *h)
{
    struct head bare = { .status = h->status, .length = HEAD_LENGTH_UNKNOWN, .fields = h->fields };
    struct h2 *h2 = job->owner;
    char numbers[2][24];
    size_t n;
    nghttp2_nv *nv = fields_of(&bare, numbers, &n);

    nghttp2_submit_headers(h2->session, NGHTTP2_FLAG_NONE, job->stream, NULL, nv, n, NULL);
    free(nv);
    peer_touch(h2->peer);
}

static void submit_trailers(nghttp2_session *session, const struct job *job)
{
    nghttp2_nv nv[4];
    const char *name, *value;
    size_t n = 0;

    for (size_t at = 0; n < 4 && head_next(&job->trailers, &at, &name, &value);)
        nv[n++] = field(name, value);
    nghttp2_submit_trailer(session, job->stream, nv, n);
}

static ssize_t on_read(nghttp2_session *session, int32_t stream, uint8_t *to, size_t room,
    uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct job *job = source->ptr;
    bool end;
    size_t n = job_pull(job, to, room, &end);

    if (!n && !end)
        return NGHTTP2_ERR_DEFERRED;
    if (end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (job->trailers.n) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            submit_trailers(session, job);
        }
    }
    return (ssize_t)n;
}

static void wire_head(struct job *job, const struct head *h, bool bodyless)
{
    struct h2 *h2 = job->owner;
    nghttp2_data_provider body = { .source.ptr = job, .read_callback = on_read };
    char numbers[2][24];
    size_t n;
    nghttp2_nv *nv = fields_of(h, numbers, &n);

    nghttp2_submit_response(h2->session, job->stream, nv, n, bodyless ? NULL : &body);
    free(nv);
    peer_touch(h2->peer);
}

static void wire_more(struct job *job)
{
    struct h2 *h2 = job->owner;

    nghttp2_session_resume_data(h2->session, job->stream);
    peer_touch(h2->peer);
}

/* A GOAWAY that may be followed by lower ones, never by higher (RFC 9113 6.8). */
static void submit_goaway(struct h2 *h2, int32_t last)
{
    if (last < h2->last_seen)
        h2->last_seen = last;
    nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, h2->last_seen, NGHTTP2_NO_ERROR, NULL, 0);
    peer_touch(h2->peer);
}

/* Nothing is pulled any more: what is in `out` goes out, then the connection closes. */
static void stop(struct h2 *h2)
{
    h2->stopped = true;
    peer_finish(h2->peer);
}

/* Takes out of nghttp2 what it has at hand, for a close that follows. */
static void gather(struct h2 *h2)
{
    const uint8_t *p;
    ssize_t n;

    while (
        h2->peer->out.n < PEER_OUT_MAX * 4 && (n = nghttp2_session_mem_send(h2->session, &p)) > 0)
        text_add(&h2->peer->out, p, (size_t)n);
}

static void wire_cut(struct job *job, enum job_cut how, uint32_t code)
{
    /* DATA on stream 0, which nobody may send (RFC 9113 6.1), and what is no frame at all. */
    static const char garbage[] = "\0\0\5\0\0\0\0\0\0hello\xff\xff\xff\xff this is no HTTP/2 frame";
    struct h2 *h2 = job->owner;
    int32_t stream = job->stream;

    switch (how) {
    case JOB_CUT_RESET:
        peer_close(h2->peer, "cut", true);
        break;
    case JOB_CUT_CLOSE:
        stop(h2);
        break;
    case JOB_CUT_GARBAGE:
        gather(h2);
        text_add(&h2->peer->out, garbage, sizeof garbage - 1);
        stop(h2);
        break;
    case JOB_CUT_GOAWAY:
        submit_goaway(h2, stream > 2 ? stream - 2 : 0);
        break;
    case JOB_CUT_GOAWAY_LOST:
        submit_goaway(h2, stream);
        gather(h2);
        stop(h2);
        break;
    case JOB_CUT_STREAM:
        nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, stream, code);
        peer_touch(h2->peer);
        break;
    case JOB_CUT_SILENT:
        h2->peer->silent = true;
    }
}

static void wire_drain(struct job *job)
{
    struct h2 *h2 = job->owner;
    int32_t last = nghttp2_session_get_last_proc_stream_id(h2->session);

    submit_goaway(h2, last > job->stream ? last : job->stream);
}

static void wire_narrow(struct job *job, uint32_t window)
{
    struct h2 *h2 = job->owner;
    nghttp2_settings_entry entry = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window };

    nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, &entry, 1);
    peer_touch(h2->peer);
}

static const struct job_wire wire = { wire_interim, wire_head, wire_more, wire_cut, wire_drain,
    wire_narrow, NULL };

static bool on_data(struct peer *peer, const char *p, size_t n)
{
    struct h2 *h2 = peer->state;

    if (h2->stopped)
        return true;
    peer_touch(peer);
    return nghttp2_session_mem_recv(h2->session, (const uint8_t *)p, n) >= 0;
}

static void on_fill(struct peer *peer)
{
    struct h2 *h2 = peer->state;
    const uint8_t *p;
    ssize_t n = 1;

    while (peer->out.n < PEER_OUT_MAX && (n = nghttp2_session_mem_send(h2->session, &p)) > 0)
        text_add(&peer->out, p, (size_t)n);
    if (n < 0 ||
        (!nghttp2_session_want_read(h2->session) && !nghttp2_session_want_write(h2->session)))
        stop(h2);
}

static void on_gone(struct peer *peer, const char *how)
{
    struct h2 *h2 = peer->state;

    /* nghttp2 does not tell of the streams that end with their session. */
    while (!list_empty(&h2->jobs))
        job_close(list_of(h2->jobs.next, struct job, link), how, NULL);
    nghttp2_session_del(h2->session);
    free(h2);
}

const struct peer_protocol h2_protocol = { on_data, on_fill, on_gone };

static nghttp2_session *session_new(struct h2 *h2)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *session;
    nghttp2_option *option;

    if (nghttp2_session_callbacks_new(&callbacks) || nghttp2_option_new(&option))
        abort();
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_option_set_no_closed_streams(option, 1); /* priorities are not kept: less memory */
    nghttp2_option_set_max_send_header_block_length(option, 64u << 20); /* for hugehead */
    /* A test may cancel thousands of calls at once; the library would take that for an attack. */
    nghttp2_option_set_stream_reset_rate_limit(option, 1000000, 1000000);
    if (nghttp2_session_server_new2(&session, callbacks, h2, option))
        abort();
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return session;
}

void *h2_new(struct peer *peer)
{
    const struct options *o = &peer->provider->options;
    nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, o->max_streams },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, o->window },
    };
    struct h2 *h2 = text_alloc(sizeof *h2);

    h2->peer = peer;
    h2->last_seen = 0x7fffffff;
    list_init(&h2->jobs);
    h2->session = session_new(h2);
    nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings, 2);
    nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
    return h2;
}
