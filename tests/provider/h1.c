/* HTTP/1.1 on one connection. */
#include "h1.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "job.h"
#include "options.h"
#include "provider.h"
#include "realtime.h"

#define HEAD_MAX (1u << 20)
#define LINE_MAX_CHUNK 4096
#define USED_MAX 65536

/* H1_HEAD -> (H1_BODY | H1_SIZE -> H1_CHUNK -> H1_CRLF -> H1_SIZE … H1_TRAILER) -> H1_ANSWER ->
 * H1_HEAD */
enum h1_state {
    H1_HEAD,
    H1_BODY,
    H1_SIZE,
    H1_CHUNK,
    H1_CRLF,
    H1_TRAILER,
    H1_ANSWER,
    H1_REALTIME, /* a WebSocket, to its end */
    H1_OVER
};

struct h1 {
    struct peer *peer;
    struct text in; /* what has come and is not used yet */
    size_t in_at;
    enum h1_state state;
    struct job *job; /* NULL between requests */
    uint64_t left;   /* of the body or the chunk */
    bool version10, keep_alive;

    bool head_said, chunked; /* of the answer */
    int64_t length;          /* announced, or HEAD_LENGTH_UNKNOWN */
    int64_t said;
};

static const struct job_wire wire;

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } rows[] = { { 100, "Continue" }, { 103, "Early Hints" }, { 200, "OK" }, { 204, "No Content" },
        { 304, "Not Modified" }, { 400, "Bad Request" }, { 401, "Unauthorized" },
        { 402, "Payment Required" }, { 403, "Forbidden" }, { 404, "Not Found" },
        { 405, "Method Not Allowed" }, { 408, "Request Timeout" }, { 409, "Conflict" },
        { 413, "Content Too Large" }, { 429, "Too Many Requests" },
        { 500, "Internal Server Error" }, { 502, "Bad Gateway" }, { 503, "Service Unavailable" },
        { 504, "Gateway Timeout" }, { 529, "Overloaded" } };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].status == status)
            return rows[i].reason;
    return "Status";
}

static bool is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!is_token_char((unsigned char)p[i]))
            return false;
    return n > 0;
}

/* Value or target: no control characters but, in values, the tab. */
static bool is_clean(const char *p, size_t n, bool value)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];

        if (c == 0x7f || c < 0x20 + !value)
            if (!(value && c == '\t'))
                return false;
    }
    return true;
}

/* Readers of the head return NULL, or what is wrong with it. */

static const char *read_request_line(struct h1 *h1, const char *p, size_t n)
{
    const char *space = memchr(p, ' ', n), *last = memrchr(p, ' ', n);
    struct ask *ask = h1->job->ask;

    if (!space || last == space)
        return "a request line has three parts";
    if (!is_token(p, (size_t)(space - p)))
        return "the method is no token";
    if (!is_clean(space + 1, (size_t)(last - space - 1), false) || last == space + 1)
        return "the target has spaces or control characters";
    if (p + n - last != 9 || (memcmp(last + 1, "HTTP/1.", 7) != 0) ||
        (last[8] != '0' && last[8] != '1'))
        return "the version is neither HTTP/1.1 nor HTTP/1.0";
    ask->method = text_copy(p, (size_t)(space - p));
    ask->target = text_copy(space + 1, (size_t)(last - space - 1));
    h1->version10 = last[8] == '0';
    ask->protocol = h1->version10 ? "HTTP/1.0" : "HTTP/1.1";
    return NULL;
}

static const char *read_field(struct h1 *h1, const char *p, size_t n)
{
    const char *colon = memchr(p, ':', n), *end = p + n, *value;

    if (*p == ' ' || *p == '\t')
        return "a folded field";
    if (!colon || !is_token(p, (size_t)(colon - p)))
        return "a field's name is no token";
    value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (!is_clean(value, (size_t)(end - value), true))
        return "a field's value has control characters";
    ask_add_field(h1->job->ask, p, (size_t)(colon - p), value, (size_t)(end - value));
    return NULL;
}

static bool list_has(const char *list, const char *word)
{
    size_t n = strlen(word);

    while (*list) {
        list += strspn(list, ", \t");
        if (strncasecmp(list, word, n) == 0 && strchr(", \t", list[n]))
            return true;
        list += strcspn(list, ",");
    }
    return false;
}

