/* Reading handoffs. The parser is as strict as the one that faces clients: what could be read in
 * two ways is refused. */
#include "exchange/handoff.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/url.h"
#include "exchange/forward.h"
#include "exchange/unpack.h"
#include "http/fields.h"
#include "http/limits.h"

enum { CALL_ID_MAX = 128, LIMIT_KEY_MAX = 128 };

#define MEDIA_TYPE STR("application/http")

static int handoff_malformed(char *why, size_t n, const char *text)
{
    snprintf(why, n, "%s", text);
    return HANDOFF_E_MALFORMED;
}

bool handoff_is(const struct head *response)
{
    return response->status >= 200 && response->status < 300 &&
           head_find(response, STR("tarry-then"));
}

/* The value of a field that may stand once. 1, 0 if it is absent, or an error. */
static int handoff_single(
    const struct head *r, struct str name, struct str *value, char *why, size_t n)
{
    switch (head_count(r, name)) {
    case 0:
        *value = (struct str){ NULL, 0 };
        return 0;
    case 1:
        *value = head_value(r, name);
        return 1;
    default:
        snprintf(why, n, STR_FMT " stands more than once", STR_ARG(name));
        return HANDOFF_E_MALFORMED;
    }
}

/* A field whose value is a PATH; into `out` (p NULL: absent). */
static int handoff_read_path(struct arena *a, const struct head *r, struct str name,
    size_t target_max, struct str *out, char *why, size_t n)
{
    struct str value;
    int rc = handoff_single(r, name, &value, why, n);

    *out = (struct str){ NULL, 0 };
    if (rc <= 0)
        return rc;
    if (!url_is_origin_form(value)) {
        snprintf(why, n, STR_FMT " is not a path like /a/b?c=d", STR_ARG(name));
        return HANDOFF_E_MALFORMED;
    }
    if (value.n > target_max) {
        snprintf(why, n, STR_FMT " is longer than target_max", STR_ARG(name));
        return HANDOFF_E_LIMIT;
    }
    *out = arena_copy(a, value);
    return out->p ? 0 : HANDOFF_E_MEMORY;
}

static int handoff_read_then(struct handoff *h, struct arena *a, const struct conf *conf,
    const struct head *r, char *why, size_t n)
{
    struct str value, word, path;
    int rc = handoff_single(r, STR("tarry-then"), &value, why, n);

    if (rc < 0)
        return rc;
    if (str_eq(value, STR("relay"))) {
        h->then = THEN_RELAY;
        return 0;
    }
    if (str_eq(value, STR("replay"))) {
        h->then = THEN_REPLAY;
        return 0;
    }
    if (!str_cut(value, ' ', &word, &path) || !str_eq(word, STR("resume")) ||
        !url_is_origin_form(path))
        return handoff_malformed(why, n, "Tarry-Then is none of relay, resume PATH, replay");
    if (path.n > conf->target_max) {
        snprintf(why, n, "the path of Tarry-Then is longer than target_max");
        return HANDOFF_E_LIMIT;
    }
    h->then = THEN_RESUME;
    h->path = arena_copy(a, path);
    return h->path.p ? 0 : HANDOFF_E_MEMORY;
}

static int handoff_read_state(struct handoff *h, struct arena *a, const struct pool_conf *pool,
    const struct head *r, char *why, size_t n)
{
    struct str value;
    int rc = handoff_single(r, STR("tarry-state"), &value, why, n);

    if (rc <= 0)
        return rc;
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] < 0x21 || value.p[i] > 0x7e)
            return handoff_malformed(why, n, "Tarry-State has an octet outside of 0x21 to 0x7E");
    if (value.n > pool->state_max) {
        snprintf(why, n, "Tarry-State has %zu bytes, more than state_max (%zu)", value.n,
            pool->state_max);
        return HANDOFF_E_LIMIT;
    }
    h->state = arena_copy(a, value);
    return h->state.p ? 0 : HANDOFF_E_MEMORY;
}

/* A field with one of two words: 1 or 2; 0 if absent. */
static int handoff_read_word(
    const struct head *r, struct str name, struct str first, struct str second, char *why, size_t n)
{
    struct str value;
    int rc = handoff_single(r, name, &value, why, n);

    if (rc <= 0)
        return rc;
    if (str_eq(value, first))
        return 1;
    if (str_eq(value, second))
        return 2;
    snprintf(why, n, STR_FMT " is neither " STR_FMT " nor " STR_FMT, STR_ARG(name), STR_ARG(first),
        STR_ARG(second));
    return HANDOFF_E_MALFORMED;
}

