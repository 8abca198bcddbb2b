/* Laws of the HTTP/1.1 codec. */
#include "h1laws.h"

#include <sanitizer/asan_interface.h>

#include "http/fields.h"
#include "http/h1body.h"
#include "http/h1write.h"
#include "laws.h"

enum { FIELDS_MAX = 40 };

/* Small, so that the fuzzer meets them. */
static const struct h1_limits limits = { .head_max = 1500,
    .fields_max = FIELDS_MAX,
    .target_max = 300,
    .interim_max = 16,
    .chunk_line_max = 4096,
    .chunk_overhead_max = 65536 };

struct parsed {
    ssize_t rc;
    size_t given; /* bytes there were when it was known */
    struct head head;
    struct field fields[FIELDS_MAX];
};

/* Bytes of which only the first ones may be read yet. */
struct wire {
    char *mem;
    size_t n;
};

static struct wire wire_of(struct str s)
{
    struct wire w = { malloc(s.n + 1), s.n };

    HOLDS(w.mem);
    if (s.n > 0)
        memcpy(w.mem, s.p, s.n);
    return w;
}

static struct str wire_first(const struct wire *w, size_t n)
{
    ASAN_UNPOISON_MEMORY_REGION(w->mem, w->n + 1);
    ASAN_POISON_MEMORY_REGION(w->mem + n, w->n + 1 - n);
    return str_make(w->mem, n);
}

static void wire_release(struct wire *w)
{
    ASAN_UNPOISON_MEMORY_REGION(w->mem, w->n + 1);
    free(w->mem);
}

/* The next piece's end: pieces of `step` bytes, the first of `first`. */
static size_t next_end(size_t at, size_t first, size_t step, size_t n)
{
    size_t piece = at == 0 ? first : step;

    return piece < n - at ? at + piece : n;
}

static void parse(
    enum h1_kind kind, const struct wire *w, size_t first, size_t step, struct parsed *p)
{
    struct h1_scan scan = { 0 };

    *p = (struct parsed){ 0 };
    while (p->rc == 0 && p->given < w->n) {
        p->given = next_end(p->given, first, step, w->n);
        p->head = (struct head){ .fields = p->fields };
        p->rc = h1_parse_head(&scan, kind, &limits, wire_first(w, p->given), &p->head);
    }
    ASAN_UNPOISON_MEMORY_REGION(w->mem, w->n + 1);
}

static bool same_head(const struct head *a, const struct head *b)
{
    if (!str_eq(a->method, b->method) || !str_eq(a->target, b->target) || a->status != b->status ||
        a->nfields != b->nfields)
        return false;
    for (size_t i = 0; i < a->nfields; i++)
        if (!str_eq(a->fields[i].name, b->fields[i].name) ||
            !str_eq(a->fields[i].value, b->fields[i].value))
            return false;
    return true;
}

static void check_grammar(enum h1_kind kind, const struct head *h)
{
    HOLDS(h->nfields <= limits.fields_max && h->minor <= 1);
    for (size_t i = 0; i < h->nfields; i++)
        HOLDS(field_is_token(h->fields[i].name) && field_is_value(h->fields[i].value));
    if (kind == H1_RESPONSE) {
        HOLDS(h->status >= 100 && h->status <= 599);
        HOLDS(field_text_len(h->reason) == h->reason.n);
        return;
    }
    HOLDS(field_is_token(h->method));
    HOLDS(h->target.n > 0 && h->target.n <= limits.target_max);
    for (size_t i = 0; i < h->target.n; i++)
        HOLDS((unsigned char)h->target.p[i] > ' ' && h->target.p[i] != '#');
    if (kind == H1_REQUEST)
        HOLDS(h->target.p[0] == '/' ||
              (str_eq(h->target, STR("*")) && str_eq(h->method, STR("OPTIONS"))));
}

static void check_written(enum h1_kind kind, const struct head *h)
{
    struct buf b = { 0 };
    struct h1_limits wide = { .head_max = SIZE_MAX / 2,
        .fields_max = FIELDS_MAX,
        .target_max = 300,
        .interim_max = 16,
        .chunk_line_max = 4096,
        .chunk_overhead_max = 65536 };
    struct field fields[FIELDS_MAX];
    struct head again = { .fields = fields };
    struct h1_scan scan = { 0 };

    HOLDS(h1_write_head(&b, kind, h) == 0);
    HOLDS(h1_parse_head(&scan, kind, &wide, buf_str(&b), &again) == (ssize_t)buf_len(&b));
    HOLDS(same_head(h, &again));
    HOLDS(kind != H1_RESPONSE || h->reason.n == 0 || str_eq(h->reason, again.reason));
    buf_release(&b);
}

struct decoded {
    int err;
    size_t used;
    struct buf data;
    struct h1_body body;
};