/* RFC 9112 6: how the body ends. */
static const char *read_framing(struct h1 *h1)
{
    const struct ask *ask = h1->job->ask;
    const char *name, *value, *length = NULL, *coding = NULL;
    unsigned hosts = 0;

    h1->keep_alive = !h1->version10;
    for (size_t at = 0; ask_next_field(ask, &at, &name, &value);) {
        if (strcasecmp(name, "host") == 0) {
            hosts++;
        } else if (strcasecmp(name, "content-length") == 0) {
            if (length)
                return "two lengths";
            length = value;
        } else if (strcasecmp(name, "transfer-encoding") == 0) {
            if (coding)
                return "two transfer codings";
            coding = value;
        } else if (strcasecmp(name, "connection") == 0) {
            if (list_has(value, "close"))
                h1->keep_alive = false;
            else if (h1->version10 && list_has(value, "keep-alive"))
                h1->keep_alive = true;
        }
    }
    if (hosts > 1 || (!hosts && !h1->version10))
        return "not one Host";
    if (length && coding)
        return "a length and a transfer coding";
    if (coding && (h1->version10 || strcasecmp(coding, "chunked") != 0))
        return "a transfer coding other than chunked";
    h1->left = 0;
    if (length && !options_number(length, INT64_MAX, &h1->left))
        return "the length is no number";
    h1->state = coding ? H1_SIZE : H1_BODY;
    return NULL;
}

static const char *read_head(struct h1 *h1, const char *p, size_t n)
{
    const char *end = p + n, *wrong;
    bool first = true;

    while (p < end) {
        const char *cr = memmem(p, (size_t)(end - p), "\r\n", 2);
        size_t line = (size_t)(cr - p);

        if (memchr(p, '\n', line) || memchr(p, '\r', line) || memchr(p, 0, line))
            return "a line ends in other than CRLF";
        wrong = first ? read_request_line(h1, p, line) : read_field(h1, p, line);
        if (wrong)
            return wrong;
        first = false;
        p = cr + 2;
    }
    return read_framing(h1);
}

static size_t available(const struct h1 *h1)
{
    return h1->in.n - h1->in_at;
}

static const char *at(const struct h1 *h1)
{
    return h1->in.p + h1->in_at;
}

/* Refuses what was read, in record and answer, and closes. */
static void refuse(struct h1 *h1, const char *why)
{
    static const char body[] = "bad request: ";
    struct peer *peer = h1->peer;
    struct ask *ask = h1->job->ask;

    if (!ask->method)
        ask->method = text_copy("", 0);
    if (!ask->target)
        ask->target = text_copy("", 0);
    if (h1->state == H1_HEAD)
        job_asked(h1->job);
    h1->job->status = 400;
    job_close(h1->job, "bad-request", why);
    h1->job = NULL;
    h1->state = H1_OVER;
    text_printf(&peer->out,
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
        "Connection: close\r\n\r\n%s%s\n",
        sizeof body + strlen(why), body, why);
    peer_finish(peer);
}

static void set_authority(struct ask *ask)
{
    const char *host = ask_field(ask, "host");

    if (host)
        ask->authority = text_copy(host, strlen(host));
}

/* The request is recorded with its head; what is said then is not. */
static void begin_realtime(struct h1 *h1)
{
    realtime_begin(h1->job->ask, &h1->peer->out);
    h1->job->status = 101;
    job_close(h1->job, "complete", NULL);
    h1->job = NULL;
    h1->state = H1_REALTIME;
    peer_touch(h1->peer);
}

/* These return false when more bytes are needed. */

static bool step_head(struct h1 *h1)
{
    struct peer *peer = h1->peer;
    const char *end, *wrong;
    size_t n;

    while (available(h1) >= 2 && memcmp(at(h1), "\r\n", 2) == 0) /* RFC 9112 2.2 */
        h1->in_at += 2;
    if (!available(h1))
        return false;
    end = memmem(at(h1), available(h1), "\r\n\r\n", 4);
    if (!end && available(h1) < HEAD_MAX && !memmem(at(h1), available(h1), "\n\n", 2))
        return false;
    h1->job = job_new(peer->provider, &wire, h1, "HTTP/1.1", peer->number, 0, peer->ssl != NULL);
    if (!end) {
        refuse(h1, "no end of the head");
        return true;
    }
    n = (size_t)(end - at(h1)) + 2;
    wrong = read_head(h1, at(h1), n);
    h1->in_at += n + 2;
    if (wrong) {
        h1->state = H1_HEAD;
        refuse(h1, wrong);
        return true;
    }
    set_authority(h1->job->ask);
    job_asked(h1->job);
    if (realtime_is_asked(h1->job->ask)) {
        begin_realtime(h1);
        return true;
    }
    wrong = ask_field(h1->job->ask, "expect");
    if (wrong && strcasecmp(wrong, "100-continue") == 0 && !available(h1) &&
        (h1->left || h1->state == H1_SIZE)) {
        text_puts(&peer->out, "HTTP/1.1 100 Continue\r\n\r\n");
        peer_touch(peer);
    }
    return true;
}

static void end_request(struct h1 *h1)
{
    h1->state = H1_ANSWER;
    job_asked_all(h1->job);
}