/* Seconds, a decimal; cut to `max_ms`. 1, 0 if it is absent, or an error. */
static int handoff_read_seconds(
    const struct head *r, struct str name, uint64_t max_ms, uint64_t *ms, char *why, size_t n)
{
    struct str value;
    int rc = handoff_single(r, name, &value, why, n);

    if (rc <= 0)
        return rc;
    if (!num_parse_seconds(value, ms)) {
        snprintf(why, n, STR_FMT " is not a number of seconds", STR_ARG(name));
        return HANDOFF_E_MALFORMED;
    }
    if (*ms > max_ms)
        *ms = max_ms;
    return 1;
}

/* Tarry-Sticky, Tarry-At and Tarry-Wait. */
static int handoff_read_return(struct handoff *h, struct arena *a, const struct pool_conf *pool,
    const struct head *r, char *why, size_t n)
{
    struct str value;
    int rc;

    rc = handoff_read_seconds(r, STR("Tarry-Sticky"), pool->sticky_max_ms, &h->sticky_ms, why, n);
    if (rc < 0)
        return rc;
    h->sticky = rc == 1;
    rc = handoff_read_seconds(r, STR("Tarry-Wait"), pool->wait_max_ms, &h->wait_ms, why, n);
    if (rc < 0)
        return rc;
    h->waits = rc == 1;
    rc = handoff_single(r, STR("Tarry-At"), &value, why, n);
    if (rc <= 0)
        return rc;
    if (!h->sticky)
        return handoff_malformed(why, n, "Tarry-At belongs beside Tarry-Sticky only");
    h->at = arena_copy(a, value);
    return h->at.p ? 0 : HANDOFF_E_MEMORY;
}

/* application/http, perhaps with msgtype=request (RFC 9112 10.2). */
static bool handoff_is_media_type(struct str value)
{
    struct str type, rest;

    str_cut(value, ';', &type, &rest);
    if (!str_eq_nocase(str_trim(type), MEDIA_TYPE))
        return false;
    while (rest.n > 0) {
        struct str parameter, name, v;

        str_cut(rest, ';', &parameter, &rest);
        if (!str_cut(str_trim(parameter), '=', &name, &v) ||
            !str_eq_nocase(str_trim(name), STR("msgtype")))
            continue;
        v = str_trim(v);
        if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"')
            v = str_make(v.p + 1, v.n - 2);
        if (!str_eq_nocase(v, STR("request")))
            return false;
    }
    return true;
}

static int handoff_on_plain(void *owner, struct str data)
{
    struct handoff *h = owner;

    return body_append(&h->body, data.p, data.n);
}

/* What a decoder's result is for the worker. */
static int handoff_decoded(struct handoff *h, int rc, char *why, size_t n)
{
    switch (rc) {
    case UNPACK_OK:
    case UNPACK_BUSY:
        return rc;
    case DECODER_E_TOO_LARGE:
        snprintf(why, n, "the handoff is larger than handoff_max");
        return HANDOFF_E_LIMIT;
    case DECODER_E_STOPPED:
        return HANDOFF_E_STORAGE;
    case DECODER_E_MEMORY:
        return HANDOFF_E_MEMORY;
    default:
        snprintf(why, n, "the handoff's coded body: %s", decoder_strerror(rc));
        return HANDOFF_E_MALFORMED;
    }
}

static void handoff_on_unpacked(void *owner, int result)
{
    struct handoff *h = owner;
    char why[128] = "";
    int rc = handoff_decoded(h, result, why, sizeof(why));

    h->on_unpacked(h->owner, rc, why);
}

static int handoff_read_entity(
    struct handoff *h, struct arena *a, const struct head *r, char *why, size_t n)
{
    enum coding coding;
    struct str value;
    int rc = handoff_single(r, STR("content-type"), &value, why, n);