static void decode(
    const struct h1_message *m, const struct wire *w, size_t first, size_t step, struct decoded *d)
{
    size_t given = 0;

    *d = (struct decoded){ 0 };
    h1_body_begin(&d->body, m, &limits);
    while (given < w->n && !d->body.complete && d->err == 0) {
        ssize_t n;

        given = next_end(given, first, step, w->n);
        do {
            struct str seen = wire_first(w, given), data;

            n = h1_body_next(&d->body, str_make(seen.p + d->used, seen.n - d->used), &data);
            if (n < 0) {
                d->err = (int)n;
                break;
            }
            HOLDS((size_t)n <= given - d->used && data.n <= (size_t)n);
            HOLDS(buf_append_str(&d->data, data) == 0);
            d->used += (size_t)n;
        } while (n > 0 && !d->body.complete);
        HOLDS(d->err < 0 || d->body.complete || d->used == given);
    }
    ASAN_UNPOISON_MEMORY_REGION(w->mem, w->n + 1);
}

/* How many bytes the body took, or -1 if the connection is not to be read on. */
static ssize_t check_body(const struct h1_message *m, struct str in, size_t cut)
{
    struct wire w = wire_of(in);
    struct decoded at_once;
    size_t ways[][2] = { { 1, 1 }, { cut % (in.n + 1) + 1, in.n + 1 }, { 1, 2 + cut % 7 } };
    bool goes_on;

    decode(m, &w, in.n, in.n, &at_once);
    for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
        struct decoded d;

        decode(m, &w, ways[i][0], ways[i][1], &d);
        HOLDS(d.err == at_once.err && d.body.complete == at_once.body.complete);
        HOLDS(d.err < 0 || d.used == at_once.used);
        HOLDS(str_eq(buf_str(&d.data), buf_str(&at_once.data)));
        buf_release(&d.data);
    }
    if (at_once.body.complete && m->framing == H1_LENGTH)
        HOLDS(at_once.used == m->length);
    goes_on = at_once.body.complete && m->keep_alive;
    buf_release(&at_once.data);
    wire_release(&w);
    return goes_on ? (ssize_t)at_once.used : -1;
}

static int check_fields(enum h1_kind kind, struct str method, struct head *h, struct h1_message *m)
{
    int rc;

    switch (kind) {
    case H1_RESPONSE:
        return h1_check_response(h, method, m);
    case H1_ENCLOSED_REQUEST:
        rc = h1_check_enclosed(h, m);
        HOLDS(rc < 0 || m->framing == H1_NO_BODY || m->framing == H1_LENGTH);
        return rc;
    case H1_REQUEST:
        rc = h1_check_request(h, m);
        HOLDS(rc < 0 || h->minor == 0 || h->authority.n > 0);
        HOLDS(rc < 0 || m->framing != H1_UNTIL_CLOSE);
        return rc;
    }
    return -1;
}

/* One message at the beginning of `in`: how many bytes it took, or -1. */
static ssize_t check_message(enum h1_kind kind, struct str method, struct str in)
{
    struct wire w = wire_of(in);
    size_t cut = in.n > 0 ? (unsigned char)in.p[in.n - 1] * 31 + (unsigned char)in.p[in.n / 2] : 0;
    size_t ways[][2] = { { 1, 1 }, { cut % (in.n + 1) + 1, in.n + 1 }, { 1, 2 + cut % 7 } };
    struct parsed at_once, p;
    struct h1_message m;
    ssize_t body = -1;

    parse(kind, &w, in.n, in.n, &at_once);
    for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
        parse(kind, &w, ways[i][0], ways[i][1], &p);
        HOLDS(p.rc == at_once.rc);
        HOLDS(p.rc <= 0 || same_head(&p.head, &at_once.head));
        HOLDS(i > 0 || p.rc <= 0 || p.given == (size_t)p.rc); /* not later than the last byte */
    }
    HOLDS(at_once.rc <= (ssize_t)limits.head_max);
    if (at_once.rc < 0) {
        HOLDS(*h1_strerror((int)at_once.rc) && h1_error_status((int)at_once.rc) >= 400);
    } else if (at_once.rc > 0) {
        check_grammar(kind, &at_once.head);
        check_written(kind, &at_once.head);
        if (check_fields(kind, method, &at_once.head, &m) == 0)
            body = check_body(&m, str_make(in.p + at_once.rc, in.n - (size_t)at_once.rc), cut);
    }
    wire_release(&w);
    return body < 0 ? -1 : at_once.rc + body;
}

void h1laws_check(enum h1_kind kind, struct str method, struct str in)
{
    while (in.n > 0) {
        ssize_t n = check_message(kind, method, in);

        if (n < 0)
            return;
        in = str_make(in.p + n, in.n - (size_t)n);
    }
}