static bool step_body(struct h1 *h1)
{
    size_t n = available(h1) < h1->left ? available(h1) : (size_t)h1->left;

    if (n)
        ask_add_body(h1->job->ask, at(h1), n);
    h1->in_at += n;
    h1->left -= n;
    if (h1->left)
        return false;
    if (h1->state == H1_CHUNK)
        h1->state = H1_CRLF;
    else
        end_request(h1);
    return true;
}

/* The line at hand without its CRLF; -1: not complete, -2: wrong. */
static ssize_t line_length(const struct h1 *h1)
{
    const char *lf = memchr(at(h1), '\n', available(h1));

    if (!lf)
        return available(h1) > LINE_MAX_CHUNK ? -2 : -1;
    return lf > at(h1) && lf[-1] == '\r' ? lf - at(h1) - 1 : -2;
}

static bool step_size(struct h1 *h1)
{
    ssize_t n = available(h1) ? line_length(h1) : -1;
    const char *p = at(h1);
    size_t digits = 0;

    if (n == -1)
        return false;
    h1->left = 0;
    for (;
         n > 0 && digits < (size_t)n && digits < 15 && strchr("0123456789abcdefABCDEF", p[digits]);
         digits++)
        h1->left = h1->left << 4 |
                   (uint64_t)(p[digits] <= '9' ? p[digits] - '0' : (p[digits] | 32) - 'a' + 10);
    if (!digits || (digits < (size_t)n && p[digits] != ';')) {
        refuse(h1, "the size of a chunk is no number");
        return true;
    }
    h1->in_at += (size_t)n + 2;
    h1->state = h1->left ? H1_CHUNK : H1_TRAILER;
    return true;
}

static bool step_crlf(struct h1 *h1)
{
    if (available(h1) < 2)
        return false;
    if (memcmp(at(h1), "\r\n", 2) != 0) {
        refuse(h1, "a chunk is longer than its size");
        return true;
    }
    h1->in_at += 2;
    h1->state = H1_SIZE;
    return true;
}

static bool step_trailer(struct h1 *h1)
{
    ssize_t n = available(h1) ? line_length(h1) : -1;

    if (n == -1)
        return false;
    if (n == -2) {
        refuse(h1, "a trailer line is too long or ends in other than CRLF");
        return true;
    }
    h1->in_at += (size_t)n + 2;
    if (n == 0)
        end_request(h1);
    return true;
}

static bool step_realtime(struct h1 *h1)
{
    ssize_t n = realtime_take(h1->in.p + h1->in_at, available(h1), &h1->peer->out);

    if (n == 0)
        return false;
    peer_touch(h1->peer);
    if (n > 0) {
        h1->in_at += (size_t)n;
        return true;
    }
    h1->state = H1_OVER;
    peer_finish(h1->peer);
    return true;
}

static bool step(struct h1 *h1)
{
    switch (h1->state) {
    case H1_HEAD:
        return step_head(h1);
    case H1_BODY:
    case H1_CHUNK:
        return step_body(h1);
    case H1_SIZE:
        return step_size(h1);
    case H1_CRLF:
        return step_crlf(h1);
    case H1_TRAILER:
        return step_trailer(h1);
    case H1_REALTIME:
        return step_realtime(h1);
    case H1_OVER:
        h1->in_at = h1->in.n;
        return false;
    case H1_ANSWER:
        break;
    }
    return false;
}

static void work(struct h1 *h1)
{
    while (step(h1))
        ;
    if (!available(h1)) {
        text_free(&h1->in);
        h1->in_at = 0;
    } else if (h1->in_at > USED_MAX) {
        memmove(h1->in.p, at(h1), available(h1));
        h1->in.n -= h1->in_at;
        h1->in_at = 0;
    }
}

static bool on_data(struct peer *peer, const char *p, size_t n)
{
    struct h1 *h1 = peer->state;

    text_add(&h1->in, p, n);
    work(h1);
    return true;
}

/* The answer is complete, or was cut in a way that ends the connection. */
static void end_answer(struct h1 *h1)
{
    job_close(h1->job, "complete", NULL);
    h1->job = NULL;
    h1->head_said = h1->chunked = false;
    h1->said = 0;
    peer_drip_end(h1->peer);
    h1->state = h1->keep_alive ? H1_HEAD : H1_OVER;
    if (!h1->keep_alive)
        peer_finish(h1->peer);
    work(h1);
}

static void add_trailers(struct h1 *h1)
{
    struct text *out = &h1->peer->out;
    const char *name, *value;

    text_puts(out, "0\r\n");
    for (size_t i = 0; head_next(&h1->job->trailers, &i, &name, &value);)
        text_printf(out, "%s: %s\r\n", name, value);
    text_puts(out, "\r\n");
}