    if (rc < 0)
        return rc;
    if (rc == 0 || !handoff_is_media_type(value))
        return handoff_malformed(
            why, n, "the handoff's Content-Type is not application/http; msgtype=request");
    if (decoder_coding_of(r, &coding) < 0)
        return handoff_malformed(
            why, n, "the handoff's Content-Encoding is none of gzip, deflate, br, zstd");
    if (coding == CODING_IDENTITY)
        return 0;
    h->unpack = arena_alloc(a, sizeof(*h->unpack));
    if (h->unpack &&
        unpack_init(h->unpack, coding, h->max, handoff_on_plain, handoff_on_unpacked, h) == 0)
        return 0;
    h->unpack = NULL;
    return HANDOFF_E_MEMORY;
}

int handoff_read_head(struct handoff *h, struct arena *a, const struct conf *conf,
    const struct pool_conf *pool, const struct head *response, char *why, size_t whylen)
{
    uint64_t length;
    int rc;

    *h = (struct handoff){ .max = pool->handoff_max };
    body_init(&h->body, conf->body_memory_max, conf->temp_dir.p);
    rc = handoff_read_then(h, a, conf, response, why, whylen);
    if (rc == 0)
        rc = handoff_read_state(h, a, pool, response, why, whylen);
    if (rc == 0)
        rc = handoff_read_path(
            a, response, STR("Tarry-Notify"), conf->target_max, &h->notify, why, whylen);
    if (rc == 0)
        rc = handoff_read_path(
            a, response, STR("Tarry-On-Error"), conf->target_max, &h->on_error, why, whylen);
    if (rc < 0)
        return rc;
    if (h->then != THEN_RELAY && h->notify.p)
        return handoff_malformed(why, whylen, "Tarry-Notify belongs to relay only");
    if (h->then != THEN_RELAY && h->on_error.p)
        return handoff_malformed(why, whylen, "Tarry-On-Error belongs to relay only");
    rc = handoff_read_return(h, a, pool, response, why, whylen);
    if (rc < 0)
        return rc;
    if (h->then != THEN_REPLAY && (h->sticky || h->waits))
        return handoff_malformed(why, whylen, "Tarry-Sticky and Tarry-Wait belong to replay only");
    rc =
        handoff_read_word(response, STR("Tarry-Keep-Alive"), STR("sse"), STR("space"), why, whylen);
    if (rc < 0)
        return rc;
    h->keep_alive = (enum keep_alive)rc;
    rc = handoff_read_word(
        response, STR("Tarry-On-Disconnect"), STR("cancel"), STR("finish"), why, whylen);
    if (rc < 0)
        return rc;
    h->on_disconnect = (enum on_disconnect)rc;
    rc = handoff_read_entity(h, a, response, why, whylen);
    if (rc == 0 && !h->unpack &&
        num_parse_u64(head_value(response, STR("content-length")), &length))
        body_expect(&h->body, length);
    return rc;
}

int handoff_read_trailer(struct handoff *h, struct arena *a, const struct conf *conf,
    const struct pool_conf *pool, const struct handoff_kept *kept, const struct head *trailer,
    char *why, size_t whylen)
{
    int rc;

    *h = (struct handoff){ .max = pool->handoff_max, .then = THEN_REPLAY };
    body_init(&h->body, conf->body_memory_max, conf->temp_dir.p);
    rc = handoff_read_state(h, a, pool, trailer, why, whylen);
    if (rc == 0)
        rc = handoff_read_return(h, a, pool, trailer, why, whylen);
    if (rc < 0)
        return rc;
    if (!h->state.p)
        h->state = kept->state;
    rc = handoff_read_word(trailer, STR("Tarry-Keep-Alive"), STR("sse"), STR("space"), why, whylen);
    if (rc < 0)
        return rc;
    h->keep_alive = (enum keep_alive)rc;
    rc = handoff_read_word(
        trailer, STR("Tarry-On-Disconnect"), STR("cancel"), STR("finish"), why, whylen);
    if (rc < 0)
        return rc;
    h->on_disconnect = rc > 0 ? (enum on_disconnect)rc : kept->on_disconnect;
    return 0;
}

bool handoff_asks_for_pieces(const struct handoff *h)
{
    for (size_t i = 0; i < h->ncalls; i++)
        if (h->calls[i].pieces)
            return true;
    return false;
}

int handoff_take_data(struct handoff *h, struct str data, char *why, size_t whylen)
{
    if (h->unpack)
        return handoff_decoded(h, unpack_put(h->unpack, data), why, whylen);
    if (body_size(&h->body) + data.n > h->max) {
        snprintf(why, whylen, "the handoff is larger than handoff_max");
        return HANDOFF_E_LIMIT;
    }
    return body_append(&h->body, data.p, data.n) < 0 ? HANDOFF_E_STORAGE : 0;
}

int handoff_end_data(struct handoff *h, char *why, size_t whylen)
{
    return h->unpack ? handoff_decoded(h, unpack_end(h->unpack), why, whylen) : 0;
}

void handoff_stop_reading(struct handoff *h)
{
    if (h->unpack)
        unpack_release(h->unpack);
    h->unpack = NULL;
}

static int handoff_take_limit_key(
    struct enclosed *e, struct arena *a, struct str value, char *why, size_t n)
{
    if (e->limit_key.p)
        return handoff_malformed(why, n, "Tarry-Limit-Key stands more than once");
    if (value.n == 0)
        return handoff_malformed(why, n, "Tarry-Limit-Key is empty");
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] < 0x21 || value.p[i] > 0x7e)
            return handoff_malformed(
                why, n, "Tarry-Limit-Key has an octet that is not visible ASCII");
    if (value.n > LIMIT_KEY_MAX) {
        snprintf(why, n, "Tarry-Limit-Key has more than %d bytes", LIMIT_KEY_MAX);
        return HANDOFF_E_LIMIT;
    }
    e->limit_key = arena_copy(a, value);
    return e->limit_key.p ? 0 : HANDOFF_E_MEMORY;
}

/* One of Tarry's own fields in an enclosed request, or not its concern (0). */
static int handoff_read_call_field(
    struct enclosed *e, struct arena *a, const struct field *f, char *why, size_t n)
{
    uint64_t v;

    if (str_eq_nocase(f->name, STR("tarry-call-id"))) {
        if (e->call_id.p)
            return handoff_malformed(why, n, "Tarry-Call-Id stands more than once");
        if (f->value.n == 0)
            return handoff_malformed(why, n, "Tarry-Call-Id is empty");
        for (size_t i = 0; i < f->value.n; i++)
            if (f->value.p[i] < 0x21 || f->value.p[i] > 0x7e)
                return handoff_malformed(
                    why, n, "Tarry-Call-Id has an octet that is not visible ASCII");
        if (f->value.n > CALL_ID_MAX) {
            snprintf(why, n, "Tarry-Call-Id has more than %d bytes", CALL_ID_MAX);
            return HANDOFF_E_LIMIT;
        }
        e->call_id = arena_copy(a, f->value);
        return e->call_id.p ? 0 : HANDOFF_E_MEMORY;
    }
    if (str_eq_nocase(f->name, STR("tarry-limit-key")))
        return handoff_take_limit_key(e, a, f->value, why, n);
    if (str_eq_nocase(f->name, STR("tarry-timeout"))) {
        if (e->timeout_ms || !num_parse_seconds(f->value, &v) || v == 0)
            return handoff_malformed(why, n, "Tarry-Timeout is not a number of seconds");
        e->timeout_ms = v;
    } else if (str_eq_nocase(f->name, STR("tarry-retries"))) {
        if (e->retries != SIZE_MAX || !num_parse_u64(f->value, &v))
            return handoff_malformed(why, n, "Tarry-Retries is not a number");
        e->retries = v > 1000 ? 1000 : (size_t)v;
    } else if (str_eq_nocase(f->name, STR("tarry-deliver"))) {
        if (e->pieces || !str_eq(f->value, STR("pieces")))
            return handoff_malformed(why, n, "Tarry-Deliver is not pieces");
        e->pieces = true;
    }
    return 0;
}

/* The upstream that an absolute target goes to, and the rest of it. NULL with *rc set. */
static const struct upstream_conf *handoff_find_upstream(
    const struct conf *conf, struct str target, struct str *path, int *rc, char *why, size_t n)
{
    const struct upstream_conf *u;
    struct url url;
    int e = url_parse(target, &url);

    if (e < 0) {
        snprintf(
            why, n, "the target of an enclosed request is no absolute URL: %s", url_strerror(e));
        *rc = HANDOFF_E_MALFORMED;
        return NULL;
    }
    *path = url.target;
    if (str_eq_nocase(url.scheme, STR("tarry"))) {
        u = url.port ? NULL : conf_find_upstream(conf, url.host);
        if (!u)
            snprintf(why, n, "no upstream is called \"" STR_FMT "\"", STR_ARG(url.host));
    } else {
        u = conf_find_origin(conf, url.scheme, url.host, url.port);
        if (!u)
            snprintf(why, n, "the origin " STR_FMT "://" STR_FMT " is not declared as an upstream",
                STR_ARG(url.scheme), STR_ARG(url.host));
    }
    if (!u)
        *rc = HANDOFF_E_FORBIDDEN;
    return u;
}