static void on_fill(struct peer *peer)
{
    struct h1 *h1 = peer->state;
    char *scratch = peer->provider->scratch;

    while (h1->job && h1->head_said && peer->out.n < PEER_OUT_MAX) {
        bool end;
        size_t n = job_pull(h1->job, scratch, PEER_OUT_MAX, &end);

        if (!n && !end)
            return;
        if (n && h1->chunked)
            text_printf(&peer->out, "%zx\r\n", n);
        text_add(&peer->out, scratch, n);
        if (n && h1->chunked)
            text_puts(&peer->out, "\r\n");
        h1->said += (int64_t)n;
        if (!end)
            continue;
        if (h1->chunked)
            add_trailers(h1);
        else if (h1->length != h1->said)
            h1->keep_alive =
                false; /* a fault: fewer bytes than announced; or the length is the connection's */
        end_answer(h1);
    }
}

static void on_gone(struct peer *peer, const char *how)
{
    struct h1 *h1 = peer->state;

    if (h1->job)
        job_close(h1->job, how, NULL);
    text_free(&h1->in);
    free(h1);
}

static void add_fields(struct h1 *h1, const struct head *h)
{
    const char *name, *value;

    for (size_t i = 0; head_next(&h->fields, &i, &name, &value);) {
        text_puts(&h1->peer->out, name);
        text_puts(&h1->peer->out, ": ");
        text_puts(&h1->peer->out, value);
        text_puts(&h1->peer->out, "\r\n");
    }
}

static void wire_interim(struct job *job, const struct head *h)
{
    struct h1 *h1 = job->owner;

    if (h1->version10)
        return; /* RFC 9110 15.2 */
    text_printf(&h1->peer->out, "HTTP/1.1 %d %s\r\n", h->status, reason_of(h->status));
    add_fields(h1, h);
    text_puts(&h1->peer->out, "\r\n");
    peer_touch(h1->peer);
}

static void wire_head(struct job *job, const struct head *h, bool bodyless)
{
    struct h1 *h1 = job->owner;
    struct text *out = &h1->peer->out;
    bool until_close = job->http10 || (h1->version10 && h->length < 0);

    h1->chunked = !until_close && !bodyless && !h1->version10 && (h->length < 0 || job->trailers.n);
    h1->length = until_close ? HEAD_LENGTH_UNKNOWN : h->length;
    if (until_close)
        h1->keep_alive = false;
    text_printf(
        out, "HTTP/1.%c %d %s\r\n", job->http10 ? '0' : '1', h->status, reason_of(h->status));
    add_fields(h1, h);
    if (h1->chunked)
        text_puts(out, "Transfer-Encoding: chunked\r\n");
    else if (h1->length >= 0 && h->status != 204)
        text_printf(out, "Content-Length: %lld\r\n", (long long)h1->length);
    if (!h1->keep_alive)
        text_puts(out, "Connection: close\r\n");
    else if (h1->version10)
        text_puts(out, "Connection: keep-alive\r\n");
    text_puts(out, "\r\n");
    h1->head_said = true;
    peer_touch(h1->peer);
    if (bodyless)
        end_answer(h1);
}

static void wire_more(struct job *job)
{
    struct h1 *h1 = job->owner;

    peer_touch(h1->peer);
}

static void wire_cut(struct job *job, enum job_cut how, uint32_t code)
{
    static const char garbage[] =
        "\x16\x03\x01 this is no HTTP \xff\xfe\r\n\x01\x02\r\n\r\n%%%\r\n";
    struct h1 *h1 = job->owner;

    switch (how) {
    case JOB_CUT_RESET:
    case JOB_CUT_STREAM:
        peer_close(h1->peer, "cut", true);
        return;
    case JOB_CUT_SILENT:
        h1->peer->silent = true;
        return;
    case JOB_CUT_GARBAGE:
        text_add(&h1->peer->out, garbage, sizeof garbage - 1);
        break;
    case JOB_CUT_CLOSE:
    case JOB_CUT_GOAWAY:
    case JOB_CUT_GOAWAY_LOST:
        break;
    }
    h1->keep_alive = false;
    end_answer(h1);
}

static void wire_drain(struct job *job)
{
    struct h1 *h1 = job->owner;

    h1->keep_alive = false;
}

static void wire_drip(struct job *job, uint64_t ms)
{
    struct h1 *h1 = job->owner;

    peer_drip(h1->peer, ms);
}

static const struct job_wire wire = { wire_interim, wire_head, wire_more, wire_cut, wire_drain,
    NULL, wire_drip };

const struct peer_protocol h1_protocol = { on_data, on_fill, on_gone };

void *h1_new(struct peer *peer)
{
    struct h1 *h1 = text_alloc(sizeof *h1);

    h1->peer = peer;
    return h1;
}