/* Reads up to a whole head at `off` into a span: from memory, or through `scratch` of header_max
 * bytes. */
static int handoff_read_window(
    const struct handoff *h, uint64_t off, size_t max, char *scratch, struct str *out)
{
    size_t n = 0;

    if (body_read(&h->body, off, max, scratch, out) < 0)
        return -1;
    if (out->n == max || off + out->n == body_size(&h->body))
        return 0;
    /* The window lies over the border between memory and file: put together. */
    while (n < max) {
        struct str part;

        if (body_read(&h->body, off + n, max - n, scratch + n, &part) < 0)
            return -1;
        if (part.n == 0)
            break;
        if (part.p != scratch + n)
            memcpy(scratch + n, part.p, part.n);
        n += part.n;
    }
    *out = str_make(scratch, n);
    return 0;
}

/* Parses the head at `off`: fills `head` (its fields array is the caller's). Bytes used, or an
 * error. */
static ssize_t handoff_parse_at(const struct handoff *h, uint64_t off, const struct conf *conf,
    char *scratch, struct head *head, char *why, size_t whylen)
{
    struct h1_limits limits = limits_of(conf);
    struct h1_scan scan = { 0 };
    struct str window;
    ssize_t n;

    if (handoff_read_window(h, off, limits.head_max, scratch, &window) < 0)
        return HANDOFF_E_STORAGE;
    n = h1_parse_head(&scan, H1_ENCLOSED_REQUEST, &limits, window, head);
    if (n > 0)
        return n;
    if (n == H1_E_HEAD_TOO_LARGE || n == H1_E_TARGET_TOO_LONG ||
        (n == 0 && window.n >= limits.head_max)) {
        snprintf(why, whylen,
            "the head of an enclosed request is over header_max, header_fields_max or target_max");
        return HANDOFF_E_LIMIT;
    }
    snprintf(why, whylen, "an enclosed request is malformed: %s",
        n == 0 ? "it ends early" : h1_strerror((int)n));
    return HANDOFF_E_MALFORMED;
}

/* Checks the enclosed request at `off` and notes it. Bytes that it takes, or an error. */
static int64_t handoff_read_enclosed(struct enclosed *e, const struct handoff *h, struct arena *a,
    uint64_t off, const struct conf *conf, const struct pool_conf *pool, char *scratch, char *why,
    size_t whylen)
{
    struct field fields[H1_FIELDS_MAX];
    struct head head = { .fields = fields };
    struct h1_message m;
    struct str path;
    ssize_t n = handoff_parse_at(h, off, conf, scratch, &head, why, whylen);
    int rc;

    if (n < 0)
        return n;
    *e = (struct enclosed){ .head_off = off, .head_len = (size_t)n, .retries = SIZE_MAX };
    rc = h1_check_enclosed(&head, &m);
    if (rc < 0) {
        snprintf(why, whylen, "an enclosed request is malformed: %s", h1_strerror(rc));
        return HANDOFF_E_MALFORMED;
    }
    e->upstream = handoff_find_upstream(conf, head.target, &path, &rc, why, whylen);
    if (!e->upstream)
        return rc;
    for (size_t i = 0; i < head.nfields; i++) {
        rc = handoff_read_call_field(e, a, &head.fields[i], why, whylen);
        if (rc < 0)
            return rc;
    }
    e->method = arena_copy(a, head.method);
    e->body_off = off + (uint64_t)n;
    e->body_len = m.framing == H1_LENGTH ? m.length : 0;
    if ((uint64_t)n + e->body_len > pool->call_max) {
        snprintf(why, whylen, "an enclosed request is larger than call_max (%zu)", pool->call_max);
        return HANDOFF_E_LIMIT;
    }
    if (e->body_off + e->body_len > body_size(&h->body))
        return handoff_malformed(why, whylen, "the body of an enclosed request ends early");
    return e->method.p ? (int64_t)((uint64_t)n + e->body_len) : HANDOFF_E_MEMORY;
}

int handoff_read_body(struct handoff *h, struct arena *a, const struct conf *conf,
    const struct pool_conf *pool, char *why, size_t whylen)
{
    size_t max = h->then == THEN_RELAY ? 1 : pool->max_calls, room = 0;
    char *scratch = NULL;
    uint64_t off = 0;
    int rc = 0;

    handoff_stop_reading(h);
    if (body_size(&h->body) == 0 && h->waits)
        return 0;
    if (body_size(&h->body) == 0)
        return handoff_malformed(why, whylen, "the handoff encloses no request");
    scratch = malloc(conf->header_max);
    if (!scratch)
        return HANDOFF_E_MEMORY;
    while (rc == 0 && off < body_size(&h->body)) {
        int64_t n;

        if (h->ncalls == max) {
            if (h->then == THEN_RELAY) {
                rc = handoff_malformed(why, whylen, "relay takes exactly one enclosed request");
            } else {
                snprintf(why, whylen, "the handoff has more calls than max_calls (%zu)", max);
                rc = HANDOFF_E_LIMIT;
            }
            break;
        }
        if (h->ncalls == room) {
            struct enclosed *more;

            room = room ? room * 2 : 1;
            more = arena_alloc(a, room * sizeof(*more));
            if (!more) {
                rc = HANDOFF_E_MEMORY;
                break;
            }
            if (h->ncalls > 0)
                memcpy(more, h->calls, h->ncalls * sizeof(*more));
            h->calls = more;
        }
        n = handoff_read_enclosed(
            &h->calls[h->ncalls], h, a, off, conf, pool, scratch, why, whylen);
        if (n >= 0 && h->calls[h->ncalls].pieces &&
            (h->then != THEN_REPLAY || handoff_asks_for_pieces(h)))
            n = handoff_malformed(
                why, whylen, "Tarry-Deliver belongs to one request of a replay only");
        if (n < 0) {
            rc = (int)n;
        } else {
            h->ncalls++;
            off += (uint64_t)n;
        }
    }
    free(scratch);
    return rc;
}

int handoff_enclosed_head(const struct handoff *h, const struct enclosed *e,
    const struct conf *conf, bool identity, struct arena *a, struct head *out)
{
    struct field fields[H1_FIELDS_MAX];
    struct head head = { .fields = fields }, kept;
    char *scratch = arena_alloc(a, e->head_len + 1);
    struct h1_limits limits = limits_of(conf);
    struct h1_scan scan = { 0 };
    struct str window;
    struct url url;

    if (!scratch || handoff_read_window(h, e->head_off, e->head_len, scratch, &window) < 0 ||
        h1_parse_head(&scan, H1_ENCLOSED_REQUEST, &limits, window, &head) <= 0 ||
        url_parse(head.target, &url) < 0)
        return HANDOFF_E_MEMORY;
    kept = head;
    kept.room = head.nfields + 3;
    kept.fields = arena_alloc(a, kept.room * sizeof(*kept.fields));
    kept.nfields = 0;
    if (!kept.fields)
        return HANDOFF_E_MEMORY;
    for (size_t i = 0; i < head.nfields; i++) {
        struct str name = head.fields[i].name;

        if (field_ends_here(&head, name) || field_is_tarry(name) ||
            str_eq_nocase(name, STR("host")) || str_eq_nocase(name, STR("expect")) ||
            (identity && str_eq_nocase(name, STR("accept-encoding"))))
            continue;
        kept.fields[kept.nfields++] = head.fields[i];
    }
    kept.target = url.target;
    if (url.target.n > 0 && url.target.p[0] == '?') /* "https://host?x": the path is "/" */
        kept.target = arena_printf(a, "/" STR_FMT, STR_ARG(url.target));
    if (!kept.target.p ||
        (identity && head_add(&kept, a, STR("Accept-Encoding"), STR("identity")) < 0))
        return HANDOFF_E_MEMORY;
    return head_copy(a, out, &kept, 0) < 0 ? HANDOFF_E_MEMORY : 0;
}

void handoff_release(struct handoff *h)
{
    handoff_stop_reading(h);
    body_release(&h->body);
    h->calls = NULL;
    h->ncalls = 0;
}
